"""A candidate's process side: looks at the store's row, takes the lead, renews it, and ends the process without it.

When to do what is ``control/leadership.py``'s. Two threads: one talks to the store, which may not answer; the other
looks at the clock, so that the process ends when its lease does whatever the first is waiting for. Ray starts
an ended process anew, as another candidate.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol

from filoray.cluster.control.leadership import LeaderRow, Leadership, Role
from filoray.cluster.errors import Unavailable
from filoray.cluster.process.clocks import sleepless_ms

logger = logging.getLogger(__name__)

_BEATS_PER_LEASE = 6
_WATCH_S = 0.05


class LeaderRows(Protocol):
    """Of the LeaderStore."""

    def row(self) -> LeaderRow: ...
    def take(self, seen: LeaderRow, name: str) -> LeaderRow | None: ...
    def renew(self, term: int) -> bool: ...
    def release(self, term: int) -> None: ...


class Candidate:
    """``begin``: lead; called once, in a thread of its own. ``end_process``: does not come back."""

    def __init__(
        self,
        name: str,
        lease_ms: int,
        open_rows: Callable[[], LeaderRows],
        begin: Callable[[], None],
        end_process: Callable[[str], None],
    ) -> None:
        self._name = name
        self._core = Leadership(name, lease_ms)
        self._lock = threading.Lock()
        self._pause_s = lease_ms / 1000 / _BEATS_PER_LEASE
        self._open_rows = open_rows
        self._begin = begin
        self._end_process = end_process
        self._is_released = threading.Event()

    def start(self) -> None:
        run = self._ending_with("cannot stand", self._run)
        threading.Thread(target=run, name="candidate", daemon=True).start()

    def may_act(self) -> bool:
        """Any thread may ask."""
        with self._lock:
            return self._core.may_act(sleepless_ms())

    def release(self) -> None:
        """Lead no more, in order: whoever is there next need not wait. Renewals end before."""
        self._is_released.set()

    # ---- the store's thread

    def _run(self) -> None:
        rows = self._opened()
        while not self._is_released.is_set():
            try:
                self._look(rows)
            except Unavailable as error:
                logger.warning("the store does not say who leads: %s", error)
            self._is_released.wait(self._pause_s)
        try:
            rows.release(self._core.term)
        except Unavailable as error:
            logger.warning("the lead is not released, the next waits for its end: %s", error)

    def _opened(self) -> LeaderRows:
        while True:
            try:
                return self._open_rows()
            except Unavailable as error:
                logger.warning("the store is away: %s", error)
                time.sleep(self._pause_s)

    def _look(self, rows: LeaderRows) -> None:
        asked_ms = sleepless_ms()
        if self._core.role is Role.LEADING:
            is_ours = rows.renew(self._core.term)
            with self._lock:
                self._core.renewed(asked_ms, sleepless_ms(), is_ours=is_ours)
            return
        row = rows.row()
        with self._lock:
            wanted = self._core.saw(row, sleepless_ms())
        if wanted is not None:
            self._take(rows, wanted)

    def _take(self, rows: LeaderRows, wanted: LeaderRow) -> None:
        asked_ms, taken = sleepless_ms(), None
        try:
            taken = rows.take(wanted, self._name)
        finally:
            with self._lock:
                self._core.took(taken, asked_ms)
        if taken is not None:
            logger.warning("leads now name=%s term=%d", self._name, taken.term)
            threading.Thread(target=self._watch, name="lease", daemon=True).start()
            threading.Thread(target=self._ending_with("cannot lead", self._begin), name="lead", daemon=True).start()

    def _ending_with(self, problem: str, act: Callable[[], None]) -> Callable[[], None]:
        """``act``, but what it raises ends the process: without one of its threads it would stand by in vain."""

        def run() -> None:
            try:
                act()
            except Exception as error:
                logger.exception(problem)
                self._end_process(f"{problem}: {error}")

        return run

    def _watch(self) -> None:
        while self.may_act():
            time.sleep(_WATCH_S)
        self._end_process("the lease has ended: another coordinator may lead")
