"""What ``filoray top`` makes of two readings of a cluster, and how it looks."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence
from dataclasses import replace

import pytest
from rich.console import Console

from filoray.cluster.process.process_figures import ProcessFigures
from filoray.command.top_rows import (
    NodeRow,
    Overview,
    ShardError,
    ShardRow,
    Snapshot,
    SortBy,
    chosen_nodes,
    chosen_shards,
    growth,
    overview,
    per_second,
)
from filoray.command.top_view import Frame, age_text, bytes_text, count_text, rate_text, render
from filoray.http.fanout.cluster_figures import (
    ClusterFigures,
    DatasetReading,
    GatewayFigures,
    GatewayReading,
    NodeReading,
    Presence,
    ShardReading,
    Standing,
)
from filoray.nodes.data.node_figures import FollowerFigures, NodeFigures, RequestFigures, ShardFigures

UP = Standing(Presence.UP)
AWAY = Standing(Presence.AWAY, "it is no member", 3_200)
SILENT = Standing(Presence.SILENT, "no answer within 700 ms", 12_000)
NOW_MS = 1_700_000_000_000


def process(uptime_ms: int, cpu_ms: int = 0, pid: int = 7) -> ProcessFigures:
    return ProcessFigures(pid, uptime_ms, cpu_ms, 256 << 20)


def open_shard(shard: int, epoch: int, accepted: int, refused: int = 0, **more: object) -> ShardFigures:
    made = ShardFigures("shop", shard, epoch, accepted, refused, 0, 0, 100, 50, 2048, NOW_MS - 1_500, 4096, 0, None)
    return dataclasses.replace(made, **more)  # type: ignore[arg-type]


def node(
    name: str, shards: Sequence[ShardFigures] = (), *, at_ms: int = 10_000, incarnation: int = 1, queries: int = 0,
    cpu_ms: int = 0, pid: int = 7, queue: int = 0,
) -> NodeReading:  # fmt: skip
    requests = RequestFigures(queries, 0, 0, 2, 0, 0)
    figures = NodeFigures(incarnation, process(at_ms, cpu_ms, pid), requests, queue, tuple(shards))
    return NodeReading(name, UP, f"akka://filo-server@{name}:1", incarnation, figures=figures)


def gateway(queries: int, at_ms: int = 10_000, name: str = "gateway-0", pid: int = 8) -> GatewayReading:
    return GatewayReading(name, UP, GatewayFigures(f"http://{name}", process(at_ms, pid=pid), queries, 0, 0))


def snapshot(
    *nodes: NodeReading,
    owners: Sequence[tuple[str, str | None, int]] = (("Active", "node-0", 1),),
    taken_ms: int = 0,
    gateways: Sequence[GatewayReading] = (),
    coordinator: Standing = UP,
    num_replicas: int = 1,
) -> Snapshot:
    shards = tuple(
        ShardReading(i, f"ShardStatus{status}", "no broker answers" if status == "Error" else "", name, epoch)
        for i, (status, name, epoch) in enumerate(owners)
    )
    datasets = (DatasetReading("shop", num_replicas, shards),)
    return Snapshot(
        ClusterFigures("here", "gateway-0", NOW_MS, coordinator, tuple(gateways), nodes, datasets), taken_ms
    )


@pytest.mark.parametrize(
    ("before", "now", "is_anew", "grown"),
    [
        (5, 12, False, 7),
        (5, 5, False, 0),
        (5, 3, False, None),  # of no counter that goes on
        (None, 12, False, None),
        (5, 3, True, 3),
        (5, 12, True, 12),
        (None, 12, True, 12),
    ],
)
def test_what_a_counter_grew_by(before: int | None, now: int, is_anew: bool, grown: int | None) -> None:
    assert growth(before, now, is_anew=is_anew) == grown


@pytest.mark.parametrize(
    ("grown", "passed_ms", "rate"), [(10, 2_000, 5.0), (0, 500, 0.0), (10, 0, None), (None, 9, None)]
)
def test_a_rate_needs_time_that_passed(grown: int | None, passed_ms: int, rate: float | None) -> None:
    assert per_second(grown, passed_ms) == rate


ONE_SHARD = snapshot(node("node-0", [open_shard(0, 1, 1_000, 10)]))


@pytest.mark.parametrize(
    ("case", "before", "now", "samples_per_s", "refused_per_s"),
    [
        ("the first look", None, ONE_SHARD, None, None),
        ("it goes on", ONE_SHARD, snapshot(node("node-0", [open_shard(0, 1, 1_500, 12)], at_ms=12_000)), 250, 1),
        ("the node's clock counts, not the looker's", ONE_SHARD,
         snapshot(node("node-0", [open_shard(0, 1, 1_500, 10)], at_ms=10_500), taken_ms=9_000), 1_000, 0),
        ("one reading told twice", ONE_SHARD, ONE_SHARD, None, None),
        ("opened at another node since", snapshot(node("node-0", [open_shard(0, 1, 1_000)]), node("node-1")),
         snapshot(node("node-0"), node("node-1", [open_shard(0, 2, 300)]), owners=[("Active", "node-1", 2)],
                  taken_ms=2_000), 150, 0),
        ("opened anew at the same node", ONE_SHARD,
         snapshot(node("node-0", [open_shard(0, 2, 50)]), owners=[("Active", "node-0", 2)], taken_ms=1_000), 50, 0),
        ("its node was started anew", ONE_SHARD,
         snapshot(node("node-0", [open_shard(0, 2, 30)], at_ms=600, incarnation=2, pid=9),
                  owners=[("Active", "node-0", 2)], taken_ms=3_000), 10, 0),
        ("nobody had it open before", snapshot(node("node-0")), ONE_SHARD, None, None),
        ("its node gave no answer before", snapshot(NodeReading("node-0", SILENT)), ONE_SHARD, None, None),
        ("its node gives no answer now", ONE_SHARD, snapshot(NodeReading("node-0", SILENT)), None, None),
        ("its owner has not opened it yet", ONE_SHARD,
         snapshot(node("node-0", [open_shard(0, 1, 2_000)], at_ms=12_000), node("node-1"),
                  owners=[("Assigned", "node-1", 2)]), None, None),
    ],
)  # fmt: skip
def test_how_many_samples_a_shard_takes(
    case: str, before: Snapshot | None, now: Snapshot, samples_per_s: float | None, refused_per_s: float | None
) -> None:
    shown = overview(before, now)
    (row,) = shown.shards
    assert (row.samples_per_s, row.refused_per_s) == (samples_per_s, refused_per_s), case
    assert (shown.totals.samples_per_s, shown.totals.refused_per_s) == (samples_per_s, refused_per_s), case


def test_a_row_of_a_shard_has_what_its_owner_says() -> None:
    full = open_shard(0, 1, 0, series=9, unflushed_samples=5, log_bytes=77, newest_sample_ms=NOW_MS + 400, stream_lag=3)
    (row,) = overview(None, snapshot(node("node-0", [full]))).shards
    assert row == ShardRow(
        "shop", 0, "Active", "node-0", 1, series=9, unflushed_samples=5, log_bytes=77, memory_bytes=4096,
        stored_bytes=0, newest_age_ms=-400, lag=3, copies=(1, 1),
    )  # fmt: skip
    (empty,) = overview(None, snapshot(node("node-0", [open_shard(0, 1, 0, newest_sample_ms=None)]))).shards
    assert empty.newest_age_ms is None


@pytest.mark.parametrize(
    ("followers", "num_replicas", "copies", "lag"),
    [
        ((), 1, (1, 1), None),
        ((("node-1", True, 0), ("node-2", True, 3)), 3, (3, 3), 3),
        ((("node-1", True, 2), ("node-2", False, None)), 3, (2, 3), None),
        ((), 2, (1, 2), None),  # no node is there that could follow
        ((("node-1", True, 0), ("node-2", False, 9)), 2, (2, 2), 9),  # it moves to node-2
        ((("node-1", False, 9),), 1, (1, 1), 9),
    ],
)
def test_a_row_tells_how_many_copies_are_in_sync_and_how_far_behind(
    followers: tuple[tuple[str, bool, int | None], ...], num_replicas: int, copies: tuple[int, int], lag: int | None
) -> None:
    figures = tuple(FollowerFigures(name, in_sync, behind, 0, 0, "") for name, in_sync, behind in followers)
    shard = replace(open_shard(0, 1, 0), followers=figures)
    (row,) = overview(None, snapshot(node("node-0", [shard]), num_replicas=num_replicas)).shards
    assert (row.copies, row.lag, row.lacks_copies) == (copies, lag, copies[0] < copies[1])


def test_copies_that_are_lacking_show_at_the_head_and_come_first() -> None:
    owners = [("Active", "node-0", 1), ("Active", "node-0", 1), ("Down", None, 2)]
    followed = replace(open_shard(0, 1, 0), followers=(FollowerFigures("node-1", True, 0, 0, 0, ""),))
    shown = overview(None, snapshot(node("node-0", [followed, open_shard(1, 1, 0)]), owners=owners, num_replicas=2))
    assert (shown.totals.copies_in_sync, shown.totals.copies) == (3, 6), "nothing is known of a shard that is Down"
    assert [row.shard for row in chosen_shards(shown.shards, 2, SortBy.NAME)] == [2, 1]
    assert "copies 3/6 in sync" in drawn(shown, Frame())[0]
    alone = overview(None, snapshot(node("node-0", [open_shard(0, 1, 0)])))
    assert "copies" not in drawn(alone, Frame())[0]


def test_of_two_nodes_that_say_they_have_a_shard_the_owners_word_counts() -> None:
    late, owner = open_shard(0, 1, 0, series=1), open_shard(0, 2, 0, series=2)
    (row,) = overview(
        None, snapshot(node("node-1", [owner]), node("node-0", [late]), owners=[("Active", "node-1", 2)])
    ).shards
    assert (row.node, row.series) == ("node-1", 2)


def test_a_row_of_a_node_has_rates_by_its_own_clock() -> None:
    before = snapshot(node("node-0", [open_shard(0, 1, 0)], queries=10, cpu_ms=1_000))
    now = snapshot(node("node-0", [open_shard(0, 1, 800)], at_ms=14_000, queries=30, cpu_ms=3_000, queue=5), taken_ms=1)
    (row,) = overview(before, now).nodes
    assert (row.samples_per_s, row.queries_per_s, row.cpu_percent) == (200, 5, 50)
    assert (row.queue, row.shards, row.series, row.uptime_ms) == (7, 1, 100, 14_000)


def test_a_node_that_was_started_anew_has_the_rates_of_its_new_life() -> None:
    before = snapshot(node("node-0", queries=1_000, cpu_ms=60_000, at_ms=90_000))
    now = snapshot(node("node-0", queries=8, cpu_ms=400, at_ms=1_500, incarnation=2, pid=9), taken_ms=2_000)
    (row,) = overview(before, now).nodes
    assert (row.incarnation, row.queries_per_s, row.cpu_percent) == (2, 4, 20)


def test_a_node_without_an_answer_keeps_its_row_and_its_shards() -> None:
    owners = [("Active", "node-1", 1), ("Active", "node-0", 1)]
    well = node("node-0", [open_shard(1, 1, 0)])
    shown = overview(None, snapshot(well, NodeReading("node-1", SILENT, "akka://x", 3, is_drained=True), owners=owners))
    assert shown.nodes[1] == NodeRow("node-1", SILENT, 3, True, 1)
    assert [(row.shard, row.status, row.series) for row in shown.shards] == [(0, "Active", None), (1, "Active", 100)]
    assert (shown.totals.nodes_up, shown.totals.nodes) == (1, 2)
    assert [(trouble.name, trouble.standing) for trouble in shown.troubles] == [("node-1", SILENT)]


def test_queries_are_counted_where_clients_ask() -> None:
    before = snapshot(gateways=[gateway(100), gateway(50, name="gateway-1"), gateway(9, name="gateway-2")])
    now = snapshot(
        gateways=[
            gateway(110, 12_000),
            gateway(4, 500, name="gateway-1", pid=9),  # started anew
            GatewayReading("gateway-2", AWAY),
        ],
        taken_ms=2_000,
    )
    totals = overview(before, now).totals
    assert totals.queries_per_s == 5 + 2
    assert (totals.gateways_up, totals.gateways) == (2, 3)


def shard_row(shard: int, status: str = "Active", rate: float | None = 0.0, **more: object) -> ShardRow:
    return dataclasses.replace(ShardRow("shop", shard, status, "node-0", 1, samples_per_s=rate), **more)  # type: ignore[arg-type]


ROWS = [
    shard_row(0, rate=1.0, unflushed_samples=9, newest_age_ms=100),
    shard_row(1, rate=5.0, unflushed_samples=1, newest_age_ms=900),
    shard_row(2, "Down", None),
    shard_row(3, rate=3.0, unflushed_samples=5, newest_age_ms=None),
]


@pytest.mark.parametrize(
    ("room", "sort_by", "order"),
    [
        (None, SortBy.NAME, [0, 1, 2, 3]),
        (4, SortBy.NAME, [0, 1, 2, 3]),
        (4, SortBy.RATE, [1, 3, 0, 2]),
        (3, SortBy.NAME, [2, 1, 3]),
        (2, SortBy.RATE, [2, 1]),
        (2, SortBy.UNFLUSHED, [2, 0]),
        (None, SortBy.AGE, [1, 0, 2, 3]),
        (None, SortBy.SERIES, [0, 1, 2, 3]),
    ],
)
def test_shards_that_are_not_active_are_shown_first_where_not_all_are(
    room: int | None, sort_by: SortBy, order: list[int]
) -> None:
    assert [row.shard for row in chosen_shards(ROWS, room, sort_by)] == order


def test_nodes_that_are_not_up_are_shown_first_where_not_all_are() -> None:
    rows = [NodeRow(f"node-{i}", UP, 1, False, 1, samples_per_s=rate) for i, rate in enumerate([1.0, 5.0, None])]
    rows.append(NodeRow("node-3", AWAY, 0, False, 0))
    assert [row.node for row in chosen_nodes(rows, 2)] == ["node-3", "node-1"]
    assert [row.node for row in chosen_nodes(rows, 4)] == ["node-0", "node-1", "node-2", "node-3"]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (count_text(None), "–"),
        (count_text(0), "0"),
        (count_text(9_999), "9999"),
        (count_text(12_345), "12.3k"),
        (count_text(999_400), "999k"),
        (count_text(999_900), "1.00M"),
        (count_text(4_560_000), "4.56M"),
        (count_text(7_890_000_000), "7.89G"),
        (count_text(3e12), "3T"),
        (rate_text(0.0), "0"),
        (rate_text(0.25), "0.2"),
        (rate_text(830_000), "830k"),
        (bytes_text(999), "999B"),
        (bytes_text(1536), "1.5K"),
        (bytes_text(256 << 20), "256M"),
        (bytes_text(1000 << 20), "1.0G"),
        (bytes_text(3 << 40), "3.0T"),
        (age_text(400), "0.4s"),
        (age_text(59_999), "59s"),
        (age_text(60_000), "1min"),
        (age_text(7_200_000), "2h"),
        (age_text(300_000_000), "3d"),
        (age_text(-2_500), "+2.5s"),
        (age_text(None), "–"),
    ],
)
def test_figures_are_short(text: str, wanted: str) -> None:
    assert text == wanted


def drawn(shown: Overview, frame: Frame, width: int = 200, *, colour: bool = False) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width, force_terminal=colour, color_system="standard" if colour else None).print(
        render(shown, frame)
    )
    return out.getvalue().splitlines()


def many(nodes: int, shards: int) -> Overview:
    owners = [("Active", f"node-{i % nodes}", 1) for i in range(shards)]
    if shards:
        owners[-1] = ("Down", None, 1)
    answers = [
        node(f"node-{i}", [open_shard(shard, 1, 0) for shard in range(i, shards - 1, nodes)]) for i in range(nodes - 1)
    ]
    return overview(None, snapshot(*answers, NodeReading(f"node-{nodes - 1}", AWAY), owners=owners, coordinator=SILENT))


def test_why_shards_are_in_error_is_said_once_for_each_reason() -> None:
    owners = [*[("Error", "node-0", 1)] * 10, ("Active", "node-0", 1)]
    shown = overview(None, snapshot(node("node-0"), owners=owners))
    assert shown.errors == (ShardError("shop", tuple(range(10)), "no broker answers"),)
    assert drawn(shown, Frame())[2].rstrip() == "shop shard 0, 1, 2, 3, 4, 5, 6, 7, …: no broker answers"


def test_what_is_wrong_is_said_above_the_tables() -> None:
    lines = drawn(many(3, 4), Frame())
    assert lines[0].split("   ") == [
        "here  by gateway-0", "nodes 2/3", "gateways 0/0", "shards 3/4 Active", "data sets 1 (shop)",
    ]  # fmt: skip
    assert lines[2].rstrip() == "coordinator hung 12s: no answer within 700 ms"
    assert lines[3].rstrip() == "node-2 away 3.2s: it is no member"
    heads = [line.split() for line in lines if line.startswith(("node ", "data set "))]
    assert " ".join(heads[0]) == "node status inc uptime shards series samples/s queries/s CPU % memory queue"
    assert " ".join(heads[1]).startswith("data set shard status owner in sync epoch series samples/s unflushed log")
    (down,) = [line.split() for line in lines if line.startswith("shop") and "Down" in line]
    assert down == ["shop", "3", "Down", "–", "–", "1", *"–––––––––"[: len(down) - 6]]


@pytest.mark.parametrize("height", [19, 24, 40])
@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize(("nodes", "shards"), [(1, 0), (3, 4), (3, 64), (60, 4), (60, 256)])
def test_it_fits_the_terminal_and_says_what_is_not_shown(nodes: int, shards: int, width: int, height: int) -> None:
    shown = many(nodes, shards)
    lines = drawn(shown, Frame(width, height, note="by name"), width)
    assert len(lines) <= height
    nodes_there = sum(line.startswith("node-") and ": " not in line for line in lines)
    shards_there = sum(line.startswith("shop") for line in lines)
    for count, there, noun in ((nodes, nodes_there, "nodes"), (shards, shards_there, "shards")):
        said = [line for line in lines if f"more {noun} are not" in line]
        assert bool(said) == (there < count)
        if said:
            assert said[0].split()[0] == str(count - there)
    if shards_there:
        assert any("Down" in line for line in lines), "what is not Active is shown first"
    if height == 40 and shards == 64:
        assert shards_there > 20


def test_a_drained_node_is_said_to_be() -> None:
    drained = dataclasses.replace(node("node-0"), is_drained=True)
    (line,) = [line for line in drawn(overview(None, snapshot(drained, node("node-1"))), Frame()) if "drained" in line]
    assert line.split()[:3] == ["node-0", "up,", "drained"]


def test_columns_that_are_looked_at_least_go_where_there_is_no_room() -> None:
    lines = drawn(many(3, 4), Frame(60), 60)
    (head,) = [line.split() for line in lines if line.startswith("data set")]
    assert {"shard", "status", "owner", "samples/s"} <= set(head)
    assert "stored" not in head
    assert max(map(len, map(str.rstrip, lines))) <= 60


def test_colour_is_for_what_is_wrong_alone_and_can_be_had_without(monkeypatch: pytest.MonkeyPatch) -> None:
    well = overview(None, snapshot(node("node-0", [open_shard(0, 1, 0)])))
    assert not any("\x1b[3" in line for line in drawn(well, Frame(), colour=True))
    ill = many(3, 4)
    assert any("\x1b[31m" in line for line in drawn(ill, Frame(), colour=True))
    monkeypatch.setenv("NO_COLOR", "1")
    assert not any("\x1b[3" in line for line in drawn(ill, Frame(), colour=True))
