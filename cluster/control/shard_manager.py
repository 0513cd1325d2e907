"""Who owns which shard, and what must happen when that changes: a pure core.

In: events (``shard_messages.py``) and the time. Out: commands, in the order in which they must be carried out. It has
no clock, network or disk; the coordinator and the simulator drive the very same object. Whether a node is dead is
decided by ``membership.py``; what a status may become, by ``shard_status.py``; which node is chosen, by
``assignment.py``.

Rules it keeps (``check_invariants`` states them as code):

* An epoch only grows, over restarts and over deletions of a dataset, and each names one owner.
* A dataset's generation was that of no other dataset of its name, and what is deleted is deleted by generation.
* A shard is handed on only when its former owner let go of it (ShardsReleased) or its process is certainly gone
  (MemberGone): nobody who still answers for it has old data.
* A report counts only from the present owner at the present epoch; any other is dropped.
* Healthy shards are never moved.

Versions of shard maps grow over restarts too: they start at ``generation << 32``, and a generation is used once.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from filoray.cluster.config.dataset import DatasetConfig
from filoray.cluster.control.assignment import NodeLoad, assign_shards, node_order
from filoray.cluster.control.deletions import Deletions
from filoray.cluster.control.fences import Fences, ShardKey
from filoray.cluster.control.shard_epochs import ShardEpochs
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
    PersistDataset,
    PersistShardMap,
    PublishShardMap,
    ShardReported,
    ShardsDeleted,
    ShardsReleased,
    ShardsStarted,
    ShardsStopped,
    StartShards,
    StopShards,
    StoryLine,
)
from filoray.cluster.control.shard_status import (
    OWNED,
    IngestionError,
    IngestionStopped,
    ShardAssignmentStarted,
    ShardDown,
    ShardEvent,
    ShardStatus,
    StatusKind,
    next_status,
)
from filoray.cluster.errors import BadData, DatasetExists, DatasetUnknown, Unavailable
from filoray.cluster.node_protocol import HeldShard, ShardEpoch

STORY_LINES_MAX = 100
"""Per shard; enough to see the last dozen moves."""

_GENERATION_SHIFT = 32
_AWAITS_OWNER = (StatusKind.UNASSIGNED, StatusKind.DOWN)


@dataclass(slots=True)
class _Dataset:
    config: DatasetConfig
    shard_map: ShardMap
    stories: dict[int, deque[StoryLine]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RestoredState:
    """What the MetaStore remembers. ``members``: nodes (with incarnation) that lived when last heard of.

    ``generations``: the last one of each dataset's name, those included that are no more.
    """

    shard_maps: tuple[tuple[DatasetConfig, ShardMap], ...] = ()
    deleting: tuple[DatasetConfig, ...] = ()
    epochs: Mapping[ShardKey, int] = field(default_factory=dict)
    members: Mapping[str, int] = field(default_factory=dict)
    generations: Mapping[str, int] = field(default_factory=dict)


class ShardManager:
    """``generation`` must be higher than that of any earlier manager of this cluster."""

    def __init__(self, generation: int = 1, restored: RestoredState | None = None) -> None:
        restored = restored or RestoredState()
        self._version = generation << _GENERATION_SHIFT
        self._members: dict[str, int] = dict(restored.members)
        self._unconfirmed: set[str] = set(restored.members)
        self._fences = Fences()
        self._deletions = Deletions(restored.deleting)
        self._datasets: dict[str, _Dataset] = {}
        self._overtaken: set[ShardKey] = set()
        self._generations = dict(restored.generations)
        self._cause = ""
        epochs, owned = dict(restored.epochs), set()
        for config, shard_map in restored.shard_maps:
            self._datasets[config.name] = _Dataset(config, replace(shard_map, version=self._next_version()))
            for entry in shard_map.shards:
                key = (config.name, entry.shard)
                epochs[key] = max(epochs.get(key, 0), entry.epoch)
                assert entry.node is None or entry.node in self._members, f"owner is no restored member: {entry}"
                if entry.node is not None:
                    owned.add(key)
        self._epochs = ShardEpochs(epochs, frozenset(owned))
        for config in (*restored.deleting, *(config for config, _ in restored.shard_maps)):
            self._generations[config.name] = max(config.generation, self._generations.get(config.name, 0))

    # ---- events in, commands out

    def handle(self, event: ManagerEvent, now_ms: int, cause: str = "") -> list[ManagerCommand]:
        """The commands that ``event`` calls for. ``cause``: an id of what led to it, for the stories.

        Raises FilorayErrors for what an operator may not do and InvalidTransition for a report that breaks the life
        cycle; the state is as it was then.
        """
        self._cause = cause
        match event:
            case DatasetSetUp(config):
                return self._set_up(config, now_ms)
            case DatasetDeleted(dataset):
                return self._delete(dataset)
            case ShardsDeleted(node, incarnation, dataset, generation):
                return self._shards_deleted(node, incarnation, dataset, generation)
            case ShardsReleased(node, incarnation, dataset, shards):
                return self._released(node, incarnation, dataset, shards, now_ms)
            case MembersJoined(members):
                return self._members_joined(members, now_ms)
            case MemberLost(node, incarnation, cause):
                return self._member_lost(node, incarnation, cause, now_ms)
            case MemberGone(node, incarnation):
                return self._member_gone(node, incarnation, now_ms)
            case ShardReported():
                return self._reported(event, now_ms)
            case ShardsStarted(dataset, node, shards):
                return self._start(dataset, node, shards, now_ms)
            case ShardsStopped(dataset, shards):
                return self._stop(dataset, shards, now_ms)

    # ---- what can be asked

    @property
    def datasets(self) -> Mapping[str, tuple[DatasetConfig, ShardMap]]:
        return {name: (dataset.config, dataset.shard_map) for name, dataset in self._datasets.items()}

    @property
    def members(self) -> Mapping[str, int]:
        """Node to incarnation."""
        return dict(self._members)

    def shard_map(self, dataset: str) -> ShardMap:
        """Raises DatasetUnknown."""
        return self._known(dataset).shard_map

    def is_deleting(self, dataset: str) -> bool:
        """Whether files of a deleted dataset of that name are still to be removed."""
        return dataset in self._deletions

    def undeleted_shards(self, dataset: str) -> Mapping[str | None, tuple[int, ...]]:
        """Shards whose files are still to be removed, by the node that was told to; None: they wait for one."""
        return self._deletions.undeleted(dataset)

    def unreleased_by(self, dataset: str, shards: Iterable[int]) -> tuple[str, ...]:
        """Former owners that may still hold one of those shards."""
        return tuple(sorted(self._fences.nodes((dataset, shard) for shard in shards), key=node_order))

    def shards_without_room(self, dataset: str) -> tuple[int, ...]:
        """Shards that wait for a node because every member is full. Raises DatasetUnknown."""
        known = self._known(dataset)  # whatever could be given out was: see _assign
        return () if self._unconfirmed else self._unowned(known)

    def story(self, dataset: str, shard: int) -> list[StoryLine]:
        """What happened to a shard and why, oldest first. Raises DatasetUnknown, BadData."""
        known = self._known(dataset)
        self._check_shards(known, (shard,))
        return list(known.stories.get(shard, ()))

    def check_invariants(self) -> None:
        """Raises AssertionError if a rule of this module does not hold."""
        for name, dataset in self._datasets.items():
            capacity = dataset.config.shards_per_node_max
            for node, load in Counter(entry.node for entry in dataset.shard_map.shards).items():
                assert node is None or load <= capacity, f"{node} holds more than {capacity} of {name}"
            for entry in dataset.shard_map.shards:
                assert entry.node is None or entry.node in self._members, f"{name}: {entry} is owned by no member"
                assert self._epochs[name, entry.shard] == entry.epoch, f"{name}: {entry} has a forgotten epoch"
                assert (name, entry.shard) not in self._fences or entry.node is None, f"{name}: {entry} handed on early"

    # ---- datasets

    def _set_up(self, config: DatasetConfig, now_ms: int) -> list[ManagerCommand]:
        if config.name in self._datasets:
            raise DatasetExists(config.name)
        if config.name in self._deletions:
            raise Unavailable(f"the dataset {config.name} is still being deleted")
        generation = self._generations[config.name] = self._generations.get(config.name, -1) + 1
        config = replace(config, generation=generation)
        entries = tuple(
            replace(entry, epoch=self._epochs[config.name, entry.shard])
            for entry in ShardMap.initial(config.name, config.num_shards).shards
        )
        dataset = _Dataset(config, ShardMap(config.name, self._next_version(), entries))
        self._datasets[config.name] = dataset
        assigned = self._assign(dataset, "dataset set up", now_ms)
        return [PersistDataset(config), *(assigned or self._publish(dataset))]

    def _delete(self, name: str) -> list[ManagerCommand]:
        dataset = self._known(name)
        del self._datasets[name]
        by_node: dict[str | None, tuple[int, ...]] = {}
        for entry in dataset.shard_map.shards:
            by_node[entry.node] = (*by_node.get(entry.node, ()), entry.shard)
            if entry.node is not None:  # if it is lost before it has closed the shard, the next of that name waits
                self._fences.put((name, entry.shard), entry.epoch, (entry.node, self._members[entry.node]))
        self._deletions.begin(dataset.config, by_node)
        orders = self._place_deletions(name, sorted(self._members, key=node_order))
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
        nodes = self._deletions.free(name, self._members) if nodes is None else nodes
        waiting = self._deletions.waiting(name)
        if not (waiting and nodes) or self._unconfirmed or any((name, shard) in self._fences for shard in waiting):
            return []
        return [self._deletion_order(name, nodes[0], self._deletions.give(name, nodes[0]))]

    def _deletion_order(self, name: str, node: str, shards: tuple[int, ...]) -> DeleteShards:
        return DeleteShards(node, self._members[node], name, shards, self._deletions.config(name).generation)

    def _place_all_deletions(self) -> list[ManagerCommand]:
        return [order for name in self._deletions for order in self._place_deletions(name)]

    def _shards_deleted(self, node: str, incarnation: int, name: str, generation: int) -> list[ManagerCommand]:
        is_known = name in self._deletions and self._deletions.config(name).generation == generation
        if not is_known or self._members.get(node) != incarnation:
            return []
        self._fences.closed((node, incarnation), [(name, shard) for shard in self._deletions.done(name, node)])
        if not self._deletions.is_over(name):
            return [*self._place_deletions(name)]
        self._deletions.forget(name)
        return [ForgetDataset(name)]

    # ---- members

    def _members_joined(self, members: tuple[MemberJoined, ...], now_ms: int) -> list[ManagerCommand]:
        commands: list[ManagerCommand] = []
        for member in members:
            present = self._members.get(member.node)
            assert present in (None, member.incarnation), f"{member} joined, but {present} is not gone"
            self._members[member.node] = member.incarnation
            commands += self._reconcile(member.node, member.incarnation, member.held, now_ms)
            self._unconfirmed.discard(member.node)
        commands += self._place_all_deletions()
        names = ", ".join(member.node for member in members)
        return commands + self._assign_all(f"{names} joined", now_ms)

    def _reconcile(self, node: str, incarnation: int, held: tuple[HeldShard, ...], now_ms: int) -> list[ManagerCommand]:
        """Make what a node holds and what the map says agree: the map decides who owns, the node how it is."""
        commands: list[ManagerCommand] = []
        says = {(shard.dataset, shard.shard): shard for shard in held}
        for name, dataset in self._datasets.items():
            missing, changed = [], []
            for entry in dataset.shard_map.owned_by(node):
                shard = says.pop((name, entry.shard), None)
                if shard is None or shard.epoch != entry.epoch:
                    missing.append((entry.shard, entry.epoch))
                    status = ShardStatus(StatusKind.ASSIGNED)
                else:
                    status = shard.status if shard.status.kind in OWNED else ShardStatus(StatusKind.ASSIGNED)
                if status != entry.status:
                    changed.append(replace(entry, status=status))
                    self._tell(dataset, entry.shard, now_ms, f"{entry.status} -> {status}: found so on {node}")
            if changed:
                self._change(dataset, changed)
            if missing:
                commands.append(StartShards(node, incarnation, dataset.config, tuple(missing)))
            commands += self._publish(dataset)
        astray = self._may_be_on_their_way(node, says)
        for (name, number), shard in says.items():
            astray.setdefault(name, []).append((number, shard.epoch))
            known = self._datasets.get(name)
            if known is None or number >= len(known.shard_map) or known.shard_map[number].node is None:
                self._fences.put((name, number), shard.epoch, (node, incarnation))
        return commands + [
            StopShards(node, incarnation, name, tuple(sorted(shards))) for name, shards in sorted(astray.items())
        ]

    def _may_be_on_their_way(self, node: str, says: Collection[ShardKey]) -> dict[str, list[ShardEpoch]]:
        """Shards without an owner that the last coordinator may have ordered a returning node to start.

        The order may come after all that the node said of itself. One that was told to stop what it would start takes
        it no more.
        """
        astray: dict[str, list[ShardEpoch]] = {}
        if node in self._unconfirmed:
            for key, epoch in self._epochs.of_unknown_owners():
                name, shard = key
                if key not in says and (name in self._datasets or name in self._deletions):
                    self._fences.put(key, epoch, (node, self._members[node]))
                    astray.setdefault(name, []).append((shard, epoch))
        return astray

    def _member_lost(self, node: str, incarnation: int, cause: str, now_ms: int) -> list[ManagerCommand]:
        if self._members.get(node) != incarnation:
            return []
        del self._members[node]
        if node in self._unconfirmed:
            self._unconfirmed.discard(node)
            # Who held a shard that was Down already when the last coordinator died is not remembered: fence them all.
            for name, dataset in self._datasets.items():
                for entry in dataset.shard_map.with_status(StatusKind.DOWN):
                    self._fences.put((name, entry.shard), entry.epoch, (node, incarnation))
            for key, epoch in self._epochs.of_unknown_owners():
                self._fences.put(key, epoch, (node, incarnation))
        commands: list[ManagerCommand] = []
        for name, dataset in self._datasets.items():
            owned = dataset.shard_map.owned_by(node)
            for entry in owned:
                self._fences.put((name, entry.shard), entry.epoch, (node, incarnation))
            if owned:
                changed = [self._moved(dataset, entry, ShardDown(), f"{node} lost: {cause}", now_ms) for entry in owned]
                self._change(dataset, changed)
                commands += [PersistShardMap(dataset.shard_map), *self._publish(dataset)]
        self._deletions.lost(node)
        return commands

    def _member_gone(self, node: str, incarnation: int, now_ms: int) -> list[ManagerCommand]:
        self._fences.gone((node, incarnation))
        return self._place_all_deletions() + self._assign_all(f"{node} is gone", now_ms)

    # ---- shards

    def _reported(self, event: ShardReported, now_ms: int) -> list[ManagerCommand]:
        report = event.report
        dataset = self._datasets.get(report.dataset)
        if dataset is None or not 0 <= report.shard < len(dataset.shard_map):
            return []
        entry = dataset.shard_map[report.shard]
        is_owner = entry.node == event.node and self._members.get(event.node) == event.incarnation
        if not is_owner or entry.epoch != report.epoch:
            return []
        moved = self._moved(dataset, entry, report.event, f"{event.node} says so", now_ms)
        if isinstance(report.event, IngestionError) and report.event.stored_epoch > entry.epoch:
            return self._overtake(dataset, moved, event.node, report.event.stored_epoch, now_ms)
        if moved == entry:
            return []
        self._change(dataset, [moved])
        persist: list[ManagerCommand] = [PersistShardMap(dataset.shard_map)] if moved.node is None else []
        return persist + self._publish(dataset)

    def _overtake(
        self, dataset: _Dataset, entry: ShardEntry, node: str, stored_epoch: int, now_ms: int
    ) -> list[ManagerCommand]:
        """The store of the shard's present owner has a higher epoch than was ever given out here: order it again.

        That is so after the MetaStore was lost or is older than the shards. If it happens twice, somebody else gives
        out epochs for the same store; taking it back and forth would help nobody, so the shard stays in Error.
        """
        key = (dataset.config.name, entry.shard)
        if key in self._overtaken:
            reason = f"{entry.status.reason}; another cluster seems to use the same store"
            self._change(dataset, [replace(entry, status=replace(entry.status, reason=reason))])
            return self._publish(dataset)
        self._overtaken.add(key)
        why = f"its store has epoch {stored_epoch}"
        self._change(dataset, [self._moved(dataset, entry, ShardDown(), why, now_ms)])
        self._epochs.overtaken(key, stored_epoch)
        return self._hand_over(dataset, {entry.shard: node}, why, now_ms)

    def _start(self, name: str, node: str, shards: tuple[int, ...], now_ms: int) -> list[ManagerCommand]:
        dataset = self._known(name)
        self._check_shards(dataset, shards)
        if node not in self._members:
            raise BadData(
                f"there is no node {node}; the members are {', '.join(sorted(self._members, key=node_order))}"
            )
        for shard in shards:
            entry = dataset.shard_map[shard]
            if entry.node is not None:
                raise BadData(f"shard {shard} of dataset {name} is assigned to {entry.node} already; stop it first")
        room = dataset.config.shards_per_node_max - len(dataset.shard_map.owned_by(node))
        if len(shards) > room:
            raise BadData(f"{node} has room for {room} more shards of dataset {name}, not for {len(shards)}")
        if self._unconfirmed:
            raise Unavailable(f"it is not known yet whether {', '.join(sorted(self._unconfirmed))} holds a shard")
        for shard in shards:
            if former := self.unreleased_by(name, (shard,)):
                raise Unavailable(
                    f"shard {shard} of dataset {name} cannot move before {', '.join(former)}, which had it, "
                    "has closed it or is gone; try again later"
                )
        return self._hand_over(dataset, dict.fromkeys(shards, node), "started by an operator", now_ms)

    def _stop(self, name: str, shards: tuple[int, ...], now_ms: int) -> list[ManagerCommand]:
        dataset = self._known(name)
        self._check_shards(dataset, shards)
        by_node: dict[str, list[ShardEpoch]] = {}
        for shard in shards:
            node = dataset.shard_map[shard].node
            if node is None:
                raise BadData(f"shard {shard} of dataset {name} is not assigned to any node")
            by_node.setdefault(node, []).append((shard, dataset.shard_map[shard].epoch))
        entries = [dataset.shard_map[shard] for shard in shards]
        for entry in entries:
            assert entry.node is not None, "checked above"
            self._fences.put((name, entry.shard), entry.epoch, (entry.node, self._members[entry.node]))
        why = "stopped by an operator"
        self._change(dataset, [self._moved(dataset, entry, IngestionStopped(), why, now_ms) for entry in entries])
        orders: list[ManagerCommand] = [
            StopShards(node, self._members[node], name, tuple(owned)) for node, owned in sorted(by_node.items())
        ]
        return [PersistShardMap(dataset.shard_map), *orders, *self._publish(dataset)]

    def _released(
        self, node: str, incarnation: int, name: str, shards: Iterable[ShardEpoch], now_ms: int
    ) -> list[ManagerCommand]:
        let_go = self._fences.let_go((node, incarnation), [((name, shard), epoch) for shard, epoch in shards])
        dataset = self._datasets.get(name)
        if dataset is None:
            return [*self._place_deletions(name)] if name in self._deletions else []
        for _, shard in let_go:
            self._tell(dataset, shard, now_ms, f"{node} has closed it: another node may have it")
        return self._assign(dataset, f"{node} let go", now_ms)

    # ---- assignment

    def _assign_all(self, cause: str, now_ms: int) -> list[ManagerCommand]:
        return [command for dataset in self._datasets.values() for command in self._assign(dataset, cause, now_ms)]

    def _assign(self, dataset: _Dataset, cause: str, now_ms: int) -> list[ManagerCommand]:
        """Give shards without an owner to nodes with room. Nobody is chosen before a restart is sorted out."""
        if self._unconfirmed:
            return []
        waiting = self._unowned(dataset)
        if not waiting:
            return []
        totals = dict.fromkeys(self._members, 0)
        for other in self._datasets.values():
            for entry in other.shard_map.shards:
                if entry.node is not None:
                    totals[entry.node] += 1
        loads = {node: NodeLoad(len(dataset.shard_map.owned_by(node)), totals[node]) for node in self._members}
        chosen = assign_shards(waiting, loads, dataset.config.shards_per_node_max)
        return self._hand_over(dataset, chosen, cause, now_ms) if chosen else []

    def _unowned(self, dataset: _Dataset) -> tuple[int, ...]:
        """Shards that may be given to a node now."""
        entries = dataset.shard_map.with_status(*_AWAITS_OWNER)
        return tuple(entry.shard for entry in entries if (dataset.config.name, entry.shard) not in self._fences)

    def _hand_over(self, dataset: _Dataset, chosen: Mapping[int, str], cause: str, now_ms: int) -> list[ManagerCommand]:
        changed = []
        by_node: dict[str, list[tuple[int, int]]] = {}
        for shard, node in chosen.items():
            entry = dataset.shard_map[shard]
            key = (dataset.config.name, shard)
            epoch = self._epochs.next(key)
            status = next_status(entry.status, ShardAssignmentStarted())
            changed.append(ShardEntry(shard, status, node, epoch))
            self._tell(dataset, shard, now_ms, f"{entry.status} -> {status}: {node}, epoch {epoch}; {cause}")
            by_node.setdefault(node, []).append((shard, epoch))
        self._change(dataset, changed)
        orders: list[ManagerCommand] = [
            StartShards(node, self._members[node], dataset.config, tuple(shards))
            for node, shards in sorted(by_node.items(), key=lambda item: node_order(item[0]))
        ]
        return [PersistShardMap(dataset.shard_map), *orders, *self._publish(dataset)]

    # ---- small steps

    def _known(self, name: str) -> _Dataset:
        dataset = self._datasets.get(name)
        if dataset is None:
            raise DatasetUnknown(name)
        return dataset

    @staticmethod
    def _check_shards(dataset: _Dataset, shards: Iterable[int]) -> None:
        count = dataset.config.num_shards
        for shard in shards:
            if not 0 <= shard < count:
                raise BadData(f"dataset {dataset.config.name} has no shard {shard}; it has 0 to {count - 1}")

    def _next_version(self) -> int:
        self._version += 1
        return self._version

    def _moved(self, dataset: _Dataset, entry: ShardEntry, event: ShardEvent, why: str, now_ms: int) -> ShardEntry:
        """The entry after ``event``; an owner stays as long as the status has one."""
        status = next_status(entry.status, event)
        if status.kind is not entry.status.kind:
            reason = f" ({status.reason})" if status.reason else ""
            text = f"{entry.status} -> {status}{reason}: {type(event).__name__}; {why}"
            self._tell(dataset, entry.shard, now_ms, text)
        return ShardEntry(entry.shard, status, entry.node if status.kind in OWNED else None, entry.epoch)

    def _change(self, dataset: _Dataset, entries: Iterable[ShardEntry]) -> None:
        dataset.shard_map = replace(dataset.shard_map.with_entries(entries), version=self._next_version())

    @staticmethod
    def _publish(dataset: _Dataset) -> list[ManagerCommand]:
        return [PublishShardMap(dataset.config.name, dataset.shard_map)]

    def _tell(self, dataset: _Dataset, shard: int, now_ms: int, text: str) -> None:
        line = StoryLine(now_ms, text, self._cause)
        dataset.stories.setdefault(shard, deque(maxlen=STORY_LINES_MAX)).append(line)
