"""Who owns which shard of one dataset, at one moment: an immutable, versioned picture.

The ShardManager makes new ones, the MetaStore keeps the last, gateways route by them. A picture with a higher version
replaces one with a lower; nobody changes one.

A dataset may have tens of thousands of shards on a thousand nodes, each of which reports for itself. So what a change
costs, and what is asked at each change (a node's shards, how many have a status), does not grow with all shards: a
picture shares with the one before what did not change (``ShardEntries``), and its index goes along.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, compress, count
from operator import is_not
from typing import overload

from filoray.cluster.control.copy_set import ONE_COPY, CopySet, FollowedShard
from filoray.cluster.control.shard_status import INITIAL_STATUS, OWNED, ShardStatus, StatusKind


@dataclass(frozen=True, slots=True)
class ShardEntry:
    """One shard. ``node`` is the slot name of its owner, None while there is none; of several copies, their leader's.

    ``epoch`` is that of the last assignment, 0 before the first; it only grows.
    """

    shard: int
    status: ShardStatus
    node: str | None
    epoch: int
    copies: CopySet = ONE_COPY

    def __post_init__(self) -> None:
        assert (self.node is not None) == (self.status.kind in OWNED), f"owner and status disagree: {self}"

    def is_on(self, node: str) -> bool:
        """Whether ``node`` has the shard, or a copy of it, or is to get one."""
        return node == self.node or node in self.copies

    @property
    def followed(self) -> FollowedShard:
        """As an order to have, or to drop, a copy of it names it now."""
        return self.shard, self.epoch, self.copies.version


_BLOCK_LENGTH = 256
"""A change copies one block, and the list of blocks; a comparison looks through the list, and the blocks that differ.
Of 65,536 shards, a block and the list are as long as each other.
"""


class ShardEntries(Sequence[ShardEntry]):
    """``entries[i].shard == i``. Immutable; equal to any sequence of the same entries, pickled without its index."""

    __slots__ = ("_blocks", "_counts", "_owned")

    def __init__(self, entries: Iterable[ShardEntry] = ()) -> None:
        every = tuple(entries)
        self._blocks = tuple(every[start : start + _BLOCK_LENGTH] for start in range(0, len(every), _BLOCK_LENGTH))
        self._owned: Mapping[str, tuple[int, ...]] | None = None
        self._counts: Mapping[StatusKind, int] | None = None

    # ---- a sequence

    def __len__(self) -> int:
        return (len(self._blocks) - 1) * _BLOCK_LENGTH + len(self._blocks[-1]) if self._blocks else 0

    @overload
    def __getitem__(self, shard: int) -> ShardEntry: ...
    @overload
    def __getitem__(self, shard: slice) -> Sequence[ShardEntry]: ...
    def __getitem__(self, shard: int | slice) -> ShardEntry | Sequence[ShardEntry]:
        if isinstance(shard, slice):
            return tuple(self)[shard]
        if shard < 0:
            shard += len(self)
            if shard < 0:
                raise IndexError(shard)
        return self._blocks[shard // _BLOCK_LENGTH][shard % _BLOCK_LENGTH]

    def __iter__(self) -> Iterator[ShardEntry]:
        return chain.from_iterable(self._blocks)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, ShardEntries):
            return self._blocks == other._blocks
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return repr(tuple(self))

    def __reduce__(self) -> tuple[type[ShardEntries], tuple[tuple[ShardEntry, ...]]]:
        return ShardEntries, (tuple(self),)

    # ---- changes

    def with_entries(self, entries: Iterable[ShardEntry]) -> ShardEntries:
        """The same with these in place of theirs."""
        blocks: dict[int, list[ShardEntry]] = {}
        counts = dict(self._status_counts())
        moved: dict[str, set[int]] = {}
        """Shards that each node may have won or lost."""
        for entry in entries:
            number, place = divmod(entry.shard, _BLOCK_LENGTH)
            if number not in blocks:
                blocks[number] = list(self._blocks[number])
            former = blocks[number][place]
            assert entry.epoch >= former.epoch, f"an epoch may only grow: {former} -> {entry}"
            blocks[number][place] = entry
            if former.status.kind is not entry.status.kind:
                counts[former.status.kind] -= 1
                counts[entry.status.kind] += 1
            if former.node != entry.node:
                for node in (former.node, entry.node):
                    if node is not None:
                        moved.setdefault(node, set()).add(entry.shard)
        changed = ShardEntries()
        every = list(self._blocks)
        for number, block in blocks.items():
            every[number] = tuple(block)
        changed._blocks = tuple(every)
        changed._counts = counts
        changed._owned = self._owned_after(moved, changed) if moved else self.owners()
        return changed

    def _owned_after(self, moved: Mapping[str, Collection[int]], changed: ShardEntries) -> dict[str, tuple[int, ...]]:
        owned = dict(self.owners())
        for node, shards in moved.items():
            kept = [shard for shard in owned.get(node, ()) if shard not in shards]
            won = [shard for shard in shards if changed[shard].node == node]
            owned[node] = tuple(sorted(kept + won))
        return owned

    def changed_since(self, former: ShardEntries) -> Iterator[ShardEntry]:
        """Entries that ``former``, which has as many, has otherwise."""
        assert len(self) == len(former), f"{len(former)} shards became {len(self)}"
        for number in compress(count(), map(is_not, self._blocks, former._blocks)):
            block, other = self._blocks[number], former._blocks[number]
            for entry, known in compress(zip(block, other, strict=True), map(is_not, block, other)):
                if entry != known:
                    yield entry

    # ---- the index

    def status_count(self, kind: StatusKind) -> int:
        return self._status_counts().get(kind, 0)

    def owners(self) -> Mapping[str, tuple[int, ...]]:
        """Node to its shards; some may have none."""
        if self._owned is None:
            owned: dict[str, list[int]] = {}
            for entry in self:
                if entry.node is not None:
                    owned.setdefault(entry.node, []).append(entry.shard)
            self._owned = {node: tuple(shards) for node, shards in owned.items()}
        return self._owned

    def _status_counts(self) -> Mapping[StatusKind, int]:
        if self._counts is None:
            self._counts = dict.fromkeys(StatusKind, 0) | Counter(entry.status.kind for entry in self)
        return self._counts


@dataclass(frozen=True, slots=True)
class ShardMap:
    """All shards of ``dataset``; ``shards[i].shard == i``. ``version`` grows with every change."""

    dataset: str
    version: int
    shards: Sequence[ShardEntry]

    def __post_init__(self) -> None:
        if not isinstance(self.shards, ShardEntries):
            object.__setattr__(self, "shards", ShardEntries(self.shards))

    @classmethod
    def initial(cls, dataset: str, num_shards: int, version: int = 1) -> ShardMap:
        """Every shard unassigned."""
        return cls(dataset, version, tuple(ShardEntry(shard, INITIAL_STATUS, None, 0) for shard in range(num_shards)))

    def __getitem__(self, shard: int) -> ShardEntry:
        return self.shards[shard]

    def __len__(self) -> int:
        return len(self.shards)

    def with_entries(self, entries: Iterable[ShardEntry], version: int | None = None) -> ShardMap:
        """The same picture with these entries in place of theirs; ``version`` None: one later."""
        version = self.version + 1 if version is None else version
        return ShardMap(self.dataset, version, self._entries.with_entries(entries))

    def changed_since(self, former: ShardMap | None) -> Iterator[ShardEntry]:
        """Entries that are not the same in ``former``, a picture of the same shards; None: all."""
        return iter(self.shards) if former is None else self._entries.changed_since(former._entries)

    def owned_by(self, node: str) -> tuple[ShardEntry, ...]:
        return tuple(self.shards[shard] for shard in self._entries.owners().get(node, ()))

    def load_of(self, node: str) -> int:
        """How many shards it owns."""
        return len(self._entries.owners().get(node, ()))

    def with_status(self, *kinds: StatusKind) -> tuple[ShardEntry, ...]:
        if not self.count(*kinds):
            return ()
        return tuple(entry for entry in self.shards if entry.status.kind in kinds)

    def count(self, *kinds: StatusKind) -> int:
        """How many shards have one of these statuses."""
        return sum(map(self._entries.status_count, kinds))

    @property
    def _entries(self) -> ShardEntries:
        assert isinstance(self.shards, ShardEntries), "made so as it began"
        return self.shards
