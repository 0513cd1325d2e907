"""Brings one shard's stream into the shard: recovery up to what the source has now, then as it comes.

    consumer.recover(...)     on the thread that opens the shard, before anyone else sees it
    consumer.resume()         instead, for a copy that has all that its leader had
    consumer.start()          from then on a thread of its own polls; the ingest thread appends
    consumer.stop()           on the ingest thread, before the shard closes: nothing is appended afterwards

Of a shard with copies an append is over when the followers have it too (``AppendLater``). With too few of them in sync
messages stay in the source, and the shard is read as ever.

One group of batches is being appended while the next is polled, and no more: that is the back-pressure, and it keeps
order, as no group is begun before the one ahead of it is stored. A source that fails is reported and opened again,
with growing delays, behind all that the shard has by then. The checkpoint is the shard's: it comes with its flushes,
and what a restart reads again of them the shard passes over.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from filoray.cluster.control.shard_status import IngestionError, IngestionStarted, ShardEvent
from filoray.cluster.errors import BadData, CopiesJoining, FilorayError, StaleRoute, reason_of
from filoray.cluster.process.clocks import steady_ms, wall_ms
from filoray.nodes.data.record_container import RecordContainer
from filoray.nodes.data.write_outcome import AppendReply, WriteOutcome
from filoray.nodes.streams.stream import IngestionStream, ProblemReport, StreamBatch, StreamFailed

logger = logging.getLogger(__name__)

_POLL_MS = 100
_RETRY_DELAY_S_MIN = 0.5
_RETRY_DELAY_S_MAX = 30.0

_SOURCE_TIMEOUT_S = 30.0

AtSource = Callable[[], AbstractContextManager[None]]
OpenStream = Callable[[int | None], IngestionStream]
"""A stream from behind that offset; None: there is no checkpoint."""


AnswerAppend = Callable[[list[AppendReply] | FilorayError], None]
AppendLater = Callable[[Sequence[bytes | memoryview], Sequence[int], AnswerAppend], None]
"""(containers, offsets, answer): on the ingest thread, where ``answer`` is called once, then or later.

CopiesJoining says that too few copies are in sync, for however long: the consumer asks again.
"""


class StreamedShard(Protocol):
    """The shard as a stream's consumer uses it."""

    def append(self, containers: Sequence[bytes | memoryview], offsets: Sequence[int]) -> list[AppendReply]: ...

    def flush_all(self, now_ms: int, wall_ms: int) -> None: ...

    def upkeep(self, now_ms: int, wall_ms: int) -> bool: ...

    @property
    def resume_offset(self) -> int: ...

    @property
    def stream_checkpoint(self) -> int | None: ...

    @property
    def stream_offset(self) -> int: ...


class RunsOnIngestThread(Protocol):
    def __call__(self, action: Callable[[], None]) -> object: ...


@dataclass(frozen=True, slots=True)
class _Storing:
    """Batches that are being appended."""

    batches: Sequence[StreamBatch]
    replies: Future[list[AppendReply]]


@dataclass(frozen=True, slots=True)
class StreamStats:
    """``offset``: of the last batch that the shard has. ``skipped``: records that were no data.

    ``lag``: how many offsets the source is known to be ahead of the shard, None while that is not known.
    """

    offset: int
    accepted: int
    refused: int
    skipped: int
    lag: int | None


