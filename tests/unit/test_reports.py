"""How reports are written down: what is put in is text, names have room, and moments are seen."""

from __future__ import annotations

import re
import xml.etree.ElementTree
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import pytest

from filoray.cluster.control.shard_status import StatusKind
from filoray.cluster.report.page import Head, Section, Tile, badge, items, lines, page, paragraph, table, tiles
from filoray.cluster.report.shard_statuses import StatusSpan
from filoray.cluster.report.svg import CHARACTER_PX
from filoray.cluster.report.time_chart import WIDTH_PX, Axis, Band, Event, TimeChart, legend
from filoray.command.cli import main

EVIL = "<script>"


def drawn(chart: TimeChart) -> xml.etree.ElementTree.Element:
    return xml.etree.ElementTree.fromstring(chart.drawn().markup)


def event(at_ms: int, name: str = "kill node 0", *, is_main: bool = True) -> Event:
    return Event(at_ms, name, "m-fault", f"{at_ms} ms: {name}", is_main=is_main)


def names(chart: TimeChart) -> list[tuple[float, float, float]]:
    """Of each name that is shown: its height, from where, to where."""
    found = []
    for one in drawn(chart).iter("text"):
        kinds = one.get("class", "").split()
        if "name" in kinds:
            x, width = float(one.get("x", "")), CHARACTER_PX * len(one.text or "")
            found.append((float(one.get("y", "")), *((x - width, x) if "left" in kinds else (x, x + width))))
    return found


def test_what_is_put_into_a_report_is_text() -> None:
    chart = TimeChart(1000)
    chart.add_events(EVIL, [event(1, EVIL)])
    chart.add_bands([Band(EVIL, [])], EVIL)
    parts = [
        table((EVIL, "#b"), [(EVIL, EVIL)]),
        paragraph(EVIL),
        lines([EVIL]),
        items([EVIL]),
        tiles([Tile(EVIL, EVIL)]),
        legend([("", EVIL)]),
        chart.drawn(),
    ]
    assert all("&lt;script&gt;" in part.markup for part in parts)
    assert EVIL not in page(Head(EVIL, badge(EVIL, is_good=True), []), [Section(EVIL, parts)])


@pytest.mark.parametrize("count", [1, 5, 40, 400])
def test_no_name_is_written_over_another_and_each_event_has_a_mark(count: int) -> None:
    chart = TimeChart(60_000)
    events = [event(60_000 * number // count, f"hand shard {number} over") for number in range(1, count + 1)]
    chart.add_events("done", events)
    shown = sorted(names(chart))
    for (y, _, end), (next_y, begin, _) in pairwise(shown):
        assert y != next_y or end <= begin
    assert all(begin >= 0 and end <= WIDTH_PX for _, begin, end in shown)
    marks = [one.findtext("title") for one in drawn(chart).iter("circle")]
    assert marks == [one.title for one in events]
    labels = [one.text for one in drawn(chart).iter("text") if one.get("class") == "label"]
    assert (f"{count - len(shown)} more, unnamed" in labels) == (count > len(shown))


def test_faults_are_named_before_what_mends_them() -> None:
    chart = TimeChart(60_000)
    minor = [event(at_ms, "resume node 0", is_main=False) for at_ms in range(0, 100, 2)]
    chart.add_events("done", [*minor, event(101, "kill node 1")])
    named = [one.text for one in drawn(chart).iter("text") if one.get("class") == "name"]
    assert "kill node 1" in named


def test_a_moment_is_seen_in_an_hour() -> None:
    hour_ms, status = 3_600_000, StatusKind
    spans = [(0, 1000, status.ACTIVE), (1000, 1050, status.DOWN), (1050, hour_ms, status.ACTIVE)]
    chart = TimeChart(hour_ms)
    chart.add_bands([Band("one 0", [StatusSpan(*span, "node-0").segment() for span in spans])])
    rects = list(drawn(chart).iter("rect"))
    assert rects[-1].get("class") == "s-down"
    assert float(rects[-1].get("width", "")) >= 2


@pytest.mark.parametrize(
    ("end_ms", "first", "last"), [(900, "0 s", "0.9 s"), (12_100, "0 s", "12 s"), (602_000, "0 min", "10 min")]
)
def test_an_axis_has_ten_round_times_at_most(end_ms: int, first: str, last: str) -> None:
    ticks = [name for _, name in Axis(end_ms).ticks()]
    assert (ticks[0], ticks[-1], len(ticks) <= 11) == (first, last, True)


def test_whatever_a_report_draws_has_its_look_in_the_style_sheet(tmp_path: Path) -> None:
    scenario, chaos, simulation = tmp_path / "one.txt", tmp_path / "chaos.html", tmp_path / "simulation.html"
    scenario.write_text("nodes 2\ndataset one shards 4 min-nodes 1\nwait 1s\nkill node 0\nwait 3s")
    assert main(["chaos", "run", str(scenario), "--simulate", "--seed", "1", "--report", str(chaos)]) == 0
    assert main(["simulate", "--histories", "2", "--report", str(simulation)]) == 0
    known = set(re.findall(r"\.([a-z][\w-]*)", files("filoray.cluster.report").joinpath("page.css").read_text("utf-8")))
    for report in (chaos, simulation):
        used = set(" ".join(re.findall(r'class="?([\w -]+)', report.read_text("utf-8"))).split())
        assert used <= known
        assert {f"s-{kind.value.removeprefix('ShardStatus').lower()}" for kind in StatusKind} <= used
