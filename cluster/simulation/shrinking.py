"""From a history that failed to the shortest one that fails in the same way: fewer faults, fewer troubles.

Tried in turn, for as long as the same rule is broken: an end after fewer faults, no troubles (all at once, then one by
one), and fewer of the faults that are left (halves, quarters and so on to single ones, as delta debugging does:
Zeller and Hildebrandt, "Simplifying and isolating failure-inducing input", 2002). A fault that is left out changes the
time of no other, but messages take other delays, so that another bug may show: what breaks another rule is not taken.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from filoray.cluster.simulation.faults import TROUBLES
from filoray.cluster.simulation.history import HistoryFailed, HistoryShape, play_history
from filoray.cluster.simulation.shard_watch import HistoryRecord

RUNS_MAX = 400
"""A shrinking that finds less and less to leave out ends after some ten seconds."""


@dataclass(frozen=True, slots=True)
class ShortestFailure:
    """``shape``: that of the shortest history found, of the same seed; ``runs``: how many were played for it."""

    shape: HistoryShape
    failed: HistoryFailed
    record: HistoryRecord
    runs: int


def shrink(seed: int, shape: HistoryShape, on_run: Callable[[int], None] = lambda runs: None) -> ShortestFailure | None:
    """None: a history of that seed and shape does not fail. ``on_run``: is told how many were played."""
    shrinking = _Shrinking(seed, on_run)
    failed = shrinking.play(shape)
    if failed is None:
        return None
    shrinking.begin_with(shape, failed)
    shrinking.end_earlier()
    shrinking.drop_troubles()
    shrinking.drop_faults()
    shrinking.drop_troubles()
    record = HistoryRecord()
    last = shrinking.play(shrinking.shape, record)
    assert last is not None, "a seed and a shape decide everything"
    return ShortestFailure(shrinking.shape, last, record, shrinking.runs)


class _Shrinking:
    """``shape``: the shortest so far that fails."""

    def __init__(self, seed: int, on_run: Callable[[int], None]) -> None:
        self.runs = 0
        self.shape = HistoryShape()
        self._seed = seed
        self._on_run = on_run
        self._rule = ""

    def play(self, shape: HistoryShape, record: HistoryRecord | None = None) -> HistoryFailed | None:
        self.runs += 1
        self._on_run(self.runs)
        try:
            play_history(self._seed, shape, record=record)
        except HistoryFailed as failed:
            return failed
        return None

    def begin_with(self, shape: HistoryShape, failed: HistoryFailed) -> None:
        """What comes after the last fault before the failure is of no account."""
        self._rule = failed.rule
        numbers = frozenset(fault.number for fault in failed.faults)
        self.shape = shape
        self._try(replace(shape, duration_ms=None, faults_max=max(numbers, default=0), chosen_faults=numbers))

    def end_earlier(self) -> None:
        """By bisection; which is as if more faults never healed a failure, and finds a short one at least."""
        failing, passing = len(self._faults()), -1
        while failing - passing > 1:
            middle = (failing + passing) // 2
            if self._try_faults(self._faults()[:middle]):
                failing = middle
            else:
                passing = middle

    def drop_troubles(self) -> None:
        if not self._try(replace(self.shape, without=frozenset(TROUBLES))):
            for trouble in TROUBLES:
                if trouble not in self.shape.without:
                    self._try(replace(self.shape, without=self.shape.without | {trouble}))

    def drop_faults(self) -> None:
        size = max(1, len(self._faults()) // 2)
        while self._faults():
            has_dropped = self._drop_pieces_of(size)
            if size == 1 and not has_dropped:
                return
            size = max(1, size // 2)

    def _drop_pieces_of(self, size: int) -> bool:
        has_dropped, at = False, 0
        while at < len(self._faults()):
            faults = self._faults()
            if self._try_faults(faults[:at] + faults[at + size :]):
                has_dropped = True
            else:
                at += size
        return has_dropped

    def _faults(self) -> list[int]:
        return sorted(self.shape.chosen_faults or ())

    def _try_faults(self, numbers: list[int]) -> bool:
        return self._try(replace(self.shape, faults_max=max(numbers, default=0), chosen_faults=frozenset(numbers)))

    def _try(self, shape: HistoryShape) -> bool:
        """Whether that fails too; then it is the one to go on with."""
        if self.runs >= RUNS_MAX or shape == self.shape:
            return False
        failed = self.play(shape)
        if failed is None or failed.rule != self._rule:
            return False
        self.shape = shape
        return True
