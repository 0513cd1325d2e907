"""What is asked of shard maps, and that a change of a large one copies a part of it only."""

from __future__ import annotations

import pickle

import pytest

from filoray.cluster.control.shard_map import ShardEntries, ShardEntry, ShardMap
from filoray.cluster.control.shard_status import ShardStatus, StatusKind

SHARDS = 1000


def entry(shard: int, kind: StatusKind, node: str | None = None, epoch: int = 1) -> ShardEntry:
    return ShardEntry(shard, ShardStatus(kind), node, epoch)


def large_map() -> ShardMap:
    """Every shard at one of ten nodes, Active."""
    entries = [entry(shard, StatusKind.ACTIVE, f"node-{shard % 10}") for shard in range(SHARDS)]
    return ShardMap.initial("d", SHARDS).with_entries(entries)


def test_a_node_s_shards_follow_its_changes() -> None:
    shard_map = large_map().with_entries(
        [entry(3, StatusKind.DOWN), entry(13, StatusKind.ASSIGNED, "node-4", epoch=2), entry(999, StatusKind.DOWN)]
    )
    assert [one.shard for one in shard_map.owned_by("node-3")] == list(range(23, SHARDS, 10))
    assert [one.shard for one in shard_map.owned_by("node-4")] == sorted([13, *range(4, SHARDS, 10)])
    assert (shard_map.load_of("node-9"), shard_map.load_of("node-10")) == (99, 0)
    assert [one.shard for one in shard_map.with_status(StatusKind.DOWN, StatusKind.ASSIGNED)] == [3, 13, 999]
    assert shard_map.count(StatusKind.DOWN, StatusKind.STOPPED) == 2


def test_only_what_changed_is_told_of() -> None:
    former = large_map()
    shard_map = former.with_entries([entry(5, StatusKind.DOWN), former[700], entry(900, StatusKind.DOWN)])
    assert [one.shard for one in shard_map.changed_since(former)] == [5, 900]
    assert len(list(shard_map.changed_since(None))) == SHARDS


def test_the_one_before_stays_as_it_was() -> None:
    former = large_map()
    before = list(former.shards)
    former.with_entries([entry(shard, StatusKind.DOWN) for shard in range(SHARDS)])
    assert list(former.shards) == before
    assert former.load_of("node-0") == 100


def test_an_epoch_that_goes_back_is_refused() -> None:
    with pytest.raises(AssertionError, match="an epoch may only grow"):
        large_map().with_entries([entry(1, StatusKind.ACTIVE, "node-1", epoch=0)])


def test_entries_are_as_any_sequence() -> None:
    entries = tuple(large_map().shards)
    kept = ShardEntries(entries)
    assert kept == entries
    assert kept != entries[:-1]
    assert (kept[0], kept[-1], kept[300:302]) == (entries[0], entries[-1], entries[300:302])
    assert hash(kept) == hash(ShardEntries(entries))
    with pytest.raises(IndexError):
        kept[SHARDS]
    with pytest.raises(IndexError):
        kept[-SHARDS - 1]


def test_a_map_is_the_same_after_a_journey() -> None:
    shard_map = large_map()
    assert pickle.loads(pickle.dumps(shard_map)) == shard_map
    assert pickle.loads(pickle.dumps(shard_map)).load_of("node-0") == 100
