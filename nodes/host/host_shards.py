"""The shards that a node has: those that are being opened, and the open ones with all that is done to them.

What is served is found under one short lock, by shard and epoch. Nothing is decided here: what happens to a shard goes
out through ``tell``, and what is to be done about it comes back as a call. Which thread makes it is said with each
method; the threads themselves are ``host_threads.py``'s.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from filoray.cluster.control.node_effects import FlushTurn, OpenShard
from filoray.cluster.control.node_events import (
    Closed,
    FlushFailed,
    FlushStepped,
    NodeEvent,
    Opened,
    OpeningAbandoned,
    OpeningCameBack,
    OpeningEnded,
    OpeningFailed,
    OpeningId,
    OpeningOverdue,
    StoreDoubted,
)
from filoray.cluster.control.shard_status import ERROR
from filoray.cluster.errors import (
    BadData,
    EpochDiffers,
    FilorayError,
    ShardNotHere,
    ShardOpening,
    StaleRoute,
    StoreIsAhead,
    reason_of,
)
from filoray.cluster.node_protocol import HeldShard, ShardEpoch
from filoray.cluster.process.clocks import steady_ms, wall_ms
from filoray.nodes.data.node_figures import ShardFigures
from filoray.nodes.host.append_jobs import AppendJob, ShardKey
from filoray.nodes.host.lease import Lease
from filoray.nodes.host.metric_metadata_file import MetricMetadataFile
from filoray.nodes.host.opening import Abandoned, NotWanted, Opening
from filoray.nodes.host.shard_files import ShardFiles
from filoray.nodes.host.shard_opener import ShardOpener
from filoray.nodes.memstore.shard import Shard
from filoray.nodes.streams.consumer import RunsOnIngestThread
from filoray.nodes.wire.write_reply import Refused, ShardWriteReply

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ServedShard:
    """Open, and known to whoever asks. ``opening``: the one that opened it."""

    opening: Opening
    epoch: int
    shard: Shard
    metadata: MetricMetadataFile

    def figures(self) -> ShardFigures:
        consumer = self.opening.consumer
        return self.shard.figures(None if consumer is None else consumer.lag)


class HostShards:
    """``held_shard``: how a shard is held that is not open, for whoever asks for it.

    ``source_timeout_ms``: how long one answer of a source may take while a shard is opened.
    """

    def __init__(
        self,
        files: ShardFiles,
        opener: ShardOpener,
        lease: Lease,
        held_shard: Callable[[ShardKey], HeldShard | None],
        tell: Callable[[NodeEvent], None],
        source_timeout_ms: int,
    ) -> None:
        self._files = files
        self._opener = opener
        self._lease = lease
        self._held_shard = held_shard
        self._tell = tell
        self._source_timeout_s = source_timeout_ms / 1000
        self._lock = threading.Lock()
        self._served: dict[ShardKey, ServedShard] = {}
        self._openings: dict[OpeningId, Opening] = {}
        """Until what they opened is closed."""
        self._turns: tuple[FlushTurn, ...] = ()

    # ---- what gateways ask, on any thread

    def readable(self, dataset: str, shards: Sequence[ShardEpoch]) -> list[Shard]:
        """The open shards of (shard, epoch) pairs.

        Raises ShardNotHere, EpochDiffers, ShardOpening or, if it cannot be opened, StaleRoute; LeaseLapsed.
        """
        return [served.shard for served in self._find(dataset, shards)]

    def metadata_files(self, dataset: str, shards: Sequence[ShardEpoch]) -> list[MetricMetadataFile]:
        """Beside the shards of (shard, epoch) pairs; raises as ``readable``."""
        return [served.metadata for served in self._find(dataset, shards)]

    def figures(self) -> tuple[ShardFigures, ...]:
        """Of all open shards."""
        with self._lock:
            all_served = list(self._served.values())
        return tuple([served.figures() for served in all_served])

    def _find(self, dataset: str, shards: Sequence[ShardEpoch]) -> list[ServedShard]:
        self._lease.check()
        found = []
        with self._lock:
            for number, epoch in shards:
                served = self._served.get((dataset, number))
                if served is None or served.epoch != epoch:
                    raise self._not_open((dataset, number), epoch)
                found.append(served)
        return found

    def _not_open(self, key: ShardKey, epoch: int) -> StaleRoute:
        """Why a shard cannot be asked here at ``epoch``, so that the gateway knows what to wait for."""
        shard = f"dataset {key[0]} shard {key[1]} at epoch {epoch}"
        held = self._held_shard(key)
        if held is None:
            return ShardNotHere(f"{shard}: not held here")
        if held.epoch != epoch:
            return EpochDiffers(f"{shard}: held at epoch {held.epoch} here")
        if held.status.kind is ERROR:
            return StaleRoute(f"{shard}: not open here: {held.status.reason}")
        return ShardOpening(f"{shard}: being opened here ({held.status})")

    # ---- on the ingest thread

    def append_to_shard(self, key: ShardKey, jobs: Sequence[AppendJob]) -> list[ShardWriteReply]:
        """One reply per job, in order."""
        self._lease.check()
        with self._lock:
            served = self._served.get(key)
        if served is None:
            return [Refused.of(self._not_open(key, job.epoch)) for job in jobs]
        current = [job.container for job in jobs if job.epoch == served.epoch]
        stored = iter(_store(served.shard, current) if current else ())
        return [
            next(stored) if job.epoch == served.epoch else Refused.of(self._not_open(key, job.epoch)) for job in jobs
        ]

    def upkeep(self) -> bool:
        """A look at what is late or in doubt, and one due flush step of one shard; True if more is due."""
        for opening in self.openings():
            if opening.waits_for_source_s() > self._source_timeout_s:
                self._tell(OpeningOverdue(opening.order.key, opening.order.opening))
        turns = self._turns
        with self._lock:
            served_by_opening = {served.opening.order.opening: served for served in self._served.values()}
        for turn in turns:
            served = served_by_opening.pop(turn.opening, None)
            if served is not None and not self._is_doubted(served) and self._flush_step(served, turn):
                return True
        for served in served_by_opening.values():  # those whose flush failed, until they are in turn again
            self._is_doubted(served)
        return False

    def _is_doubted(self, served: ServedShard) -> bool:
        trouble = served.shard.trouble
        if trouble is not None:
            self._tell(StoreDoubted(served.opening.order.key, served.opening.order.opening, trouble))
        return trouble is not None

    def _flush_step(self, served: ServedShard, turn: FlushTurn) -> bool:
        try:
            is_more_due = served.shard.upkeep(steady_ms(), wall_ms())
        except Exception as error:
            if not isinstance(error, FilorayError):
                logger.warning("%s: a flush failed as nobody expected", served.opening.name, exc_info=True)
            self._tell(FlushFailed(turn.key, turn.opening, reason_of(error)))
            return False
        for notice in served.shard.take_notices():
            logger.warning("%s: %s", served.opening.name, notice)
        if is_more_due or turn.is_retry:
            self._tell(FlushStepped(turn.key, turn.opening, is_more_due=is_more_due))
        return is_more_due

    def flush_in_turn(self, turns: tuple[FlushTurn, ...]) -> None:
        """On any thread."""
        self._turns = turns

    # ---- opening

    def begin_opening(self, order: OpenShard) -> Opening:
        """To be carried out by ``open``."""
        opening = Opening(order)
        with self._lock:
            self._openings[order.opening] = opening
        return opening

    def drop_opening(self, opening: Opening) -> None:
        """No thread could be had for it: whichever comes yet finds that it must touch nothing."""
        opening.abandon()
        self._forget(opening.order.opening)

    def open(self, opening: Opening, run_on_ingest_thread: RunsOnIngestThread) -> None:
        """On an opening thread. What becomes of it is told."""
        key, number = opening.order.key, opening.order.opening
        try:
            opening.begin()
            self._opener.open(opening, len(self._served), run_on_ingest_thread)
        except Abandoned:
            if opening.thread is not None:
                logger.info("%s: an abandoned opening came back", opening.name)
                self._tell(OpeningCameBack(key, number))
        except NotWanted:
            self._forget(number)
            self._tell(OpeningEnded(key, number))
        except Exception as error:
            is_expected = isinstance(error, FilorayError)  # its message says it all
            logger.error("%s does not open: %s", opening.name, reason_of(error), exc_info=not is_expected)
            self._forget(number)
            stored_epoch = error.stored_epoch if isinstance(error, StoreIsAhead) else 0
            self._tell(OpeningFailed(key, number, reason_of(error), stored_epoch))
        else:
            self._tell(Opened(key, number))

    def abandon(self, number: OpeningId) -> threading.Thread | None:
        """Take the shard from an opening that has not begun, or waits for its source; then it is told.

        Returns the thread that hangs, if there is one.
        """
        opening = self._openings.get(number)
        if opening is None or not opening.abandon():
            return None
        self._tell(OpeningAbandoned(opening.order.key, number, is_hanging=opening.thread is not None))
        return opening.thread

    def end_opening(self, number: OpeningId) -> threading.Thread | None:
        """It is wanted no more; as ``abandon``, or it ends by itself."""
        opening = self._openings.get(number)
        if opening is not None:
            opening.end()
        return self.abandon(number)

    def openings(self) -> list[Opening]:
        """Those that are under way, or have a shard open."""
        with self._lock:
            return list(self._openings.values())

    def serve(self, number: OpeningId) -> None:
        """Whoever asks for what that opening opened gets it from now on."""
        opening = self._openings[number]
        assert opening.shard is not None, "it is open"
        order = opening.order
        metadata = MetricMetadataFile(self._files.path(order.config, order.shard, "metrics"))
        with self._lock:
            self._served[order.key] = ServedShard(opening, order.epoch, opening.shard, metadata)
        if opening.consumer is not None:
            opening.consumer.start()

    # ---- closing, on the ingest thread

    def close(self, number: OpeningId) -> None:
        """What that opening opened, in part or whole. What becomes of it is told."""
        opening = self._openings[number]
        with self._lock:
            served = self._served.get(opening.order.key)
            if served is not None and served.opening is opening:
                del self._served[opening.order.key]
        problem = ""
        try:
            _close(opening)
        except Exception as error:
            problem = str(error) or type(error).__name__
            logger.exception("%s: closing it failed", opening.name)
        self._forget(number)
        self._tell(Closed(opening.order.key, number, problem))

    def _forget(self, number: OpeningId) -> None:
        with self._lock:
            self._openings.pop(number, None)


def _close(opening: Opening) -> None:
    try:
        if opening.consumer is not None:
            opening.consumer.stop()
    finally:
        if opening.shard is not None:
            opening.shard.close()


def _store(shard: Shard, containers: Sequence[bytes | memoryview]) -> list[ShardWriteReply]:
    """Together if all are sound, else one by one: a bad container is its sender's affair alone."""
    try:
        return [*shard.append(containers)]
    except BadData as error:
        if len(containers) == 1:
            return [Refused.of(error)]
        return [reply for container in containers for reply in _store(shard, [container])]
