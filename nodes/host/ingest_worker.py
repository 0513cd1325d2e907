"""The one thread of a node that changes its shards: appends, flushes, opening's last step, closing.

Writes that arrive while one round commits wait together and share the next commit (group commit): one
transaction per shard and round, however many requests there are. A request is answered when all its
containers are durable or refused.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from filoray.cluster.errors import FilorayError
from filoray.cluster.process.thread_watch import Beat, ThreadWatch
from filoray.nodes.wire.write_reply import Refused, ShardWriteReply

logger = logging.getLogger(__name__)

_ROUND_JOBS_MAX = 512
_IDLE_TICK_S = 0.5

ShardKey = tuple[str, int]
T = TypeVar("T")


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
    """One container for a shard that the sender routed by ``epoch``.

    ``offset``: its place in the shard's stream, if it comes from one.
    """

    key: ShardKey
    epoch: int
    container: bytes | memoryview
    pending: PendingWrite
    index: int
    offset: int | None = None


class AppendsToShards(Protocol):
    """The shard host as this thread uses it."""

    def append_to_shard(self, key: ShardKey, jobs: Sequence[AppendJob]) -> list[ShardWriteReply]:
        """One reply per job, in order."""
        ...

    def upkeep(self) -> bool:
        """A bounded piece of flushing or clearing; True if more is due at once."""
        ...


class IngestWorker:
    def __init__(self, host: AppendsToShards) -> None:
        self._host = host
        self._queue: queue.SimpleQueue[AppendJob | Callable[[], None] | None] = queue.SimpleQueue()
        self.beat = Beat("ingest")
        self._thread = threading.Thread(target=self._run, name="ingest", daemon=True)
        self._thread.start()

    def watch_with(self, watch: ThreadWatch) -> None:
        """Have it known when nothing is stored any more."""
        watch.watch_thread(self._thread, self.beat)

    def submit(self, job: AppendJob) -> None:
        self._queue.put(job)

    def run(self, action: Callable[[], T]) -> Future[T]:
        """Do something on the ingest thread, between two rounds."""
        future: Future[T] = Future()

        def call() -> None:
            try:
                future.set_result(action())
            except BaseException as error:
                future.set_exception(error)

        self._queue.put(call)
        return future

    def close(self) -> None:
        """Returns when all that was submitted before is done."""
        self._queue.put(None)
        self._thread.join(timeout=60)

    def _run(self) -> None:
        """Nothing that goes wrong with one item ends the thread; only ``close`` does."""
        upkeep_is_due = False
        is_open = True
        while is_open:
            try:
                is_open, upkeep_is_due = self._round(upkeep_is_due)
            except Exception:
                logger.exception("a round of the ingest thread failed; it goes on with the next")
                upkeep_is_due = False

    def _round(self, upkeep_is_due: bool) -> tuple[bool, bool]:
        """What waits, then a piece of upkeep. Whether to go on, and whether more upkeep is due."""
        jobs: list[AppendJob] = []
        self.beat.idle()
        item = self._next(wait_s=0 if upkeep_is_due else _IDLE_TICK_S)
        while isinstance(item, AppendJob):
            jobs.append(item)
            item = self._next(wait_s=0) if len(jobs) < _ROUND_JOBS_MAX else "full"
        self._append(jobs)
        if item is None:
            self.beat.idle()
            return False, False
        if callable(item):
            self.beat.busy("closing or opening a shard")
            item()
        self.beat.busy("upkeep")
        try:
            return True, self._host.upkeep()
        except Exception:
            logger.exception("a flush failed; it is tried again")
            return True, False

    def _next(self, wait_s: float) -> AppendJob | Callable[[], None] | str | None:
        try:
            return self._queue.get(wait_s > 0, wait_s or None)
        except queue.Empty:
            return "empty"

    def _append(self, jobs: Sequence[AppendJob]) -> None:
        by_shard: dict[ShardKey, list[AppendJob]] = {}
        for job in jobs:
            by_shard.setdefault(job.key, []).append(job)
        for key, shard_jobs in by_shard.items():
            self.beat.busy(f"an append to dataset {key[0]} shard {key[1]}")
            try:
                replies = self._host.append_to_shard(key, shard_jobs)
                if len(replies) != len(shard_jobs):
                    raise AssertionError(f"{len(replies)} replies to {len(shard_jobs)} containers")
            except FilorayError as error:
                replies = [Refused.of(error)] * len(shard_jobs)
            except Exception as error:
                logger.exception("dataset %s shard %d: an append failed", *key)
                replies = [Refused("Unavailable", f"shard {key[1]}: {type(error).__name__}: {error}")] * len(shard_jobs)
            for job, reply in zip(shard_jobs, replies, strict=True):
                try:
                    job.pending.set(job.index, reply)
                except Exception:  # whoever asked has gone with its connection; the thread serves the others
                    logger.exception("dataset %s shard %d: a reply could not be given", *key)
