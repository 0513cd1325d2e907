"""Which shards are to move so that the map becomes even again, and that drained nodes become empty. Pure functions.

A map is even when, of each dataset, no node has two shards more than another, and among maps that are so, no node has
in all two shards more than another that could take one of them. Each move makes one of two sums smaller and the first
never larger: that of the squares of the shards per node and dataset, then that of the squares of the shards per node.
So moves come to an end, a map that is even stays as it is, and no shard is moved back and forth.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from filoray.cluster.control.assignment import node_order


@dataclass(frozen=True, slots=True)
class DatasetSpread:
    """Of one dataset: what each node has, by node. ``capacity``: how many shards a node may have of it.

    ``owned``: how many shards; ``movable``: those of them that may move now, lowest first.
    """

    dataset: str
    capacity: int
    owned: Mapping[str, int]
    movable: Mapping[str, Sequence[int]]


@dataclass(frozen=True, slots=True)
class Move:
    dataset: str
    shard: int
    node: str
    """That it goes to."""


def next_move(
    datasets: Sequence[DatasetSpread], nodes: Collection[str], drained: Collection[str], *, evens_out: bool = True
) -> Move | None:
    """The next one that is called for; None: the map is as it should be, or nothing better can be reached now.

    ``nodes``: all members. ``drained``: those of them that are to have no shards. ``evens_out``: moves between nodes
    that may have shards are called for too.
    """
    open_nodes = sorted(set(nodes) - set(drained), key=node_order)
    leaving = sorted(set(nodes) & set(drained), key=node_order)
    totals = {node: sum(one.owned.get(node, 0) for one in datasets) for node in nodes}
    for one in datasets:
        if move := _off_drained(one, leaving, open_nodes, totals):
            return move
    for gap_min, total_gap_min in ((2, None), (1, 2)) if evens_out else ():
        for one in datasets:
            if move := _more_even(one, open_nodes, totals, gap_min, total_gap_min):
                return move
    return None


def room_elsewhere(one: DatasetSpread, open_nodes: Collection[str]) -> int:
    """How many more shards of the dataset those nodes may have."""
    return sum(max(0, one.capacity - one.owned.get(node, 0)) for node in open_nodes)


def _off_drained(
    one: DatasetSpread, leaving: Sequence[str], open_nodes: Sequence[str], totals: Mapping[str, int]
) -> Move | None:
    with_room = [node for node in open_nodes if one.owned.get(node, 0) < one.capacity]
    source = next((node for node in leaving if one.movable.get(node)), None)
    if source is None or not with_room:
        return None
    target = min(with_room, key=lambda node: (one.owned.get(node, 0), totals[node]))
    return Move(one.dataset, one.movable[source][0], target)


def _more_even(
    one: DatasetSpread,
    open_nodes: Sequence[str],
    totals: Mapping[str, int],
    gap_min: int,
    total_gap_min: int | None,
) -> Move | None:
    """From a node that has most to one that has least, if they differ by so much.

    ``total_gap_min``: and by so much in all shards they have; None: whatever those are.
    """
    sources = [node for node in open_nodes if one.movable.get(node)]
    if not sources:
        return None
    source = max(sources, key=lambda node: (one.owned[node], totals[node]))
    target = min(open_nodes, key=lambda node: (one.owned.get(node, 0), totals[node]))
    gap = one.owned[source] - one.owned.get(target, 0)
    is_called_for = gap >= gap_min and (total_gap_min is None or totals[source] - totals[target] >= total_gap_min)
    return Move(one.dataset, one.movable[source][0], target) if is_called_for else None
