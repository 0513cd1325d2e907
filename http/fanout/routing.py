"""Which nodes to ask for which shards: a pure reading of a dataset's ShardMap."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from filoray.cluster.control.shard_map import ShardMap
from filoray.cluster.control.shard_status import StatusKind

ShardEpochs = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Route:
    """``by_node``: the (shard, epoch) pairs to name to each node. ``missing``: shard to why it can't be asked now."""

    by_node: Mapping[str, ShardEpochs]
    missing: Mapping[int, str]


def missing_text(dataset: str, missing: Mapping[int, str]) -> str:
    """What to tell a user of shards that can't be asked."""
    shards = ", ".join(f"{shard} ({status})" for shard, status in sorted(missing.items()))
    return f"dataset {dataset}: {'shards' if len(missing) > 1 else 'shard'} {shards} not available"


def route(shard_map: ShardMap, shards: Iterable[int]) -> Route:
    """Owners of those shards that are Active; the others are missing, with their status."""
    by_node: dict[str, list[tuple[int, int]]] = {}
    missing: dict[int, str] = {}
    for shard in shards:
        entry = shard_map.shards[shard]
        if entry.status.kind is StatusKind.ACTIVE and entry.node is not None:
            by_node.setdefault(entry.node, []).append((shard, entry.epoch))
        else:
            missing[shard] = str(entry.status)
    return Route({node: tuple(pairs) for node, pairs in by_node.items()}, missing)
