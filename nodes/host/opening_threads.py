"""Threads that open shards: few at once, shared fairly among data sets, and none held for ever.

Recovery from a shard's own log takes processor time, so ``count`` shards at most are opened at once; of those that
wait, one of the data set that has the fewest under way is next. Shards that are fed by a source wait for others'
machines instead: they have places of their own, some for each data set, so that a broker that is dead keeps
nobody else's shards waiting. A thread that hangs is given up: its place is free, and nobody waits for it any more.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from collections.abc import Callable

logger = logging.getLogger(__name__)

Action = Callable[[], None]


class OpeningThreads:
    """``count``: of shards with a log of their own. ``per_source``: of each data set that a source feeds."""

    def __init__(self, count: int, per_source: int) -> None:
        self._count = count
        self._per_source = per_source
        self._lock = threading.Lock()
        self._waiting: dict[tuple[str, bool], deque[Action]] = {}
        self._running: Counter[tuple[str, bool]] = Counter()
        self._places: dict[threading.Thread, tuple[str, bool]] = {}
        self._is_closed = False

    def submit(self, dataset: str, action: Action, *, has_source: bool) -> None:
        """Run ``action`` on a thread of its own when there is a place. Nothing happens once closed."""
        with self._lock:
            if not self._is_closed:
                self._waiting.setdefault((dataset, has_source), deque()).append(action)
                self._start_those_with_a_place()

    def give_up(self, thread: threading.Thread) -> None:
        """Free the place of a thread that hangs. Twice is as once."""
        with self._lock:
            self._leave(thread)

    def close(self) -> None:
        """Those that wait are forgotten; those that run end by themselves, or with the process."""
        with self._lock:
            self._is_closed = True
            self._waiting.clear()

    def _start_those_with_a_place(self) -> None:
        while (place := self._next()) is not None:
            waiting = self._waiting[place]
            thread = threading.Thread(target=self._run, args=(waiting[0],), name=f"open {place[0]}", daemon=True)
            thread.start()  # raises with everything as it was; what has begun is waited for with the lock
            self._running[place] += 1
            self._places[thread] = place
            waiting.popleft()
            if not waiting:
                del self._waiting[place]

    def _next(self) -> tuple[str, bool] | None:
        """The data set whose turn it is; those that came first are first in ``_waiting``."""
        local = sum(count for (_, has_source), count in self._running.items() if not has_source)
        eligible = [
            place
            for place in self._waiting
            if (self._running[place] < self._per_source if place[1] else local < self._count)
        ]
        return min(eligible, key=lambda place: self._running[place], default=None)

    def _run(self, action: Action) -> None:
        try:
            action()
        except Exception:
            logger.exception("a shard could not be opened")
        finally:
            with self._lock:
                self._leave(threading.current_thread())

    def _leave(self, thread: threading.Thread) -> None:
        place = self._places.pop(thread, None)
        if place is not None:
            self._running[place] -= 1
            if not self._running[place]:
                del self._running[place]
            self._start_those_with_a_place()
