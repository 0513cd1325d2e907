"""Puts into a coordinator's store which copy of each shard is to lead: of one that was lost, copied or written to.

Used by tools, with the cluster stopped. That copy is in sync then, and no other: the others are followers, which get
what they lack, or lose what they have too much, when its leader has them join anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from filoray.cluster.config.dataset import DatasetConfig
from filoray.cluster.control.assignment import node_order
from filoray.cluster.control.copy_set import CopySet
from filoray.cluster.control.shard_status import ShardStatus, StatusKind
from filoray.cluster.store.meta_store import MetaStore


@dataclass(frozen=True, slots=True)
class LeadingCopy:
    """``epoch``: none of the shard's copies has a higher one. ``followers``: other nodes that have a copy."""

    node: str
    epoch: int
    followers: tuple[str, ...] = ()


def put_leading_copies(store: MetaStore, config: DatasetConfig, leading: Mapping[int, LeadingCopy]) -> None:
    """Of shards of a data set that the store knows; the others stay as they are."""
    if not leading:
        return
    maps = {known.name: shard_map for known, shard_map in store.restored_state({}).shard_maps}
    shard_map = maps[config.name]
    entries = []
    for entry in shard_map.shards:
        copy = leading.get(entry.shard)
        if copy is not None:
            followers = tuple(sorted(set(copy.followers) - {copy.node}, key=node_order))
            copies = CopySet(entry.copies.version + 1, followers, (copy.node,))
            down = ShardStatus(StatusKind.DOWN)
            epoch = max(entry.epoch, copy.epoch)
            entries.append(replace(entry, status=down, node=None, epoch=epoch, copies=copies))
    store.put_shard_map(shard_map.with_entries(entries))
    store.put_opened({(config.name, shard): config.generation for shard in leading})
