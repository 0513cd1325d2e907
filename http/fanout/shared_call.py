"""One call made for all who ask at a time, such as for the coordinator's view: a flood of askers is no flood of calls.

Whoever asks hears a call that began after that, so that what happened before is in its answer. There are never two at
once. A core of one event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class SharedCall(Generic[T]):
    def __init__(self, call: Callable[[], Awaitable[T]]) -> None:
        self._call = call
        self._running: asyncio.Task[T] | None = None
        self._following: asyncio.Task[T] | None = None

    async def get(self) -> T:
        """Raises what the call raises. Whoever stops waiting stops nobody else's call."""
        if self._running is None or self._running.done():
            task = self._running = self._begun(self._make())
        else:
            if self._following is None:
                self._following = self._begun(self._make_after(self._running))
            task = self._following
        return await asyncio.shield(task)

    async def _make(self) -> T:
        return await self._call()

    async def _make_after(self, before: asyncio.Task[T]) -> T:
        await asyncio.wait([before])
        self._running, self._following = self._following, None
        return await self._call()

    @staticmethod
    def _begun(call: Awaitable[T]) -> asyncio.Task[T]:
        task = asyncio.ensure_future(call)
        assert isinstance(task, asyncio.Task)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())  # if nobody listens any more
        return task
