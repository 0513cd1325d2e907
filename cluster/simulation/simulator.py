"""A whole cluster in one thread and virtual time, decided by a seed: the real cores, simulated processes and messages.

Real: ShardManager, Membership with its clock, MetaStore (SQLite in memory). Simulated: processes that die and hang,
messages that take their time, shard files, a coordinator that may end between any two commands or stop for a while,
machines that nobody but gateways can reach, gateways with old views that write and read.
What is checked all the time (a violation raises AssertionError):

* a shard is handed on only when no other process holds it;
* no owner's file is deleted under it, though deletions come late and twice;
* an epoch of a shard is acknowledged by one process only, and acknowledged epochs never go back;
* a node that answers a read, whatever view the reader has, has all that was acknowledged for the shard;
* a view that gateways see never goes back, in version or in any shard's epoch;
* no node that runs is lost for its silence, however long the coordinator did not run;
* the ShardManager's own invariants.

``SimulatedCluster`` is also a ScenarioDriver. Random faults are drawn by the caller (see ``run_history``), which heals
the cluster in the end and then demands that everything becomes Active.
"""

from __future__ import annotations

import contextlib
import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

from filoray.cluster.actor_names import node_name, slot_index
from filoray.cluster.addresses import NodeAddress
from filoray.cluster.config.dataset import LOG_STREAM_FACTORY, DatasetConfig
from filoray.cluster.config.server_config import default_server_config
from filoray.cluster.control.membership import (
    DeathNoticed,
    Gone,
    HeartbeatAnswered,
    Joined,
    KillNode,
    LaunchNode,
    Lost,
    Membership,
    MembershipCommand,
    MembershipEvent,
    MembershipLimits,
    NodeAnnounced,
    PersistIncarnation,
    ProcessGone,
    SlotState,
    Tick,
)
from filoray.cluster.control.shard_manager import ShardManager
from filoray.cluster.control.shard_map import ShardMap
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
)
from filoray.cluster.control.shard_status import (
    IngestionStarted,
    InvalidTransition,
    RecoveryInProgress,
    RecoveryStarted,
    ShardStatus,
    StatusKind,
)
from filoray.cluster.errors import FilorayError, Unavailable
from filoray.cluster.node_protocol import HeldShard, NodeAnnouncement, ShardReport
from filoray.cluster.process.observed_clock import ObservedClock
from filoray.cluster.store.meta_store import MetaStore

HEARTBEAT_MS = 500
HEARTBEAT_TIMEOUT_MS = 3 * HEARTBEAT_MS
TICK_MS = 250
START_MS = 2000
RECOVERY_STEP_MS = 60
RESTART_MS = 1500
WRITE_MS = 40

NodesWord = ShardReported | ShardsDeleted | ShardsReleased
ShardKey = tuple[str, int]
Process = tuple[str, int]


@dataclass(frozen=True, slots=True)
class SimulatedShard:
    epoch: int
    generation: int
    is_open: bool


@dataclass(slots=True)
class SimulatedNode:
    """A process. ``held``: its shards."""

    node: str
    incarnation: int
    is_up: bool = False
    is_hung: bool = False
    hung_until_ms: int = -HEARTBEAT_TIMEOUT_MS
    """When it last began to be heard again."""
    is_cut: bool = False
    """The coordinator cannot reach its machine, nor it the coordinator."""
    is_given_up: bool = False
    """It was to be killed while it was cut off; it ends when its machine is back."""
    lease_end_ms: int = 0
    held: dict[ShardKey, SimulatedShard] = field(default_factory=dict)
    backlog: list[Callable[[], None]] = field(default_factory=list)


@dataclass(slots=True)
class SimulatedCoordinator:
    """One life of the coordinator; a message for a former life is lost."""

    manager: ShardManager
    membership: Membership
    clock: ObservedClock
    readings: dict[Process, int] = field(default_factory=dict)
    """Of the nodes' clocks, as last heard."""
    is_hung: bool = False
    backlog: list[Callable[[], None]] = field(default_factory=list)


class CoordinatorCrashed(Exception):
    """Ends the carrying out of commands in the middle."""


