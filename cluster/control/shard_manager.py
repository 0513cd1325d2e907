"""Who owns which shard, and what must happen when that changes: a pure core.

In: events (``shard_messages.py``) and the time. Out: commands, in the order in which they must be carried out. It has
no clock, network or disk; the coordinator and the simulator drive the very same object. Whether a node is dead is
decided by ``membership.py``; what a status may become, by ``shard_status.py``; which node gets a shard, by
``shard_placement.py``. What all its parts share is ``shard_table.py``'s.

Rules it keeps (``check_invariants`` states them as code):

* An epoch only grows, over restarts and over deletions of a dataset, and each names one owner.
* A dataset's generation was that of no other dataset of its name, and what is deleted is deleted by generation.
* A shard is handed on only when its former owner let go of it (ShardsReleased) or its process is certainly gone
  (MemberGone): nobody who still answers for it has old data.
* A report counts only from the present owner at the present epoch; any other is dropped.
* Of a shard with copies only a node of the last durable set in sync owns it; that set changes as the owner proposes
  (``copy_set.py``), or by a copy less of several.
* Healthy shards move only so that the map becomes even or a drained node empty (``spreading.py``), as an operator
  says, and never before all shards have settled that a node's coming or going has set in motion.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from filoray.cluster.config.dataset import DatasetConfig
from filoray.cluster.control.assignment import node_order
from filoray.cluster.control.copy_set import InSyncProposed
from filoray.cluster.control.deletions import Deletions
from filoray.cluster.control.fences import ShardKey
from filoray.cluster.control.shard_map import ShardEntry, ShardMap
from filoray.cluster.control.shard_messages import (
    DatasetDeleted,
    DatasetSetUp,
    DeleteShards,
    ForgetDataset,
    ManagerCommand,
    ManagerEvent,
    MemberGone,
    MemberJoined,
    MemberLost,
    MembersJoined,
    NodeDrained,
    NodeUndrained,
    PersistDataset,
    PersistShardMap,
    PublishShardMap,
    ShardReported,
    ShardsDeleted,
    ShardsMoved,
    ShardsReleased,
    ShardsStarted,
    ShardsStopped,
    SpreadDue,
    StartShards,
    StopShards,
    StoryLine,
)
from filoray.cluster.control.shard_placement import ShardPlacement
from filoray.cluster.control.shard_status import (
    OWNED,
    IngestionError,
    ShardDown,
    ShardStatus,
    StatusKind,
)
from filoray.cluster.control.shard_table import KnownDataset, RestoredState, ShardTable, is_ours
from filoray.cluster.errors import DatasetExists, Unavailable
from filoray.cluster.node_protocol import HeldShard, ShardEpoch, StoredCopies


class ShardManager:
    """``generation`` must be higher than that of any earlier manager of this cluster.

    ``keeping_copies``: of the drained nodes, those that will be back soon, see ``NodeDrained``.
    ``keeps_nodes_at_home``: what a node has on its machine nobody else can reach.
    """

    def __init__(
        self,
        generation: int = 1,
        restored: RestoredState | None = None,
        keeping_copies: Iterable[str] = (),
        *,
        keeps_nodes_at_home: bool = False,
    ) -> None:
        restored = restored or RestoredState()
        self._table = ShardTable(generation, restored)
        self._placement = ShardPlacement(self._table)
        for node in keeping_copies:
            self._placement.copies.drained(node, keeps_copies=True)
        self._deletions = Deletions(restored.deleting)
        self._overtaken: set[ShardKey] = set()
        self._told: set[tuple[ShardKey, int]] = set()
        """Shards, and their epochs, of which nodes spoke since the last restart before they said what they hold."""
        self._cluster_id = restored.cluster_id
        self._keeps_nodes_at_home = keeps_nodes_at_home
        self._generations = dict(restored.generations)
        for config in (*restored.deleting, *(config for config, _ in restored.shard_maps)):
            self._generations[config.name] = max(config.generation, self._generations.get(config.name, 0))

    # ---- events in, commands out

    def handle(self, event: ManagerEvent, now_ms: int, cause: str = "") -> list[ManagerCommand]:
        """The commands that ``event`` calls for. ``cause``: an id of what led to it, for the stories.

        Raises FilorayErrors for what an operator may not do and InvalidTransition for a report that breaks the life
        cycle; the state is as it was then.
        """
        self._table.now_ms, self._table.cause = now_ms, cause
        match event:
            case DatasetSetUp(config):
                return self._set_up(config)
            case DatasetDeleted(dataset):
                return self._delete(dataset)
            case ShardsDeleted(node, incarnation, dataset, generation):
                return self._shards_deleted(node, incarnation, dataset, generation)
            case ShardsReleased(node, incarnation, dataset, shards):
                return self._released(node, incarnation, dataset, shards)
            case MembersJoined(members):
                return self._members_joined(members)
            case MemberLost(node, incarnation, cause):
                return self._member_lost(node, incarnation, cause)
            case MemberGone(node, incarnation):
                return self._member_gone(node, incarnation)
            case ShardReported():
                return self._reported(event)
            case ShardsStarted(dataset, node, shards):
                return self._placement.start(dataset, node, shards)
            case ShardsStopped(dataset, shards):
                return self._placement.stop(dataset, shards)
            case ShardsMoved(dataset, node, shards):
                return self._placement.move(dataset, node, shards)
            case NodeDrained(node, keeps_copies):
                return self._placement.drain(node, keeps_copies=keeps_copies)
            case NodeUndrained(node):
                return self._placement.undrain(node)
            case SpreadDue():
                return self._placement.spread(event)

    # ---- what can be asked

    @property
    def datasets(self) -> Mapping[str, tuple[DatasetConfig, ShardMap]]:
        return {name: (dataset.config, dataset.shard_map) for name, dataset in self._table.datasets.items()}

    @property
    def members(self) -> Mapping[str, int]:
        """Node to incarnation."""
        return dict(self._table.members)

    @property
    def drained(self) -> frozenset[str]:
        """Nodes that are to have no shards."""
        return frozenset(self._table.drained)

    def has_nowhere_to_go(self, node: str) -> bool:
        """Whether the shards of a drained node can move no more: others have taken the room."""
        return self._placement.has_nowhere_to_go(node)

    def check_drain(self, nodes: Sequence[str]) -> None:
        """Raises BadData if there is no room elsewhere for what all those nodes have."""
        self._placement.movable.check_drain(nodes)

    def may_hold(self, node: str) -> bool:
        """Whether the node has a shard, or may not have closed one yet, or a copy that it is not to keep."""
        has_shard = bool(self._table.load_of(node)) or self._table.fences.has_node(node)
        return has_shard or self._placement.copies.must_leave(node)

    def keeps_copies(self, node: str) -> bool:
        """Whether a drained node is to keep those of its copies that do not lead."""
        return self._placement.copies.keeps_copies(node)

    def needs_copies_of(self, node: str) -> bool:
        """Whether a shard may have too few copies in sync without those of ``node``, but will have more soon."""
        return self._placement.needs_copies_of(node)

    def knew(self, stored: StoredCopies) -> bool:
        """Whether that is of a data set that there is, or ever was, as far as this cluster's store knows."""
        name = stored.dataset
        known = [self._table.datasets[name].config] if name in self._table.datasets else []
        known += [self._deletions.config(name)] if name in self._deletions else []
        present = next((config for config in known if config.generation == stored.generation), None)
        return is_ours(stored, present, self._generations.get(name, -1), self._cluster_id)

    @property
    def is_even(self) -> bool:
        """Whether no shard is on its way and none is to move."""
        return self._placement.is_even

    def shard_map(self, dataset: str) -> ShardMap:
        """Raises DatasetUnknown."""
        return self._table.known(dataset).shard_map

    def is_deleting(self, dataset: str) -> bool:
        """Whether files of a deleted dataset of that name are still to be removed."""
        return dataset in self._deletions

    def undeleted_shards(self, dataset: str) -> Mapping[str | None, tuple[int, ...]]:
        """Shards whose files are still to be removed, by the node that was told to; None: they wait for one."""
        return self._deletions.undeleted(dataset)

    def unreleased_by(self, dataset: str, shards: Iterable[int]) -> tuple[str, ...]:
        """Former owners that may still hold one of those shards."""
        return self._table.unreleased_by(dataset, shards)

    def shards_without_room(self, dataset: str) -> tuple[int, ...]:
        """Shards that wait for a node because every member is full. Raises DatasetUnknown."""
        return self._placement.without_room(self._table.known(dataset))

    def story(self, dataset: str, shard: int) -> list[StoryLine]:
        """What happened to a shard and why, oldest first. Raises DatasetUnknown, BadData."""
        known = self._table.known(dataset)
        self._table.check_shards(known, (shard,))
        return list(known.stories.get(shard, ()))

    def check_invariants(self) -> None:
        """Raises AssertionError if a rule of this module does not hold."""
        self._table.check_invariants()

    # ---- datasets

    def _set_up(self, config: DatasetConfig) -> list[ManagerCommand]:
        if config.name in self._table.datasets:
            raise DatasetExists(config.name)
        if config.name in self._deletions:
            raise Unavailable(f"the dataset {config.name} is still being deleted")
        generation = self._generations[config.name] = self._generations.get(config.name, -1) + 1
        config = replace(config, generation=generation, cluster_id=self._cluster_id)
        entries = tuple(
            replace(entry, epoch=self._table.epochs[config.name, entry.shard])
            for entry in ShardMap.initial(config.name, config.num_shards).shards
        )
        dataset = KnownDataset(config, ShardMap(config.name, self._table.next_version(), entries))
        self._table.datasets[config.name] = dataset
        assigned = self._placement.assign(dataset, "dataset set up")
        copied = self._placement.copies.complete(dataset)
        return [PersistDataset(config), *(assigned or self._table.publish(dataset)), *copied]

    def _delete(self, name: str) -> list[ManagerCommand]:
        dataset = self._table.known(name)
        del self._table.datasets[name]
        self._placement.forget(dataset)
        listed: dict[str | None, list[int]] = {}
        for entry in dataset.shard_map.shards:
            listed.setdefault(entry.node, []).append(entry.shard)
            for node in entry.copies.followers:
                if node in self._table.members:
                    listed.setdefault(node, []).append(entry.shard)
            # If it is lost before it has closed the shard, the next of that name waits.
            self._table.fence_owner(dataset, entry)
        if dataset.config.has_copies and self._keeps_nodes_at_home:
            # Any may have a copy that it was to drop, or of a shard that is stopped.
            for node in sorted(self._table.members, key=node_order):
                listed[node] = list(range(dataset.config.num_shards))
        by_node = {node: tuple(shards) for node, shards in listed.items()}
        self._deletions.begin(dataset.config, by_node)
        orders = self._place_deletions(name, sorted(self._table.members, key=node_order))
        told = {order.node for order in orders}
        orders += [
            self._deletion_order(name, node, shards)
            for node, shards in by_node.items()
            if node is not None and node not in told
        ]
        return [PersistDataset(dataset.config, is_deleting=True), PublishShardMap(name, None), *orders]

    def _place_deletions(self, name: str, nodes: list[str] | None = None) -> list[DeleteShards]:
        """Give deletions that no node was told of to the first of ``nodes``: the members that have no order now.

        Nothing is given out while a node may still start or hold such a shard: a deletion that was over before would
        be forgotten, and that node with it.
        """
        nodes = self._deletions.free(name, self._table.members) if nodes is None else nodes
        waiting = self._deletions.waiting(name)
        may_be_held = self._table.unconfirmed or any((name, shard) in self._table.fences for shard in waiting)
        if not (waiting and nodes) or may_be_held:
            return []
        return [self._deletion_order(name, nodes[0], self._deletions.give(name, nodes[0]))]

    def _deletion_order(self, name: str, node: str, shards: tuple[int, ...]) -> DeleteShards:
        return DeleteShards(node, self._table.members[node], name, shards, self._deletions.config(name).generation)

    def _place_all_deletions(self) -> list[ManagerCommand]:
        return [order for name in self._deletions for order in self._place_deletions(name)]

    def _shards_deleted(self, node: str, incarnation: int, name: str, generation: int) -> list[ManagerCommand]:
        is_known = name in self._deletions and self._deletions.config(name).generation == generation
        if not is_known or self._table.members.get(node) != incarnation:
            return []
        self._table.fences.closed((node, incarnation), [(name, shard) for shard in self._deletions.done(name, node)])
        if not self._deletions.is_over(name):
            return [*self._place_deletions(name)]
        self._deletions.forget(name)
        return [ForgetDataset(name), *self._delete_left_copies()]

    def _delete_left_copies(self) -> list[ManagerCommand]:
        """What members have on machines of their own of data sets that were deleted while they were away."""
        present = {(one.config.name, one.config.generation) for one in self._table.datasets.values()}
        present |= {(name, self._deletions.config(name).generation) for name in self._deletions}
        return [
            DeleteShards(node, self._table.members[node], left.dataset, left.shards, left.generation)
            for node, left in self._deletions.take_left(self._table.members, present)
        ]

    # ---- members

    def _members_joined(self, members: tuple[MemberJoined, ...]) -> list[ManagerCommand]:
        commands: list[ManagerCommand] = []
        for member in members:
            present = self._table.members.get(member.node)
            assert present in (None, member.incarnation), f"{member} joined, but {present} is not gone"
            self._table.members[member.node] = member.incarnation
            self._table.machines[member.node] = member.machine
            self._deletions.found(member.node, member.stored)
            commands += self._reconcile(member.node, member.incarnation, member.held)
            commands += self._placement.joined(member)
            self._table.unconfirmed.discard(member.node)
            if not self._table.unconfirmed:
                self._told.clear()
        commands += self._place_all_deletions()
        commands += self._delete_left_copies()
        self._placement.nodes_changed()
        names = ", ".join(member.node for member in members)
        return commands + self._placement.assign_all(f"{names} joined")

    def _reconcile(self, node: str, incarnation: int, held: tuple[HeldShard, ...]) -> list[ManagerCommand]:
        """Make what a node holds and what the map says agree: the map decides who owns, the node how it is."""
        commands: list[ManagerCommand] = []
        # Copies that it follows are the CopyPlacement's, but for those of data sets that are no more.
        astray_or_led = (it for it in held if not it.is_follower or it.dataset not in self._table.datasets)
        says = {(shard.dataset, shard.shard): shard for shard in astray_or_led}
        for name, dataset in self._table.datasets.items():
            missing, changed = [], []
            for entry in dataset.shard_map.owned_by(node):
                shard = says.pop((name, entry.shard), None)
                if shard is None or shard.epoch != entry.epoch:
                    missing.append((entry.shard, entry.epoch))
                    status = ShardStatus(StatusKind.ASSIGNED)
                elif ((name, entry.shard), entry.epoch) in self._told:
                    # That may have been after this was said; what changed before is told as well.
                    status = entry.status
                else:
                    status = shard.status if shard.status.kind in OWNED else ShardStatus(StatusKind.ASSIGNED)
                if status != entry.status:
                    changed.append(replace(entry, status=status))
                    self._table.tell(dataset, entry.shard, f"{entry.status} -> {status}: found so on {node}")
            if changed:
                self._table.change(dataset, changed)
            if missing:
                commands.append(StartShards(node, incarnation, dataset.config, tuple(missing)))
            commands += self._table.publish(dataset)
        astray = self._may_be_on_their_way(node, says)
        for (name, number), shard in says.items():
            astray.setdefault(name, []).append((number, shard.epoch))
            known = self._table.datasets.get(name)
            if known is None or number >= len(known.shard_map) or known.shard_map[number].node is None:
                self._table.fences.put((name, number), shard.epoch, (node, incarnation))
        return commands + [
            StopShards(node, incarnation, name, tuple(sorted(shards))) for name, shards in sorted(astray.items())
        ]

    def _may_be_on_their_way(self, node: str, says: Collection[ShardKey]) -> dict[str, list[ShardEpoch]]:
        """Shards without an owner that the last coordinator may have ordered a returning node to start.

        The order may come after all that the node said of itself. One that was told to stop what it would start takes
        it no more.
        """
        astray: dict[str, list[ShardEpoch]] = {}
        if node in self._table.unconfirmed:
            for key, epoch in self._table.epochs.of_unknown_owners():
                name, shard = key
                if key not in says and (name in self._table.datasets or name in self._deletions):
                    self._table.fences.put(key, epoch, (node, self._table.members[node]))
                    astray.setdefault(name, []).append((shard, epoch))
        return astray

    def _member_lost(self, node: str, incarnation: int, cause: str) -> list[ManagerCommand]:
        if self._table.members.get(node) != incarnation:
            return []
        del self._table.members[node]
        if node in self._table.unconfirmed:
            self._table.unconfirmed.discard(node)
            # Who held a shard that was Down already when the last coordinator died is not remembered: fence them all.
            for name, dataset in self._table.datasets.items():
                for entry in dataset.shard_map.with_status(StatusKind.DOWN):
                    self._table.fences.put((name, entry.shard), entry.epoch, (node, incarnation))
            for key, epoch in self._table.epochs.of_unknown_owners():
                self._table.fences.put(key, epoch, (node, incarnation))
        commands: list[ManagerCommand] = []
        for name, dataset in self._table.datasets.items():
            owned = dataset.shard_map.owned_by(node)
            for entry in owned:
                self._table.fences.put((name, entry.shard), entry.epoch, (node, incarnation))
            if owned:
                changed = [self._table.moved(dataset, entry, ShardDown(), f"{node} lost: {cause}") for entry in owned]
                self._table.change(dataset, changed)
                commands += [PersistShardMap(dataset.shard_map), *self._table.publish(dataset)]
        self._deletions.lost(node)
        return commands

    def _member_gone(self, node: str, incarnation: int) -> list[ManagerCommand]:
        self._table.fences.gone((node, incarnation))
        self._placement.nodes_changed()
        return self._place_all_deletions() + self._placement.assign_all(f"{node} is gone")

    # ---- shards

    def _reported(self, event: ShardReported) -> list[ManagerCommand]:
        report = event.report
        dataset = self._table.datasets.get(report.dataset)
        if dataset is None or not 0 <= report.shard < len(dataset.shard_map):
            return []
        entry = dataset.shard_map[report.shard]
        is_owner = entry.node == event.node and self._table.members.get(event.node) == event.incarnation
        if not is_owner or entry.epoch != report.epoch:
            return []
        if isinstance(report.event, InSyncProposed):
            return self._placement.proposed(dataset, entry, report.event)
        if event.node in self._table.unconfirmed:
            self._told.add(((report.dataset, report.shard), report.epoch))
        moved = self._table.moved(dataset, entry, report.event, f"{event.node} says so")
        if isinstance(report.event, IngestionError) and report.event.stored_epoch > entry.epoch:
            return self._overtake(dataset, moved, event.node, report.event.stored_epoch)
        is_news = moved != entry
        if is_news:
            self._table.change(dataset, [moved])
        elif moved.status.kind is not StatusKind.ERROR:  # what fails again and again may be tried elsewhere
            return []
        if dataset.config.is_replicated:
            is_unheard = isinstance(report.event, IngestionError) and report.event.is_unheard
            if commands := self._placement.copy_reported(dataset, entry, moved, is_unheard=is_unheard):
                return commands
        if not is_news:
            return []
        persist: list[ManagerCommand] = [PersistShardMap(dataset.shard_map)] if moved.node is None else []
        return persist + self._table.publish(dataset)

    def _overtake(self, dataset: KnownDataset, entry: ShardEntry, node: str, stored_epoch: int) -> list[ManagerCommand]:
        """The store of the shard's present owner has a higher epoch than was ever given out here: order it again.

        That is so after the MetaStore was lost or is older than the shards. If it happens twice, somebody else gives
        out epochs for the same store; taking it back and forth would help nobody, so the shard stays in Error.
        """
        key = (dataset.name, entry.shard)
        if key in self._overtaken:
            reason = f"{entry.status.reason}; another cluster seems to use the same store"
            self._table.change(dataset, [replace(entry, status=replace(entry.status, reason=reason))])
            return self._table.publish(dataset)
        self._overtaken.add(key)
        why = f"its store has epoch {stored_epoch}"
        self._table.change(dataset, [self._table.moved(dataset, entry, ShardDown(), why)])
        self._table.epochs.overtaken(key, stored_epoch)
        return self._placement.hand_over(dataset, {entry.shard: node}, why)

    def _released(self, node: str, incarnation: int, name: str, shards: Iterable[ShardEpoch]) -> list[ManagerCommand]:
        epochs = [((name, shard), epoch) for shard, epoch in shards]
        news = [shard for _, shard in self._table.fences.let_go((node, incarnation), epochs)]
        if (dataset := self._table.datasets.get(name)) is not None:
            return self._placement.released(dataset, node, news)
        return [*self._place_deletions(name)] if name in self._deletions else []
