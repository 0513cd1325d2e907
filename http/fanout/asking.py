"""Asking nodes: by the newest view, all at once, again until they answer or the deadline passes.

What queries and metadata requests have in common; what is asked, and what is made of the replies, is theirs. Nothing
is answered with less than was asked without saying so: shards that cannot be asked are waited for, and then refused or
named in a warning.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from filoray.cluster.cluster_view import DatasetView
from filoray.cluster.errors import FilorayError, StaleRoute, Unavailable
from filoray.http.fanout.retrying import Retrying
from filoray.http.fanout.routing import ShardEpochs, missing_text
from filoray.http.fanout.view_holder import ViewHolder
from filoray.nodes.wire.node_client import Reply
from filoray.nodes.wire.protocol import Frames, Kind
from filoray.nodes.wire.request_bodies import RequestBody, write_body

T = TypeVar("T")

_PARTIAL = "partial result"


@dataclass(frozen=True, slots=True)
class Question:
    """What one node is asked of its ``shards``, (shard, epoch) pairs."""

    node: str
    shards: ShardEpochs
    body: RequestBody = None
    frames: Frames | None = None


class MissingShards(FilorayError):
    """Shards without an owner that could be asked; never leaves ``Asking.attempts``."""


class Asking:
    """``deadline_s``: a ``time.monotonic()`` time."""

    def __init__(self, views: ViewHolder) -> None:
        self._views = views

    async def attempts(self, dataset_name: str, deadline_s: float, attempt: Callable[[DatasetView], Awaitable[T]]) -> T:
        """Try by the newest view until it works or the deadline passes."""
        retrying = Retrying(self._views, deadline_s)
        while True:
            version = self._views.view.version
            try:
                return await attempt(self._views.dataset(dataset_name))
            except (StaleRoute, MissingShards) as error:
                if not await retrying.is_worthwhile(error, version):
                    raise Unavailable(error.message) from None

    async def ask_all(self, kind: Kind, dataset: str, questions: Sequence[Question], deadline_s: float) -> list[Reply]:
        """Every question's reply, in order. The first failure, or the caller's cancellation, stops the others."""

        async def ask(question: Question) -> Reply:
            left_ms = max(1, int((deadline_s - time.monotonic()) * 1000))
            client = self._views.client(question.node)
            body = write_body(kind, question.body)
            return await client.request(kind, dataset, question.shards, left_ms, body, question.frames)

        if len(questions) == 1:
            return [await ask(questions[0])]
        tasks = [asyncio.ensure_future(ask(question)) for question in questions]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()


def refuse_missing(dataset: str, missing: Mapping[int, str], *, allow_partial: bool) -> None:
    """Raises MissingShards."""
    if missing and not allow_partial:
        raise MissingShards(missing_text(dataset, missing))


def partial_warning(dataset: str, missing: Mapping[int, str]) -> tuple[str, ...]:
    return (f"{_PARTIAL}: {missing_text(dataset, missing)}",) if missing else ()


def is_partial(warnings: Sequence[str]) -> bool:
    return any(warning.startswith(_PARTIAL) for warning in warnings)