class SimulatedCluster:
    """``crash_rate``: probability that the coordinator dies after any single command. ``latency_ms``: of a message."""

    def __init__(
        self, seed: int, node_count: int, crash_rate: float = 0.0, latency_ms: int = 5, lease_ms: int = 0
    ) -> None:
        self.lease_ms = lease_ms
        self.random = random.Random(seed)
        self.now_ms = 0
        self.node_count = node_count
        self.crash_rate = crash_rate
        self.latency_ms = latency_ms
        self.nodes: dict[Process, SimulatedNode] = {}
        self.coordinator: SimulatedCoordinator | None = None
        self.acknowledged_count = 0
        self.trace: list[str] = []
        self._store = MetaStore("sqlite://")
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._sequence = 0
        self._channel_free_ms: dict[tuple[str, str], int] = {}
        self._view: dict[str, ShardMap] = {}
        self._seen: dict[ShardKey, int] = {}
        self._files: dict[tuple[str, int, int], int] = {}
        self._acknowledged: dict[tuple[str, int, int], Process] = {}
        self._newest_acknowledged: dict[ShardKey, int] = {}
        self._newest_open: dict[ShardKey, int] = {}
        self._deleted: set[tuple[str, int]] = set()
        self._start_coordinator()
        self._after(TICK_MS, self._tick)
        self._after(WRITE_MS, self._write_something)

    # ---- the scenario's verbs

    def set_up_dataset(self, dataset: str, num_shards: int, min_num_nodes: int) -> None:
        spread = min(1, num_shards.bit_length() - 1)
        store = default_server_config().store
        config = DatasetConfig(
            dataset, "prom-counter", num_shards, min_num_nodes, LOG_STREAM_FACTORY, spread, {}, store
        )
        self._manage(DatasetSetUp(config))

    def delete_dataset(self, dataset: str) -> None:
        self._manage(DatasetDeleted(dataset))

    def kill_node(self, index: int) -> None:
        for process in self._processes(index):
            self._die(process, "killed")

    def hang_node(self, index: int) -> None:
        for process in self._processes(index):
            process.is_hung = True
            self._note(f"{process.node}#{process.incarnation} hangs")

    def resume_node(self, index: int) -> None:
        for process in self._processes(index):
            process.is_hung = False
            process.hung_until_ms = self.now_ms
            if not process.is_cut:
                self._go_on(process)

    @staticmethod
    def _go_on(process: SimulatedNode) -> None:
        backlog, process.backlog = process.backlog, []
        for action in backlog:
            action()

    def cut_node(self, index: int) -> None:
        """Its machine can be reached by gateways only. For clusters whose nodes have leases."""
        assert self.lease_ms, "nodes without leases are where they can be killed"
        for process in self._processes(index):
            process.is_cut = True
            self._note(f"{process.node}#{process.incarnation} is cut off")

    def mend_node(self, index: int) -> None:
        for process in self._processes(index):
            if process.is_cut:
                process.is_cut, process.hung_until_ms = False, self.now_ms
            if process.is_given_up:
                self._die(process, "its machine is back")
            elif not process.is_hung:
                self._go_on(process)

    def kill_coordinator(self) -> None:
        if self.coordinator is not None:
            self._note("the coordinator dies")
            self.coordinator = None
            self._after(RESTART_MS, self._start_coordinator)

    def hang_coordinator(self) -> None:
        if self.coordinator is not None:
            self._note("the coordinator hangs")
            self.coordinator.is_hung = True

    def resume_coordinator(self) -> None:
        life = self.coordinator
        if life is not None and life.is_hung:
            self._note("the coordinator goes on")
            life.is_hung = False
            # In any order: what arrived meanwhile, and the timers that are due.
            backlog, life.backlog = life.backlog, []
            self.random.shuffle(backlog)
            for action in backlog:
                if self.coordinator is life:
                    action()

    def stop_shard(self, dataset: str, shard: int) -> None:
        self._manage(ShardsStopped(dataset, (shard,)))

    def start_shard(self, dataset: str, shard: int, node_index: int) -> None:
        self._manage(ShardsStarted(dataset, node_name(node_index), (shard,)))

    def statuses(self) -> dict[str, list[StatusKind]]:
        return {name: [entry.status.kind for entry in shards.shards] for name, shards in self._view.items()}

    def members(self) -> frozenset[int]:
        if self.coordinator is None:
            return frozenset()
        return frozenset(slot_index(node) for node in self.coordinator.membership.members())

    def advance(self, duration_ms: int) -> None:
        until_ms = self.now_ms + duration_ms
        while self._queue and self._queue[0][0] <= until_ms:
            self.now_ms, _, action = heapq.heappop(self._queue)
            action()
        self.now_ms = until_ms

    # ---- what tests ask

    def is_healthy(self) -> bool:
        """All nodes are members, every shard is Active, and its owner really holds it at its epoch."""
        if len(self.members()) != self.node_count or self.coordinator is None:
            return False
        for name, (config, shard_map) in self.coordinator.manager.datasets.items():
            if self._view.get(name) != shard_map:
                return False
            for entry in shard_map.shards:
                if entry.status.kind is not StatusKind.ACTIVE or entry.node is None:
                    return False
                process = self.nodes.get((entry.node, self.coordinator.manager.members[entry.node]))
                held = process.held.get((name, entry.shard)) if process is not None else None
                if held != SimulatedShard(entry.epoch, config.generation, is_open=True):
                    return False
                if self._files.get((name, entry.shard, config.generation)) != entry.epoch:
                    return False  # it acknowledges what nobody will find
        return True

    # ---- the coordinator's shell

    def _start_coordinator(self) -> None:
        rows = self._store.nodes()
        incarnations = {name: row.incarnation for name, row in rows.items()}
        manager = ShardManager(self._store.next_generation(), self._store.restored_state(incarnations))
        limits = MembershipLimits(
            heartbeat_timeout_ms=HEARTBEAT_TIMEOUT_MS, start_timeout_ms=8 * START_MS, restart_backoff_ms=100,
            restart_backoff_max_ms=2000, seed_node_count=1, form_wait_ms=10_000, lease_ms=self.lease_ms,
        )  # fmt: skip
        names = [node_name(index) for index in range(self.node_count)]
        clock = ObservedClock(2 * TICK_MS, lambda: self.now_ms)
        membership = Membership(names, limits, clock.now_ms(), incarnations, returning=rows)
        life = self.coordinator = SimulatedCoordinator(manager, membership, clock)
        self._note("a coordinator starts")
        for node, incarnation in incarnations.items():
            self._to_node(life, node, incarnation, lambda process: self._announce(life, process), adopting=True)
        self._deliver("coordinator", "gateway", lambda: self._see_only(set(manager.datasets)))
        self._member_event(Tick())

    def _manage(self, event: ManagerEvent) -> None:
        """Raises FilorayErrors of an operator's events."""
        life = self.coordinator
        if life is None or life.is_hung:
            return
        try:
            commands = life.manager.handle(event, self.now_ms)
            life.manager.check_invariants()
            for command in commands:
                self._carry_out(life, command)
                self._maybe_crash()
        except CoordinatorCrashed:
            self.kill_coordinator()
        except InvalidTransition as error:
            self._note(f"dropped: {error}")

    def _member_event(self, event: MembershipEvent) -> None:
        life = self.coordinator
        if life is None:
            return
        for command in life.membership.handle(event, life.clock.now_ms()):
            if self.coordinator is not life:
                return
            self._carry_out_membership(life, command)

    def _carry_out(self, life: SimulatedCoordinator, command: ManagerCommand) -> None:
        match command:
            case PersistDataset(config, is_deleting):
                self._store.put_dataset(config, is_deleting)
                (self._deleted.add if is_deleting else self._deleted.discard)((config.name, config.generation))
            case ForgetDataset(dataset):
                self._store.forget_dataset(dataset)
            case PersistShardMap(shard_map):
                self._store.put_shard_map(shard_map)
            case StartShards(node, incarnation, config, shards):
                for shard, epoch in shards:
                    key = (config.name, shard)
                    self._check_former_owners(key, (node, incarnation), epoch)
                    self._to_node(
                        life, node, incarnation,
                        partial(self._open, key=key, epoch=epoch, generation=config.generation),
                    )  # fmt: skip
            case StopShards():
                self._to_node(life, command.node, command.incarnation, partial(self._stop, life, order=command))
            case DeleteShards():
                order = partial(self._delete, life, order=command)
                self._to_node(life, command.node, command.incarnation, order)
                if self.random.random() < 0.2:  # an order may come twice, the second time late
                    self._after(self.random.randrange(20_000), partial(self._late, command.node, order))
            case PublishShardMap(dataset, shard_map):
                self._deliver("coordinator", "gateway", lambda: self._see(dataset, shard_map))

    def _carry_out_membership(self, life: SimulatedCoordinator, command: MembershipCommand) -> None:
        match command:
            case PersistIncarnation(node, incarnation):
                self._store.put_incarnation(node, incarnation)
            case LaunchNode(node, incarnation):
                process = self.nodes[node, incarnation] = SimulatedNode(node, incarnation)
                self._after(START_MS + self.random.randrange(START_MS), lambda: self._come_up(process))
            case KillNode(node, incarnation):
                self._after(self.latency_ms + self._latency(), lambda: self._kill(life, node, incarnation))
            case Joined(announcements):
                joined = tuple(MemberJoined(one.node, one.incarnation, one.shards) for one in announcements)
                self._manage(MembersJoined(joined))
            case Lost(node, incarnation, cause):
                self._note(f"{node}#{incarnation} lost: {cause}")
                self._check_silence(node, incarnation, cause)
                self._manage(MemberLost(node, incarnation, cause))
            case Gone(node, incarnation):
                self._manage(MemberGone(node, incarnation))

    def _tick(self) -> None:
        self._after(TICK_MS, self._tick)
        life = self.coordinator
        if life is not None and life.is_hung:
            if not any(action == self._beat_all for action in life.backlog):
                life.backlog.append(self._beat_all)
        else:
            self._beat_all()

    def _beat_all(self) -> None:
        self._member_event(Tick())
        life = self.coordinator
        if life is not None:
            for node, slot in list(life.membership.slots.items()):
                if slot.state is SlotState.UP:
                    from_ms = life.readings.get((node, slot.incarnation), 0)
                    self._to_node(life, node, slot.incarnation, partial(self._beat, life, from_ms=from_ms))

    def _maybe_crash(self) -> None:
        if self.random.random() < self.crash_rate:
            raise CoordinatorCrashed

    # ---- messages: delayed, in order between two processes, lost with either of them

    def _latency(self) -> int:
        return 1 + self.random.randrange(self.latency_ms)

    def _deliver(self, sender: str, receiver: str, action: Callable[[], None]) -> None:
        arrival_ms = max(self.now_ms + self._latency(), self._channel_free_ms.get((sender, receiver), 0))
        self._channel_free_ms[sender, receiver] = arrival_ms
        self._at(arrival_ms, action)

    def _to_node(
        self, life: SimulatedCoordinator, node: str, incarnation: int,
        action: Callable[[SimulatedNode], None], *, adopting: bool = False,
    ) -> None:  # fmt: skip
        def arrive() -> None:
            process = self.nodes.get((node, incarnation))
            if process is None or not process.is_up:
                if adopting:
                    self._to_coordinator(life, node, DeathNoticed(node, incarnation, "not found"))
            elif process.is_hung or process.is_cut:
                process.backlog.append(lambda: action(process) if self._is_alive(process) else None)
                if adopting:
                    self._to_coordinator(life, node, DeathNoticed(node, incarnation, "did not answer"))
            else:
                action(process)

        self._deliver("coordinator", f"{node}#{incarnation}", arrive)

    def _to_coordinator(
        self, life: SimulatedCoordinator | None, sender: str, event: MembershipEvent | NodesWord,
        reading: tuple[SimulatedNode, int] | None = None,
    ) -> None:  # fmt: skip
        """``life`` None: to whichever coordinator is there when it arrives. ``reading``: of the sender's clock."""

        def arrive() -> None:
            if self.coordinator is None or (life is not None and self.coordinator is not life):
                return
            if self.coordinator.is_hung:
                self.coordinator.backlog.append(arrive)
                return
            if reading is not None:
                process, clock_ms = reading
                if process.is_cut:
                    process.backlog.append(arrive)
                    return
                self.coordinator.readings[process.node, process.incarnation] = clock_ms
            if isinstance(event, NodesWord):
                self._manage(event)
            else:
                self._member_event(event)

        self._deliver(sender, "coordinator", arrive)

    # ---- nodes

    def _come_up(self, process: SimulatedNode) -> None:
        if (process.node, process.incarnation) in self.nodes:
            process.is_up = True
            self._announce(None, process)

    def _announce(self, life: SimulatedCoordinator | None, process: SimulatedNode) -> None:
        held = tuple(
            HeldShard(name, shard, one.epoch, ShardStatus(StatusKind.ACTIVE if one.is_open else StatusKind.RECOVERY))
            for (name, shard), one in process.held.items()
        )
        address = NodeAddress("127.0.0.1", 2552 + slot_index(process.node))
        announcement = NodeAnnouncement(process.node, process.incarnation, address, 1, "here", held)
        self._to_coordinator(life, process.node, NodeAnnounced(announcement), (process, self._clock_ms(process)))

    def _beat(self, life: SimulatedCoordinator, process: SimulatedNode, from_ms: int) -> None:
        process.lease_end_ms = max(process.lease_end_ms, from_ms + self.lease_ms)
        answered = HeartbeatAnswered(process.node, process.incarnation)
        self._to_coordinator(life, process.node, answered, reading=(process, self._clock_ms(process)))

    def _clock_ms(self, process: SimulatedNode) -> int:
        """Each process's clock counts from elsewhere."""
        return self.now_ms + 1000 * process.incarnation + slot_index(process.node)

    def _may_answer(self, process: SimulatedNode) -> bool:
        return not self.lease_ms or self._clock_ms(process) < process.lease_end_ms

    def _open(self, process: SimulatedNode, key: ShardKey, epoch: int, generation: int) -> None:
        if key in process.held and process.held[key].epoch >= epoch:
            return
        if self._files.get((*key, generation), 0) > epoch:
            return  # a file that a later owner has opened refuses an earlier one
        self._files[*key, generation] = epoch
        process.held[key] = SimulatedShard(epoch, generation, is_open=False)
        self._report(process, key, epoch, ShardReport(*key, epoch, RecoveryStarted()))
        self._recover(process, key, epoch, 0)

    def _recover(self, process: SimulatedNode, key: ShardKey, epoch: int, progress_pct: int) -> None:
        def step() -> None:
            held = process.held.get(key)
            if not self._is_alive(process) or held is None or held.epoch != epoch:
                return
            if process.is_hung:
                process.backlog.append(step)
            elif progress_pct >= 100:
                process.held[key] = replace(held, is_open=True)
                self._newest_open[key] = max(epoch, self._newest_open.get(key, 0))
                self._report(process, key, epoch, ShardReport(*key, epoch, IngestionStarted()))
            else:
                self._report(process, key, epoch, ShardReport(*key, epoch, RecoveryInProgress(progress_pct)))
                self._recover(process, key, epoch, progress_pct + 50)

        self._after(1 + self.random.randrange(RECOVERY_STEP_MS), step)

    def _report(self, process: SimulatedNode, key: ShardKey, epoch: int, report: ShardReport) -> None:
        """As real nodes do: tried again while there is no coordinator, as long as it is still true."""
        is_held = key in process.held and process.held[key].epoch == epoch
        if self.coordinator is None and self._is_alive(process) and is_held:
            self._after(RESTART_MS // 3, lambda: self._report(process, key, epoch, report))
        else:
            self._to_coordinator(None, process.node, ShardReported(process.node, process.incarnation, report))

    def _stop(self, life: SimulatedCoordinator, process: SimulatedNode, order: StopShards) -> None:
        for shard, epoch in order.shards:
            if (order.dataset, shard) in process.held and process.held[order.dataset, shard].epoch == epoch:
                del process.held[order.dataset, shard]
        released = ShardsReleased(process.node, process.incarnation, order.dataset, order.shards)
        self._to_coordinator(life, process.node, released)

    def _delete(self, life: SimulatedCoordinator, process: SimulatedNode, order: DeleteShards) -> None:
        for shard in order.shards:
            key = (order.dataset, shard)
            if key in process.held and process.held[key].generation == order.generation:
                del process.held[key]
            self._files.pop((*key, order.generation), None)
        deleted = ShardsDeleted(process.node, process.incarnation, order.dataset, order.generation)
        self._to_coordinator(life, process.node, deleted)

    def _late(self, node: str, order: Callable[[SimulatedNode], None]) -> None:
        for process in self._processes(slot_index(node)):
            if process.is_up and not process.is_hung:
                order(process)

    def _die(self, process: SimulatedNode, why: str) -> None:
        self.nodes.pop((process.node, process.incarnation), None)
        self._note(f"{process.node}#{process.incarnation} dies: {why}")
        self._to_coordinator(None, process.node, DeathNoticed(process.node, process.incarnation, why))

    def _kill(self, life: SimulatedCoordinator, node: str, incarnation: int) -> None:
        if self.coordinator is not life:
            return  # the killer died first
        if life.is_hung:
            life.backlog.append(lambda: self._kill(life, node, incarnation))
            return
        process = self.nodes.get((node, incarnation))
        is_certain = process is None or not process.is_cut
        if process is not None and is_certain:
            self._die(process, "by the coordinator")
        elif process is not None:
            process.is_given_up = True
        self._to_coordinator(life, node, ProcessGone(node, incarnation, is_certain))

    def _is_alive(self, process: SimulatedNode) -> bool:
        return self.nodes.get((process.node, process.incarnation)) is process

    def _processes(self, index: int) -> list[SimulatedNode]:
        return [process for process in self.nodes.values() if process.node == node_name(index)]

    # ---- gateways and checks

    def _see(self, dataset: str, shard_map: ShardMap | None) -> None:
        known = self._view.get(dataset)
        if shard_map is None:
            self._view.pop(dataset, None)
        elif known is None or shard_map.version > known.version:
            for entry in shard_map.shards:
                key = (dataset, entry.shard)
                assert entry.epoch >= self._seen.get(key, 0), f"a view went back: {entry} after {self._seen[key]}"
                self._seen[key] = entry.epoch
            self._view[dataset] = shard_map

    def _see_only(self, datasets: set[str]) -> None:
        """Real views are whole: a dataset that a new coordinator does not know leaves them."""
        self._view = {name: shard_map for name, shard_map in self._view.items() if name in datasets}

    def _write_something(self) -> None:
        """A gateway writes by its view, which may be old; any process that thinks it owns the shard may get it."""
        owned = [
            (process, key, shard)
            for process in self.nodes.values()
            if process.is_up and not process.is_hung
            for key, shard in process.held.items()
            if shard.is_open
        ]
        if owned:
            process, key, shard = self.random.choice(owned)
            self._check_reader(process, key, shard.epoch)
            shard_map = self._view.get(key[0])
            routed = shard_map[key[1]] if shard_map is not None else None
            if routed is not None and routed.epoch == shard.epoch and self._may_answer(process):
                stored = self._files.get((*key, shard.generation))
                # A file that was removed under its owner takes its writes all the same.
                is_deleted = (key[0], shard.generation) in self._deleted
                assert stored is not None or is_deleted, f"{key} of {process.node} was deleted under the owner {shard}"
                if stored == shard.epoch:
                    self._acknowledge(process, key, shard.epoch)
        self._after(WRITE_MS, self._write_something)

    def _check_reader(self, process: SimulatedNode, key: ShardKey, epoch: int) -> None:
        """A gateway may have any old view; whoever answers it must have all that later owners have taken."""
        if self._may_answer(process):
            newest = self._newest_open.get(key, 0)
            who = f"{process.node}#{process.incarnation}"
            assert newest <= epoch, f"{who} answers for {key} at epoch {epoch} while {newest} may have newer data"

    def _acknowledge(self, process: SimulatedNode, key: ShardKey, epoch: int) -> None:
        owner = self._acknowledged.setdefault((*key, epoch), (process.node, process.incarnation))
        assert owner == (process.node, process.incarnation), f"{key} epoch {epoch}: {owner} and {process} acknowledged"
        assert epoch >= self._newest_acknowledged.get(key, 0), f"{key}: epoch {epoch} acknowledged after a newer one"
        self._newest_acknowledged[key] = epoch
        self.acknowledged_count += 1

    def _check_former_owners(self, key: ShardKey, owner: Process, epoch: int) -> None:
        """A shard goes to a new owner only when no other process holds it: one that does would answer with old data."""
        for process in self.nodes.values():
            identity = (process.node, process.incarnation)
            if key in process.held and identity != owner and self._may_answer(process):
                raise AssertionError(f"{key} goes to {owner} at epoch {epoch} while {identity} still holds it")

    def _check_silence(self, node: str, incarnation: int, cause: str) -> None:
        process = self.nodes.get((node, incarnation))
        if process is not None and process.is_up and cause.startswith("heartbeats missed"):
            silent_ms = 0 if process.is_hung or process.is_cut else self.now_ms - process.hung_until_ms
            assert silent_ms <= HEARTBEAT_TIMEOUT_MS, f"{node}#{incarnation} was lost though it runs: {cause}"

    # ---- time

    def _at(self, at_ms: int, action: Callable[[], None]) -> None:
        self._sequence += 1
        heapq.heappush(self._queue, (at_ms, self._sequence, action))

    def _after(self, delay_ms: int, action: Callable[[], None]) -> None:
        self._at(self.now_ms + delay_ms, action)

    def _note(self, text: str) -> None:
        self.trace.append(f"{self.now_ms:>8} {text}")


def run_history(seed: int, duration_ms: int = 60_000, recovery_ms: int = 60_000) -> SimulatedCluster:
    """A random history: faults at rates drawn from the seed, then healing, then everything must become Active.

    Raises AssertionError with the seed and the trace of what was done.
    """
    dice = random.Random(f"faults {seed}")
    cluster = SimulatedCluster(
        seed, dice.randint(1, 5), crash_rate=dice.choice((0, 0, 0.01, 0.1)), latency_ms=dice.choice((2, 20, 400)),
        lease_ms=dice.choice((0, 4000)),
    )  # fmt: skip
    fault_every_ms = dice.choice((300, 2000, 8000))
    try:
        cluster.advance(dice.randrange(5000))
        cluster.set_up_dataset("alpha", 4, dice.randint(1, cluster.node_count))
        while cluster.now_ms < duration_ms:
            _fault(cluster, dice)
            cluster.advance(1 + dice.randrange(fault_every_ms))
        cluster.crash_rate = 0.0
        cluster.resume_coordinator()
        cluster.advance(2 * RESTART_MS)
        for index in range(cluster.node_count):
            cluster.resume_node(index)
            cluster.mend_node(index)
        _heal_operators_work(cluster)
        cluster.advance(recovery_ms)
        if not cluster.statuses():
            cluster.set_up_dataset("alpha", 4, 1)
        _heal_operators_work(cluster)
        cluster.advance(5000)
        assert cluster.is_healthy(), f"not healthy after {recovery_ms} ms of peace: {cluster.statuses()}"
    except AssertionError as error:
        raise AssertionError(f"seed {seed}: {error}\n" + "\n".join(cluster.trace[-60:])) from error
    return cluster


def _fault(cluster: SimulatedCluster, dice: random.Random) -> None:
    index = dice.randrange(cluster.node_count)
    dataset = dice.choice(("alpha", "beta"))
    shard = dice.randrange(4)
    actions: list[Callable[[], None]] = [
        lambda: cluster.kill_node(index),
        lambda: cluster.hang_node(index),
        lambda: cluster.resume_node(index),
        cluster.kill_coordinator,
        cluster.hang_coordinator,
        cluster.resume_coordinator,
        lambda: cluster.set_up_dataset(dataset, 4, dice.randint(1, cluster.node_count)),
        lambda: cluster.stop_shard(dataset, shard),
        lambda: cluster.start_shard(dataset, shard, index),
        lambda: _move(cluster, dataset, shard, index),
        lambda: cluster.mend_node(index),
        lambda: cluster.cut_node(index) if cluster.lease_ms else cluster.hang_node(index),
    ]
    weights = [6, 4, 4, 3, 2, 6, 8, 2, 2, 3, 3, 3]
    if dice.random() < 0.05:
        actions, weights = [lambda: cluster.delete_dataset(dataset)], [1]
    try:
        dice.choices(actions, weights)[0]()
    except FilorayError as error:
        cluster.trace.append(f"{cluster.now_ms:>8} refused: {error}")


def _move(cluster: SimulatedCluster, dataset: str, shard: int, node_index: int) -> None:
    """An operator who does not wait."""
    cluster.stop_shard(dataset, shard)
    cluster.start_shard(dataset, shard, node_index)


def _heal_operators_work(cluster: SimulatedCluster) -> None:
    """Stopped shards stay stopped until somebody starts them."""
    if cluster.coordinator is None:
        return
    for name, (config, shard_map) in list(cluster.coordinator.manager.datasets.items()):
        for entry in shard_map.with_status(StatusKind.STOPPED):
            members = cluster.coordinator.manager.members
            owned = cluster.coordinator.manager.shard_map(name).owned_by
            node = next((node for node in members if len(owned(node)) < config.shards_per_node_max), None)
            if node is not None:
                with contextlib.suppress(Unavailable):  # its last owner has still to let go
                    cluster.start_shard(name, entry.shard, slot_index(node))
