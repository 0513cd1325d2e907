"""Whether a gateway may go by the view it has: not after it slept, before it has asked for the present one.

A gateway that was stopped (SIGSTOP, a suspended machine, a starved host) goes on with a picture of then. By it a data
set that was set up meanwhile would be unknown (404, which makes senders drop samples), a deleted one would seem to be
there, and statuses would be of the past. That no old owner answers for a shard any more is the nodes' own affair: it
holds whatever a gateway believes. What was asked before a sleep and answered after it is as good as any slow answer: it
is true of a moment between request and answer.

A look at the clock every ``gap_ms_max / 4`` tells; so does one at each request, which may come before the late look.
While the coordinator is away the view stays the best there is, so after a failed attempt it is trusted again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from filoray.cluster.process.clocks import sleepless_ms

logger = logging.getLogger(__name__)


class ViewTrust:
    """``refresh``: get the present view, within a time of its own; raises nothing. Belongs to one event loop."""

    def __init__(
        self,
        gap_ms_max: int,
        refresh: Callable[[], Awaitable[None]],
        now_ms: Callable[[], int] = sleepless_ms,
    ) -> None:
        self._gap_ms_max = gap_ms_max
        self._refresh = refresh
        self._now_ms = now_ms
        self._looked_ms = now_ms()
        self._refreshing: asyncio.Task[None] | None = None
        self._is_again = False
        self._looking: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._looked_ms = self._now_ms()
        self._looking = asyncio.get_running_loop().create_task(self._look_regularly())

    def close(self) -> None:
        for task in (self._looking, self._refreshing):
            if task is not None:
                task.cancel()

    async def settle(self) -> None:
        """Return when the view may be gone by: at once, unless this process slept."""
        self._look()
        while self._refreshing is not None:
            await asyncio.shield(self._refreshing)

    def _look(self) -> None:
        now_ms = self._now_ms()
        slept_ms, self._looked_ms = now_ms - self._looked_ms, now_ms
        if slept_ms > self._gap_ms_max:
            logger.warning("this gateway did not run; asking for the present view ms=%d", slept_ms)
            if self._refreshing is None:  # one that was under way ends after the sleep, and begins again then
                self._refreshing = asyncio.get_running_loop().create_task(self._refresh_once())
            else:
                self._is_again = True

    async def _refresh_once(self) -> None:
        try:
            self._is_again = True
            while self._is_again:
                self._is_again = False
                await self._refresh()
        finally:
            self._refreshing = None

    async def _look_regularly(self) -> None:
        while True:
            await asyncio.sleep(self._gap_ms_max / 4000)
            self._look()
