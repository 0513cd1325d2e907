"""Which node gets which shard: even, bounded, deterministic. A pure function.

A node may hold ceil(num_shards / min_num_nodes) shards of a dataset (FiloDB's rule), so that ``min_num_nodes`` nodes
suffice for all. With more nodes than that the shards are spread thinner, and what is left of the capacity is the room
that a failed node's shards move into. Shards that have an owner are not given out here: ``spreading.py`` moves them.
"""

from __future__ import annotations

import heapq
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
    with_room = [
        (load.of_dataset, load.of_all, node_order(node)) for node, load in loads.items() if load.of_dataset < capacity
    ]
    heapq.heapify(with_room)
    chosen: dict[int, str] = {}
    for shard in sorted(shards):
        if not with_room:
            break
        of_dataset, of_all, order = with_room[0]
        _, chosen[shard] = order
        if of_dataset + 1 < capacity:
            heapq.heapreplace(with_room, (of_dataset + 1, of_all + 1, order))
        else:
            heapq.heappop(with_room)
    return chosen


def node_order(node: str) -> tuple[int, str]:
    """Sorts node-2 before node-10."""
    return (len(node), node)
