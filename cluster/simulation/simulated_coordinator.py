"""One life of the simulated coordinator: the real core and dispatcher over simulated actors, store and time.

It may end between any two effects, hang for a while, be kept by a slow store, and end for a store that fails. A message
for a former life is lost.
"""

from __future__ import annotations

from collections.abc import Callable

from filoray.cluster.config.server_config import ServerConfig
from filoray.cluster.control.coordinator_core import CoordinatorCore
from filoray.cluster.control.coordinator_dispatcher import CoordinatorDispatcher
from filoray.cluster.control.coordinator_effects import (
    AnswerValue,
    Call,
    CallResult,
    Say,
)
from filoray.cluster.control.coordinator_events import CoordinatorEvent, RequestId
from filoray.cluster.errors import FilorayError, Unavailable
from filoray.cluster.simulation.checkers import Process
from filoray.cluster.simulation.report_outbox import Batch
from filoray.cluster.simulation.simulated_actors import SimulatedActors, Surroundings
from filoray.cluster.simulation.simulated_node import SimulatedNode
from filoray.cluster.simulation.simulated_store import FaultyStore, LifeStore
from filoray.cluster.simulation.world import Action

CUT_MS = 2000


class CoordinatorCrashed(BaseException):
    """Ends the carrying out of effects in the middle; nothing but the simulator may take notice."""


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
        self._around = around
        self._world = around.world
        self._checkers = around.checkers
        self._ended = ended
        self._busy_until_ms = 0
        self._hung_since_ms = 0
        self._has_moved = False
        """A line was said: shards or members may be others."""
        self._cause = ""
        self._stuck: list[Action] = []
        self._unheard: list[Action] = []
        self._actors = SimulatedActors(config, around, self, send_reports)
        self._dispatcher = CoordinatorDispatcher(config, self, placement=around.machines.placement)
        self._generation = around.store.generation
        self._checkers.one_leads.began(self._generation)
        self._checkers.retries.began(self)
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
        self._actors.call(call, ended, failed)


def _process_of(line: Say) -> Process:
    """Which process a line about a node is about."""
    name, incarnation, *_ = line.values
    return str(name), int(str(incarnation))
