"""The queries that a gateway works on: to be listed, and to be canceled by who knows their ids."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from filoray.http.fanout.requests import QueryRequest, RunningQuery
from filoray.nodes.data.cancel_token import CancelToken


@dataclass(slots=True)
class _Running:
    id: str
    request: QueryRequest
    started_s: float
    started_ms: int
    task: asyncio.Task[object]
    token: CancelToken
    canceled_by_user: bool = False


class RunningQueries:
    """Belongs to one event loop."""

    def __init__(self) -> None:
        self._running: dict[str, _Running] = {}
        self._ids = itertools.count(1)

    @contextmanager
    def entered(self, request: QueryRequest, token: CancelToken) -> Iterator[None]:
        """Around the work on a query, in the task that does it. Raises QueryCanceled where a user canceled it."""
        task = asyncio.current_task()
        assert task is not None
        running = _Running(
            self._free_id(request.request_id), request, time.monotonic(), int(time.time() * 1000), task, token
        )
        self._running[running.id] = running
        try:
            yield
        except asyncio.CancelledError:
            token.cancel()
            if running.canceled_by_user:
                task.uncancel()
                token.check()
            raise
        finally:
            del self._running[running.id]

    def listed(self) -> Sequence[RunningQuery]:
        now_s = time.monotonic()
        return [
            RunningQuery(r.id, r.request.dataset, r.request.query, r.started_ms, int((now_s - r.started_s) * 1000))
            for r in self._running.values()
        ]

    def cancel(self, query_id: str) -> bool:
        """False if no such query runs."""
        running = self._running.get(query_id)
        if running is None:
            return False
        running.canceled_by_user = True
        running.token.cancel(f"query {query_id} was canceled")
        running.task.cancel()
        return True

    def _free_id(self, wanted: str) -> str:
        """The request's id, told apart from those that run if a client uses one twice."""
        return wanted if wanted and wanted not in self._running else f"{wanted or 'query'}-{next(self._ids)}"
