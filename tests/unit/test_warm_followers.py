"""Shards whose store all nodes share, kept warm by nodes that follow them: they lead with what they have in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from copying_nodes import CopyingCluster, CopyingNode, copied_dataset
from postgres_server import PostgresServer, running_postgres
from shards import NOW_MS, container

from filoray.cluster.config.dataset import DatasetConfig
from filoray.nodes.data.write_outcome import WriteOutcome

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


def started(cluster: CopyingCluster, **store: object) -> None:
    """Shard 0 is led by a, and warm on b."""
    cluster.start(shared(cluster, **store), {0: ("a", [])})
    write(cluster["a"], 0, 20)
    cluster["a"].host.shards.readable("d", [(0, 1)])[0].flush_all(1)
    write(cluster["a"], 20, 20)
    cluster.have_follow(0, "b")
    cluster.wait_in_sync(0, "a", "b")


def test_a_shard_moves_to_a_node_that_keeps_it_warm(cluster: CopyingCluster, caplog: pytest.LogCaptureFixture) -> None:
    started(cluster)
    write(cluster["a"], 40, 20, series=9)
    cluster["a"].host.shards.readable("d", [(0, 1)])[0].flush_all(2)
    write(cluster["a"], 60, 5)
    before = cluster["a"].samples(0)
    with caplog.at_level("INFO"):
        cluster.hand_over(0, "b")
    assert TAKEN_OVER in caplog.text
    assert cluster["b"].samples(0, 2) == before
    write(cluster["b"], 65, 10, epoch=2)
    assert sum(map(len, cluster["b"].samples(0, 2).values())) == 75
