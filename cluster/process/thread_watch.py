"""Whether the threads that a whole node depends on live and get on: what its heartbeat says of itself.

Each such thread has a ``Beat``: it says when it takes something up, when it got on with it, and when it waits for
the next. One that has ended, or that shows no progress on what it took up for longer than
``filoray.node.stuck-timeout``, is a problem that only a new process solves. Waiting is none, and neither is long work
that gets on: long loops beat at each step.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_CONFIRM_S = 1.0
"""A process that was stopped as a whole finds all its threads late; they get on within this."""


class Beat:
    """One thread's word on itself. Its thread alone calls ``busy`` and ``idle``; one other asks. ``clock``: seconds."""

    __slots__ = ("_clock", "_since_s", "_suspected_s", "_what", "name")

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self._clock = clock
        self._since_s: float | None = None
        self._suspected_s: tuple[float, float] | None = None
        self._what = ""

    def busy(self, what: str = "") -> None:
        """Took something up, or got on with it."""
        self._what = what
        self._since_s = self._clock()

    def idle(self) -> None:
        """Waits for the next."""
        self._since_s = None

    def stuck(self, limit_s: float) -> str | None:
        """What it has been at for too long; None if it is not."""
        since_s, now_s = self._since_s, self._clock()
        if since_s is None or now_s - since_s <= limit_s:
            return None
        if self._suspected_s is None or self._suspected_s[0] != since_s:
            self._suspected_s = since_s, now_s
        if now_s - self._suspected_s[1] < _CONFIRM_S:
            return None
        doing = f" with {self._what}" if self._what else ""
        return f"thread {self.name} has not got on{doing} for {now_s - since_s:.0f} s"


Check = Callable[[float], str | None]
"""Given the limit in seconds, a problem or None."""


class ThreadWatch:
    """``stuck_timeout_ms``: filoray.node.stuck-timeout. Any thread may use it."""

    def __init__(self, stuck_timeout_ms: int) -> None:
        self._limit_s = stuck_timeout_ms / 1000
        self._checks: list[Check] = []

    def watch_thread(self, thread: threading.Thread, beat: Beat | None = None) -> None:
        """It must live as long as the node, and get on if it has a ``beat``."""
        self.watch(lambda _: None if thread.is_alive() else f"thread {thread.name} has ended")
        if beat is not None:
            self.watch(beat.stuck)

    def watch(self, check: Check) -> None:
        self._checks.append(check)

    def problem(self) -> str:
        """Why the node should be replaced; "" if nothing is wrong."""
        for check in self._checks:
            found = check(self._limit_s)
            if found is not None:
                return found
        return ""
