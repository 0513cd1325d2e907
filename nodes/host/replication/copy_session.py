"""One session with a follower: what the shard has when it begins, in pieces, then every entry that is made.

A task on the replication loop. What it gets to is told to the shard's leader; what goes wrong ends it.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Coroutine, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from typing import Any, Protocol

from filoray.cluster.errors import FilorayError, Unavailable
from filoray.nodes.data.metric_metadata import MetricMetadata
from filoray.nodes.host.replication.peer_link import DatasetId, PeerLink
from filoray.nodes.memstore.store.store_choice import Snapshot
from filoray.nodes.wire.copy_bodies import BatchRange, Step, SyncStep, decode_held, decode_stored
from filoray.nodes.wire.node_client import Reply
from filoray.nodes.wire.protocol import Frames

logger = logging.getLogger(__name__)

_TOKEN_BITS = 62
_PIECE_BYTES = 1 << 20
"""It keeps the follower's other shards waiting while it is written."""
_STEP_TIMEOUT_MS = 30_000
_HELD_TIMEOUT_MS = 600_000
_END_TIMEOUT_MS = 600_000
"""The follower reads and opens all of it."""
_RATE_BYTES = 64 << 20
WAITING_BYTES_MAX = 64 << 20
"""Of entries that wait for a follower to have got what there was, or for its connection."""


class SessionLeader(Protocol):
    """The shard's leader as a session uses it; on the loop's thread."""

    async def snapshot(self) -> tuple[Snapshot, int]:
        """What is stored, and the number of the last entry in it. Raises FilorayError."""
        ...

    def metrics(self) -> Sequence[MetricMetadata]:
        """What is known of its metrics. On any thread."""
        ...

    def opened(self, session: CopySession, seq: int) -> None: ...
    def stored(self, session: CopySession, seq: int) -> None: ...
    def failed(self, session: CopySession, error: Exception) -> None: ...


