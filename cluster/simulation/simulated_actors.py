"""The actors that a simulated coordinator calls: simulated nodes and gateways, by messages that may be lost or late.

A call ends or fails when its answer arrives, if the coordinator that made it still lives.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from filoray.cluster.actor_names import node_actor_name
from filoray.cluster.config.dataset import DatasetConfig, parse_for_cluster
from filoray.cluster.config.server_config import ServerConfig
from filoray.cluster.control.coordinator_effects import (
    AdoptProcess,
    AnswerValue,
    Call,
    CallResult,
    CloseNode,
    GiveOrder,
    KillProcess,
    LaunchProcess,
    LookAtMachines,
    NodeProcess,
    PlaceGateway,
    PlaceStandby,
    PushView,
    ReadSourceConfig,
    SendHeartbeat,
    TellMembers,
    WatchProcess,
)
from filoray.cluster.control.coordinator_events import RequestId, ShardOrder
from filoray.cluster.control.shard_messages import (
    DeleteShards,
    DropCopies,
    FollowShards,
    StartShards,
    StopShards,
    TellCopies,
)
from filoray.cluster.errors import FilorayError
from filoray.cluster.simulation.checkers import Checkers, Process
from filoray.cluster.simulation.machines import SimulatedMachines
from filoray.cluster.simulation.pending_call import PendingCall
from filoray.cluster.simulation.report_outbox import Batch
from filoray.cluster.simulation.shard_watch import ShardWatch
from filoray.cluster.simulation.simulated_disks import SimulatedDisks
from filoray.cluster.simulation.simulated_gateway import SimulatedGateway
from filoray.cluster.simulation.simulated_node import SimulatedNode
from filoray.cluster.simulation.simulated_store import FaultyStore, LifeStore
from filoray.cluster.simulation.world import Action, SimulatedWorld

START_MS = 2000
LATE_ORDER_MS = 20_000


@dataclass(slots=True)
class Surroundings:
    """What outlives a coordinator."""

    world: SimulatedWorld
    checkers: Checkers
    store: FaultyStore
    files: SimulatedDisks
    machines: SimulatedMachines
    watch: ShardWatch
    nodes: dict[Process, SimulatedNode] = field(default_factory=dict)
    gateways: dict[str, SimulatedGateway] = field(default_factory=dict)
    answers: dict[RequestId, Callable[[AnswerValue], None]] = field(default_factory=dict)
    """What is to be done with what a request is answered with; requests that nobody minds are not here."""
    drained: set[str] = field(default_factory=set)
    """Nodes that operators want to have no copies, whether the coordinator has heard of it or not."""
    scaled_away: set[str] = field(default_factory=set)
    """Those that are to go, likewise."""


class CallersLife(Protocol):
    """The life of the coordinator that calls."""

    @property
    def store(self) -> FaultyStore | LifeStore: ...

    def run(self, action: Action) -> bool: ...

    def hear(self, action: Action) -> None: ...

    def after(self, delay_ms: int, action: Action) -> None: ...


class SimulatedActors:
    """``send_reports``: of the nodes that are launched."""

    def __init__(
        self,
        config: ServerConfig,
        around: Surroundings,
        life: CallersLife,
        send_reports: Callable[[SimulatedNode, Batch], None],
    ) -> None:
        self._config = config
        self._around = around
        self._life = life
        self._world = around.world
        self._checkers = around.checkers
        self._send_reports = send_reports

    def call(self, call: Call, ended: Callable[[CallResult], None], failed: Callable[[Exception], None]) -> None:
        """Begin it; tell how it ended or failed."""
        match call:
            case LaunchProcess(node, incarnation):
                self._launch((node, incarnation), self._pending((node, incarnation), ended, failed), call)
            case AdoptProcess(node, incarnation, timeout_ms):
                pending = self._pending((node, incarnation), ended, failed, timeout_ms=timeout_ms)
                self._ask((node, incarnation), pending, _announce)
            case SendHeartbeat(node, incarnation, grant, timeout_ms):
                pending = self._pending((node, incarnation), ended, failed, timeout_ms=timeout_ms, keeps_order=True)
                self._ask((node, incarnation), pending, lambda it, its: its.end(it.beat(grant)))
            case WatchProcess(node, incarnation):
                self._watch((node, incarnation), self._pending((node, incarnation), ended, failed))
            case KillProcess(node, incarnation):
                self._world.after(
                    self._world.rates.latency_ms + self._life.store.lag_ms,
                    lambda: self._life.run(lambda: self._kill((node, incarnation), ended, failed)),
                )
            case GiveOrder(order):
                self._order(call, (order.node, order.incarnation), ended, failed)
            case PushView():
                self._push(call, ended, failed)
            case ReadSourceConfig(_, dataset, text):
                self._life.after(1, lambda: self._read(dataset, text, ended, failed))
            case PlaceGateway(gateway, machine):
                self._life.after(1, lambda: self._place(gateway, machine, ended, failed))
            case LookAtMachines():
                self._life.after(1, lambda: ended(self._around.machines.seen()))
            case TellMembers() | CloseNode() | PlaceStandby():
                self._life.after(1, lambda: ended(None))

    def _pending(
        self,
        process: Process,
        ended: Callable[[CallResult], None],
        failed: Callable[[Exception], None],
        *,
        timeout_ms: int | None = None,
        keeps_order: bool = False,
    ) -> PendingCall:
        name = node_actor_name(*process)
        return PendingCall(
            self._world, name, self._life.hear, ended, failed, timeout_ms=timeout_ms, keeps_order=keeps_order
        )

    def _ask(self, process: Process, call: PendingCall, act: Callable[[SimulatedNode, PendingCall], None]) -> None:
        """``act`` on the process when the call arrives there; it then ends the call, now or later."""

        def arrive() -> None:
            node = self._around.nodes.get(process)
            if node is None or not node.is_up:
                call.fail(ValueError("there is no such actor"))
                return
            call.passes = node.let_out
            if not node.hear(lambda: act(node, call)):
                call.waits()

        is_lost = self._is_lost(call)
        if call.is_answer_lost and (known := self._around.nodes.get(process)) is not None:
            self._excuse(known)
        if is_lost:
            return
        name, lag_ms = node_actor_name(*process), self._life.store.lag_ms
        self._world.send("coordinator", name, arrive, lag_ms, keeps_order=call.keeps_order)

    def _is_lost(self, call: PendingCall) -> bool:
        """Whether it is lost on its way; of others, the answer may be."""
        call.is_answer_lost = self._world.happens(self._world.rates.lose)
        is_lost = call.is_answer_lost and self._world.happens(0.5)
        if is_lost:
            call.fail(ConnectionResetError("the connection was lost"))
        return is_lost

    def _excuse(self, node: SimulatedNode) -> None:
        """It cannot have been heard before the loss was noticed, and it was asked anew after a pause."""
        asked_ms = self._world.now_ms + self._world.rates.latency_ms + self._config.node.heartbeat_interval_ms
        node.heard_since_ms = max(node.heard_since_ms, asked_ms + 2 * self._world.rates.latency_ms)

    def _launch(self, process: Process, call: PendingCall, launch: LaunchProcess) -> None:
        around = self._around
        if not around.machines.is_there(launch.machine):
            call.fail(ValueError("there is no such machine"))
            return
        if around.files.are_apart and any(other[0] == process[0] for other in around.nodes):
            call.fail(OSError("its port is taken: a former process of the node is still there"))
            return
        node = around.nodes[process] = SimulatedNode(
            self._world,
            self._checkers,
            around.files,
            around.store,
            around.nodes,
            process,
            self._send_reports,
            around.watch,
        )
        node.machine = launch.machine
        if around.files.are_apart:
            around.files.move_in(process[0], around.machines.address(launch.machine))

        def come_up() -> None:
            if around.nodes.get(process) is not node:
                return
            if self._world.happens(self._world.rates.fail_launch):
                call.fail(TimeoutError(f"no answer within {launch.timeout_ms} ms"))
            else:
                node.is_up = True
                _announce(node, call)

        self._world.after(self._world.between(START_MS, 2 * START_MS), come_up)

    def _place(
        self, gateway: str, machine: str, ended: Callable[[CallResult], None], failed: Callable[[Exception], None]
    ) -> None:
        if not self._around.machines.is_there(machine):
            failed(ValueError("there is no such machine"))
            return
        self._around.machines.gateways[gateway] = machine
        ended(None)

    def _watch(self, process: Process, call: PendingCall) -> None:
        node = self._around.nodes.get(process)
        if node is None:
            call.end("it is not there")
        elif self._world.happens(self._world.rates.lose):
            call.fail(ConnectionResetError("the connection was lost"))
        else:
            node.watchers.append(call)

    def _kill(self, process: Process, ended: Callable[[CallResult], None], failed: Callable[[Exception], None]) -> None:
        node = self._around.nodes.get(process)
        if self._world.happens(self._world.rates.fail_kill):
            failed(OSError("Ray does not answer"))
            return
        is_seen = node is None or not node.is_cut
        if node is not None and not node.is_deaf:
            kill_process(self._around, node, "by the coordinator")
        elif node is not None:
            node.is_given_up = True
        ended(is_seen)

    def _order(
        self,
        call: GiveOrder,
        process: Process,
        ended: Callable[[CallResult], None],
        failed: Callable[[Exception], None],
    ) -> None:
        retries, order = self._checkers.retries, call.order
        what = order_identity(order)
        is_news = isinstance(order, TellCopies)  # a leader is told again for whatever it proposes
        if not is_news:
            retries.tried(what, self._world.now_ms)
        if isinstance(order, StartShards):
            self._check_former_owners(order)

        def fail(error: Exception) -> None:
            if not is_news:
                retries.failed(what, self._world.now_ms, by=self._life)
            failed(error)

        self._ask(process, self._pending(process, ended, fail), lambda it, its: it.take_order(call, its))
        if self._world.happens(self._world.rates.double):
            again = self._pending(process, lambda result: None, lambda error: None)
            self._world.after(
                self._world.between(1, LATE_ORDER_MS),
                lambda: self._ask(process, again, lambda it, its: it.take_order(call, its)),
            )

    def _check_former_owners(self, order: StartShards) -> None:
        for shard, epoch in order.shards:
            key = (order.config.name, shard)
            serving = self._around.watch.holders(key)
            holders = (process for process in serving if self._around.nodes[process].may_answer())
            self._checkers.handed_on.ordered(key, (order.node, order.incarnation), epoch, holders)

    def _push(self, call: PushView, ended: Callable[[CallResult], None], failed: Callable[[Exception], None]) -> None:
        gateway = self._around.gateways.get(call.gateway)
        retries, what = self._checkers.retries, ("push", call.gateway)
        retries.tried(what, self._world.now_ms)

        def fail(error: Exception) -> None:
            retries.failed(what, self._world.now_ms, by=self._life)
            failed(error)

        pending = PendingCall(self._world, call.gateway, self._life.hear, ended, fail, timeout_ms=call.timeout_ms)
        if gateway is None:
            pending.fail(ValueError("there is no such actor"))
            return
        if self._is_lost(pending):
            return

        def take() -> None:
            gateway.take_view(call.view)
            pending.end()

        def arrive() -> None:
            if not gateway.hear(take):
                pending.waits()

        self._world.send("coordinator", call.gateway, arrive, self._life.store.lag_ms)

    def _read(
        self,
        dataset: str,
        text: str,
        ended: Callable[[CallResult], None],
        failed: Callable[[Exception], None],
    ) -> None:
        try:
            config = read_once(self._config, dataset, text)
        except FilorayError as error:
            failed(error)
        else:
            ended(config)


def kill_process(around: Surroundings, node: SimulatedNode, why: str) -> None:
    if around.nodes.pop(node.process, None) is not None:
        around.world.note("%s dies: %s", node.name, why)
        node.die()


def order_identity(order: ShardOrder) -> tuple[object, ...]:
    """The same for an order that is given again."""
    match order:
        case StartShards(node, incarnation, config, shards):
            return "start", node, incarnation, config.name, config.generation, shards
        case FollowShards(node, incarnation, config, followed):
            return "follow", node, incarnation, config.name, config.generation, followed
        case DropCopies(node, incarnation, dataset, followed, generation):
            return "drop", node, incarnation, dataset, generation, followed
        case TellCopies(node, incarnation, dataset, copies):
            return "tell copies", node, incarnation, dataset, copies
        case StopShards(node, incarnation, dataset, shards):
            return "stop", node, incarnation, dataset, shards
        case DeleteShards(node, incarnation, dataset, shards, generation):
            return "delete", node, incarnation, dataset, generation, shards


def _announce(node: SimulatedNode, call: PendingCall) -> None:
    call.end(NodeProcess(node.announcement(), 1.0))


_READ: dict[tuple[str | None, str, str], DatasetConfig] = {}


def read_once(config: ServerConfig, dataset: str, text: str) -> DatasetConfig:
    """As ``parse_for_cluster``; a simulation reads the same few texts over and over."""
    key = (config.column_store_url, dataset, text)
    known = _READ.get(key)
    if known is None:
        known = _READ[key] = parse_for_cluster(config, dataset, text)
    return known
