"""Carries out what the CoordinatorCore says, over a ``World``: written once, for the real world and the simulated one.

One event at a time: those that come while the effects of one are being carried out wait in order. A ``Persist`` is
durable before the next effect is looked at; if it cannot be, none of the others is carried out, and the process ends,
as what is in memory would be ahead of the store. What becomes of an effect that takes time is an event again:

    LaunchProcess     NodeAnswered         NodeAbsent           AdoptProcess    NodeAnswered       NodeAbsent
    WatchProcess      NodeDied             WatchFailed          SendHeartbeat   HeartbeatHeard     HeartbeatMissed
    KillProcess       NodeKilled           KillFailed           CloseNode       NodeClosed         NodeClosed
    GiveOrder         OrderDone            OrderFailed          PushView        ViewTaken          ViewRefused
    TellMembers       MembersTold          MembersTold          ReadSourceConfig  SourceConfigRead   SourceConfigRefused
    LookAtMachines    MachinesSeen         MachinesUnknown      PlaceGateway    GatewayPlaced      GatewayNotPlaced
    PlaceStandby      StandbyPlaced        StandbyPlaced
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from filoray.cluster.config.dataset import DatasetConfig
from filoray.cluster.config.server_config import ServerConfig
from filoray.cluster.control.coordinator_core import CoordinatorCore, tick_ms
from filoray.cluster.control.coordinator_effects import (
    AdoptProcess,
    Answer,
    AnswerValue,
    Call,
    CallResult,
    CloseNode,
    Effect,
    EndProcess,
    GiveOrder,
    KillProcess,
    LaunchProcess,
    LookAtMachines,
    MachineList,
    NodeProcess,
    Persist,
    PlaceGateway,
    PlaceStandby,
    PushView,
    ReadSourceConfig,
    Refuse,
    Remind,
    Retire,
    Say,
    SendHeartbeat,
    TellMembers,
    WatchProcess,
)
from filoray.cluster.control.coordinator_events import (
    CoordinatorEvent,
    GatewayNotPlaced,
    GatewayPlaced,
    HeartbeatHeard,
    HeartbeatMissed,
    KillFailed,
    MachinesSeen,
    MachinesUnknown,
    MembersTold,
    Moment,
    NodeAbsent,
    NodeAnswered,
    NodeClosed,
    NodeDied,
    NodeKilled,
    OrderDone,
    OrderFailed,
    RequestId,
    SourceConfigRead,
    SourceConfigRefused,
    StandbyPlaced,
    Started,
    StoreFailed,
    ViewRefused,
    ViewTaken,
    WatchFailed,
)
from filoray.cluster.control.machine_placement import Placement
from filoray.cluster.control.one_at_a_time import OneAtATime
from filoray.cluster.control.patience import Patience
from filoray.cluster.errors import FilorayError
from filoray.cluster.node_protocol import HeartbeatAnswer
from filoray.cluster.process.observed_clock import ObservedClock
from filoray.cluster.store.coordinator_store import CoordinatorStore, persist, remember

_ABSENCE_WORTH_A_WORD_MS = 1000


class World(Protocol):
    """What a coordinator's process can do, in small primitives that decide nothing."""

    @property
    def store(self) -> CoordinatorStore: ...

    def monotonic_ms(self) -> int: ...

    def calendar_ms(self) -> int: ...

    def may_act(self) -> bool:
        """Whether this coordinator still leads, by its own clock (``leadership.py``); always, where it is alone."""

    def call(self, call: Call, ended: Callable[[CallResult], None], failed: Callable[[Exception], None]) -> None:
        """Begin it, in the order of the calls to one process, and return; later tell how it ended or failed."""

    def after(self, delay_ms: int, action: Callable[[], None]) -> None: ...

    def answer(self, request: RequestId, value: AnswerValue) -> None: ...

    def refuse(self, request: RequestId, error: FilorayError) -> None: ...

    def say(self, line: Say) -> None: ...

    def retire(self) -> None:
        """Stop all that goes on."""

    def abort(self, problem: str) -> None:
        """End the process."""