class CopySession:
    """``number``: the LeaderCopies' name for it. ``reads``: threads that read the store. On the loop's thread alone.

    ``rate_bytes``: in a second, of what there is when it begins. ``with_data``: the follower has a store of its own.
    """

    def __init__(
        self,
        leader: SessionLeader,
        link: PeerLink,
        node: str,
        number: int,
        dataset: DatasetId,
        shard_epoch: tuple[int, int],
        reads: Executor,
        rate_bytes: int = _RATE_BYTES,
        *,
        with_data: bool = True,
    ) -> None:
        self.node = node
        self.number = number
        self.dataset = dataset
        self.shard_epoch = shard_epoch
        self.token = secrets.randbits(_TOKEN_BITS)
        self.waiting_bytes = 0
        self._leader = leader
        self._link = link
        self._reads = reads
        self._rate_bytes = rate_bytes
        self._with_data = with_data
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._is_gathering = False
        self._is_live = False
        self._is_outrun = False
        """More entries were made while it joins than are kept."""
        self._is_over = False
        self._stored = 0
        self._awaited = 0
        self._is_awaiting = False
        self._tasks: set[asyncio.Task[None]] = set()
        link.join(self)
        self._start(self._run())

    @property
    def takes_entries(self) -> bool:
        """Those that are made now are for it."""
        return self._is_gathering and not self._is_over

    @property
    def is_live(self) -> bool:
        """The follower has what there was, and gets what is made."""
        return self._is_live and not self._is_over

    @property
    def is_over(self) -> bool:
        return self._is_over

    async def checksums(self, batches: BatchRange, timeout_ms: int) -> dict[int, int]:
        """Of what the follower has on disk. Raises FilorayError."""
        return await self._link.checksums(self, batches, timeout_ms)

    def entry(self, seq: int, data: bytes) -> None:
        self._waiting.append((seq, data))
        self.waiting_bytes += len(data)
        if self.waiting_bytes > WAITING_BYTES_MAX and len(self._waiting) > 1:
            self._outrun()
        elif self._is_live:
            self._link.offer(self)

    def _outrun(self) -> None:
        """One that joins gets all the same what there was: the next session has to send only what it lacks by then.

        Else a shard that is written to for longer than its copy takes would never have one.
        """
        if self._is_live:
            text = f"entries of {self.waiting_bytes} bytes wait for it, more than the {WAITING_BYTES_MAX} that are kept"
            self.failed(Unavailable(text))
            return
        self._is_outrun, self._is_gathering = True, False
        self._waiting.clear()
        self.waiting_bytes = 0

    def tell_metrics(self, metrics: Sequence[MetricMetadata]) -> None:
        """As well as can be: senders say it again."""
        if self.takes_entries:
            self._start(self._send_metrics(metrics))

    def end(self) -> None:
        """Nothing more is sent, or told."""
        if self._is_over:
            return
        self._is_over = True
        self._link.leave(self)
        self._waiting.clear()
        for task in self._tasks:
            task.cancel()

    # ---- the link's

    def next_bytes(self) -> int:
        return len(self._waiting[0][1]) if self._waiting else 0

    def take(self) -> tuple[int, bytes]:
        seq, data = self._waiting.popleft()
        self.waiting_bytes -= len(data)
        return seq, data

    def stored(self, seq: int) -> None:
        if not self._is_over:
            self._stored = max(self._stored, seq)
            self._leader.stored(self, seq)

    def await_stored(self, seq: int) -> None:
        """It has them all up to there, and will say when it has stored them."""
        self._awaited = max(self._awaited, seq)
        if not self._is_awaiting and not self._is_over:
            self._is_awaiting = True
            self._start(self._await_stored())

    def failed(self, error: Exception) -> None:
        if not self._is_over:
            self.end()
            self._leader.failed(self, error)

    # ---- what it does

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self) -> None:
        try:
            async with self._link.turns:
                seq = await self._send_all()
            if self._is_outrun:
                text = f"entries of more than {WAITING_BYTES_MAX} bytes were made while it got what there was"
                self.failed(Unavailable(f"{text}: it gets the rest in another session"))
                return
            self._is_live = True
            self._leader.opened(self, seq)
            if self._waiting and not self._is_over:
                self._link.offer(self)
        except Exception as error:  # whatever it is, nobody else would hear of it
            if not isinstance(error, FilorayError):
                logger.exception("a copy of dataset %s shard %d cannot be sent", self.dataset[0], self.shard_epoch[0])
            self.failed(error)

    async def _await_stored(self) -> None:
        try:
            while self._stored < self._awaited:
                reply = await self._step(Step.AWAIT, _STEP_TIMEOUT_MS, self._awaited)
                (answer,) = decode_stored(reply.body, 1)
                self.stored(answer.number)
        except Exception as error:  # as in ``_run``
            self.failed(error)
        finally:
            self._is_awaiting = False

    async def _send_all(self) -> int:
        """What there is; returns the number of the last entry in it."""
        held = decode_held((await self._step(Step.BEGIN, _HELD_TIMEOUT_MS)).body)
        self._is_gathering = True
        snapshot, seq = await self._leader.snapshot()
        while self._waiting and self._waiting[0][0] <= seq:
            self.take()
        reading: asyncio.Future[bytes | None] | None = None
        loop = asyncio.get_running_loop()
        began_s, sent_bytes = loop.time(), 0
        try:
            pieces = snapshot.pieces(_PIECE_BYTES, held, with_data=self._with_data)
            number = 0
            while True:
                reading = loop.run_in_executor(self._reads, _next_of, pieces)
                piece = await asyncio.shield(reading)
                if piece is None:
                    break
                await self._step(Step.PIECE, _STEP_TIMEOUT_MS, number, frames=[piece])
                number += 1
                sent_bytes += len(piece)
                await asyncio.sleep(max(0, began_s + sent_bytes / self._rate_bytes - loop.time()))
        finally:
            _close(snapshot, reading)
        metrics = await loop.run_in_executor(self._reads, self._leader.metrics)
        if metrics:
            await self._send_metrics(metrics)
        await self._step(Step.END, _END_TIMEOUT_MS, seq)
        return seq

    async def _send_metrics(self, metrics: Sequence[MetricMetadata]) -> None:
        with suppress(FilorayError):
            await self._step(Step.METRICS, _STEP_TIMEOUT_MS, metrics=metrics)

    async def _step(
        self,
        step: Step,
        timeout_ms: int,
        number: int = 0,
        metrics: Sequence[MetricMetadata] = (),
        frames: Frames | None = None,
    ) -> Reply:
        said = SyncStep(self.dataset[1], self.token, step, number, metrics)
        return await self._link.step(self, said, timeout_ms, frames)


def _next_of(pieces: Iterator[bytes]) -> bytes | None:
    return next(pieces, None)


def _close(snapshot: Snapshot, reading: asyncio.Future[bytes | None] | None) -> None:
    """When no thread reads in it any more."""
    if reading is None or reading.done():
        snapshot.close()
    else:
        reading.add_done_callback(lambda _: snapshot.close())
