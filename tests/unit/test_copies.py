"""Leaders and followers of shards, over real files and sockets: what is acknowledged is in every copy in sync."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from copying_nodes import CopyingCluster, copied_dataset
from shards import container

from filoray.nodes.data.write_outcome import WriteOutcome


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[CopyingCluster]:
    cluster = CopyingCluster(tmp_path, ["a", "b"])
    yield cluster
    cluster.close()


def sample(series: int, time_ms: int, value: float = 1.0) -> bytes:
    return container([({"__name__": "up", "instance": str(series)}, [(time_ms, value)])])


def test_a_write_is_acknowledged_when_its_follower_has_it_and_promotion_serves_it_at_once(pair: CopyingCluster) -> None:
    pair.start(copied_dataset(), {0: ("a", ["b"])})
    for number in range(3):
        assert isinstance(pair["a"].write(0, sample(number, 1000)).wait(), WriteOutcome)
    pair.wait_in_sync(0, "a", "b")
    for number in range(50):
        assert isinstance(pair["a"].write(0, sample(number % 7, 2000 + number)).wait(), WriteOutcome)
    shown = pair["a"].samples(0)
    pair.forget("a").close()
    pair.promote(0, "b")
    pair.after_promotion(0)
    assert pair["b"].samples(0, epoch=2) == shown
    assert isinstance(pair["b"].write(0, sample(1, 9000), epoch=2).wait(), WriteOutcome)
