"""The index of copies: it follows the entries, and names all shards for whose copies something may be to do."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from filoray.cluster.control.copy_index import CopyIndex
from filoray.cluster.control.copy_set import CopySet
from filoray.cluster.control.shard_map import ShardEntry
from filoray.cluster.control.shard_status import ShardStatus, StatusKind

WELL = ShardEntry(0, ShardStatus(StatusKind.ACTIVE), "a", 1, CopySet(1, ("b", "c"), ("a", "b", "c")))
SHORT = replace(WELL, shard=1, copies=CopySet(1, ("b",), ("a", "b")))
LAGS = replace(WELL, shard=2, node="b", copies=CopySet(1, ("a", "c"), ("b", "c")))
WIDE = replace(WELL, shard=3, copies=CopySet(1, ("b", "c", "d"), ("a", "b", "c")))
DOWN = replace(SHORT, shard=4, node=None, status=ShardStatus(StatusKind.DOWN), copies=CopySet(1, ("b",), ("a",)))
FRESH = replace(DOWN, shard=5, copies=CopySet())
ENTRIES = (WELL, SHORT, LAGS, WIDE, DOWN, FRESH)


def test_a_copy_counts_for_its_node_whether_it_leads_follows_or_waits_for_a_leader() -> None:
    index = CopyIndex(ENTRIES)
    assert index.loads() == Counter(a=5, b=5, c=3, d=1)
    assert index.on["c"] == {0, 2, 3}


def test_followers_that_are_not_in_sync_lag_where_somebody_leads() -> None:
    assert CopyIndex(ENTRIES).lagging == {"a": {2}, "d": {3}}


@pytest.mark.parametrize(
    ("count", "counted", "shards"), [(3, "abcd", {1}), (4, "abcd", {0, 1, 2}), (3, "abc", {1, 3}), (1, "abcd", set())]
)
def test_shards_that_may_lack_copies(count: int, counted: str, shards: set[int]) -> None:
    assert set(CopyIndex(ENTRIES).may_lack(count, set(counted))) == shards


@pytest.mark.parametrize(
    ("count", "leaving", "shards"), [(3, "", {3}), (4, "", set()), (4, "c", {0, 2, 3}), (4, "e", set())]
)
def test_shards_that_may_have_too_many(count: int, leaving: str, shards: set[int]) -> None:
    assert set(CopyIndex(ENTRIES).may_exceed(count, set(leaving))) == shards


@pytest.mark.parametrize("former", ENTRIES)
@pytest.mark.parametrize("entry", ENTRIES)
def test_an_index_whose_entries_were_exchanged_is_one_of_the_new_entries(former: ShardEntry, entry: ShardEntry) -> None:
    entry = replace(entry, shard=former.shard)
    index = CopyIndex(ENTRIES)
    index.exchange(former, entry)
    assert index == CopyIndex(entry if one is former else one for one in ENTRIES)
    assert (index == CopyIndex(ENTRIES)) == (former.copies == entry.copies and former.node == entry.node)
