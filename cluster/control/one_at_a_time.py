"""Hands events to a core one at a time: the loop that both dispatchers have.

Those that come while one is being handled wait in order, whether they come from inside (an effect that ended at once)
or from another thread.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

Event = TypeVar("Event")


class OneAtATime(Generic[Event]):
    """Any thread may use it."""

    def __init__(self, handle: Callable[[Event], None]) -> None:
        self._handle = handle
        self._waiting: deque[Event] = deque()
        self._lock = threading.RLock()
        self._is_busy = False
        self._is_over = False

    def take(self, event: Event) -> None:
        """Returns when it, and what waits, is handled; from inside the handling of another, at once.

        Raises what handling raises; what waits then is handled with the next event.
        """
        with self._lock:
            if self._is_over:
                return
            self._waiting.append(event)
            if self._is_busy:
                return
            self._is_busy = True
            try:
                while self._waiting and not self._is_over:
                    self._handle(self._waiting.popleft())
            finally:
                self._is_busy = False

    def end(self) -> None:
        """No event is handled any more, not even one that waits."""
        self._is_over = True
