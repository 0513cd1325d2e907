"""Where the copies of a data set are: an index of its shard map's entries that changes as they do.

What is asked of all copies at each event so costs as much as there is to be done for them, and not as much as all
shards, of which a large cluster has tens of thousands.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from itertools import chain
from typing import TypeVar

from filoray.cluster.control.shard_map import ShardEntry

_Key = TypeVar("_Key")


def nodes_of(entry: ShardEntry) -> tuple[str, ...]:
    """That have a copy or are to get one, the leader first."""
    if entry.node is not None:
        return (entry.node, *entry.copies.followers)
    return tuple(dict.fromkeys((*entry.copies.in_sync, *entry.copies.followers)))


class CopyIndex:
    """Equal to any index of the same entries, whatever was exchanged to get there. None of its sets is empty.

    ``on``: node to shards that it has a copy of or is to get one. ``lagging``: of those that are led, node to shards
    that it follows without being in sync. ``by_count``: how many nodes a shard that is led is on, to such shards.
    """

    def __init__(self, entries: Iterable[ShardEntry] = ()) -> None:
        self.on: dict[str, set[int]] = {}
        self.lagging: dict[str, set[int]] = {}
        self.by_count: dict[int, set[int]] = {}
        for entry in entries:
            self._add(entry)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CopyIndex):
            return NotImplemented
        return (self.on, self.lagging, self.by_count) == (other.on, other.lagging, other.by_count)

    __hash__ = None  # type: ignore[assignment]  # it changes

    # ---- what can be asked

    def loads(self) -> Counter[str]:
        """How many copies each node has or is to get."""
        return Counter({node: len(shards) for node, shards in self.on.items()})

    def may_lack(self, count: int, counted: Collection[str]) -> list[int]:
        """All that are led and on fewer than ``count`` nodes that are ``counted``, in order, with some others."""
        few = (shards for copies, shards in self.by_count.items() if copies < count)
        return _in_order(chain(few, (shards for node, shards in self.on.items() if node not in counted)))

    def may_exceed(self, count: int, leaving: Iterable[str]) -> list[int]:
        """All that are led and on more than ``count`` nodes, or on one that is ``leaving``, in order, with others."""
        many = (shards for copies, shards in self.by_count.items() if copies > count)
        return _in_order(chain(many, (self.on[node] for node in leaving if node in self.on)))

    # ---- changes

    def exchange(self, former: ShardEntry, entry: ShardEntry) -> None:
        """``entry`` takes the place of ``former``, which is of the same shard."""
        if former.node == entry.node and former.copies == entry.copies:
            return
        for node in nodes_of(former):
            _discard(self.on, node, former.shard)
        if former.node is not None:
            _discard(self.by_count, 1 + len(former.copies.followers), former.shard)
            for node in _lagging(former):
                _discard(self.lagging, node, former.shard)
        self._add(entry)

    def _add(self, entry: ShardEntry) -> None:
        for node in nodes_of(entry):
            self.on.setdefault(node, set()).add(entry.shard)
        if entry.node is not None:
            self.by_count.setdefault(1 + len(entry.copies.followers), set()).add(entry.shard)
            for node in _lagging(entry):
                self.lagging.setdefault(node, set()).add(entry.shard)


def _lagging(entry: ShardEntry) -> Iterator[str]:
    in_sync = entry.copies.in_sync
    return (node for node in entry.copies.followers if node not in in_sync)


def _discard(found: dict[_Key, set[int]], key: _Key, shard: int) -> None:
    shards = found[key]
    shards.remove(shard)
    if not shards:
        del found[key]


def _in_order(found: Iterable[set[int]]) -> list[int]:
    return sorted(set[int]().union(*found))
