"""Which leader is to change places with a follower, and which node is to have another copy: pure functions.

Leaders change without anything being copied, but only to a node that is in sync. They are even when no node leads two
shards of a data set more than another that could be reached by such changes, over other nodes where need be. Copies are
on as many machines as there can be, so that one may be lost with its disk. They are even when no node has two of a data
set more than another that could take one, and no shard would be on fewer machines then.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

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


Machines = Mapping[str, str]
"""By node where it is; nodes that it does not name are all on one machine."""


def machine_count(nodes: Iterable[str], machines: Machines) -> int:
    """Of how many machines the nodes are."""
    return len({machines.get(node, "") for node in nodes})


class _Room:
    """Nodes that may have copies more, by how many they have: those of each machine in an order of their own.

    Who gets one is found among the first of each machine, as shards are many and machines are few.
    """

    def __init__(self, nodes: Iterable[str], loads: Mapping[str, int], machines: Machines) -> None:
        self._by_machine: dict[str, list[tuple[int, tuple[int, str]]]] = {}
        for node in nodes:
            place = self._by_machine.setdefault(machines.get(node, ""), [])
            heapq.heappush(place, (loads.get(node, 0), node_order(node)))

    def take(self, holders: Collection[str], taken_machines: Collection[str]) -> tuple[str, str] | None:
        """A node for a copy more of a shard that ``holders`` have one of, and its machine; None: there is none.

        Not on one of ``taken_machines``, unless there is no other.
        """
        fresh = [machine for machine in self._by_machine if machine not in taken_machines]
        for choice in (fresh, [machine for machine in self._by_machine if machine in taken_machines]):
            found = [(first, machine) for machine in choice if (first := self._first(machine, holders)) is not None]
            if found:
                first, machine = min(found)
                self._count(machine, first)
                return first[1][1], machine
        return None

    def _first(self, machine: str, holders: Collection[str]) -> tuple[int, tuple[int, str]] | None:
        place = self._by_machine[machine]
        if place[0][1][1] not in holders:
            return place[0]
        return min((one for one in place if one[1][1] not in holders), default=None)

    def _count(self, machine: str, one: tuple[int, tuple[int, str]]) -> None:
        place, more = self._by_machine[machine], (one[0] + 1, one[1])
        if place[0] == one:
            heapq.heapreplace(place, more)
        else:
            place[place.index(one)] = more
            heapq.heapify(place)


def missing_copies(
    shards: Iterable[Copies],
    count: int,
    loads: Mapping[str, int],
    open_nodes: Collection[str],
    counted: Collection[str],
    count_max: int | None = None,
    machines: Machines = MappingProxyType({}),
) -> dict[int, list[str]]:
    """Which of ``open_nodes`` are to get copies of shards that have fewer than ``count`` on nodes that are ``counted``.

    ``loads``: copies of the data set that each node has. ``count_max``: so many copies at most; None: all that have a
    place.
    """
    room = _Room(open_nodes, loads, machines)
    found: dict[int, list[str]] = {}
    left = count_max
    for one in shards:
        kept = [node for node in one.nodes if node in counted]
        missing = count - len(kept)
        if missing <= 0:
            continue
        holders, taken = [*one.nodes], {machines.get(node, "") for node in kept}
        while missing and left != 0 and (got := room.take(holders, taken)) is not None:
            node, machine = got
            found.setdefault(one.shard, []).append(node)
            holders.append(node)
            taken.add(machine)
            missing -= 1
            left = None if left is None else left - 1
        if left == 0:
            break
    return found


def next_copy_move(
    shards: Sequence[Copies],
    loads: Mapping[str, int],
    open_nodes: Collection[str],
    staying: Collection[str],
    machines: Machines = MappingProxyType({}),
) -> tuple[int, str] | None:
    """A shard of which another copy is to join so that one that does not lead can go, and the node that is to get it.

    First one that would be on a machine more by it; else one of the node with the most copies that has some which may
    go to a node with two fewer, on no fewer machines. ``staying``: nodes whose copies stay, be they open or not.
    """
    if move := _to_another_machine(shards, loads, open_nodes, staying, machines):
        return move
    least = min((loads.get(node, 0) for node in open_nodes), default=0)
    for source in sorted(open_nodes, key=lambda node: (-loads.get(node, 0), node_order(node))):
        if loads.get(source, 0) - least < 2:
            return None
        for one in shards:
            if source not in one.nodes[1:]:
                continue
            kept = [node for node in one.nodes if node in staying]
            others = [node for node in kept if node != source]
            now = machine_count(kept, machines)
            allowed = [node for node in open_nodes if machine_count([*others, node], machines) >= now]
            node = _least_loaded(one.nodes, loads, allowed)
            if node is not None and loads.get(source, 0) - loads.get(node, 0) >= 2:
                return one.shard, node
    return None


def _to_another_machine(
    shards: Sequence[Copies],
    loads: Mapping[str, int],
    open_nodes: Collection[str],
    staying: Collection[str],
    machines: Machines,
) -> tuple[int, str] | None:
    """Of a shard that has two copies on one machine, of which one can go, a node on a machine that has none."""
    for one in shards:
        used = [machines.get(node, "") for node in one.nodes if node in staying]
        if len(set(used)) < len(used):
            fresh = [node for node in open_nodes if machines.get(node, "") not in used]
            if (node := _least_loaded(one.nodes, loads, fresh)) is not None:
                return one.shard, node
    return None


def _least_loaded(taken: Collection[str], loads: Mapping[str, int], open_nodes: Collection[str]) -> str | None:
    free = [node for node in open_nodes if node not in taken]
    return min(free, key=lambda node: (loads.get(node, 0), node_order(node)), default=None)


def surplus_copy(
    one: Copies,
    count: int,
    in_sync: Collection[str],
    loads: Mapping[str, int],
    open_nodes: Collection[str],
    machines: Machines = MappingProxyType({}),
) -> str | None:
    """The follower that goes, if there are ``count`` copies in sync on open nodes without it; None: none goes now.

    That is one on a node that is not open, else one whose machine has another, else on the node that has most; not
    another in its place, which may be the one that joins so that it can go.
    """
    if not one.nodes[1:]:
        return None
    used = [machines.get(name, "") for name in one.nodes if name in open_nodes]

    def order(name: str) -> tuple[bool, bool, int, tuple[int, str]]:
        is_alone = used.count(machines.get(name, "")) == 1
        return name in open_nodes, is_alone, -loads.get(name, 0), node_order(name)

    node = min(one.nodes[1:], key=order)
    kept = [other for other in one.nodes if other != node and other in in_sync and other in open_nodes]
    return node if len(kept) >= count else None
