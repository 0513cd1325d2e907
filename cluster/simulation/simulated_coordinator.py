"""One life of the simulated coordinator: the real core and dispatcher over simulated actors, store and time.

It may end between any two effects, hang for a while, be kept by a slow store, and end for a store that fails. A message
for a former life is lost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from filoray.cluster.actor_names import node_actor_name
from filoray.cluster.config.dataset import DatasetConfig, parse_for_cluster
from filoray.cluster.config.server_config import ServerConfig
from filoray.cluster.control.coordinator_core import CoordinatorCore
from filoray.cluster.control.coordinator_dispatcher import CoordinatorDispatcher
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
    Say,
    SendHeartbeat,
    TellMembers,
    WatchProcess,
)
from filoray.cluster.control.coordinator_events import CoordinatorEvent, RequestId, ShardOrder
from filoray.cluster.control.shard_messages import DeleteShards, StartShards, StopShards
from filoray.cluster.errors import FilorayError, Unavailable
from filoray.cluster.simulation.checkers import Checkers, FileKey, Process
from filoray.cluster.simulation.machines import SimulatedMachines
from filoray.cluster.simulation.pending_call import PendingCall
from filoray.cluster.simulation.report_outbox import Batch
from filoray.cluster.simulation.shard_file import ShardFile
from filoray.cluster.simulation.shard_watch import ShardWatch
from filoray.cluster.simulation.simulated_gateway import SimulatedGateway
from filoray.cluster.simulation.simulated_node import SimulatedNode
from filoray.cluster.simulation.simulated_store import FaultyStore, LifeStore
from filoray.cluster.simulation.world import Action, SimulatedWorld

START_MS = 2000
LATE_ORDER_MS = 20_000
CUT_MS = 2000


class CoordinatorCrashed(BaseException):
    """Ends the carrying out of effects in the middle; nothing but the simulator may take notice."""


@dataclass(slots=True)
class Surroundings:
    """What outlives a coordinator."""

    world: SimulatedWorld
    checkers: Checkers
    store: FaultyStore
    files: dict[FileKey, ShardFile]
    machines: SimulatedMachines
    watch: ShardWatch
    nodes: dict[Process, SimulatedNode] = field(default_factory=dict)
    gateways: dict[str, SimulatedGateway] = field(default_factory=dict)
    answers: dict[RequestId, Callable[[AnswerValue], None]] = field(default_factory=dict)
    """What is to be done with what a request is answered with; requests that nobody minds are not here."""


class SimulatedCoordinator:
    """A ``World`` of the dispatcher. ``ended``: called once, when this life is over.

    ``leads``: whether its candidate may act; None: it is the only one.
    """

    def __init__(
        self,
        config: ServerConfig,
        around: Surroundings,
        send_reports: Callable[[SimulatedNode, Batch], None],
        ended: Callable[[], None],
        leads: Callable[[], bool] | None = None,
    ) -> None:
        self.is_over = False
        self.is_hung = False
        self.is_cut = False
        """It cannot reach nodes and gateways, nor they it."""
        self.store: FaultyStore | LifeStore = around.store if leads is None else LifeStore(around.store)
        self._leads = leads
        self._generation = 0
        self._config = config
        self._around = around
        self._world = around.world
        self._checkers = around.checkers
        self._send_reports = send_reports
        self._ended = ended
        self._busy_until_ms = 0
        self._hung_since_ms = 0
        self._has_moved = False
        """A line was said: shards or members may be others."""
        self._cause = ""
        self._stuck: list[Action] = []
        self._unheard: list[Action] = []
        self._dispatcher = CoordinatorDispatcher(config, self, placement=around.machines.placement)
        self._generation = around.store.generation
        self._checkers.one_leads.began(self._generation)
        self._guarded(self._dispatcher.start)

    @property
    def core(self) -> CoordinatorCore:
        return self._dispatcher.core

    # ---- its life

    def take(self, event: CoordinatorEvent) -> bool:
        """False: it has to wait."""
        return self.run(lambda: self._dispatcher.take(event))

    def run(self, action: Action) -> bool:
        """As soon as it runs and is not kept by its store; never if it is over."""
        if self.is_over:
            return False
        if self.is_hung:
            self._stuck.append(action)
            return False
        if self._world.now_ms < self._busy_until_ms:
            self._world.at(self._busy_until_ms, lambda: self.run(action))
            return False
        self._guarded(action)
        return True

    def hang(self) -> None:
        if not self.is_hung:
            self.is_hung, self._hung_since_ms = True, self._world.now_ms

    def go_on(self) -> None:
        """In any order: what arrived meanwhile, and the timers that are due."""
        self.is_hung = False
        for node in self._around.nodes.values():
            chance_ms = max(0, self._hung_since_ms - node.heard_since_ms)  # that it had to be heard before
            node.heard_since_ms = self._world.now_ms - chance_ms
        stuck, self._stuck = self._stuck, []
        for action in self._world.shuffled(stuck):
            self.run(action)

    def cut(self, *, from_store: bool, from_nodes: bool) -> None:
        """Also from what it was not cut off from before."""
        if isinstance(self.store, LifeStore):
            self.store.is_cut |= from_store
        self.is_cut |= from_nodes

    def mend(self) -> None:
        """What it was to hear meanwhile comes now, in any order."""
        if self.is_cut:
            for node in self._around.nodes.values():
                node.heard_since_ms = self._world.now_ms
        if isinstance(self.store, LifeStore):
            self.store.is_cut = False
        self.is_cut = False
        unheard, self._unheard = self._unheard, []
        for action in self._world.shuffled(unheard):
            self.run(action)

    def hear(self, action: Action) -> None:
        """From a node or gateway."""
        if self.is_cut:
            self._unheard.append(action)
        else:
            self.run(action)

    def end(self) -> None:
        if not self.is_over:
            self.is_over = True
            self._ended()

    def _guarded(self, action: Action) -> None:
        try:
            action()
        except CoordinatorCrashed:
            self.end()
        except Unavailable:
            assert self.is_over, "only its store may fail, and that ends it"
        if self._has_moved:
            self._has_moved = False
            self._checkers.cores.check("ShardManager", self.core.manager.check_invariants, self._world.now_ms)
            self._around.watch.look(self.core.manager.datasets, self._cause)
        if self.store.lag_ms:
            self._busy_until_ms = self._world.now_ms + self.store.lag_ms
            self.store.lag_ms = 0
            for node in self._around.nodes.values():
                node.heard_since_ms = max(node.heard_since_ms, self._busy_until_ms)

    def _maybe_crash(self) -> None:
        if self._world.happens(self._world.rates.crash):
            raise CoordinatorCrashed

    # ---- the dispatcher's world

    def monotonic_ms(self) -> int:
        return self._world.now_ms

    def calendar_ms(self) -> int:
        return self._world.calendar_ms

    def may_act(self) -> bool:
        return self._leads is None or self._leads()

    def after(self, delay_ms: int, action: Action) -> None:
        self._maybe_crash()
        self._world.after(delay_ms + self.store.lag_ms, lambda: self.run(action))

    def answer(self, request: RequestId, value: AnswerValue) -> None:
        self._maybe_crash()
        heard = self._around.answers.pop(request, None)
        if heard is not None:
            heard(value)

    def refuse(self, request: RequestId, error: FilorayError) -> None:
        self._maybe_crash()
        self._around.answers.pop(request, None)
        self._world.note("refused: %s", error)

    def say(self, line: Say) -> None:
        self._has_moved, self._cause = True, line.cause
        self._world.note(line.text, *line.values, cause=line.cause)
        if line.text.startswith("node lost"):
            self._check_silence(line)
        elif line.text.startswith("node joined"):
            self._checkers.retries.joined(_process_of(line))

    def retire(self) -> None:
        self.end()

    def abort(self, problem: str) -> None:
        self._world.note("the coordinator ends: %s", problem)
        self.end()

    def _check_silence(self, line: Say) -> None:
        node, why = self._around.nodes.get(_process_of(line)), line.values[2]
        if node is not None and node.is_up:
            silent_ms = 0 if node.is_hung or node.is_cut or self.is_cut else self._world.now_ms - node.heard_since_ms
            self._checkers.silence.lost(node.process, str(why), silent_ms)

    # ---- calls

    def call(self, call: Call, ended: Callable[[CallResult], None], failed: Callable[[Exception], None]) -> None:
        self._maybe_crash()
        self._checkers.one_leads.acts(self._generation, call)
        if self.is_cut:
            self._world.after(CUT_MS, lambda: self.run(lambda: failed(TimeoutError("it cannot be reached"))))
            return
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
                    self._world.rates.latency_ms + self.store.lag_ms,
                    lambda: self.run(lambda: self._kill((node, incarnation), ended, failed)),
                )
            case GiveOrder(order):
                self._order(call, (order.node, order.incarnation), ended, failed)
            case PushView():
                self._push(call, ended, failed)
            case ReadSourceConfig(_, dataset, text):
                self.after(1, lambda: self._read(dataset, text, ended, failed))
            case PlaceGateway(gateway, machine):
                self.after(1, lambda: self._place(gateway, machine, ended, failed))
            case LookAtMachines():
                self.after(1, lambda: ended(self._around.machines.seen()))
            case TellMembers() | CloseNode() | PlaceStandby():
                self.after(1, lambda: ended(None))

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
        return PendingCall(self._world, name, self.hear, ended, failed, timeout_ms=timeout_ms, keeps_order=keeps_order)

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
        name, lag_ms = node_actor_name(*process), self.store.lag_ms
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
        node = around.nodes[process] = SimulatedNode(
            self._world, self._checkers, around.files, process, self._send_reports, around.watch
        )
        node.machine = launch.machine

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
        retries.tried(what, self._world.now_ms)
        if isinstance(order, StartShards):
            self._check_former_owners(order)

        def fail(error: Exception) -> None:
            retries.failed(what, self._world.now_ms)
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
            retries.failed(what, self._world.now_ms)
            failed(error)

        pending = PendingCall(self._world, call.gateway, self.hear, ended, fail, timeout_ms=call.timeout_ms)
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

        self._world.send("coordinator", call.gateway, arrive, self.store.lag_ms)

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


def _process_of(line: Say) -> Process:
    """Which process a line about a node is about."""
    name, incarnation, *_ = line.values
    return str(name), int(str(incarnation))


def kill_process(around: Surroundings, node: SimulatedNode, why: str) -> None:
    if around.nodes.pop(node.process, None) is not None:
        around.world.note("%s dies: %s", node.name, why)
        node.die()


def order_identity(order: ShardOrder) -> tuple[object, ...]:
    """The same for an order that is given again."""
    match order:
        case StartShards(node, incarnation, config, shards):
            return "start", node, incarnation, config.name, config.generation, shards
        case StopShards(node, incarnation, dataset, shards):
            return "stop", node, incarnation, dataset, shards
        case DeleteShards(node, incarnation, dataset, shards, generation):
            return "delete", node, incarnation, dataset, generation, shards


def _announce(node: SimulatedNode, call: PendingCall) -> None:
    call.end(NodeProcess(node.announcement(), 1.0))


_READ: dict[tuple[str, str], DatasetConfig] = {}


def read_once(config: ServerConfig, dataset: str, text: str) -> DatasetConfig:
    """As ``parse_for_cluster``; a simulation reads the same few texts over and over."""
    known = _READ.get((dataset, text))
    if known is None:
        known = _READ[dataset, text] = parse_for_cluster(config, dataset, text)
    return known
