"""How a running query is told to stop, by whoever waits for it, by a deadline, or by a client that went away.

Storage, engine and kernels look at it as they go; nothing here knows what a query is.
"""

from __future__ import annotations

import threading
import time

import numpy as np
from numpy.typing import NDArray

from filoray.cluster.errors import QueryCanceled, QueryTimeout

CancelFlag = NDArray[np.uint8]
"""uint8[1], 0: go on. Kernels look at it while they run; what they made is void once it is set."""


class CancelToken:
    """Tells a running query to stop; safe to use from any thread.

    ``flag`` is uint8[1]: kernels may look at it while they run (0: go on). ``deadline_s`` is a
    ``time.monotonic()`` time.
    """

    __slots__ = ("_deadline_s", "_expired", "_lock", "_reason", "_timeout_ms", "flag")

    def __init__(self, timeout_ms: int | None = None) -> None:
        self.flag: CancelFlag = np.zeros(1, np.uint8)
        self._timeout_ms = timeout_ms
        self._deadline_s = None if timeout_ms is None else time.monotonic() + timeout_ms / 1000
        self._reason: str | None = None
        self._expired = False
        self._lock = threading.Lock()

    def cancel(self, reason: str = "query was canceled") -> None:
        """The first reason stays."""
        with self._lock:
            if self._reason is None:
                self._reason = reason
            self.flag[0] = 1

    def expire(self) -> None:
        """The deadline has come: what runs hears of it at its next look, without asking for the time."""
        with self._lock:
            if self._reason is None:
                self._reason = f"query timed out after {self._timeout_ms} ms"
                self._expired = True
            self.flag[0] = 1

    def overdue_s(self) -> float:
        """Seconds since the deadline; negative before it, and without one."""
        return -1.0 if self._deadline_s is None else time.monotonic() - self._deadline_s

    def check(self) -> None:
        """Raises QueryCanceled after ``cancel``, QueryTimeout after the deadline."""
        if not self.flag[0] and self._deadline_s is not None and time.monotonic() > self._deadline_s:
            self.expire()
        if self.flag[0]:
            reason = self._reason or "query was canceled"
            raise QueryTimeout(reason) if self._expired else QueryCanceled(reason)
