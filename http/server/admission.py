"""How many requests of a kind a gateway works on at once, whose turn is next, and who is refused.

A core of one event loop: no threads, no HTTP. What is over the limits is refused at once, so that a flood costs its
sender a 503 and not everybody else their answers. Clients are told apart by name (an address): whoever has fewest
running is next, nobody may have all slots, and a full queue refuses whoever waits with most.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from filoray.cluster.errors import QueryTimeout, Unavailable


@dataclass(frozen=True, slots=True)
class ClientShare:
    """What one client may hold of anything that all share: ``percent`` of it, of what is counted at least 1."""

    percent: int = 100

    def of_count(self, whole: int) -> int:
        return max(1, math.ceil(whole * self.percent / 100))

    def of_bytes(self, whole: int) -> int:
        return whole * self.percent // 100


class AdmissionGate:
    """At most ``max_running`` hold a slot, at most ``max_waiting`` wait for one.

    ``noun`` ("queries") and the config key are for the refusal's text.
    """

    def __init__(
        self, noun: str, max_running: int, max_waiting: int, config_key: str, share: ClientShare | None = None
    ) -> None:
        self._noun = noun
        self._max_running = max_running
        self._max_waiting = max_waiting
        self._max_running_of_one = (share or ClientShare()).of_count(max_running)
        self._config_key = config_key
        self._running_of: Counter[str] = Counter()
        self._queues: dict[str, deque[asyncio.Future[None]]] = {}
        self._running = 0
        self._waiting = 0
        self._ended = 0

    @property
    def running(self) -> int:
        return self._running

    @property
    def waiting(self) -> int:
        return self._waiting

    @property
    def ended(self) -> int:
        """How many have held a slot and given it back."""
        return self._ended

    @asynccontextmanager
    async def slot(self, timeout_ms: int, client: str = "") -> AsyncIterator[int]:
        """Hold a slot; yields how many ms of ``timeout_ms`` are left.

        Raises Unavailable when too many wait already, QueryTimeout when no slot came free in time.
        """
        began_s = time.monotonic()
        if self._has_room_for(client):
            self._begin(client)
        else:
            await self._turn(client, timeout_ms)
        try:
            yield max(1, timeout_ms - int((time.monotonic() - began_s) * 1000))
        finally:
            self._end(client)

    def _has_room_for(self, client: str) -> bool:
        # Whoever waits while there is room has as many running as one may have.
        return self._running < self._max_running and self._running_of[client] < self._max_running_of_one

    def _begin(self, client: str) -> None:
        self._running += 1
        self._running_of[client] += 1

    def _end(self, client: str) -> None:
        self._running -= 1
        self._ended += 1
        self._running_of[client] -= 1
        if not self._running_of[client]:
            del self._running_of[client]
        while (following := self._next_client()) is not None:
            turn = self._take_from(following, newest=False)
            if not turn.done():  # else whoever waited was cancelled in this moment
                self._begin(following)
                turn.set_result(None)

    def _next_client(self) -> str | None:
        """Who has fewest running, among equals who was served longest ago."""
        waiting = [client for client in self._queues if self._has_room_for(client)]
        return min(waiting, key=lambda client: self._running_of.get(client, 0), default=None)

    async def _turn(self, client: str, timeout_ms: int) -> None:
        """Returns when the slot is there."""
        self._make_room(client)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queues.setdefault(client, deque()).append(turn)
        self._waiting += 1
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                await turn
        except BaseException as error:
            if not turn.done() or turn.cancelled():
                self._forget(client, turn)
            elif turn.exception() is None:
                self._end(client)  # it came in the same moment
            if isinstance(error, TimeoutError):
                refusal = QueryTimeout(
                    f"timed out after {timeout_ms} ms in the queue: {self._running} {self._noun} are running"
                )
                refusal.retry_after_s = 1
                raise refusal from None
            raise

    def _make_room(self, client: str) -> None:
        if self._waiting < self._max_waiting:
            return
        refusal = Unavailable(
            f"too many {self._noun} at once: {self._running} are running and {self._waiting} waiting; "
            f"{self._config_key} = {self._max_running} may run, try again later"
        )
        most = max(self._queues, key=lambda name: len(self._queues[name]), default=client)
        if len(self._queues.get(most, ())) <= len(self._queues.get(client, ())) + 1:
            raise refusal
        turn = self._take_from(most, newest=True)
        if not turn.done():
            turn.set_exception(refusal)

    def _take_from(self, client: str, *, newest: bool) -> asyncio.Future[None]:
        queue = self._queues.pop(client)
        turn = queue.pop() if newest else queue.popleft()
        if queue:
            self._queues[client] = queue  # behind the others
        self._waiting -= 1
        return turn

    def _forget(self, client: str, turn: asyncio.Future[None]) -> None:
        queue = self._queues.get(client)
        if queue is not None:
            with suppress(ValueError):
                queue.remove(turn)
                self._waiting -= 1
            if not queue:
                del self._queues[client]
