"""Who owns which shard of one dataset, at one moment: an immutable, versioned picture.

The ShardManager makes new ones, the MetaStore keeps the last, gateways route by them. A picture with a higher version
replaces one with a lower; nobody changes one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from filoray.cluster.control.shard_status import INITIAL_STATUS, OWNED, ShardStatus, StatusKind


@dataclass(frozen=True, slots=True)
class ShardEntry:
    """One shard. ``node`` is the slot name of its owner, None while there is none.

    ``epoch`` is that of the last assignment, 0 before the first; it only grows.
    """

    shard: int
    status: ShardStatus
    node: str | None
    epoch: int

    def __post_init__(self) -> None:
        assert (self.node is not None) == (self.status.kind in OWNED), f"owner and status disagree: {self}"


@dataclass(frozen=True, slots=True)
class ShardMap:
    """All shards of ``dataset``; ``shards[i].shard == i``. ``version`` grows with every change."""

    dataset: str
    version: int
    shards: tuple[ShardEntry, ...]

    @classmethod
    def initial(cls, dataset: str, num_shards: int, version: int = 1) -> ShardMap:
        """Every shard unassigned."""
        return cls(dataset, version, tuple(ShardEntry(shard, INITIAL_STATUS, None, 0) for shard in range(num_shards)))

    def __getitem__(self, shard: int) -> ShardEntry:
        return self.shards[shard]

    def __len__(self) -> int:
        return len(self.shards)

    def with_entries(self, entries: Iterable[ShardEntry]) -> ShardMap:
        """The same picture with these entries in place of theirs, one version later."""
        shards = list(self.shards)
        for entry in entries:
            assert entry.epoch >= shards[entry.shard].epoch, f"an epoch may only grow: {shards[entry.shard]} -> {entry}"
            shards[entry.shard] = entry
        return ShardMap(self.dataset, self.version + 1, tuple(shards))

    def owned_by(self, node: str) -> tuple[ShardEntry, ...]:
        return tuple(entry for entry in self.shards if entry.node == node)

    def with_status(self, *kinds: StatusKind) -> tuple[ShardEntry, ...]:
        return tuple(entry for entry in self.shards if entry.status.kind in kinds)
