"""A node's threads for its shards: one that changes them, some that open them, one that wakes, one for each deletion.

Writes that arrive while one round of the ingest thread commits wait together and share the next commit (group commit):
one transaction per shard and round, however many requests there are. A request is answered when all its containers are
durable or refused. Between two rounds it does what else must not come between writes, and a piece of flushing.

What is done to a shard is ``host_shards.py``'s; nothing that it does wrong ends a thread.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Protocol, TypeVar

from filoray.cluster.errors import FilorayError
from filoray.cluster.process.thread_watch import Beat, ThreadWatch
from filoray.nodes.host.append_jobs import ROUND_JOBS_MAX, AppendJob, ShardKey
from filoray.nodes.host.opening_threads import OpeningThreads
from filoray.nodes.host.waker import Waker
from filoray.nodes.wire.write_reply import Refused, ShardWriteReply

logger = logging.getLogger(__name__)

_IDLE_TICK_S = 0.5
_OPENING_THREADS = 4
_OPENING_THREADS_PER_SOURCE = 2

T = TypeVar("T")


class ShardsToChange(Protocol):
    """The shards as the ingest thread uses them."""

    def append_to_shard(self, key: ShardKey, jobs: Sequence[AppendJob]) -> list[ShardWriteReply] | None:
        """One reply per job, in order; None: all are answered there, now or later on this thread."""
        ...

    def upkeep(self) -> bool:
        """A bounded piece of flushing or clearing; True if more is due at once."""
        ...


class HostThreads:
    """Any thread may call its methods."""

    def __init__(self, shards: ShardsToChange) -> None:
        self._shards = shards
        self._openers = OpeningThreads(_OPENING_THREADS, _OPENING_THREADS_PER_SOURCE)
        self._waker = Waker()
        self._queue: queue.SimpleQueue[AppendJob | Callable[[], None] | None] = queue.SimpleQueue()
        self._beat = Beat("ingest")
        self._ingest = threading.Thread(target=self._run, name="ingest", daemon=True)
        self._ingest.start()

    def watch_with(self, watch: ThreadWatch) -> None:
        """Have it known when nothing is stored any more."""
        watch.watch_thread(self._ingest, self._beat)

    def is_ingesting(self) -> bool:
        return self._ingest.is_alive()

    def submit(self, job: AppendJob) -> None:
        self._queue.put(job)

    def queued(self) -> int:
        """How much waits for the ingest thread."""
        return self._queue.qsize()

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

    def open(self, dataset: str, action: Callable[[], None], *, has_source: bool) -> None:
        """Do it on a thread of its own, when there is a place for it. Raises RuntimeError if none can be started."""
        self._openers.submit(dataset, action, has_source=has_source)

    def give_up(self, thread: threading.Thread) -> None:
        """One that opens and hangs: its place is free, and nobody waits for it any more."""
        self._openers.give_up(thread)

    def run_aside(self, name: str, action: Callable[[], None]) -> None:
        """Do what takes long on a thread of its own, at once. Raises RuntimeError if none can be started."""
        threading.Thread(target=action, name=name, daemon=True).start()

    def wake_at(self, at_ms: int, action: Callable[[], None]) -> None:
        """Do it at that time of ``steady_ms``, instead of what was to be done before."""
        self._waker.wake_at(at_ms, action)

    def close(self) -> None:
        """Returns when all that was submitted before is done. Openings that run end by themselves."""
        self._openers.close()
        self._waker.close()
        self._queue.put(None)
        self._ingest.join(timeout=60)

    # ---- the ingest thread

    def _run(self) -> None:
        """Nothing that goes wrong with one item ends the thread; only ``close`` does."""
        upkeep_is_due = False
        is_open = True
        while is_open:
            try:
                is_open, upkeep_is_due = self._round(upkeep_is_due=upkeep_is_due)
            except Exception:
                logger.exception("a round of the ingest thread failed; it goes on with the next")
                upkeep_is_due = False

    def _round(self, *, upkeep_is_due: bool) -> tuple[bool, bool]:
        """What waits, then a piece of upkeep. Whether to go on, and whether more upkeep is due."""
        jobs: list[AppendJob] = []
        self._beat.idle()
        item = self._next(wait_s=0 if upkeep_is_due else _IDLE_TICK_S)
        while isinstance(item, AppendJob):
            jobs.append(item)
            item = self._next(wait_s=0) if len(jobs) < ROUND_JOBS_MAX else "full"
        self._append(jobs)
        if item is None:
            self._beat.idle()
            return False, False
        if callable(item):
            self._beat.busy("closing or opening a shard")
            item()
        self._beat.busy("upkeep")
        try:
            return True, self._shards.upkeep()
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
            self._beat.busy(f"an append to dataset {key[0]} shard {key[1]}")
            try:
                replies = self._shards.append_to_shard(key, shard_jobs)
                if replies is None:
                    continue
                if len(replies) != len(shard_jobs):
                    raise AssertionError(f"{len(replies)} replies to {len(shard_jobs)} containers")
            except FilorayError as error:
                replies = [Refused.of(error)] * len(shard_jobs)
            except Exception as error:
                logger.exception("dataset %s shard %d: an append failed", *key)
                replies = [Refused("Unavailable", f"shard {key[1]}: {type(error).__name__}: {error}")] * len(shard_jobs)
            for job, reply in zip(shard_jobs, replies, strict=True):
                job.answer(reply)
