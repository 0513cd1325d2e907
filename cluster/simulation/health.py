"""What must hold of a simulated cluster when all that went wrong was healed. Each says what does not, or ""."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from filoray.cluster.config.dataset import DatasetConfig
from filoray.cluster.control.coordinator_core import CoordinatorCore
from filoray.cluster.control.copy_spreading import machine_count
from filoray.cluster.control.shard_manager import ShardManager
from filoray.cluster.control.shard_map import ShardEntry, ShardMap
from filoray.cluster.control.shard_status import StatusKind
from filoray.cluster.node_protocol import NodeAnnouncement
from filoray.cluster.simulation.checkers import FileKey
from filoray.cluster.simulation.shard_file import ShardFile
from filoray.cluster.simulation.simulated_actors import Surroundings

NO_COORDINATOR = "there is no coordinator"


def ailment(core: CoordinatorCore, around: Surroundings, node_count: int) -> str:
    """All nodes are members where they should be, gateways know the maps, nothing moves, and shards are served."""
    members = core.membership.members()
    if len(members) != node_count:
        return f"the members are {sorted(members)}"
    seats = {node: one.ray_node_id for node, one in members.items()}
    if uneven := around.machines.uneven(seats, may_move=not around.files.are_apart):
        return uneven
    if core.restart.left:
        return f"a rolling restart has still to replace {core.restart.left}"
    if not core.manager.is_even:
        return "shards are still to move"
    for name, (_, shard_map) in core.manager.datasets.items():
        for gateway in around.gateways.values():
            known = gateway.view.datasets.get(name)
            if known is None or known.shard_map != shard_map:
                return f"{gateway.name} does not know {name} as it is"
    return service_ailment(core, around)


def service_ailment(core: CoordinatorCore, around: Surroundings) -> str:
    """Every shard is Active at an owner that really holds it, and nothing else is left of any dataset."""
    members = core.membership.members()
    wanted = set()
    for name, (config, shard_map) in core.manager.datasets.items():
        rooms = _rooms(config, shard_map, members) if config.is_replicated else frozenset()
        for entry in shard_map.shards:
            file = (name, entry.shard, config.generation)
            holders = (entry.node or "", *entry.copies.followers) if config.has_copies else ("",)
            wanted |= {(*file, holder) for holder in holders}
            if entry.status.kind is not StatusKind.ACTIVE or entry.node is None:
                return f"{name}: {entry}"
            member = members.get(entry.node)
            node = around.nodes.get((entry.node, member.incarnation)) if member is not None else None
            served = node.serving.get((name, entry.shard)) if node is not None else None
            stored = around.files.get((*file, holders[0]))
            if served is None or served.epoch != entry.epoch or served.file != file:
                return f"{name}: {entry} is not served so: {served}"
            if stored is None or stored.epoch != entry.epoch:
                return f"{name}: {entry} acknowledges what nobody will find: {stored}"
            copies = _Copies(around, members, entry, file, config)
            if problem := _copies_ailment(copies, rooms) if config.is_replicated else _follower_ailment(entry):
                return f"{name}: {entry}: {problem}"
            if config.has_copies and (problem := _crowding(around, entry, members)):
                return f"{name}: {entry}: {problem}"
    left = sorted(file for file, stored in around.files.items() if file not in wanted and not stored.is_late)
    return f"files are left: {left}" if left else ""


def _rooms(config: DatasetConfig, shard_map: ShardMap, members: Iterable[str]) -> frozenset[str]:
    """The nodes that may have another copy."""
    loads = Counter(
        holder for entry in shard_map.shards for holder in (entry.node, *entry.copies.followers) if holder is not None
    )
    return frozenset(node for node in members if loads[node] < config.shards_per_node_max)


def _follower_ailment(entry: ShardEntry) -> str:
    """Of a shard that nobody follows unless it moves."""
    return f"{entry.copies.followers} follow it" if entry.copies.followers else ""


@dataclass(frozen=True, slots=True)
class _Copies:
    """Of a shard: what its nodes have of it."""

    around: Surroundings
    members: Mapping[str, NodeAnnouncement]
    entry: ShardEntry
    file: FileKey
    config: DatasetConfig

    def of(self, holder: str) -> ShardFile | None:
        """On its disk; where the store is shared, there for who leads, in memory for who follows."""
        if self.config.has_copies:
            return self.around.files.get((*self.file, holder))
        if holder == self.entry.node:
            return self.around.files.get((*self.file, ""))
        node = self.around.nodes.get((holder, self.members[holder].incarnation)) if holder in self.members else None
        return None if node is None else node.copies.followed(self.file[:2])


def _copies_ailment(copies: _Copies, rooms: Collection[str]) -> str:
    """There are as many copies as there is room for, all in sync, and each has the first samples of the leader's."""
    entry, wanted = copies.entry, copies.config.num_replicas
    holders = (entry.node or "", *entry.copies.followers)
    is_short = len(holders) < wanted and not set(rooms) <= set(holders)
    if is_short or len(holders) > wanted:
        return f"it has {len(holders)} copies, and there is room on {sorted(rooms)}"
    if entry.copies.followers and set(entry.copies.in_sync) != set(holders):
        return f"in sync are {entry.copies.in_sync}"
    leader, *others = map(copies.of, holders)
    ids = list(leader.ids) if leader is not None else []
    for follower, holder in zip(others, entry.copies.followers, strict=True):
        if follower is None:
            return f"{holder} has nothing of it"
        if list(follower.ids) != ids[: len(follower.ids)]:
            return f"{holder} has other samples than the leader"
    return ""


def _crowding(around: Surroundings, entry: ShardEntry, members: Iterable[str]) -> str:
    """Whether copies are on one machine though there are others that have none."""
    holders = [node for node in (entry.node, *entry.copies.followers) if node is not None]
    homes = around.files.homes
    count, wanted = machine_count(holders, homes), min(len(holders), machine_count(members, homes))
    return f"its copies are on {count} machines, not on {wanted}" if count < wanted else ""


def unevenness(manager: ShardManager) -> str:
    """Of each dataset, no node has two shards more than another; of leaders, none that could change places."""
    for name, (config, shard_map) in manager.datasets.items():
        if config.is_replicated:
            if uneven := _uneven_leaders(shard_map, manager.members):
                return f"{name}: {uneven}"
            continue
        counts = {node: shard_map.load_of(node) for node in manager.members}
        if max(counts.values()) - min(counts.values()) > 1:
            return f"{name} is spread unevenly: {counts}"
    return ""


def _uneven_leaders(shard_map: ShardMap, members: Iterable[str]) -> str:
    """Whether a node leads two shards more than one that could be reached by changes of leaders."""
    counts = {node: shard_map.load_of(node) for node in members}
    reached = {node: {node} for node in counts}
    for _ in counts:
        for entry in shard_map.shards:
            for nodes in reached.values():
                if entry.node in nodes:
                    nodes |= set(entry.copies.in_sync) & counts.keys()
    for source, nodes in reached.items():
        for target in nodes:
            if counts[source] - counts[target] > 1:
                return f"{source} leads {counts[source]} shards, and {target}, which could have one, {counts[target]}"
    return ""
