"""What a launch says of datasets that are not wholly served: which shards, why, and what is needed. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from filoray.cluster.config.dataset import DatasetConfig
from filoray.cluster.control.shard_map import ShardMap
from filoray.cluster.control.shard_status import StatusKind

SETTLED = frozenset({StatusKind.ACTIVE, StatusKind.ERROR, StatusKind.STOPPED})
"""Nothing more will become of a shard by itself, provided that all nodes are up."""


@dataclass(frozen=True, slots=True)
class ReadyReport:
    """What the launcher shows. ``addresses``: by node. ``problems``: shards that are not served, with the reasons."""

    addresses: tuple[str, ...]
    datasets: tuple[str, ...]
    problems: tuple[str, ...]


def is_settled(shard_map: ShardMap, without_room: Sequence[int]) -> bool:
    """Whether all has become of the shards that can; those ``without_room`` wait for more nodes."""
    return all(entry.status.kind in SETTLED or entry.shard in without_room for entry in shard_map.shards)


def dataset_problems(
    config: DatasetConfig, shard_map: ShardMap, without_room: Sequence[int], node_count: int
) -> list[str]:
    """One line for each cause, for the operator of a launch with ``node_count`` nodes."""
    problems = []
    if without_room:
        needed = -(-config.num_shards // config.shards_per_node_max)
        problems.append(
            f"dataset {config.name} needs {needed} nodes and this launch has {node_count}: a node may hold "
            f"{config.shards_per_node_max} of its {config.num_shards} shards (min-num-nodes = {config.min_num_nodes}), "
            f"which leaves none for shards {_listed(without_room)}; start it with --nodes {needed} or more"
        )
    errors: dict[str, list[int]] = {}
    waiting: dict[str, list[int]] = {}
    for entry in shard_map.shards:
        if entry.status.kind is StatusKind.ERROR:
            errors.setdefault(entry.status.reason, []).append(entry.shard)
        elif entry.status.kind not in SETTLED and entry.shard not in without_room:
            waiting.setdefault(f"{entry.status.kind.value} on {entry.node or 'no node'}", []).append(entry.shard)
    problems += [f"dataset {config.name}, shard {_listed(shards)}: {reason}" for reason, shards in errors.items()]
    problems += [
        f"dataset {config.name}, shard {_listed(shards)}: still {state} and nothing is heard of it: its source does "
        f"not answer, or its files are slow; it is served as soon as it is open"
        for state, shards in waiting.items()
    ]
    return problems


def _listed(shards: Sequence[int]) -> str:
    return ", ".join(map(str, shards))