class StreamConsumer:
    """``name`` is for messages; ``report`` gets IngestionError and, when it goes on, IngestionStarted."""

    def __init__(
        self,
        name: str,
        shard: StreamedShard,
        open_stream: OpenStream,
        run_on_ingest_thread: RunsOnIngestThread,
        report: Callable[[ShardEvent], None],
    ) -> None:
        self._name = name
        self._shard = shard
        self._open_stream = open_stream
        self._run_on_ingest_thread = run_on_ingest_thread
        self._run_append: RunsOnIngestThread = _at_once
        self._append: AppendLater = self._append_now
        self._report = report
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._stream: IngestionStream | None = None
        self._storing: _Storing | None = None
        """What is appended while the next is polled."""
        self._stored_offset: int | None = None
        self._is_said_to_go_on = False
        self._waits_for_copies = False
        self._committed_offset = -1
        self._lag: int | None = None
        self._outcome = WriteOutcome()
        self._skipped = 0
        self._refusals = ProblemReport(name)

    def recover(
        self,
        on_progress: Callable[[int], None],
        released: threading.Event,
        at_source: AtSource = contextlib.nullcontext,
        source_timeout_s: float = _SOURCE_TIMEOUT_S,
    ) -> None:
        """Append what the source has now, from the shard's checkpoint on; returns early once ``released``.

        ``at_source`` is entered around each call that may wait for the source, and may raise. Raises StreamFailed,
        also if the source gives nothing for ``source_timeout_s`` though it has more, and what the shard raises; then
        the consumer is of no use any more.
        """
        self._stored_offset = self._shard.stream_checkpoint
        with at_source():
            stream = self._stream = self._open_stream(self._stored_offset)
            first = stream.position
        if self._stored_offset is None:
            self._begin_behind(first)
        with at_source():
            end = stream.end_offset()
        got_on_s, last = time.monotonic(), first
        while end is not None and stream.position < end and not stream.ended and not released.is_set():
            with at_source():
                batches = stream.poll(_POLL_MS)
            self._wait_for(self._submit(batches))
            while self._shard.upkeep(steady_ms(), wall_ms()):
                pass
            on_progress(min(99, 100 * (stream.position - first) // (end - first)))
            if stream.position != last:
                got_on_s, last = time.monotonic(), stream.position
            elif time.monotonic() - got_on_s > source_timeout_s:
                raise StreamFailed(
                    f"{self._name}: the source has offsets up to {end} and gave nothing behind {last} within "
                    f"filoray.node.source-timeout = {source_timeout_s:g} s"
                )
        self._note_lag(stream, stream.position)
        self._is_said_to_go_on = True  # by whoever serves the shard now
        on_progress(100)

    def resume(self) -> None:
        """The shard has what it had as a copy: its source is opened behind that, once it is started."""
        self._stored_offset = self._shard.stream_offset

    def start(self, append: AppendLater | None = None) -> None:
        """``append``: of a shard with copies. Raises RuntimeError if there can be no thread; then ``stop`` closes what
        ``recover`` opened.
        """
        self._run_append, self._append = self._run_on_ingest_thread, append or self._append
        thread = threading.Thread(target=self._run, name=f"stream {self._name}", daemon=True)
        thread.start()
        self._thread = thread

    def stop(self) -> None:
        """Does not wait for the thread, which ends within a poll or two."""
        self._stopped.set()
        if self._thread is None:
            self._close_stream()

    def join(self, timeout_s: float) -> None:
        if self._thread is not None:
            self._thread.join(timeout_s)

    def stats(self) -> StreamStats:
        skipped = self._skipped + (self._stream.problems.count if self._stream is not None else 0)
        return StreamStats(self._offset, self._outcome.accepted, self._outcome.refused_count, skipped, self.lag)

    @property
    def _offset(self) -> int:
        """The last one stored; -1: there is none."""
        return -1 if self._stored_offset is None else self._stored_offset

    @property
    def lag(self) -> int | None:
        """See StreamStats."""
        return self._lag

    # ---- the consumer's thread

    def _run(self) -> None:
        delay_s = _RETRY_DELAY_S_MIN
        while not self._stopped.is_set():
            try:
                if self._stream is None:
                    self._reopen()
                    delay_s = _RETRY_DELAY_S_MIN
                self._consume()
                break
            except StaleRoute as error:
                logger.info("%s: the stream is left to the new owner: %s", self._name, error.message)
                break
            except Exception as error:
                if self._stopped.is_set():
                    break
                reason = reason_of(error)
                logger.warning("%s: the source failed, next attempt in %.1f s: %s", self._name, delay_s, reason)
                self._is_said_to_go_on = False
                self._report(IngestionError(reason))
            self._lag = None
            self._close_stream()
            self._stopped.wait(delay_s)
            delay_s = min(2 * delay_s, _RETRY_DELAY_S_MAX)
        self._close_stream()

    def _reopen(self) -> None:
        """After a failure: catch up with what the source has, then say that it goes on."""
        self._settle()
        stream = self._stream = self._open_stream(self._stored_offset)
        end = stream.end_offset()
        while end is not None and stream.position < end and not stream.ended and not self._stopped.is_set():
            batches = stream.poll(_POLL_MS)
            self._wait_for(self._submit(batches))
        self._say_that_it_goes_on()

    def _settle(self) -> None:
        """Wait for what was being stored when the source failed, so that it is not read again.

        Followers forget messages that they have stored: one that came in two entries would end their sessions. Of an
        append that failed, too, the shard may have some.
        """
        while (storing := self._storing) is not None and not self._stopped.is_set():
            if wait([storing.replies], _POLL_MS / 1000).done:
                self._storing = None
                if storing.replies.exception() is None:
                    self._note_stored(storing, storing.replies.result())
        if self._shard.stream_offset > self._offset:
            self._stored_offset = self._shard.stream_offset

    def _say_that_it_goes_on(self) -> None:
        if not self._is_said_to_go_on and not self._stopped.is_set():
            self._is_said_to_go_on = True
            self._report(IngestionStarted())

    def _consume(self) -> None:
        """Until the stream ends or ``stop``."""
        stream = self._stream
        assert stream is not None, "opened by recover or _reopen"
        while not self._stopped.is_set() and not stream.ended:
            polled_before = stream.position
            batches = stream.poll(_POLL_MS)
            self._wait_for_pending()
            self._note_lag(stream, polled_before)
            self._storing = self._submit(batches)
            self._commit(stream)
        self._wait_for_pending()
        self._note_lag(stream, stream.position)
        if stream.ended:
            logger.info("%s: the source has ended", self._name)

    def _submit(self, batches: Sequence[StreamBatch]) -> _Storing | None:
        """Have them appended, together."""
        if not batches:
            return None
        replies: Future[list[AppendReply]] = Future()

        def answer(outcome: list[AppendReply] | Exception) -> None:
            if isinstance(outcome, Exception):
                replies.set_exception(outcome)
            else:
                replies.set_result(outcome)

        def append() -> None:
            try:
                if self._stopped.is_set():
                    raise StaleRoute(f"{self._name}: it was closed here")
                self._append([batch.container for batch in batches], [batch.offset for batch in batches], answer)
            except Exception as error:
                answer(error)

        self._run_append(append)
        return _Storing(batches, replies)

    def _wait_for_pending(self) -> None:
        storing, self._storing = self._storing, None
        self._wait_for(storing)

    def _wait_for(self, storing: _Storing | None) -> None:
        """Until it is stored, or ``stop``. Raises what the append raised; of several no bad one holds up the others."""
        try:
            replies = self._result(storing)
        except BadData as error:
            assert storing is not None
            if len(storing.batches) > 1:
                for batch in storing.batches:
                    self._wait_for(self._submit([batch]))
                return
            self._skipped += 1
            self._refusals.add(f"offset {storing.batches[0].offset}", error.message)
            replies = []
        if storing is not None and replies is not None:
            self._note_stored(storing, replies)

    def _note_stored(self, storing: _Storing, replies: Sequence[AppendReply]) -> None:
        if self._waits_for_copies:
            self._waits_for_copies = False
            logger.info("%s: enough copies are in sync again, the source is read on", self._name)
        for reply in replies:
            if isinstance(reply, WriteOutcome):  # streams give containers with all part keys
                self._outcome.add(reply)
                if reply.refused_count:
                    self._refusals.add(f"{reply.refused_count} samples", reply.example)
        self._stored_offset = storing.batches[-1].offset

    def _result(self, storing: _Storing | None) -> list[AppendReply] | None:
        """None: there is nothing to store, or nobody wants it any more."""
        while storing is not None and not self._stopped.is_set():
            try:
                return storing.replies.result(_POLL_MS / 1000)
            except CopiesJoining as error:
                self._wait_for_copies(error.message)
                storing = self._submit(storing.batches)
            except TimeoutError:
                if storing.replies.done():
                    raise
                self._note_lag_of_stored()
        return None

    def _wait_for_copies(self, reason: str) -> None:
        """For a moment. That is no failure: the source keeps the messages, and what the shard has may be read."""
        if not self._waits_for_copies:
            self._waits_for_copies = True
            logger.warning("%s: messages stay in the source: %s", self._name, reason)
        self._say_that_it_goes_on()
        self._note_lag_of_stored()
        self._stopped.wait(_POLL_MS / 1000)

    def _note_lag_of_stored(self) -> None:
        """While what was polled waits to be stored: the source may get on meanwhile."""
        if self._stream is not None:
            self._note_lag(self._stream, self._offset)

    def _note_lag(self, stream: IngestionStream, position: int) -> None:
        """All up to ``position`` is stored, or was no data."""
        end = stream.known_end()
        self._lag = None if end is None else max(0, end - position)

    def _commit(self, stream: IngestionStream) -> None:
        offset = self._shard.resume_offset - 1
        if offset > self._committed_offset:
            stream.commit(offset)
            self._committed_offset = offset

    def _close_stream(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            self._skipped += stream.problems.count
            try:
                stream.close()
            except Exception:  # it is of no use any more; the thread goes on with the next
                logger.warning("%s: the source does not close", self._name, exc_info=True)

    # ---- on the ingest thread, or the opener's before there is one

    def _append_now(
        self, containers: Sequence[bytes | memoryview], offsets: Sequence[int], answer: AnswerAppend
    ) -> None:
        answer(self._shard.append(containers, offsets))

    def _begin_behind(self, offset: int) -> None:
        """Make the place where a shard without checkpoint begins durable, so that a restart begins there too.

        Before all of the source, at -1, as well: where that is its end now, a restart would find another.
        """
        if offset >= 0:
            self._wait_for(self._submit([StreamBatch(_EMPTY.encode(), offset)]))
        self._shard.flush_all(steady_ms(), wall_ms())
        self._stored_offset = offset


def _at_once(action: Callable[[], None]) -> None:
    """While nobody else sees the shard."""
    action()


_EMPTY = RecordContainer.complete([], np.empty(0, np.int32), np.empty(0, np.int64), np.empty(0, np.float64))
