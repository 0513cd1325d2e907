"""Which nodes to ask for which shards: a pure reading of a dataset's ShardMap."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from filoray.cluster.cluster_view import DatasetView
from filoray.cluster.control.shard_map import ShardMap
from filoray.cluster.control.shard_status import StatusKind
from filoray.nodes.data.matching import LabelMatcher
from filoray.nodes.data.part_key import shards_for_matchers

Selectors = Sequence[tuple[LabelMatcher, ...]]
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


def route_selectors(dataset: DatasetView, selectors: Selectors, spread: int | None = None) -> Route:
    """Owners of the shards that may have series which one of the selectors matches."""
    config = dataset.config
    # A narrower spread than the data were written with would miss series without a word.
    used_spread = max(config.spread, spread or 0)
    shards: set[int] = set()
    for matchers in selectors:
        shards.update(shards_for_matchers(matchers, config.num_shards, used_spread))
    return route(dataset.shard_map, sorted(shards))
