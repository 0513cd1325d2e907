"""The lives of a simulated cluster's coordinator, one after the other, or of two candidates of which one leads.

Alone it is started anew a while after it ended, as Ray does. ``present`` is the one that leads as far as others can
tell: one that led before may hang, or be cut off, and still think that it does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from filoray.cluster.errors import Unavailable
from filoray.cluster.simulation.candidates import RESTART_MS, Candidate, Candidates
from filoray.cluster.simulation.simulated_coordinator import SimulatedCoordinator
from filoray.cluster.simulation.world import SimulatedWorld

MakeLife = Callable[[Callable[[], None], Callable[[], bool] | None], SimulatedCoordinator]
"""Of what to call when it ends, and whether it may act (None: it is alone). Raises Unavailable if its store is away."""


class CoordinatorLives:
    """``make``: a life that begins now. ``lost``: called when ``present`` is no more."""

    def __init__(self, world: SimulatedWorld, make: MakeLife, lost: Callable[[], None], *, has_standby: bool) -> None:
        self.present: SimulatedCoordinator | None = None
        self._world = world
        self._make = make
        self._lost = lost
        self._candidates = Candidates(world, self._lead, self._leader_ended) if has_standby else None

    def begin(self) -> None:
        if self._candidates is None:
            self._start()

    def listening(self) -> SimulatedCoordinator | None:
        """The present one, if it can be asked something."""
        present = self.present
        return None if present is None or present.is_hung or present.is_cut else present

    # ---- what happens to them

    def kill(self) -> None:
        if (one := self._process()) is not None:
            one.end()

    def hang(self) -> None:
        if (one := self._process()) is not None:
            self._world.note("the coordinator hangs")
            one.hang()

    def cut(self, *, from_store: bool, from_nodes: bool) -> None:
        """For those with a standby."""
        if (candidate := self._leader()) is not None:
            self._world.note("%s is cut off", candidate.name)
            candidate.cut(from_store=from_store, from_nodes=from_nodes)

    def mend(self) -> None:
        for candidate in self._all_candidates():
            candidate.mend()

    def resume(self) -> None:
        """All that hang, those that led before too."""
        for candidate in self._all_candidates():
            candidate.go_on()
        if self.present is not None and self.present.is_hung:
            self._world.note("the coordinator goes on")
            self.present.go_on()

    def _process(self) -> Candidate | SimulatedCoordinator | None:
        return self._leader() or self.present

    def _leader(self) -> Candidate | None:
        return self._candidates.of(self.present) if self._candidates and self.present else None

    def _all_candidates(self) -> Iterable[Candidate]:
        return self._candidates.all() if self._candidates is not None else ()

    # ---- one after the other

    def _start(self) -> None:
        self._world.note("a coordinator starts")
        try:
            self.present = self._make(self._ended, None)
        except Unavailable:  # its store fails as it begins
            self._ended()
            return
        if self.present.is_over:
            self.present = None

    def _ended(self) -> None:
        self._forget()
        self._world.after(RESTART_MS, self._start)

    def _forget(self) -> None:
        self._world.note("the coordinator is no more")
        self.present = None
        self._lost()

    # ---- one of two

    def _lead(self, candidate: Candidate) -> SimulatedCoordinator | None:
        if self.present is not None:
            self._forget()
        try:
            life = self._make(candidate.end, candidate.may_act)
        except Unavailable:
            return None
        if life.is_over:
            return None
        self.present = life
        return life

    def _leader_ended(self, candidate: Candidate) -> None:
        if self.present is candidate.life:
            self._forget()
