"""Shards whose store all nodes share, kept warm by nodes that follow them: they lead with what they have in memory."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from copying_nodes import Answer, CopyingCluster, CopyingNode, copied_dataset
from postgres_server import PostgresServer, running_postgres
from shards import NOW_MS, container, shard_spec
from waiting import wait_until

from filoray.cluster.config.dataset import DatasetConfig
from filoray.cluster.errors import BadData
from filoray.cluster.process.clocks import steady_ms, wall_ms
from filoray.nodes.data.metric_metadata import MetricMetadata
from filoray.nodes.data.write_outcome import WriteOutcome
from filoray.nodes.host.append_jobs import AppendJob, PendingWrite
from filoray.nodes.host.replication.leader_stream import LeaderStream
from filoray.nodes.memstore.replica_entries import CommitEntry, ReplicaEntry
from filoray.nodes.memstore.shard import Shard
from filoray.nodes.memstore.store.column_store import StoreState
from filoray.nodes.memstore.store.snapshot_pieces import Item, Kind, pieces_of
from filoray.nodes.memstore.store.store_errors import CopyDiffers
from filoray.nodes.memstore.store.warm_store import SnapshotRows, WarmStore
from filoray.nodes.memstore.upkeep.retention_clock import ClockReading
from filoray.nodes.wire.write_reply import Refused

UP = {"__name__": "up"}
TAKEN_OVER = "taken over warm"


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with running_postgres() as server:
        yield server


@pytest.fixture(params=["file", "database"])
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[CopyingCluster]:
    url = None if request.param == "file" else request.getfixturevalue("server").new_database()
    cluster = CopyingCluster(tmp_path, ["a", "b", "c"], column_store_url=url)
    yield cluster
    cluster.close()


def shared(cluster: CopyingCluster, **store: object) -> DatasetConfig:
    return replace(copied_dataset(replicas=1, **store), is_in_database=cluster.column_store_url is not None)


def write(node: CopyingNode, first: int, count: int, epoch: int = 1, series: int = 7) -> None:
    """So many samples, acknowledged one after the other."""
    for step in range(first, first + count):
        labels = {**UP, "instance": str(step % series)}
        reply = node.write(0, container([(labels, [(NOW_MS + step * 1000, float(step))])]), epoch).wait()
        assert isinstance(reply, WriteOutcome), reply
        assert reply.accepted == 1


def open_shard(node: CopyingNode) -> Shard:
    return node.shard(0)


def flush(node: CopyingNode, *groups: int) -> None:
    """As upkeep does, in its place: these groups, or all."""

    def do() -> None:
        shard = open_shard(node)
        for group in groups or range(shard.spec.store.groups_per_shard):
            shard.flush_group(group, steady_ms(), wall_ms())

    node.host.threads.run(do).result(60)


def started(cluster: CopyingCluster, **store: object) -> None:
    """Shard 0 is led by a, and warm on b."""
    cluster.start(shared(cluster, **store), {0: ("a", [])})
    write(cluster["a"], 0, 20)
    flush(cluster["a"])
    write(cluster["a"], 20, 20)
    cluster.have_follow(0, "b")
    cluster.wait_in_sync(0, "a", "b")


def test_a_shard_moves_to_a_node_that_keeps_it_warm(cluster: CopyingCluster, caplog: pytest.LogCaptureFixture) -> None:
    started(cluster)
    write(cluster["a"], 40, 20, series=9)
    flush(cluster["a"])
    write(cluster["a"], 60, 5)
    before = cluster["a"].samples(0)
    with caplog.at_level("INFO"):
        cluster.hand_over(0, "b")
    assert TAKEN_OVER in caplog.text
    assert cluster["b"].samples(0, 2) == before
    write(cluster["b"], 65, 10, epoch=2)
    assert sum(map(len, cluster["b"].samples(0, 2).values())) == 75


def test_nobody_waits_for_a_follower_and_its_last_entries_are_in_the_log(
    cluster: CopyingCluster, caplog: pytest.LogCaptureFixture
) -> None:
    started(cluster)
    cluster["b"].cut_off()
    write(cluster["a"], 40, 20)
    before = cluster["a"].samples(0)
    cluster.forget("a").close()
    with caplog.at_level("INFO"):
        cluster.hand_over(0, "b")
    assert f"{TAKEN_OVER}; 20 rows of its log had not come" in caplog.text
    assert cluster["b"].samples(0, 2) == before


def test_what_a_node_has_missed_but_log_rows_it_opens_from_the_store(
    cluster: CopyingCluster, caplog: pytest.LogCaptureFixture
) -> None:
    started(cluster)
    cluster["b"].cut_off()
    write(cluster["a"], 40, 20)
    flush(cluster["a"])
    before = cluster["a"].samples(0)
    cluster.forget("a").close()
    cluster.hand_over(0, "b")
    assert TAKEN_OVER not in caplog.text
    assert "its copy cannot lead: the store is not as it was known here" in caplog.text
    assert cluster["b"].samples(0, 2) == before


def test_metrics_types_are_kept_where_a_shard_came_to_be_led_warm(cluster: CopyingCluster) -> None:
    started(cluster)
    if cluster.column_store_url is not None:  # as on a machine where the shard never was
        shutil.rmtree(cluster["b"].host._files.path(shared(cluster), 0).parent, ignore_errors=True)
    cluster.hand_over(0, "b")
    cluster["b"].host.shards.put_metadata("d", [(0, 2)], [[MetricMetadata("up", "gauge", "whether", "")]])
    (file,) = cluster["b"].host.shards.metadata_files("d", [(0, 2)])
    assert [one.metric for one in file.get("", 0)] == ["up"]


def test_a_file_that_is_gone_is_told_by_who_kept_its_shard_warm_too(tmp_path: Path) -> None:
    spec = shard_spec(tmp_path)
    owner = Shard.open(spec)
    owner.append([container([(UP, [(NOW_MS, 1.0)])])])
    warm = Shard.keep_warm(spec, rows_of(owner))
    owner.close()
    spec.path.unlink()
    with pytest.raises(CopyDiffers, match="is gone"):
        warm.promote(2)
    warm.close()
    opened = Shard.open(replace(spec, epoch=2))
    assert "its samples are missing" in opened.damages[0]
    opened.close()


def rows_of(owner: Shard) -> SnapshotRows:
    rows = SnapshotRows("a shard")
    snapshot = owner.snapshot(steady_ms(), wall_ms())
    for piece in snapshot.pieces(1 << 20, with_data=False):
        rows.add(piece)
    snapshot.close()
    return rows


def test_rows_that_are_not_whole_open_nothing(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="not the last one"):
        Shard.keep_warm(shard_spec(tmp_path / "nowhere"), SnapshotRows("a shard"))


def test_one_that_follows_no_more_leaves_the_shard_as_it_was_before(cluster: CopyingCluster) -> None:
    started(cluster)
    assert open_shard(cluster["a"]).on_entry is not None
    cluster.have_follow(0)
    wait_until(lambda: open_shard(cluster["a"]).on_entry is None, "nothing is told any more")
    assert cluster["b"].host.followers.figures() == ()
    write(cluster["a"], 40, 5)
    cluster.have_follow(0, "c")
    cluster.wait_in_sync(0, "a", "c")
    cluster.hand_over(0, "c")
    assert sum(map(len, cluster["c"].samples(0, 2).values())) == 45


def test_one_that_joins_while_it_is_written_and_flushed_has_everything(
    cluster: CopyingCluster, caplog: pytest.LogCaptureFixture
) -> None:
    started(cluster)
    cluster.have_follow(0, "b", "c")
    for step in range(40, 100, 5):
        write(cluster["a"], step, 5, series=step)
        flush(cluster["a"], step % 3)
    cluster.wait_in_sync(0, "a", "b", "c")
    before = cluster["a"].samples(0)
    with caplog.at_level("INFO"):
        cluster.hand_over(0, "c")
    assert TAKEN_OVER in caplog.text
    assert cluster["c"].samples(0, 2) == before


STATE = StoreState(4, 10, 20, {0: 5}, 100, is_new=False, next_batch_id=3, first_batch_id=1, former_epoch=7)


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        (STATE, ""),
        (replace(STATE, next_offset=22, log_bytes=150), ""),
        (replace(STATE, former_epoch=8), "owner 7, not 8"),
        (replace(STATE, next_series_id=11), "next series id 10, not 11"),
        (replace(STATE, checkpoints={0: 6}), "checkpoints"),
        (replace(STATE, group_count=5), "groups 4, not 5"),
        (replace(STATE, first_batch_id=2), "first batch 1, not 2"),
        (replace(STATE, next_batch_id=4), "next batch 3, not 4"),
        (replace(STATE, clock=ClockReading(1, 1)), "clock"),
        (replace(STATE, next_offset=19), "log to 20, not 19"),
        (replace(STATE, log_bytes=99), "log to 20, not 20"),
        (replace(STATE, next_offset=22), "log to 20, not 22"),
        (replace(STATE, next_offset=22, log_bytes=100 << 20), "log without the last"),
        (replace(STATE, lost="the file is gone"), "gone"),
        (replace(STATE, is_new=True), "gone"),
    ],
)
def test_a_store_that_is_not_as_it_was_followed_is_told(found: StoreState, problem: str) -> None:
    rows = SnapshotRows("a shard")
    items: list[Item] = [(Kind.META, 1, 4, 10, 20), (Kind.CHECKPOINT, 0, 5), (Kind.LOG, 19, bytes(100))]
    items += [(Kind.SHARED, batch_id, 1, b"") for batch_id in (1, 2)]
    for piece in pieces_of(items, 50):
        rows.add(piece)
    store = WarmStore(rows, _NoChunks())
    if not problem:
        store.check_may_go_on(found, 7)
        return
    with pytest.raises(CopyDiffers, match=problem):
        store.check_may_go_on(found, 7)


class _NoChunks:
    def read_batch(self, batch_id: int) -> bytes | None:
        return None

    def read_pieces(self, batch_id: int, pieces: Sequence[tuple[int, int]]) -> list[bytes] | None:
        return None

    def close(self) -> None:
        pass


def test_a_chunk_that_is_gone_before_that_was_told_ends_the_following() -> None:
    rows = SnapshotRows("a shard")
    for piece in pieces_of([(Kind.META, 1, 4, 10, 20), (Kind.SHARED, 1, 1, b"")], 50):
        rows.add(piece)
    store = WarmStore(rows, _NoChunks())
    with pytest.raises(CopyDiffers, match="chunk batch 1 was dropped"):
        store.read_batch(1)
    assert store.read_pieces(2, [(0, 1)]) is None


@pytest.mark.parametrize(
    ("items", "problem"),
    [
        ([(Kind.META, 2, 4, 0, 0)], "a store of format 2"),
        ([(Kind.CHECKPOINT, 0, 5)], "CHECKPOINT is out of place"),
        ([(Kind.META, 1, 4, 0, 0), (Kind.HELD, 1, 5)], "HELD is of a copy with data of its own"),
    ],
)
def test_rows_that_do_not_belong_there_are_refused(items: list[Item], problem: str) -> None:
    rows = SnapshotRows("a shard")
    (piece,) = pieces_of(items, 1000)
    with pytest.raises(BadData, match=problem):
        rows.add(piece)
    with pytest.raises(BadData, match="not the last one"):
        rows.check_whole()


def test_a_bad_container_is_its_senders_affair_alone(tmp_path: Path) -> None:
    shard = Shard.open(shard_spec(tmp_path))
    told: list[tuple[int, ReplicaEntry]] = []
    stream = LeaderStream("a shard", shard, lambda seq, entry: told.append((seq, entry)))
    answers = [Answer() for _ in range(3)]
    good = [container([({**UP, "instance": str(i)}, [(NOW_MS, 1.0)])]) for i in range(2)]
    stream.append(
        [
            AppendJob(("prom", 3), 1, data, PendingWrite(answer.take, [None]), 0)
            for data, answer in zip([good[0], b"no container", good[1]], answers, strict=True)
        ]
    )
    replies = [answer.wait() for answer in answers]
    assert [type(reply) for reply in replies] == [WriteOutcome, Refused, WriteOutcome]
    assert [(seq, type(entry)) for seq, entry in told] == [(2, CommitEntry), (3, CommitEntry)]
    stream.close()
    shard.append([container([(UP, [(NOW_MS, 1.0)])])])
    assert len(told) == 2, "nobody is told any more"
    failed: list[Exception] = []
    stream.snapshot(lambda snapshot, seq: snapshot.close(), failed.append)
    assert "closed here" in str(failed[0])
    shard.close()
