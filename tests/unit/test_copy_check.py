"""The slow check that followers have on disk what their leaders have, over real files and sockets."""

from __future__ import annotations

import logging
import random
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from copying_nodes import CopyingCluster, copied_dataset
from shards import container
from waiting import wait_until

from filoray.nodes.data.write_outcome import WriteOutcome
from filoray.nodes.host.replication.copy_check import CheckPace, parts
from filoray.nodes.memstore.store.copy_checksums import differences, stored_checksums
from filoray.nodes.wire.copy_bodies import BATCH_ID_MAX, BATCH_ID_MIN, CHECK_RATE_MIN

CONFIG = copied_dataset(1, **{"flush-when-idle": "100ms", "flush-interval": "1s", "groups-per-shard": 1})


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[CopyingCluster]:
    """Shard 0 is led by a, and b has its copy; the check goes on and on."""
    cluster = CopyingCluster(tmp_path, ["a", "b"], CheckPace(64 << 20, pause_s=0.02, again_s=0.5))
    cluster.start(CONFIG, {0: ("a", ["b"])})
    cluster.wait_in_sync(0, "a", "b")
    yield cluster
    cluster.close()


def write(cluster: CopyingCluster, first_ms: int, count: int = 1) -> None:
    for time_ms in range(first_ms, first_ms + count):
        reply = cluster["a"].write(0, container([({"__name__": "up", "i": str(time_ms % 7)}, [(time_ms, 1.0)])])).wait()
        assert isinstance(reply, WriteOutcome), reply


def wait_for_batches(cluster: CopyingCluster, count: int = 1) -> None:
    for name in ("a", "b"):
        path = cluster[name].copy_path(CONFIG, 0)
        wait_until(lambda path=path: len(stored_checksums(path)) >= count, lambda: "samples are in chunks")


def damage(cluster: CopyingCluster, statement: str) -> None:
    with closing(sqlite3.connect(cluster["b"].copy_path(CONFIG, 0), timeout=30)) as database, database:
        database.execute(statement)


def problem(cluster: CopyingCluster) -> str:
    ((follower,),) = cluster.figures(0)
    return follower.problem


DAMAGES = {
    "UPDATE chunks SET data = zeroblob(length(data)) WHERE batch_id = (SELECT min(batch_id) FROM chunks)": "checksum",
    "DELETE FROM chunks WHERE batch_id = (SELECT min(batch_id) FROM chunks)": "missing at the follower",
    "INSERT INTO chunks SELECT 1000000, written_ms, meta, data FROM chunks LIMIT 1": "the leader has not",
}


@pytest.mark.parametrize("statement", DAMAGES)
def test_what_a_followers_disk_changed_is_told_once_and_shown(
    pair: CopyingCluster, statement: str, caplog: pytest.LogCaptureFixture
) -> None:
    write(pair, 1, 20)
    wait_for_batches(pair)
    with caplog.at_level(logging.ERROR, "filoray.nodes.host.replication"):
        damage(pair, statement)
        shown = wait_until(lambda: problem(pair), lambda: "the difference is shown")
        write(pair, 100, 20)
        wait_for_batches(pair, 1)
        threading.Event().wait(1.5)  # more than two further rounds
    assert shown.startswith("its copy differs: chunk batch ")
    assert DAMAGES[statement] in shown
    assert problem(pair) in (shown, ""), "until a new session, which a busy machine may bring about, gave it the batch"
    told = [record.getMessage() for record in caplog.records]
    assert told == [f"dataset d shard 0: node b: {shown}"]


def test_a_copy_that_is_written_to_is_not_taken_for_a_different_one(pair: CopyingCluster) -> None:
    for first_ms in range(1, 1500, 50):
        write(pair, first_ms, 50)
        assert problem(pair) == ""
    wait_for_batches(pair, 2)
    assert problem(pair) == ""
    damage(pair, next(iter(DAMAGES)))
    wait_until(lambda: problem(pair) != "", lambda: "the check went on all the time")


def test_a_follower_that_joins_anew_has_the_batch_again(pair: CopyingCluster) -> None:
    write(pair, 1, 20)
    wait_for_batches(pair)
    damage(pair, next(iter(DAMAGES)))
    wait_until(lambda: problem(pair) != "", lambda: "the difference is shown")
    pair["b"].close()
    node = pair.boot("b")
    led = pair.led[0]
    node.host.follow_shards(CONFIG, [(0, led.epoch, led.copies.version)])
    pair.tell(0)

    def is_mended() -> bool:
        paths = [pair[name].copy_path(CONFIG, 0) for name in ("a", "b")]
        return problem(pair) == "" and not differences(*map(stored_checksums, paths))

    wait_until(is_mended, lambda: "the batch is there again, and nothing is told of the former copy")


def test_a_slow_check_keeps_no_node_from_closing(tmp_path: Path) -> None:
    """It would read for minutes."""
    cluster = CopyingCluster(tmp_path, ["a", "b"], CheckPace(CHECK_RATE_MIN, pause_s=0.02, again_s=0.5))
    cluster.start(CONFIG, {0: ("a", ["b"])})
    cluster.wait_in_sync(0, "a", "b")
    times = range(1, 100_000)
    labels = {"__name__": "up"}
    values = random.Random(1)
    samples = [(time_ms, values.random()) for time_ms in times]
    assert isinstance(cluster["a"].write(0, container([(labels, samples)])).wait(), WriteOutcome)
    wait_for_batches(cluster)
    cluster.close()
    wait_until(
        lambda: not any(thread.name.startswith("copy-check") for thread in threading.enumerate()),
        lambda: "nobody reads any more",
    )


PARTS: list[tuple[list[tuple[int, int]], Sequence[int]]] = [
    ([], []),
    ([(1, 10), (2, 10)], []),
    ([(1, 8 << 20), (2, 1), (3, 1)], [2]),
    ([(1, 1), (2, 64 << 20), (3, 1)], [2, 3]),
    ([(number, 0) for number in range(4097)], [4096]),
]


@pytest.mark.parametrize(("sizes", "begins"), PARTS)
def test_parts_are_all_batches_there_can_be(sizes: list[tuple[int, int]], begins: Sequence[int]) -> None:
    found = [part for part, _ in parts(sizes)]
    assert [part.start for part in found] == [BATCH_ID_MIN, *begins]
    assert [part.stop for part in found] == [*begins, BATCH_ID_MAX + 1]
    assert sum(size for _, size in parts(sizes)) == sum(size for _, size in sizes)
