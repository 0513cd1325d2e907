"""Which node gets which shard: even, bounded, deterministic. A pure function.

A node may hold ceil(num_shards / min_num_nodes) shards of a dataset (FiloDB's rule), so that ``min_num_nodes`` nodes
suffice for all. With more nodes than that the shards are spread thinner, and what is left of the capacity is the room
that a failed node's shards move into. Healthy shards are never moved.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NodeLoad:
    """Shards a node holds now: of the dataset in question, and of all datasets."""

    of_dataset: int
    of_all: int


def assign_shards(shards: Iterable[int], loads: Mapping[str, NodeLoad], capacity: int) -> dict[int, str]:
    """Shard to node for as many of ``shards`` as there is room for, lowest shards first.

    ``loads``: the nodes that may take shards. Each shard goes to the node that holds the fewest of this dataset, then
    the fewest of all, then the first by name.
    """
    of_dataset = {node: load.of_dataset for node, load in loads.items()}
    of_all = {node: load.of_all for node, load in loads.items()}
    chosen: dict[int, str] = {}
    for shard in sorted(shards):
        with_room = [node for node, count in of_dataset.items() if count < capacity]
        if not with_room:
            break
        node = min(with_room, key=lambda node: (of_dataset[node], of_all[node], node_order(node)))
        chosen[shard] = node
        of_dataset[node] += 1
        of_all[node] += 1
    return chosen


def node_order(node: str) -> tuple[int, str]:
    """Sorts node-2 before node-10."""
    return (len(node), node)
