"""Candidates for the lead of a simulated cluster: the real Leadership, over a row of the store and clocks of their own.

A candidate is a process: it dies, hangs, and is cut off from the store, the nodes or both. One that leads has a
SimulatedCoordinator, which ends when it may lead no more. A process that ended is there again a while later, as
another life. Messages to the store take their time; one that is on its way when the candidate is cut off may arrive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from filoray.cluster.control.leadership import NOBODY_YET, LeaderRow, Leadership, Role
from filoray.cluster.simulation.simulated_coordinator import SimulatedCoordinator
from filoray.cluster.simulation.world import Action, SimulatedWorld

LEASE_MS = 3000
LOOK_MS = 300
RESTART_MS = 1500
_DRIFT_PER_MILLE = 9  # either way; the lease allows for a fiftieth between two


class LeaderBoard:
    """The row."""

    def __init__(self) -> None:
        self.row = NOBODY_YET

    def take(self, seen: LeaderRow, name: str) -> LeaderRow | None:
        if self.row != seen:
            return None
        self.row = LeaderRow(name, seen.term + 1, seen.beat + 1)
        return self.row

    def renew(self, term: int) -> bool:
        if self.row.term != term:
            return False
        self.row = LeaderRow(self.row.holder, term, self.row.beat + 1)
        return True


class Candidate:
    """``begin``: make the coordinator that leads now; None: it ended as it began. ``ended``: its process is no more."""

    def __init__(
        self,
        name: str,
        world: SimulatedWorld,
        board: LeaderBoard,
        begin: Callable[[Candidate], SimulatedCoordinator | None],
        ended: Callable[[Candidate], None],
    ) -> None:
        self.name = name
        self.is_over = False
        self.is_hung = False
        self.is_store_cut = False
        self.life: SimulatedCoordinator | None = None
        self._world = world
        self._board = board
        self._begin = begin
        self._ended = ended
        self._core = Leadership(name, LEASE_MS)
        self._drift_per_mille = world.between(-_DRIFT_PER_MILLE, _DRIFT_PER_MILLE)
        self._ahead_ms = world.between(0, 1_000_000)
        self._stuck: list[Action] = []
        world.after(world.between(1, LOOK_MS), self._look)

    def may_act(self) -> bool:
        return self._core.may_act(self._clock_ms())

    def _clock_ms(self) -> int:
        now_ms = self._world.now_ms
        return now_ms + now_ms * self._drift_per_mille // 1000 + self._ahead_ms

    # ---- what happens to it

    def end(self) -> None:
        if not self.is_over:
            self.is_over = True
            if self.life is not None:
                self.life.end()
            self._ended(self)

    def hang(self) -> None:
        self.is_hung = True
        if self.life is not None:
            self.life.hang()

    def go_on(self) -> None:
        if self.is_hung:
            self.is_hung = False
            stuck, self._stuck = self._stuck, []
            if self.life is not None and self.life.is_hung:
                stuck.append(self.life.go_on)
            for action in self._world.shuffled(stuck):
                self._run(action)

    def cut(self, *, from_store: bool, from_nodes: bool) -> None:
        self.is_store_cut |= from_store
        if self.life is not None:
            self.life.cut(from_store=from_store, from_nodes=from_nodes)

    def mend(self) -> None:
        self.is_store_cut = False
        if self.life is not None:
            self.life.mend()

    # ---- the store

    def _run(self, action: Action) -> None:
        if self.is_hung:
            self._stuck.append(action)
        elif not self.is_over:
            action()

    def _look(self) -> None:
        if not self.is_over:
            self._world.after(LOOK_MS, self._look)
            self._run(self._look_now)

    def _look_now(self) -> None:
        asked_ms = self._clock_ms()
        match self._core.role:
            case Role.WAITING:
                self._ask(lambda: self._board.row, lambda row: self._saw(row))
            case Role.LEADING:
                term = self._core.term
                self._ask(lambda: self._board.renew(term), lambda is_ours: self._renewed(asked_ms, is_ours=is_ours))
            case Role.OVER:
                self.end()
            case Role.TAKING:
                pass  # its answer was lost or is late; after a while it waits anew

    def _ask(self, act: Callable[[], object], heard: Callable[..., None]) -> None:
        """Do it in the store, and hear the answer, unless one of both messages is lost."""
        latency_ms = self._world.rates.latency_ms

        def arrive() -> None:
            if self.is_store_cut and self._world.happens(0.5):
                return
            answer = act()
            self._world.after(self._world.between(0, latency_ms), lambda: self._hear(lambda: heard(answer)))

        if not self.is_store_cut:
            self._world.after(self._world.between(0, latency_ms), arrive)

    def _hear(self, action: Action) -> None:
        if not self.is_store_cut:
            self._run(action)

    def _saw(self, row: LeaderRow) -> None:
        wanted = self._core.saw(row, self._clock_ms())
        if wanted is not None:
            asked_ms = self._clock_ms()
            self._ask(lambda: self._board.take(wanted, self.name), lambda taken: self._took(taken, asked_ms))
            self._world.after(LEASE_MS, lambda: self._run(self._give_up_taking))

    def _give_up_taking(self) -> None:
        if self._core.role is Role.TAKING:
            self._core.took(None, 0)

    def _took(self, row: LeaderRow | None, asked_ms: int) -> None:
        if self._core.role is not Role.TAKING:
            return
        self._core.took(row, asked_ms)
        if self.may_act():
            self._world.note("%s leads", self.name)
            self.life = self._begin(self)
            if self.life is None:
                self.end()

    def _renewed(self, asked_ms: int, *, is_ours: bool) -> None:
        self._core.renewed(asked_ms, self._clock_ms(), is_ours=is_ours)
        if not self.may_act():
            self.end()


class Candidates:
    """Two of them. ``begin``: as of a Candidate; ``ended``: a life that led is over."""

    def __init__(
        self,
        world: SimulatedWorld,
        begin: Callable[[Candidate], SimulatedCoordinator | None],
        ended: Callable[[Candidate], None],
    ) -> None:
        self._world = world
        self._board = LeaderBoard()
        self._begin = begin
        self._ended = ended
        self._living: dict[str, Candidate] = {}
        for name in ("coordinator-0", "coordinator-1"):
            self._start(name)

    def all(self) -> Iterable[Candidate]:
        return tuple(self._living.values())

    def of(self, life: SimulatedCoordinator | None) -> Candidate | None:
        """Whose life that is."""
        return next((one for one in self._living.values() if one.life is life), None)

    def _start(self, name: str) -> None:
        self._living[name] = Candidate(name, self._world, self._board, self._begin, self._over)

    def _over(self, candidate: Candidate) -> None:
        self._world.note("%s ends", candidate.name)
        if candidate.life is not None:
            self._ended(candidate)
        self._world.after(RESTART_MS, lambda: self._start(candidate.name))
