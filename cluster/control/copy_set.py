"""Which nodes have a copy of a shard, and whose copies have all that was acknowledged.

A shard of a data set with ``num-replicas`` above 1 has a leader, which answers, and followers on other nodes, which
have what it has. Who is *in sync* goes by Kafka's rule (KIP-497, AlterPartition): the coordinator keeps the set and its
version, the leader proposes another for the version that it knows, and stops waiting for a follower only when it was
told a set without it. So whoever is in the last durable set has all that was ever acknowledged, and may lead.

Where all nodes share the shard's store, followers have it in their memory only, *warm*: those of a data set with
``num-replicas`` above 1 at all times, and the node that a shard is about to move to. There any node may lead, and who
is in sync merely does so sooner: what it has in memory counts only if it is what the store has.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CopySet:
    """``version`` grows with every change. No nodes where a shard has one copy, or a shared store and no followers.

    ``followers``: nodes that have a copy or are to get one, without the leader's. ``in_sync``: those that may lead
    next, with the leader's.
    """

    version: int = 0
    followers: tuple[str, ...] = ()
    in_sync: tuple[str, ...] = ()

    def __contains__(self, node: str) -> bool:
        """Whether it has a copy that must be closed before it may be deleted."""
        return node in self.followers or node in self.in_sync


ONE_COPY = CopySet()

ShardCopies = tuple[int, int, CopySet]
"""(shard, epoch, its copies)."""

FollowedShard = tuple[int, int, int]
"""(shard, epoch, version of its CopySet): by which of two orders to have, or to drop, a copy is the later one."""


@dataclass(frozen=True, slots=True)
class InSyncProposed:
    """By the leader, for the set of ``base_version``. ``reason``: for the shard's story."""

    base_version: int
    in_sync: tuple[str, ...]
    reason: str = ""
