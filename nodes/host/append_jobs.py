"""Writes on their way to the ingest thread: requests, and the one job that each container of a request is."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from filoray.nodes.wire.write_reply import ShardWriteReply

logger = logging.getLogger(__name__)

ShardKey = tuple[str, int]

ROUND_JOBS_MAX = 512
"""So many go in one round at most: it is one commit, for which all of them wait."""


class Responds(Protocol):
    def __call__(self, replies: Sequence[ShardWriteReply]) -> None: ...


@dataclass(slots=True)
class PendingWrite:
    """A request whose containers are on their way; ``respond`` is called once, on the ingest thread."""

    respond: Responds
    replies: list[ShardWriteReply | None]
    open_count: int = field(init=False)

    def __post_init__(self) -> None:
        self.open_count = len(self.replies)

    def set(self, index: int, reply: ShardWriteReply) -> None:
        self.replies[index] = reply
        self.open_count -= 1
        if self.open_count == 0:
            self.respond([reply for reply in self.replies if reply is not None])


@dataclass(frozen=True, slots=True)
class AppendJob:
    """One container for a shard that the sender routed by ``epoch``."""

    key: ShardKey
    epoch: int
    container: bytes | memoryview
    pending: PendingWrite
    index: int

    def answer(self, reply: ShardWriteReply) -> None:
        """On the ingest thread, once. Raises nothing."""
        try:
            self.pending.set(self.index, reply)
        except Exception:  # whoever asked has gone with its connection; the thread serves the others
            logger.exception("dataset %s shard %d: a reply could not be given", *self.key)
