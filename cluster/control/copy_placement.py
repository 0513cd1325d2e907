"""Which nodes have copies of shards, who of them leads, and what their leaders propose: a part of the ShardManager.

Only a node of the last durable set in sync may lead: it has all that was acknowledged. That set stays as it is when
another leads; the new leader proposes one without those that do not keep up, once it has opened the shard. A copy moves
by one more that joins, and one that goes when enough others are in sync.

Where the shards' store is shared, any node may lead, and the set says who has a shard warm in its memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from filoray.cluster.control.assignment import node_order
from filoray.cluster.control.copy_index import nodes_of
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
from filoray.cluster.node_protocol import HeldShard

_TRIES = 6
"""Of a leader that cannot open its copy, before others are asked again that could not either: a quarter of a minute, as
nodes wait longer before each (``NodeLimits``)."""


class CopyPlacement:
    def __init__(self, table: ShardTable) -> None:
        self._table = table
        self._keeps_copies: set[str] = set()
        """Of the drained nodes, those that are to have no leaders, but will be back soon with their copies."""
        self._astray: dict[tuple[str, str], set[int]] = {}
        """Of (dataset, node): shards that it has no part in, but may have files of."""
        self._failed: dict[ShardKey, set[str]] = {}
        """Nodes in sync that could not open what they have, since the shard was Active last or all were asked anew."""
        self._tries: Counter[ShardKey] = Counter()
        """How often the present leader could not open what it has."""
        self._unasked: set[ShardKey] = set()
        """Whose leader could not be given the order to lead: it is given again, and no other asked instead."""
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

    def warm(self, dataset: KnownDataset, entry: ShardEntry) -> list[str]:
        """Members that have a shard of a shared store in memory, as it seems, the best first."""
        load_of = dataset.shard_map.load_of
        found = [
            node for node in entry.copies.followers if node in entry.copies.in_sync and node in self._table.members
        ]
        return sorted(found, key=lambda node: (load_of(node), node_order(node)))

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
        """Copies on members, ``but`` that one, of shards that are led, which are not in sync as the leader says.

        Nothing waits for those of a shared store, which may never be: nobody needs them.
        """
        if dataset.config.shares_store:
            return 0
        members = self._table.members.keys() - {but}
        unheard = (dataset.shard_map[shard] for name, shard in self._unheard if name == dataset.name)
        return sum(len(shards) for node, shards in dataset.copies.lagging.items() if node in members) + sum(
            node in members and node in entry.copies.in_sync
            for entry in unheard
            if self._is_unheard(dataset, entry)
            for node in entry.copies.followers
        )

    def _is_unheard(self, dataset: KnownDataset, entry: ShardEntry) -> bool:
        """The leader is there; its followers have all that was acknowledged before, and join it only now."""
        is_unheard = (dataset.name, entry.shard) in self._unheard
        return is_unheard and entry.status.kind is ACTIVE and dataset.config.has_copies

    def add_copy(self, dataset: KnownDataset, shards: Iterable[int], node: str, why: str) -> list[ManagerCommand]:
        """``node`` is to have a copy of those that it has none of."""
        missing = [shard for shard in shards if node not in nodes_of(dataset.shard_map[shard])]
        return self._add(dataset, {shard: [node] for shard in missing}, why)

    def keeps_copies(self, node: str) -> bool:
        return node in self._keeps_copies

    def must_leave(self, node: str) -> bool:
        """Whether a node that is drained has a copy still: it goes when enough others are in sync."""
        return node not in self._keeps_copies and any(
            node in dataset.copies.on for dataset in self._table.copied_datasets
        )

    # ---- who leads

    def chosen(self, dataset: KnownDataset, entry: ShardEntry, leader: str) -> CopySet:
        """The copies of a shard that ``leader`` is to have next."""
        copies, config = entry.copies, dataset.config
        if not config.is_replicated:
            return CopySet(copies.version + 1) if copies.followers else copies
        key = (dataset.name, entry.shard)
        self._unasked.discard(key)
        (self._unheard.add if {*copies.in_sync} - {leader} else self._unheard.discard)(key)
        if not copies.in_sync:
            return copies if config.shares_store else CopySet(copies.version + 1, (), (leader,))
        nodes = {*copies.followers, *copies.in_sync} - {leader}
        followers = tuple(sorted(nodes, key=node_order))
        if config.has_copies:
            return CopySet(copies.version + 1, followers, copies.in_sync)
        return _warm(copies.version + 1, followers, (*copies.in_sync, leader))

    def orders(self, dataset: KnownDataset, shards: Iterable[int]) -> list[ManagerCommand]:
        """For the followers of those shards, and for their leaders."""
        entries = [entry for shard in shards if (entry := dataset.shard_map[shard]).copies.in_sync]
        return self.follow(dataset, {entry.shard: entry.copies.followers for entry in entries}) + self.tell(
            dataset, entries
        )

    def follow(self, dataset: KnownDataset, nodes: Mapping[int, Iterable[str]]) -> list[ManagerCommand]:
        """Have ``nodes``, followers of the shard, follow it, where it is led; those that are members."""
        by_node: dict[str, list[FollowedShard]] = {}
        for shard, followers in nodes.items():
            entry = dataset.shard_map[shard]
            for node in followers if entry.node is not None else ():
                by_node.setdefault(node, []).append(entry.followed)
        members = self._table.members
        return [
            FollowShards(node, members[node], dataset.config, tuple(by_node[node]))
            for node in sorted(by_node.keys() & members.keys(), key=node_order)
        ]

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
        if dataset.config.shares_store and not copies.followers:
            is_taken = False  # nobody follows any more
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
        self._tries.pop((dataset.name, shard), None)

    def erred(self, dataset: KnownDataset, shard: int, *, is_unheard: bool) -> None:
        """Its leader cannot open what it has; ``is_unheard``: or could not be asked to."""
        (self._unasked.add if is_unheard else self._unasked.discard)((dataset.name, shard))
        self._tries[dataset.name, shard] += not is_unheard

    def next_candidate(self, dataset: KnownDataset, entry: ShardEntry) -> str | None:
        """Who is to lead a shard that its present leader cannot open.

        None: that one has not been asked; or all that are there were, and it is to try a while longer. Then all are
        asked anew, for whatever was in the way may be gone at any of them. Where the store is shared, it is the same
        for all.
        """
        key = (dataset.name, entry.shard)
        if key in self._unasked:
            return None
        failed = self._failed.setdefault(key, set())
        if entry.node is not None:
            failed.add(entry.node)
        found = self.candidates(dataset, entry) or []
        if failed.issuperset(found) and self._tries[key] >= _TRIES and dataset.config.has_copies:
            failed &= {entry.node}
        node = next((node for node in found if node not in failed), None)
        if node is not None:
            self._tries.pop(key, None)
        return node

    def check_candidate(self, dataset: KnownDataset, entry: ShardEntry, node: str) -> None:
        """Raises BadData if ``node`` may not lead the shard."""
        in_sync = entry.copies.in_sync
        if dataset.config.has_copies and in_sync and node not in in_sync:
            raise BadData(
                f"{node} has no copy of shard {entry.shard} of dataset {dataset.name} that is in sync; "
                f"{', '.join(in_sync)} {'has' if len(in_sync) == 1 else 'have'}"
            )

    # ---- members

    def joined(self, node: str, held: Iterable[HeldShard]) -> list[ManagerCommand]:
        """Have it follow what it is a follower of, drop what it is not, and tell the leaders that it is there."""
        for failed in self._failed.values():
            failed.discard(node)  # that was its former process
        commands = self._forget_warm(node, held)
        for dataset in self._table.copied_datasets:
            present = dataset.copies.on.get(node, set())
            entries = [dataset.shard_map[shard] for shard in sorted(present)]
            entries = [entry for entry in entries if node in entry.copies.followers]
            followed = self.follow(dataset, {entry.shard: (node,) for entry in entries})
            commands += [*followed, *self.tell(dataset, entries)]
            owned = dataset.shard_map.owned_by(node)
            commands += self.tell(dataset, [entry for entry in owned if entry.copies.in_sync])
            if dataset.config.has_copies:
                self._astray[dataset.name, node] = {*range(len(dataset.shard_map))} - present
        return commands

    def _forget_warm(self, node: str, held: Iterable[HeldShard]) -> list[ManagerCommand]:
        """What it follows in its memory though it is not to, since the last coordinator did not get to tell it."""
        table = self._table
        dropped: dict[str, list[FollowedShard]] = {}
        for one in held:
            dataset = table.datasets.get(one.dataset)
            if one.is_follower and dataset is not None and dataset.config.shares_store:
                entry = dataset.shard_map[one.shard] if one.shard < len(dataset.shard_map) else None
                if entry is not None and not entry.is_on(node):
                    dropped.setdefault(one.dataset, []).append(entry.followed)
        return [
            DropCopies(node, table.members[node], name, tuple(shards), table.datasets[name].config.generation)
            for name, shards in dropped.items()
        ]

    def drained(self, node: str, *, keeps_copies: bool) -> None:
        (self._keeps_copies.add if keeps_copies else self._keeps_copies.discard)(node)

    def undrained(self, node: str) -> None:
        self._keeps_copies.discard(node)

    def forget(self, dataset: KnownDataset) -> None:
        self._astray = {key: shards for key, shards in self._astray.items() if key[0] != dataset.name}
        for shard in range(len(dataset.shard_map)):
            self._failed.pop((dataset.name, shard), None)
            self._tries.pop((dataset.name, shard), None)
            self._unasked.discard((dataset.name, shard))
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
        if not config.is_replicated or table.unconfirmed:
            return []
        open_nodes = self._nodes_for_copies()
        counted = self._staying(dataset) if counts_absent else open_nodes
        wanted = min(config.num_replicas, len(counted))
        entries = [dataset.shard_map[shard] for shard in dataset.copies.may_lack(wanted, counted)]
        copies = [_copies(entry) for entry in entries if entry.node is not None]
        if not copies:
            return []
        loads, machines = dataset.copies.loads(), self._table.machines
        added = missing_copies(copies, wanted, loads, open_nodes, counted, count_max, machines)
        return self._add(dataset, added, "there are too few copies")

    def _nodes_for_copies(self) -> set[str]:
        """The members that may have some."""
        return self._table.open_nodes | (self._keeps_copies & self._table.members.keys())

    def _staying(self, dataset: KnownDataset) -> set[str]:
        """Nodes that may have copies, those included that have some and are away."""
        return self._table.open_nodes | (dataset.copies.on.keys() - (self._table.drained - self._keeps_copies))

    def even_out(self, dataset: KnownDataset) -> list[ManagerCommand]:
        """One more copy on a node that has few, for which another may go afterwards."""
        loads, open_nodes = dataset.copies.loads(), self._table.open_nodes
        copies = [_copies(entry) for entry in dataset.shard_map.shards if entry.node is not None]
        found = next_copy_move(copies, loads, open_nodes, self._nodes_for_copies(), self._table.machines)
        return [] if found is None else self._add(dataset, {found[0]: [found[1]]}, "copies become even")

    def drop_surplus(self, dataset: KnownDataset, moving: Collection[ShardKey]) -> list[ManagerCommand]:
        """Copies that are not needed any more, as enough others are in sync, or have to be nowhere.

        None of ``moving`` shards, which have one more as it is to lead.
        """
        open_nodes, leaving = self._nodes_for_copies(), self._table.drained - self._keeps_copies
        # A copy on a node that is away for a moment is none too many.
        count = min(dataset.config.num_replicas, max(1, len(self._staying(dataset))))
        entries = [dataset.shard_map[shard] for shard in dataset.copies.may_exceed(count, leaving)]
        if not entries:
            return []
        loads, machines = dataset.copies.loads(), self._table.machines
        dropped: dict[int, str] = {}
        for entry in entries:
            is_moving = (dataset.name, entry.shard) in moving
            if is_moving or entry.status.kind is not ACTIVE or self._is_unheard(dataset, entry):
                continue
            is_leaving = any(node in leaving for node in entry.copies.followers)
            if len(entry.copies.followers) + 1 > count or is_leaving:
                useful = entry.copies.in_sync if dataset.config.has_copies else nodes_of(entry)
                node = surplus_copy(_copies(entry), count, useful, loads, open_nodes, machines)
                if node is not None:
                    dropped[entry.shard] = node
                    loads[node] -= 1
        return self.drop(dataset, dropped, "enough others are in sync")

    def _add(self, dataset: KnownDataset, added: dict[int, list[str]], why: str) -> list[ManagerCommand]:
        changed = []
        for shard, nodes in added.items():
            entry = dataset.shard_map[shard]
            copies = entry.copies
            followers = tuple(sorted({*copies.followers, *nodes}, key=node_order))
            in_sync = copies.in_sync or ((entry.node,) if entry.node is not None else ())
            changed.append(replace(entry, copies=CopySet(copies.version + 1, followers, in_sync)))
            what = "is to have a copy" if dataset.config.has_copies else "follows, to have it in memory"
            self._table.tell(dataset, shard, f"{', '.join(nodes)} {what}: {why}")
        if not changed:
            return []
        return self._change(dataset, changed) + self.follow(dataset, added)

    def drop(self, dataset: KnownDataset, dropped: Mapping[int, str], why: str) -> list[ManagerCommand]:
        """The followers of those shards, one each, go."""
        changed = []
        for shard, node in dropped.items():
            entry = dataset.shard_map[shard]
            followers, in_sync = (
                tuple(other for other in nodes if other != node)
                for nodes in (entry.copies.followers, entry.copies.in_sync)
            )
            version, is_warm = entry.copies.version + 1, dataset.config.shares_store
            copies = _warm(version, followers, in_sync) if is_warm else CopySet(version, followers, in_sync)
            changed.append(replace(entry, copies=copies))
            self._table.tell(dataset, shard, f"the copy on {node} goes: {why}")
        if not changed:
            return []
        left = [(entry, [dropped[entry.shard]]) for entry in changed]
        return [*self._change(dataset, changed), *self.drop_orders(dataset, left)]

    def drop_orders(
        self, dataset: KnownDataset, left: Iterable[tuple[ShardEntry, Iterable[str]]]
    ) -> list[ManagerCommand]:
        """For nodes that follow those shards no more, as they are now."""
        by_node: dict[str, list[FollowedShard]] = {}
        for entry, nodes in left:
            for node in nodes:
                by_node.setdefault(node, []).append(entry.followed)
        members, generation = self._table.members, dataset.config.generation
        return [
            DropCopies(node, members[node], dataset.name, tuple(shards), generation)
            for node, shards in sorted(by_node.items(), key=lambda item: node_order(item[0]))
            if node in members
        ]

    def _change(self, dataset: KnownDataset, entries: Sequence[ShardEntry]) -> list[ManagerCommand]:
        self._table.change(dataset, entries)
        told = self.tell(dataset, entries)
        return [PersistShardMap(dataset.shard_map), *told, *self._table.publish(dataset)]


def _warm(version: int, followers: tuple[str, ...], in_sync: Iterable[str]) -> CopySet:
    """Of a shard whose store is shared; nobody is in sync where nobody follows."""
    return CopySet(version, followers, tuple(dict.fromkeys(in_sync)) if followers else ())


def _copies(entry: ShardEntry) -> Copies:
    return Copies(entry.shard, nodes_of(entry))
