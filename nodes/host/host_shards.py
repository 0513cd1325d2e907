"""The shards that a node has: those that are being opened, and the open ones with all that is done to them.

What is served is found under one short lock, by shard and epoch. Nothing is decided here: what happens to a shard goes
out through ``tell``, and what is to be done about it comes back as a call. Which thread makes it is said with each
method; the threads themselves are ``host_threads.py``'s.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

from filoray.cluster.control.node_effects import FlushTurn, OpenShard, PromoteShard, TellCopies
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
    Unavailable,
    reason_of,
)
from filoray.cluster.node_protocol import HeldShard, ShardEpoch
from filoray.cluster.process.clocks import steady_ms, wall_ms
from filoray.nodes.data.metric_metadata import MetricMetadata
from filoray.nodes.data.node_figures import ShardFigures
from filoray.nodes.host.append_jobs import AppendJob, ShardKey
from filoray.nodes.host.lease import Lease
from filoray.nodes.host.metric_metadata_file import MetricMetadataFile
from filoray.nodes.host.opening import Abandoned, NotWanted, Opening
from filoray.nodes.host.replication.led_shards import LedShard, LedShards
from filoray.nodes.host.served_shards import ServedShard, ServedShards
from filoray.nodes.host.shard_files import ShardFiles
from filoray.nodes.host.shard_opener import ShardOpener
from filoray.nodes.memstore.shard import Shard
from filoray.nodes.streams.consumer import RunsOnIngestThread
from filoray.nodes.wire.write_reply import Refused, ShardWriteReply

logger = logging.getLogger(__name__)


class HostShards:
    """``held_shard``: how a shard is held that is not open, for whoever asks for it.

    ``source_timeout_ms``: how long one answer of a source may take while a shard is opened. ``led_shards``: keep the
    copies of those that have some.
    """

    def __init__(
        self,
        files: ShardFiles,
        opener: ShardOpener,
        lease: Lease,
        held_shard: Callable[[ShardKey], HeldShard | None],
        tell: Callable[[NodeEvent], None],
        source_timeout_ms: int,
        led_shards: LedShards,
    ) -> None:
        self._led_shards = led_shards
        self._files = files
        self._opener = opener
        self._lease = lease
        self._held_shard = held_shard
        self._tell = tell
        self._source_timeout_s = source_timeout_ms / 1000
        self._lock = threading.Lock()
        self._served = ServedShards()
        self._openings: dict[OpeningId, Opening] = {}
        """Until what they opened is closed."""
        self._turns: tuple[FlushTurn, ...] = ()

    # ---- what gateways ask, on any thread

    def readable(self, dataset: str, shards: Sequence[ShardEpoch]) -> list[Shard]:
        """The open shards of (shard, epoch) pairs.

        Raises ShardNotHere, EpochDiffers, ShardOpening or, if it cannot be opened, StaleRoute; LeaseLapsed.
        """
        found = self._find(dataset, shards)
        for served in found:
            if served.led is not None and not served.led.is_shown:
                raise ShardOpening(f"{served.opening.name} at epoch {served.epoch}: its copies are being looked at")
        return [served.shard for served in found]

    def put_metadata(
        self, dataset: str, shards: Sequence[ShardEpoch], by_shard: Sequence[Sequence[MetricMetadata]]
    ) -> None:
        """Into the files beside the shards, and beside their copies as well as can be.

        Raises as ``readable``, and Unavailable.
        """
        for served, entries in zip(self._find(dataset, shards), by_shard, strict=True):
            served.metadata.put(entries)
            if served.led is not None:
                served.led.tell_metrics(entries)

    def metadata_files(self, dataset: str, shards: Sequence[ShardEpoch]) -> list[MetricMetadataFile]:
        """Beside the shards of (shard, epoch) pairs; raises as ``readable``."""
        return [served.metadata for served in self._find(dataset, shards)]

    def figures(self) -> tuple[ShardFigures, ...]:
        """Of all open shards."""
        all_served = self._served.all()
        followers = self._led_shards.figures({key: it.led for key, it in all_served.items() if it.led is not None})
        return tuple(
            [replace(served.figures(), followers=followers.get(key, ())) for key, served in all_served.items()]
        )

    def served_count(self) -> int:
        return len(self._served)

    def _find(self, dataset: str, shards: Sequence[ShardEpoch]) -> list[ServedShard]:
        self._lease.check()
        found = []
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
        if held.is_follower:
            return ShardNotHere(f"{shard}: only followed here")
        if held.epoch != epoch:
            return EpochDiffers(f"{shard}: held at epoch {held.epoch} here")
        if held.status.kind is ERROR:
            return StaleRoute(f"{shard}: not open here: {held.status.reason}")
        return ShardOpening(f"{shard}: being opened here ({held.status})")

    # ---- on the ingest thread

    def append_to_shard(self, key: ShardKey, jobs: Sequence[AppendJob]) -> list[ShardWriteReply] | None:
        """One reply per job, in order; None: of a shard that has copies, and each is answered in time."""
        self._lease.check()
        served = self._served.get(key)
        if served is None:
            return [Refused.of(self._not_open(key, job.epoch)) for job in jobs]
        if served.led is not None:
            for job in jobs:
                if job.epoch != served.epoch:
                    job.answer(Refused.of(self._not_open(key, job.epoch)))
            served.led.rounds.append([job for job in jobs if job.epoch == served.epoch])
            return None
        current = [job.container for job in jobs if job.epoch == served.epoch]
        stored = iter(_store(served.shard, current) if current else ())
        return [
            next(stored) if job.epoch == served.epoch else Refused.of(self._not_open(key, job.epoch)) for job in jobs
        ]

    def upkeep(self) -> bool:
        """A look at what is late or in doubt, and one due flush step of one shard; True if more is due.

        Then rounds are begun that waited for it: a shard that is always written to must be flushed all the same.
        """
        try:
            return self._upkeep_step()
        finally:
            self._led_shards.go_on()

    def _upkeep_step(self) -> bool:
        for opening in self.openings():
            if opening.waits_for_source_s() > self._source_timeout_s:
                self._tell(OpeningOverdue(opening.order.key, opening.order.opening))
        turns = self._turns
        served_by_opening = {served.number: served for served in self._served.all().values()}
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
        if served.led is not None and served.led.rounds.is_open:
            return False
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

    def begin_opening(self, order: OpenShard, *, was_followed: bool = False) -> Opening:
        """To be carried out by ``open``."""
        opening = Opening(order, was_followed=was_followed)
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
            self._opener.open(opening, self.served_count(), run_on_ingest_thread)
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

    def opening(self, number: OpeningId) -> Opening:
        """One that is under way, or has a shard open."""
        return self._openings[number]

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
        led = self._led_shards.lead(order, opening.shard, metadata) if order.config.has_copies else None
        self._served.put(ServedShard(opening, order.epoch, opening.shard, metadata, led))
        if opening.consumer is not None:
            opening.consumer.start(None if led is None else led.append_streamed)

    def tell_copies(self, copies: TellCopies) -> None:
        """On any thread. For a shard that is served no more it is nothing."""
        served = self._served.opened_by(copies.key, copies.opening)
        if served is None:
            return
        if served.opening.order.config.shares_store:
            self._led_shards.run(lambda: self._keep_warm(copies))
        elif served.led is not None:
            served.led.tell(copies.copies, copies.peers)

    def _keep_warm(self, copies: TellCopies) -> None:
        """On the ingest thread: whoever follows the shard is told of each change, as long as somebody does."""
        served = self._served.opened_by(copies.key, copies.opening)
        if served is None or served.opening.consumer is not None:  # what a source brings is in no entry
            return
        led = served.led
        if copies.copies.followers and led is None:
            led = self._led_shards.lead(served.opening.order, served.shard, served.metadata)
        if led is not None:
            led.tell(copies.copies, copies.peers)
        if led is not None and not copies.copies.followers:
            self._led_shards.end(led)
            led = None
        self._served.put(replace(served, led=led))

    # ---- copies of others' shards

    def follow(self, opening: Opening, register: Callable[[OpenShard], None]) -> None:
        """Instead of ``open``, on the follow thread: nothing is opened before the shard's leader asks for it."""
        key, number = opening.order.key, opening.order.opening
        try:
            opening.begin()
        except Abandoned:
            return
        except NotWanted:
            self._forget(number)
            self._tell(OpeningEnded(key, number))
            return
        register(opening.order)
        self._tell(Opened(key, number))

    def begin_promotion(self, order: PromoteShard) -> Opening:
        """What the node followed is to be led by it. To be carried out by ``promote``, or else by ``open``."""
        followed = self._openings[order.opening].order
        led = replace(followed, epoch=order.epoch, was_open=order.was_open, is_follower=False)
        return self.begin_opening(led, was_followed=True)

    def promote(self, opening: Opening, shard: Shard, run_on_ingest_thread: RunsOnIngestThread) -> bool:
        """``shard``: the copy, open and in nobody else's hand. What becomes of it is told.

        False: it cannot lead as it is, and is closed; what is stored of it may be opened.
        """
        key, number, epoch = opening.order.key, opening.order.opening, opening.order.epoch
        try:
            opening.begin()
            opening.was_followed = False  # the copy is in this hand
            trouble = shard.trouble
            if trouble is not None:
                raise Unavailable(trouble)
            self._files.prepare(opening.order.config)
            shard.promote(epoch)
        except Abandoned:
            shard.close()
        except NotWanted:
            shard.close()
            self._forget(number)
            self._tell(OpeningEnded(key, number))
        except Exception as error:
            is_expected = isinstance(error, FilorayError)
            logger.warning("%s: its copy cannot lead: %s", opening.name, reason_of(error), exc_info=not is_expected)
            shard.close()
            return False
        else:
            opening.shard = shard
            self._opener.resume_stream(opening, run_on_ingest_thread)
            self._tell(Opened(key, number))
        return True

    def opening_failed(self, opening: Opening, error: Exception) -> None:
        """It could not even be begun."""
        self.drop_opening(opening)
        self._tell(OpeningFailed(opening.order.key, opening.order.opening, reason_of(error)))

    # ---- closing, on the ingest thread

    def close(self, number: OpeningId) -> None:
        """What that opening opened, in part or whole, when those who keep it warm have all; what comes of it is told.

        Nobody gets it meanwhile.
        """
        opening = self._openings[number]
        served = self._served.opened_by(opening.order.key, number)
        if served is not None:
            self._served.remove(opening.order.key)
        led = None if served is None else served.led
        if led is None:
            self._close(opening, None)
        else:
            self._led_shards.end_when_told(led, lambda: self._close(opening, led))

    def _close(self, opening: Opening, led: LedShard | None) -> None:
        number, problem = opening.order.opening, ""
        try:
            if led is not None:
                self._led_shards.end(led)
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
