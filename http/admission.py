"""How many requests of a kind a gateway works on at once, and how many may wait for their turn.

A core of one event loop: no threads, no HTTP. What is over the limits is refused at once, so that a flood
costs its senders a 503 and not everybody else their answers.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from filoray.cluster.errors import QueryTimeout, TooManyRequests, Unavailable


class AdmissionGate:
    """At most ``max_running`` hold a slot, at most ``max_waiting`` wait for one, first come first served.

    ``noun`` ("queries") and the config keys are for the refusal's text.
    """

    def __init__(self, noun: str, max_running: int, max_waiting: int, config_key: str) -> None:
        self._noun = noun
        self._max_running = max_running
        self._max_waiting = max_waiting
        self._config_key = config_key
        self._slots = asyncio.Semaphore(max_running)
        self._running = 0
        self._waiting = 0

    @property
    def running(self) -> int:
        return self._running

    @property
    def waiting(self) -> int:
        return self._waiting

    @asynccontextmanager
    async def slot(self, timeout_ms: int) -> AsyncIterator[int]:
        """Hold a slot; yields how many ms of ``timeout_ms`` are left.

        Raises Unavailable when too many wait already, QueryTimeout when no slot came free in time.
        """
        if self._slots.locked() and self._waiting >= self._max_waiting:
            raise Unavailable(
                f"too many {self._noun} at once: {self._running} are running and {self._waiting} waiting; "
                f"{self._config_key} = {self._max_running} may run, try again later"
            )
        began_s = time.monotonic()
        self._waiting += 1
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                await self._slots.acquire()
        except TimeoutError:
            raise QueryTimeout(
                f"timed out after {timeout_ms} ms in the queue: {self._running} {self._noun} are running"
            ) from None
        finally:
            self._waiting -= 1
        self._running += 1
        try:
            yield max(1, timeout_ms - int((time.monotonic() - began_s) * 1000))
        finally:
            self._running -= 1
            self._slots.release()


class ByteBudget:
    """Bytes that requests hold in memory at once. One request alone may always hold what it needs."""

    def __init__(self, max_bytes: int, config_key: str) -> None:
        self._max_bytes = max_bytes
        self._config_key = config_key
        self._held_bytes = 0

    @contextmanager
    def share(self) -> Iterator[Share]:
        """One request's part, empty at first, given back at the end of the block."""
        share = Share(self)
        try:
            yield share
        finally:
            self._held_bytes -= share.size_bytes

    def take(self, share: Share, size_bytes: int) -> None:
        of_others_bytes = self._held_bytes - share.size_bytes
        if of_others_bytes and self._held_bytes + size_bytes > self._max_bytes:
            raise TooManyRequests(
                f"{of_others_bytes} bytes of other writes are on their way, and {share.size_bytes + size_bytes} more "
                f"exceed {self._config_key} = {self._max_bytes}; try again later"
            )
        self._held_bytes += size_bytes
        share.size_bytes += size_bytes


class Share:
    """What one request holds of a budget."""

    def __init__(self, budget: ByteBudget) -> None:
        self._budget = budget
        self.size_bytes = 0

    def grow(self, size_bytes: int) -> None:
        """Raises TooManyRequests if that many more do not fit."""
        self._budget.take(self, size_bytes)
