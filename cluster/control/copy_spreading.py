"""Which leader is to change places with a follower, and which node is to have another copy: pure functions.

Leaders change without anything being copied, but only to a node that is in sync. They are even when no node leads two
shards of a data set more than another that could be reached by such changes, over other nodes where need be. Copies are
even when no node has two of a data set more than another that could take one.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from filoray.cluster.control.assignment import node_order
from filoray.cluster.control.spreading import Move


@dataclass(frozen=True, slots=True)
class Switchable:
    """A shard that may be led by another node now. ``others``: those of its nodes that are in sync, members."""

    shard: int
    leader: str
    others: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Copies:
    """Of a shard: the nodes that have copies or are to get one, the leader's first."""

    shard: int
    nodes: tuple[str, ...]


def next_switch(
    dataset: str,
    shards: Sequence[Switchable],
    leads: Mapping[str, int],
    open_nodes: Collection[str],
    *,
    evens_out: bool,
) -> Move | None:
    """A shard whose leader is drained goes first. ``leads``: how many shards of the data set each node leads.

    ``open_nodes``: those that may have shards.
    """
    for one in shards:
        targets = [node for node in one.others if node in open_nodes]
        if one.leader not in open_nodes and targets:
            return Move(dataset, one.shard, min(targets, key=lambda node: (leads.get(node, 0), node_order(node))))
    if not evens_out or not shards:
        return None
    by_pair: dict[str, dict[str, int]] = {}
    for one in shards:
        for node in one.others:
            if node in open_nodes and one.leader in open_nodes:
                by_pair.setdefault(one.leader, {}).setdefault(node, one.shard)
    for source in sorted(by_pair, key=lambda node: (-leads.get(node, 0), node_order(node))):
        if move := _towards_fewer(dataset, source, by_pair, leads):
            return move
    return None


def _towards_fewer(
    dataset: str, source: str, by_pair: Mapping[str, Mapping[str, int]], leads: Mapping[str, int]
) -> Move | None:
    """The last change of the shortest way to a node that leads two shards fewer than ``source``.

    It makes the sum of the squares no larger and the way that is left shorter, so changes come to an end.
    """
    came_from = {source: ""}
    waiting = deque([source])
    while waiting:
        node = waiting.popleft()
        for target in sorted(by_pair.get(node, ()), key=lambda name: (leads.get(name, 0), node_order(name))):
            if target in came_from:
                continue
            if leads.get(source, 0) - leads.get(target, 0) >= 2:
                return Move(dataset, by_pair[node][target], target)
            came_from[target] = node
            waiting.append(target)
    return None


def missing_copies(
    shards: Iterable[Copies],
    count: int,
    loads: Mapping[str, int],
    open_nodes: Collection[str],
    counted: Collection[str],
    count_max: int | None = None,
) -> dict[int, list[str]]:
    """Which of ``open_nodes`` are to get copies of shards that have fewer than ``count`` on nodes that are ``counted``.

    ``loads``: copies of the data set that each node has. ``count_max``: so many copies at most; None: all that have a
    place.
    """
    by_load = [(loads.get(node, 0), node_order(node)) for node in open_nodes]
    heapq.heapify(by_load)
    found: dict[int, list[str]] = {}
    left = count_max
    for one in shards:
        missing = count - sum(node in counted for node in one.nodes)
        if missing <= 0:
            continue
        if left == 0:
            break
        has_it: list[tuple[int, tuple[int, str]]] = []
        while by_load and missing and left != 0:
            load, order = heapq.heappop(by_load)
            if order[1] in one.nodes:
                has_it.append((load, order))
                continue
            found.setdefault(one.shard, []).append(order[1])
            missing -= 1
            left = None if left is None else left - 1
            has_it.append((load + 1, order))
        for load_and_order in has_it:
            heapq.heappush(by_load, load_and_order)
    return found


def next_copy_move(
    shards: Sequence[Copies], loads: Mapping[str, int], open_nodes: Collection[str]
) -> tuple[int, str] | None:
    """A shard of which the node with the most copies has one that does not lead, and the node that is to get it."""
    sources = sorted(open_nodes, key=lambda node: (-loads.get(node, 0), node_order(node)))
    for source in sources[:1]:
        for one in shards:
            if source in one.nodes[1:]:
                node = _least_loaded(one.nodes, loads, open_nodes)
                if node is not None and loads.get(source, 0) - loads.get(node, 0) >= 2:
                    return one.shard, node
    return None


def _least_loaded(taken: Collection[str], loads: Mapping[str, int], open_nodes: Collection[str]) -> str | None:
    free = [node for node in open_nodes if node not in taken]
    return min(free, key=lambda node: (loads.get(node, 0), node_order(node)), default=None)


def surplus_copy(
    one: Copies, count: int, in_sync: Collection[str], loads: Mapping[str, int], open_nodes: Collection[str]
) -> str | None:
    """The follower that goes, if there are ``count`` copies in sync on open nodes without it; None: none goes now.

    That is one on a node that is not open, else on the node that has most; not another in its place, which may be the
    one that joins so that it can go.
    """
    if not one.nodes[1:]:
        return None
    node = min(one.nodes[1:], key=lambda name: (name in open_nodes, -loads.get(name, 0), node_order(name)))
    kept = [other for other in one.nodes if other != node and other in in_sync and other in open_nodes]
    return node if len(kept) >= count else None