class CoordinatorDispatcher:
    """Belongs to one thread, or one event loop. Begins a coordinator on the store of ``world``.

    ``placement``: of the launch; None: all is on one machine.
    """

    def __init__(
        self,
        config: ServerConfig,
        world: World,
        patience: Patience | None = None,
        placement: Placement | None = None,
    ) -> None:
        self._world = world
        self._clock = ObservedClock(2 * tick_ms(config), world.monotonic_ms)
        self._core = CoordinatorCore(config, remember(world.store), self._moment(), patience, placement)
        self._events = OneAtATime(self._handle)

    @property
    def core(self) -> CoordinatorCore:
        """To be asked; what happens goes through ``take``."""
        return self._core

    def start(self) -> None:
        self.take(Started())

    def take(self, event: CoordinatorEvent) -> None:
        """Returns when all that it calls for is done or begun, or, while another is carried out, at once."""
        self._events.take(event)

    def _handle(self, event: CoordinatorEvent) -> None:
        if self._is_deposed():
            return
        try:
            effects = self._core.handle(event, self._moment())
        except Exception:
            self._carry_out_all(self._core.unfinished())
            raise
        self._carry_out_all(effects)

    def _is_deposed(self) -> bool:
        """Whether another coordinator may lead, so that this one must end."""
        if self._world.may_act():
            return False
        self._events.end()
        self._world.abort("its lease has ended: another coordinator may lead")
        return True

    def _moment(self) -> Moment:
        before_ms = self._clock.absent_ms
        observed_ms = self._clock.now_ms()
        if (absent_ms := self._clock.absent_ms - before_ms) > _ABSENCE_WORTH_A_WORD_MS:
            text = "the coordinator itself did not run; no node's silence counts meanwhile ms=%d"
            self._world.say(Say(text, (absent_ms,), logging.WARNING))
        return Moment(observed_ms, self._world.calendar_ms(), self._clock.absent_ms)

    # ---- effects

    def _carry_out_all(self, effects: list[Effect]) -> None:
        for effect in effects:
            if self._is_deposed():  # what was persisted before may have taken long
                return
            if isinstance(effect, Persist):
                try:
                    persist(self._world.store, effect.what)
                except Exception as error:
                    failed = StoreFailed(f"{type(error).__name__}: {error}", cause=effect.cause)
                    self._carry_out_all(self._core.handle(failed, self._moment()))
                    raise
            else:
                self._carry_out(effect)

    def _carry_out(self, effect: Effect) -> None:
        world = self._world
        match effect:
            case Remind(delay_ms, event):
                world.after(delay_ms, lambda: self.take(event))
            case Say():
                world.say(effect)
            case Answer(request, value):
                world.answer(request, value)
            case Refuse(request, error):
                world.refuse(request, error)
            case Retire():
                self._events.end()
                world.retire()
            case EndProcess(problem):
                self._events.end()
                world.abort(problem)
            case Persist():
                raise AssertionError("it is carried out where the order is kept")
            case _:
                world.call(
                    effect,
                    lambda result: self.take(end_of(effect, result)),
                    lambda error: self.take(failure_of(effect, error)),
                )


def end_of(call: Call, result: CallResult) -> CoordinatorEvent:
    """What has happened when ``call`` has ended with ``result``."""
    cause = call.cause
    match call, result:
        case LaunchProcess() | AdoptProcess(), NodeProcess(announcement, pid_started_s):
            return NodeAnswered(announcement, pid_started_s, cause=cause)
        case WatchProcess(node, incarnation), str(obituary):
            return NodeDied(node, incarnation, obituary, cause=cause)
        case SendHeartbeat(node, incarnation), HeartbeatAnswer():
            return HeartbeatHeard(node, incarnation, result, cause=cause)
        case KillProcess(node, incarnation), bool(is_seen):
            return NodeKilled(node, incarnation, is_seen, cause=cause)
        case CloseNode(node, incarnation), None:
            return NodeClosed(node, incarnation, cause=cause)
        case GiveOrder(order), None:
            return OrderDone(order, cause=cause)
        case PushView(gateway, view), None:
            return ViewTaken(gateway, view.version, cause=cause)
        case TellMembers(), None:
            return MembersTold(cause=cause)
        case LookAtMachines(), MachineList(machines, here):
            return MachinesSeen(machines, here, cause=cause)
        case PlaceStandby(machine), None:
            return StandbyPlaced(machine, cause=cause)
        case PlaceGateway(gateway), None:
            return GatewayPlaced(gateway, cause=cause)
        case ReadSourceConfig(request), DatasetConfig():
            return SourceConfigRead(request, result, cause=cause)
    raise AssertionError(f"{result} is no end of {call}")


def failure_of(call: Call, error: Exception) -> CoordinatorEvent:
    """What has happened when ``call`` has failed with ``error``."""
    cause, problem = call.cause, str(error)
    match call:
        case LaunchProcess(node, incarnation):
            return NodeAbsent(node, incarnation, f"it did not start: {problem}", cause=cause)
        case AdoptProcess(node, incarnation):
            return NodeAbsent(node, incarnation, f"it was not there after a restart: {problem}", cause=cause)
        case WatchProcess(node, incarnation):
            return WatchFailed(node, incarnation, problem, cause=cause)
        case SendHeartbeat(node, incarnation):
            return HeartbeatMissed(node, incarnation, problem, cause=cause)
        case KillProcess(node, incarnation):
            return KillFailed(node, incarnation, problem, cause=cause)
        case CloseNode(node, incarnation):
            return NodeClosed(node, incarnation, problem or type(error).__name__, cause=cause)
        case GiveOrder(order):
            return OrderFailed(order, problem, cause=cause)
        case PushView(gateway, view):
            return ViewRefused(gateway, view.version, problem, cause=cause)
        case TellMembers():
            return MembersTold(problem or type(error).__name__, cause=cause)
        case LookAtMachines():
            return MachinesUnknown(problem or type(error).__name__, cause=cause)
        case PlaceStandby(machine):
            return StandbyPlaced(machine, problem or type(error).__name__, cause=cause)
        case PlaceGateway(gateway):
            return GatewayNotPlaced(gateway, problem or type(error).__name__, cause=cause)
        case ReadSourceConfig(request):
            refusal = error if isinstance(error, FilorayError) else FilorayError(problem)
            return SourceConfigRefused(request, refusal, cause=cause)
