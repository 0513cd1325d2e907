"""Which nodes have copies of shards, who of them leads, and what their leaders propose: a part of the ShardManager.

Only a node of the last durable set in sync may lead: it has all that was acknowledged. That set stays as it is when
another leads; the new leader proposes one without those that do not keep up, once it has opened the shard. A copy moves
by one more that joins, and one that goes when enough others are in sync.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from filoray.cluster.control.assignment import node_order
from filoray.cluster.control.copy_set import CopySet, FollowedShard, InSyncProposed, ShardCopies
from filoray.cluster.control.copy_spreading import Copies, Switchable, missing_copies, next_copy_move, surplus_copy
from filoray.cluster.control.fences import ShardKey
from filoray.cluster.control.shard_map import ShardEntry
from filoray.cluster.control.shard_messages import (
    DropCopies,
    FollowShards,
    ManagerCommand,
    PersistShardMap,
    TellCopies,
)
from filoray.cluster.control.shard_status import ACTIVE
from filoray.cluster.control.shard_table import KnownDataset, ShardTable
from filoray.cluster.errors import BadData


class CopyPlacement:
    def __init__(self, table: ShardTable) -> None:
        self._table = table
        self._keeps_copies: set[str] = set()
        """Of the drained nodes, those that are to have no leaders, but will be back soon with their copies."""
        self._astray: dict[tuple[str, str], set[int]] = {}
        """Of (dataset, node): shards that it has no part in, but may have files of."""
        self._failed: dict[ShardKey, set[str]] = {}
        """Nodes in sync that could not open what they have, since the shard was Active last."""
        self._unheard: set[ShardKey] = set()
        """Whose leader has not said yet which of those that were in sync with the former one follow it."""

    # ---- what can be asked

    def candidates(self, dataset: KnownDataset, entry: ShardEntry) -> list[str] | None:
        """Members that may lead the shard, the best first; None: any node, as nothing was ever stored of it."""
        if not entry.copies.in_sync:
            return None
        table, failed = self._table, self._failed.get((dataset.name, entry.shard), set())
        members = [node for node in entry.copies.in_sync if node in table.members]

        def rank(node: str) -> tuple[bool, bool, int, tuple[int, str]]:
            return node in failed, node in table.drained, dataset.shard_map.load_of(node), node_order(node)

        return sorted(members, key=rank)

    def switchable(self, dataset: KnownDataset, entries: Iterable[ShardEntry]) -> list[Switchable]:
        """Those that others could lead."""
        members = self._table.members
        found = []
        for entry in entries:
            others = tuple(node for node in entry.copies.in_sync if node != entry.node and node in members)
            if entry.node is not None and others:
                found.append(Switchable(entry.shard, entry.node, others))
        return found

    def has_joining(self, dataset: KnownDataset, node: str) -> bool:
        """Whether a shard that ``node`` leads will have another in sync, as it seems."""
        return any(
            follower in self._table.members and follower not in entry.copies.in_sync
            for entry in dataset.shard_map.owned_by(node)
            for follower in entry.copies.followers
        )

    def joining(self, dataset: KnownDataset, *, but: str = "") -> int:
        """Copies on members, ``but`` that one, of shards that are led, which are not in sync as the leader says."""
        members = self._table.members.keys() - {but}
        return sum(
            node in members and (node not in entry.copies.in_sync or self._is_unheard(dataset, entry))
            for entry in dataset.shard_map.shards
            if entry.node is not None
            for node in entry.copies.followers
        )

    def _is_unheard(self, dataset: KnownDataset, entry: ShardEntry) -> bool:
        """The leader is there; its followers have all that was acknowledged before, and join it only now."""
        return entry.status.kind is ACTIVE and (dataset.name, entry.shard) in self._unheard

    def add_copy(self, dataset: KnownDataset, shards: Iterable[int], node: str, why: str) -> list[ManagerCommand]:
        """``node`` is to have a copy of those that it has none of."""
        missing = [shard for shard in shards if node not in _nodes(dataset.shard_map[shard])]
        return self._add(dataset, {shard: [node] for shard in missing}, why)

    def keeps_copies(self, node: str) -> bool:
        return node in self._keeps_copies

    def must_leave(self, node: str) -> bool:
        """Whether a node that is drained has a copy still: it goes when enough others are in sync."""
        return node not in self._keeps_copies and any(
            node in entry.copies for dataset in self._table.copied_datasets for entry in dataset.shard_map.shards
        )

    # ---- who leads

    def chosen(self, dataset: KnownDataset, entry: ShardEntry, leader: str) -> CopySet:
        """The copies of a shard that ``leader`` is to have next."""
        copies, key = entry.copies, (dataset.name, entry.shard)
        (self._unheard.add if {*copies.in_sync} - {leader} else self._unheard.discard)(key)
        if copies.in_sync:
            nodes = {*copies.followers, *copies.in_sync} - {leader}
            return CopySet(copies.version + 1, tuple(sorted(nodes, key=node_order)), copies.in_sync)
        return CopySet(copies.version + 1, (), (leader,))

    def orders(self, dataset: KnownDataset, shards: Iterable[int]) -> list[ManagerCommand]:
        """For the followers of those shards, and for their leaders."""
        entries = [dataset.shard_map[shard] for shard in shards]
        commands: list[ManagerCommand] = []
        for node in sorted({node for entry in entries for node in entry.copies.followers}, key=node_order):
            commands += self.follow(dataset, node, entries)
        return commands + self.tell(dataset, entries)

    def follow(self, dataset: KnownDataset, node: str, entries: Iterable[ShardEntry]) -> list[ManagerCommand]:
        """Have ``node`` follow those that it is a follower of."""
        incarnation = self._table.members.get(node)
        followed: tuple[FollowedShard, ...] = tuple(
            entry.followed for entry in entries if node in entry.copies.followers and entry.node is not None
        )
        if incarnation is None or not followed:
            return []
        return [FollowShards(node, incarnation, dataset.config, followed)]

    def tell(self, dataset: KnownDataset, entries: Iterable[ShardEntry]) -> list[ManagerCommand]:
        """Tell the leaders of those which copies there are."""
        by_leader: dict[str, list[ShardCopies]] = {}
        for entry in entries:
            if entry.node is not None:
                by_leader.setdefault(entry.node, []).append((entry.shard, entry.epoch, entry.copies))
        return [
            TellCopies(node, self._table.members[node], dataset.name, tuple(copies))
            for node, copies in sorted(by_leader.items(), key=lambda item: node_order(item[0]))
        ]

    def proposed(self, dataset: KnownDataset, entry: ShardEntry, proposal: InSyncProposed) -> list[ManagerCommand]:
        """By the present leader at the present epoch. It is told how it is, whether that is taken or not."""
        copies = entry.copies
        known = {entry.node, *copies.followers}
        is_taken = proposal.base_version == copies.version and entry.node in proposal.in_sync
        if not is_taken or not known.issuperset(proposal.in_sync):
            return self.tell(dataset, [entry])
        self._unheard.discard((dataset.name, entry.shard))
        changed = replace(entry, copies=CopySet(copies.version + 1, copies.followers, proposal.in_sync))
        text = f"in sync: {', '.join(proposal.in_sync)}"
        self._table.tell(dataset, entry.shard, f"{text} ({proposal.reason})" if proposal.reason else text)
        return self._change(dataset, [changed])

    def opened(self, dataset: KnownDataset, shard: int) -> None:
        """It is Active."""
        self._failed.pop((dataset.name, shard), None)

    def next_candidate(self, dataset: KnownDataset, entry: ShardEntry) -> str | None:
        """Who is to lead a shard that its present leader cannot open; None: all that are there were asked."""
        failed = self._failed.setdefault((dataset.name, entry.shard), set())
        if entry.node is not None:
            failed.add(entry.node)
        found = self.candidates(dataset, entry) or []
        return next((node for node in found if node not in failed), None)

    def check_candidate(self, dataset: KnownDataset, entry: ShardEntry, node: str) -> None:
        """Raises BadData if ``node`` may not lead the shard."""
        in_sync = entry.copies.in_sync
        if in_sync and node not in in_sync:
            raise BadData(
                f"{node} has no copy of shard {entry.shard} of dataset {dataset.name} that is in sync; "
                f"{', '.join(in_sync)} {'has' if len(in_sync) == 1 else 'have'}"
            )

    # ---- members

    def joined(self, node: str) -> list[ManagerCommand]:
        """Have it follow what it is a follower of, drop what it is not, and tell the leaders that it is there."""
        for failed in self._failed.values():
            failed.discard(node)  # that was its former process
        commands: list[ManagerCommand] = []
        for dataset in self._table.copied_datasets:
            entries = [entry for entry in dataset.shard_map.shards if node in entry.copies.followers]
            commands += [*self.follow(dataset, node, entries), *self.tell(dataset, entries)]
            owned = dataset.shard_map.owned_by(node)
            commands += self.tell(dataset, owned)
            self._astray[dataset.name, node] = {
                entry.shard for entry in dataset.shard_map.shards if not entry.is_on(node)
            }
        return commands

    def drained(self, node: str, *, keeps_copies: bool) -> None:
        (self._keeps_copies.add if keeps_copies else self._keeps_copies.discard)(node)

    def undrained(self, node: str) -> None:
        self._keeps_copies.discard(node)

    def forget(self, dataset: KnownDataset) -> None:
        self._astray = {key: shards for key, shards in self._astray.items() if key[0] != dataset.name}
        for shard in range(len(dataset.shard_map)):
            self._failed.pop((dataset.name, shard), None)
            self._unheard.discard((dataset.name, shard))

    def drop_astray(self, dataset: KnownDataset) -> list[ManagerCommand]:
        """What nodes may have of shards that are not theirs, from before they joined.

        Only of shards that are well without it: a store of the coordinator's that is older than the copies names as
        astray what may be the newest.
        """
        commands: list[ManagerCommand] = []
        for (name, node), shards in list(self._astray.items()):
            if name != dataset.name:
                continue
            entries = [dataset.shard_map[shard] for shard in sorted(shards)]
            well = [entry for entry in entries if entry.status.kind is ACTIVE]
            dropped = tuple(entry.followed for entry in well if not entry.is_on(node))
            shards.difference_update(entry.shard for entry in well)
            incarnation = self._table.members.get(node)
            if not shards or incarnation is None:
                del self._astray[name, node]
            if dropped and incarnation is not None:
                commands.append(DropCopies(node, incarnation, name, dropped, dataset.config.generation))
        return commands

    # ---- how many copies there are, and where

    def complete(
        self, dataset: KnownDataset, count_max: int | None = None, *, counts_absent: bool = True
    ) -> list[ManagerCommand]:
        """Give shards that have too few copies more of them, where there is a place; so many at most.

        ``counts_absent``: copies of nodes that are away count, as nodes come back soon.
        """
        table, config = self._table, dataset.config
        if not config.has_copies or table.unconfirmed:
            return []
        open_nodes = self._nodes_for_copies()
        counted = self._staying(dataset) if counts_absent else open_nodes
        copies = (_copies(entry) for entry in dataset.shard_map.shards if entry.node is not None)
        wanted = min(config.num_replicas, len(counted))
        machines = table.machines
        added = missing_copies(copies, wanted, self._loads(dataset), open_nodes, counted, count_max, machines)
        return self._add(dataset, added, "there are too few copies")

    def _nodes_for_copies(self) -> set[str]:
        """The members that may have some."""
        return self._table.open_nodes | (self._keeps_copies & self._table.members.keys())

    def _staying(self, dataset: KnownDataset) -> set[str]:
        """Nodes that may have copies, those included that have some and are away."""
        known = {node for entry in dataset.shard_map.shards for node in _nodes(entry)}
        return self._table.open_nodes | (known - (self._table.drained - self._keeps_copies))

    def even_out(self, dataset: KnownDataset) -> list[ManagerCommand]:
        """One more copy on a node that has few, for which another may go afterwards."""
        loads, open_nodes = self._loads(dataset), self._table.open_nodes
        copies = [_copies(entry) for entry in dataset.shard_map.shards if entry.node is not None]
        found = next_copy_move(copies, loads, open_nodes, self._table.machines)
        return [] if found is None else self._add(dataset, {found[0]: [found[1]]}, "copies become even")

    def drop_surplus(self, dataset: KnownDataset) -> list[ManagerCommand]:
        """Copies that are not needed any more, as enough others are in sync."""
        table, config = self._table, dataset.config
        open_nodes = self._nodes_for_copies()
        # A copy on a node that is away for a moment is none too many.
        count = min(config.num_replicas, max(1, len(self._staying(dataset))))
        loads = self._loads(dataset)
        dropped: dict[int, str] = {}
        for entry in dataset.shard_map.with_status(ACTIVE):
            if self._is_unheard(dataset, entry):
                continue
            is_leaving = any(node in table.drained - self._keeps_copies for node in entry.copies.followers)
            if len(entry.copies.followers) + 1 > count or is_leaving:
                node = surplus_copy(_copies(entry), count, entry.copies.in_sync, loads, open_nodes, table.machines)
                if node is not None:
                    dropped[entry.shard] = node
                    loads[node] -= 1
        return self._drop(dataset, dropped)

    def _add(self, dataset: KnownDataset, added: dict[int, list[str]], why: str) -> list[ManagerCommand]:
        changed = []
        for shard, nodes in added.items():
            entry = dataset.shard_map[shard]
            copies = entry.copies
            followers = tuple(sorted({*copies.followers, *nodes}, key=node_order))
            changed.append(replace(entry, copies=CopySet(copies.version + 1, followers, copies.in_sync)))
            self._table.tell(dataset, shard, f"{', '.join(nodes)} is to have a copy: {why}")
        if not changed:
            return []
        commands = self._change(dataset, changed)
        for node in sorted({node for nodes in added.values() for node in nodes}, key=node_order):
            entries = [dataset.shard_map[shard] for shard, nodes in added.items() if node in nodes]
            commands += self.follow(dataset, node, entries)
        return commands

    def _drop(self, dataset: KnownDataset, dropped: dict[int, str]) -> list[ManagerCommand]:
        changed = []
        by_node: dict[str, list[FollowedShard]] = {}
        for shard, node in dropped.items():
            entry = dataset.shard_map[shard]
            followers, in_sync = (
                tuple(other for other in nodes if other != node)
                for nodes in (entry.copies.followers, entry.copies.in_sync)
            )
            changed.append(replace(entry, copies=CopySet(entry.copies.version + 1, followers, in_sync)))
            by_node.setdefault(node, []).append(changed[-1].followed)
            self._table.tell(dataset, shard, f"the copy on {node} goes: enough others are in sync")
        if not changed:
            return []
        commands = self._change(dataset, changed)
        for node, shards in sorted(by_node.items(), key=lambda item: node_order(item[0])):
            if (incarnation := self._table.members.get(node)) is not None:
                generation = dataset.config.generation
                commands.append(DropCopies(node, incarnation, dataset.name, tuple(shards), generation))
        return commands

    def _change(self, dataset: KnownDataset, entries: Sequence[ShardEntry]) -> list[ManagerCommand]:
        self._table.change(dataset, entries)
        told = self.tell(dataset, entries)
        return [PersistShardMap(dataset.shard_map), *told, *self._table.publish(dataset)]

    def _loads(self, dataset: KnownDataset) -> Counter[str]:
        """Copies of the data set that each node has or is to get."""
        return Counter(node for entry in dataset.shard_map.shards for node in _nodes(entry))


def _nodes(entry: ShardEntry) -> tuple[str, ...]:
    """That have a copy or are to get one, the leader first."""
    if entry.node is not None:
        return (entry.node, *entry.copies.followers)
    return tuple(dict.fromkeys((*entry.copies.in_sync, *entry.copies.followers)))


def _copies(entry: ShardEntry) -> Copies:
    return Copies(entry.shard, _nodes(entry))
