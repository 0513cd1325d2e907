"""One thread that does something at a time that may be changed until then.

It is there from the beginning: what is tried again later must not depend on whether another thread can be started.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from filoray.cluster.process.clocks import steady_ms

logger = logging.getLogger(__name__)

Action = Callable[[], None]


class Waker:
    """Any thread may call its methods."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._due: tuple[int, Action] | None = None
        self._is_closed = False
        threading.Thread(target=self._run, name="waker", daemon=True).start()

    def wake_at(self, at_ms: int, action: Action) -> None:
        """Do it at that time of ``steady_ms``, instead of what was to be done before."""
        with self._changed:
            self._due = at_ms, action
            self._changed.notify()

    def close(self) -> None:
        with self._changed:
            self._is_closed = True
            self._changed.notify()

    def _run(self) -> None:
        while (action := self._next()) is not None:
            try:
                action()
            except Exception:
                logger.exception("what was to be done by now failed")

    def _next(self) -> Action | None:
        """What is due, when it is; None: closed."""
        with self._changed:
            while not self._is_closed:
                if self._due is None:
                    self._changed.wait()
                    continue
                at_ms, action = self._due
                wait_ms = at_ms - steady_ms()
                if wait_ms <= 0:
                    self._due = None
                    return action
                self._changed.wait(wait_ms / 1000)
        return None
