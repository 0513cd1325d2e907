"""What a launch says of datasets that are not wholly served: which shards, why, and what is needed. Pure functions."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from filoray.cluster.config.dataset import DatasetConfig
from filoray.cluster.control.assignment import node_order
from filoray.cluster.control.shard_map import ShardMap
from filoray.cluster.control.shard_status import StatusKind

SETTLED = frozenset({StatusKind.ACTIVE, StatusKind.ERROR, StatusKind.STOPPED})
"""Nothing more will become of a shard by itself, provided that all nodes are up."""


@dataclass(frozen=True, slots=True)
class ReadyReport:
    """What the launcher shows. ``addresses``: by node. ``problems``: shards that are not served, with the reasons, and
    keys of data sets' configurations that nobody knows.
    """

    addresses: tuple[str, ...]
    datasets: tuple[str, ...]
    problems: tuple[str, ...]


def is_settled(shard_map: ShardMap, without_room: Sequence[int]) -> bool:
    """Whether all has become of the shards that can; those ``without_room`` wait for more nodes."""
    unsettled = tuple(kind for kind in StatusKind if kind not in SETTLED)
    if shard_map.count(*unsettled) > len(without_room):
        return False  # asked at each event while somebody waits, so not shard by shard
    waiting = frozenset(without_room)
    return all(entry.shard in waiting for entry in shard_map.with_status(*unsettled))


def dataset_problems(
    config: DatasetConfig,
    shard_map: ShardMap,
    without_room: Sequence[int],
    node_count: int,
    drained: Collection[str] = (),
) -> list[str]:
    """One line for each cause, for the operator of a launch with ``node_count`` nodes, ``drained`` ones included."""
    problems = []
    needed = -(-config.num_shards // config.shards_per_node_max)
    if without_room and drained and needed <= node_count:
        nodes = ", ".join(sorted(drained, key=node_order))
        problems.append(
            f"dataset {config.name} has no room for shards {_listed(without_room)} while {nodes} may have none: "
            f"a node may hold {config.shards_per_node_max} of its {config.num_shards} shards; "
            "filoray undrain lets it have some"
        )
    elif without_room:
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
