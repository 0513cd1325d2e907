"""The shards that one node holds: opened, written, read, closed. No Ray, no sockets.

What the coordinator says (start, stop, delete) comes in as method calls; what becomes of a shard goes out
through ``report``. Shards are opened on threads of their own, changed on the ingest thread alone, and read on
any thread. A shard that fails, to open or to flush, costs the others nothing: it is tried again later, by itself.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from filoray.cluster.config.dataset import DatasetConfig, storage_name
from filoray.cluster.config.dataset_file import DATASET_FILE, write_dataset_file
from filoray.cluster.config.dataset_limits import NO_FILES, DatasetLimits
from filoray.cluster.control.shard_status import (
    ACTIVE,
    ASSIGNED,
    ERROR,
    RECOVERY,
    TRANSITIONS,
    IngestionError,
    IngestionStarted,
    IngestionStopped,
    RecoveryInProgress,
    RecoveryStarted,
    ShardEvent,
    ShardStatus,
    next_status,
)
from filoray.cluster.errors import (
    BadData,
    EpochDiffers,
    FilorayError,
    ShardNotHere,
    ShardOpening,
    StaleRoute,
    StoreIsAhead,
)
from filoray.cluster.process.clocks import steady_ms, wall_ms
from filoray.cluster.process.open_files import check_room
from filoray.cluster.process.thread_watch import ThreadWatch
from filoray.nodes.host.ingest_worker import AppendJob, IngestWorker, PendingWrite, ShardKey
from filoray.nodes.host.lease import Lease
from filoray.nodes.host.metric_metadata_file import MetricMetadataFile
from filoray.nodes.host.opening_attempt import Abandoned, NotWanted, OpeningAttempt
from filoray.nodes.host.opening_threads import OpeningThreads
from filoray.nodes.memstore.shard import Shard
from filoray.nodes.memstore.shard_spec import ShardSpec
from filoray.nodes.memstore.store.store_choice import delete_shared_store
from filoray.nodes.streams.consumer import StreamConsumer
from filoray.nodes.streams.sources import is_polled, open_stream
from filoray.nodes.streams.stream import IngestionStream
from filoray.nodes.wire.write_reply import Refused, ShardWriteReply

logger = logging.getLogger(__name__)

_OPENING_THREADS = 4
_OPENING_THREADS_PER_SOURCE = 2
_HANGING_MAX = 3
_GATE_LOOK_S = 0.05
_RETRY_DELAY_S_MIN = 0.5
_RETRY_DELAY_S_MAX = 30.0

Report = Callable[[str, int, int, ShardEvent], None]
"""(dataset, shard, epoch, event): what became of a shard, for the coordinator. Called on any thread."""


@dataclass(slots=True)
class HostedShard:
    """``shard`` is None until it is open. ``released`` is set when the node is to hold it no more.

    ``consumer`` reads the shard's stream, if it has one besides its log.

    ``gate`` is held while the shard opens or closes: a close waits for an opening that is under way, unless that waits
    for the shard's source: then it is abandoned. ``half_open`` is what an abandoned one left.

    ``upkeep_at_s`` and ``upkeep_delay_s``: after a flush that failed, when (monotonic) and how long after it the next
    one is tried.
    """

    config: DatasetConfig
    number: int
    epoch: int
    metadata: MetricMetadataFile
    shard: Shard | None = None
    consumer: StreamConsumer | None = None
    status: ShardStatus = field(default_factory=lambda: ShardStatus(ASSIGNED))
    released: threading.Event = field(default_factory=threading.Event)
    gate: threading.Lock = field(default_factory=threading.Lock)
    was_open: bool = False
    """Here or elsewhere: what it stored must be there when it is opened."""
    upkeep_at_s: float = 0.0
    upkeep_delay_s: float = _RETRY_DELAY_S_MIN
    attempt: OpeningAttempt | None = None
    half_open: Shard | None = None
    hanging: list[threading.Thread] = field(default_factory=list)
    """Threads of abandoned attempts that have not come back."""


class ShardHost:
    """``data_dir``: where each data set has a directory, by its storage name, with a file per shard.

    ``column_store_url``: the PostgreSQL that has the shards' samples instead.

    ``limits``: what a data set's source may make this node do, checked whenever it is opened.

    ``source_timeout_ms``: how long one answer of a source may take while a shard is opened.
    """

    def __init__(
        self,
        data_dir: Path,
        report: Report,
        column_store_url: str | None = None,
        limits: DatasetLimits = NO_FILES,
        source_timeout_ms: int = 30_000,
        lease: Lease | None = None,
    ) -> None:
        self._source_timeout_s = source_timeout_ms / 1000
        self._limits = limits
        self._lease = lease or Lease(is_needed=False)
        self._data_dir = data_dir
        self._column_store_url = column_store_url
        self._report_to = report
        self._hosted: dict[ShardKey, HostedShard] = {}
        self._deleted: dict[str, int] = {}
        """Dataset to the last generation whose shards were to be deleted."""
        self._lock = threading.Lock()
        self._openers = OpeningThreads(_OPENING_THREADS, _OPENING_THREADS_PER_SOURCE)
        self._report_lock = threading.Lock()
        self._upkeep_turn = 0
        self._ingest = IngestWorker(self)

    # ---- what the coordinator says

    def start_shards(
        self, config: DatasetConfig, shards: Sequence[tuple[int, int]], opened: Sequence[int] = ()
    ) -> None:
        """Take (shard, epoch) pairs over; returns at once, ``report`` tells how it goes. Twice is as once.

        ``opened``: those that were open before, here or elsewhere.
        """
        for number, epoch in shards:
            key = (config.name, number)
            with self._lock:
                known = self._hosted.get(key)
                is_deleted = config.generation <= self._deleted.get(config.name, -1)
                if is_deleted or (known is not None and known.epoch >= epoch):
                    if known is not None and not is_deleted and known.epoch == epoch:
                        self._tell_again(known)
                    continue  # the order was given before, or was overtaken by a later one
                hosted = self._hosted[key] = HostedShard(
                    config, number, epoch, MetricMetadataFile(self._path(config.storage_name, number, "metrics"))
                )
                hosted.was_open = number in opened
            if known is not None:
                self._release(known)
            self._submit_opening(hosted, known)

    def stop_shards(self, dataset: str, shards: Sequence[tuple[int, int]]) -> None:
        """Flush and close those that are held at that epoch. Returns when that is done."""
        wanted = dict(shards)
        self._give_up(dataset, wanted, lambda hosted: hosted.epoch == wanted[hosted.number])

    def delete_shards(self, dataset: str, generation: int, shards: Sequence[int]) -> None:
        """Close what is held of that generation and remove its files alone. Returns when that is done."""
        with self._lock:
            self._deleted[dataset] = max(generation, self._deleted.get(dataset, -1))
        self._give_up(dataset, shards, lambda hosted: hosted.config.generation == generation)
        for (
            number
        ) in shards:  # on this thread: rows of a large shard take a database long, and other shards take writes
            self._delete_files(storage_name(dataset, generation), number)
        self._remove_directory_if_empty(storage_name(dataset, generation))

    def _give_up(self, dataset: str, shards: Iterable[int], is_meant: Callable[[HostedShard], bool]) -> None:
        """Close those that are held and meant; returns when that is done."""
        given_up = []
        for number in shards:
            with self._lock:
                hosted = self._hosted.get((dataset, number))
                if hosted is None or not is_meant(hosted):
                    continue
                del self._hosted[dataset, number]
            self._wait_until_not_opening(hosted)
            given_up.append(self._ingest.run(partial(self._close, hosted)))
        for future in given_up:
            future.result()

    def watch_with(self, watch: ThreadWatch) -> None:
        """Have it known when the shards get no further."""
        self._ingest.watch_with(watch)

    def held(self) -> list[HostedShard]:
        with self._lock:
            return list(self._hosted.values())

    def close(self) -> None:
        """Close every shard after what was submitted is stored."""
        for hosted in self.held():
            self._wait_until_not_opening(hosted)
            self._ingest.run(partial(self._close, hosted))
        self._ingest.close()
        self._openers.close()

    # ---- what gateways ask

    def readable(self, dataset: str, shards: Sequence[tuple[int, int]]) -> list[Shard]:
        """The open shards of (shard, epoch) pairs.

        Raises ShardNotHere, EpochDiffers, ShardOpening or, if it cannot be opened, StaleRoute; LeaseLapsed.
        """
        return [shard for _, shard in self._open_shards(dataset, shards)]

    def metadata_files(self, dataset: str, shards: Sequence[tuple[int, int]]) -> list[MetricMetadataFile]:
        """Beside the shards of (shard, epoch) pairs; raises as ``readable``."""
        return [hosted.metadata for hosted, _ in self._open_shards(dataset, shards)]

    def _open_shards(self, dataset: str, shards: Sequence[tuple[int, int]]) -> list[tuple[HostedShard, Shard]]:
        self._lease.check()
        found = []
        with self._lock:
            for number, epoch in shards:
                hosted = self._hosted.get((dataset, number))
                shard = None if hosted is None else hosted.shard
                if hosted is None or shard is None or hosted.epoch != epoch:
                    raise _not_open(dataset, number, epoch, hosted)
                found.append((hosted, shard))
        return found

    def submit(self, dataset: str, shards: Sequence[tuple[int, int]], containers: Sequence[bytes | memoryview],
               pending: PendingWrite) -> None:  # fmt: skip
        """Queue one container per (shard, epoch); ``pending`` is answered when all are stored or refused."""
        for index, ((number, epoch), container) in enumerate(zip(shards, containers, strict=True)):
            self._ingest.submit(AppendJob((dataset, number), epoch, container, pending, index))

    # ---- on the ingest thread

    def append_to_shard(self, key: ShardKey, jobs: Sequence[AppendJob]) -> list[ShardWriteReply]:
        self._lease.check()
        with self._lock:
            hosted = self._hosted.get(key)
        shard = None if hosted is None else hosted.shard
        current = [job for job in jobs if hosted is not None and shard is not None and job.epoch == hosted.epoch]
        stored = iter(_store(shard, [job.container for job in current]) if shard is not None and current else ())
        return [
            next(stored)
            if hosted is not None and shard is not None and job.epoch == hosted.epoch
            else Refused.of(_not_open(*key, job.epoch, hosted))
            for job in jobs
        ]

    def upkeep(self) -> bool:
        """One due flush step of one shard, whose turn is over then; True if more is due."""
        for hosted in self.held():
            self._abandon_if_late(hosted)
        opened = [(hosted, hosted.shard) for hosted in self.held() if hosted.shard is not None]
        for i in range(len(opened)):
            turn = (self._upkeep_turn + i) % len(opened)
            hosted, shard = opened[turn]
            if shard.trouble is not None:
                self._reopen(hosted, shard.trouble)
            elif self._upkeep_of(hosted, shard):
                self._upkeep_turn = turn + 1
                return True
        return False

    def _upkeep_of(self, hosted: HostedShard, shard: Shard) -> bool:
        """A flush that fails (a full disk, a later owner) is tried again with growing delays."""
        if time.monotonic() < hosted.upkeep_at_s:
            return False
        try:
            is_more_due = shard.upkeep(steady_ms(), wall_ms())
        except Exception as error:
            reason = error.message if isinstance(error, FilorayError) else f"{type(error).__name__}: {error}"
            logger.warning(
                "dataset %s shard %d: a flush failed, next attempt in %.1f s: %s",
                hosted.config.name, hosted.number, hosted.upkeep_delay_s, reason,
                exc_info=not isinstance(error, FilorayError),
            )  # fmt: skip
            hosted.upkeep_at_s = time.monotonic() + hosted.upkeep_delay_s
            hosted.upkeep_delay_s = min(2 * hosted.upkeep_delay_s, _RETRY_DELAY_S_MAX)
            return False
        hosted.upkeep_delay_s = _RETRY_DELAY_S_MIN
        for notice in shard.take_notices():
            logger.warning("dataset %s shard %d: %s", hosted.config.name, hosted.number, notice)
        return is_more_due

    # ---- opening and closing

    def _submit_opening(
        self, hosted: HostedShard, previous: HostedShard | None, retry_delay_s: float = _RETRY_DELAY_S_MIN
    ) -> None:
        self._openers.submit(
            hosted.config.name,
            partial(self._open, hosted, previous, retry_delay_s),
            has_source=is_polled(hosted.config),
        )

    def _open(self, hosted: HostedShard, previous: HostedShard | None, retry_delay_s: float) -> None:
        """On an opening thread: tried again later if it fails, unless the node is to hold the shard no more.

        The thread does not wait for that: the shards that can be opened are as many as there are.
        """
        try:
            if previous is not None:
                self._wait_until_not_opening(previous)
                self._ingest.run(lambda: self._close(previous)).result()
            if hosted.released.is_set():
                return
            self._open_once(hosted, OpeningAttempt(retry_delay_s))
        except NotWanted:
            pass
        except Abandoned:
            logger.info("dataset %s shard %d: an abandoned opening came back", hosted.config.name, hosted.number)
        except Exception as error:
            reason = error.message if isinstance(error, FilorayError) else f"{type(error).__name__}: {error}"
            expected = isinstance(error, FilorayError)  # its message says it all
            place = hosted.config.name, hosted.number
            logger.error("dataset %s shard %d does not open: %s", *place, reason, exc_info=not expected)
            stored_epoch = error.stored_epoch if isinstance(error, StoreIsAhead) else 0
            self._open_later(hosted, IngestionError(reason, stored_epoch), retry_delay_s)

    def _open_later(self, hosted: HostedShard, error: IngestionError, retry_delay_s: float) -> None:
        self._report(hosted, error)
        next_delay_s = min(2 * retry_delay_s, _RETRY_DELAY_S_MAX)
        timer = threading.Timer(retry_delay_s, self._open_again, (hosted, next_delay_s))
        timer.daemon = True
        timer.start()

    def _open_again(self, hosted: HostedShard, retry_delay_s: float) -> None:
        """Unless too many attempts hang already: then when one of them has come back."""
        hosted.hanging = [thread for thread in hosted.hanging if thread.is_alive()]
        if hosted.released.is_set():
            return
        if len(hosted.hanging) >= _HANGING_MAX:
            reason = f"{hosted.status.reason}; {len(hosted.hanging)} attempts have not come back"
            self._open_later(hosted, IngestionError(reason), _RETRY_DELAY_S_MAX)
        else:
            self._submit_opening(hosted, None, retry_delay_s)

    def _wait_until_not_opening(self, hosted: HostedShard) -> None:
        """``hosted`` is not to be held any more. Not on the ingest thread."""
        self._release(hosted)
        while not (gate := hosted.gate).acquire(timeout=_GATE_LOOK_S):
            self._abandon(hosted)
        gate.release()

    def _release(self, hosted: HostedShard) -> None:
        """It is not to be held any more, so that whatever its source may still say is of no use. Returns at once."""
        hosted.released.set()
        attempt = hosted.attempt
        if attempt is not None:
            attempt.is_wanted_no_more()
            self._abandon(hosted)

    def _abandon_if_late(self, hosted: HostedShard) -> None:
        """On the ingest thread, which closes shards."""
        attempt = hosted.attempt
        if attempt is None or attempt.waits_for_source_s() <= self._source_timeout_s or not self._abandon(hosted):
            return
        try:
            self._close_half_open(hosted)
        except Exception:
            logger.exception("dataset %s shard %d: closing it failed", hosted.config.name, hosted.number)
        reason = (
            f"dataset {hosted.config.name} shard {hosted.number}: its source ({hosted.config.source_factory}) gave no "
            f"answer within filoray.node.source-timeout = {self._source_timeout_s:g} s"
        )
        logger.error("%s; next attempt in %.1f s", reason, attempt.retry_delay_s)
        self._open_later(hosted, IngestionError(reason), attempt.retry_delay_s)

    def _abandon(self, hosted: HostedShard) -> bool:
        """Take the shard from an opening that waits for its source, and the place from its thread."""
        attempt = hosted.attempt
        if attempt is None or not attempt.abandon():
            return False
        hosted.attempt, hosted.half_open = None, attempt.shard
        hosted.hanging.append(attempt.thread)
        hosted.gate = threading.Lock()  # the old one is held for as long as the thread hangs
        self._openers.give_up(attempt.thread)
        return True

    def _open_once(self, hosted: HostedShard, attempt: OpeningAttempt) -> None:
        path = self._path(hosted.config.storage_name, hosted.number)
        if self._column_store_url is not None:
            path.parent.mkdir(parents=True, exist_ok=True)  # for the metrics' types; a store of files makes its own
        reported_pct = -1

        def on_progress(progress_pct: int) -> None:
            nonlocal reported_pct
            if reported_pct < 0:
                self._report(hosted, RecoveryStarted())
            if progress_pct >= reported_pct + 5:
                reported_pct = progress_pct
                self._report(hosted, RecoveryInProgress(progress_pct))

        spec = ShardSpec(
            hosted.config.name, hosted.number, hosted.epoch, path, hosted.config.store,
            column_store_url=self._column_store_url, generation=hosted.config.generation, was_open=hosted.was_open,
        )  # fmt: skip
        with hosted.gate:
            if hosted.released.is_set():
                return
            if self._column_store_url is None:
                check_room(sum(other.shard is not None for other in self.held()))
            if is_polled(hosted.config):
                shard = attempt.shard = Shard.open(spec)  # its log is empty, the stream's progress is what counts
                hosted.attempt = attempt
                if hosted.released.is_set():
                    attempt.is_wanted_no_more()
                hosted.consumer = self._recover_stream(hosted, attempt, shard, on_progress)
                hosted.attempt = None
            else:
                shard = Shard.open(spec, on_progress)
            hosted.shard = shard
            hosted.was_open = True
            self._describe(path.parent, hosted.config)
        for damage in shard.stats().damages:
            logger.error("%s", damage)
        self._report(hosted, IngestionStarted())
        if hosted.consumer is not None:
            hosted.consumer.start()

    def _recover_stream(
        self, hosted: HostedShard, attempt: OpeningAttempt, shard: Shard, on_progress: Callable[[int], None]
    ) -> StreamConsumer:
        """The consumer of a shard that has all its source holds now; closes the shard if that fails."""

        def reopen(offset: int | None) -> IngestionStream:
            stream = open_stream(hosted.config, hosted.number, offset, self._limits)
            assert stream is not None, "its source is polled"
            return stream

        consumer = StreamConsumer(
            f"dataset {hosted.config.name} shard {hosted.number}",
            shard,
            reopen,
            self._ingest.run,
            lambda event: self._report(hosted, event),
        )
        try:
            consumer.recover(on_progress, hosted.released, attempt.at_source, self._source_timeout_s)
        except Abandoned:
            consumer.stop()
            raise
        except BaseException:
            hosted.attempt = None
            consumer.stop()
            shard.close()
            raise
        return consumer

    def _reopen(self, hosted: HostedShard, reason: str) -> None:
        """Its store does not know what is stored: close the shard and recover it, under the same epoch."""
        logger.warning("dataset %s shard %d is opened anew: %s", hosted.config.name, hosted.number, reason)
        self._report(hosted, IngestionError(reason))
        try:
            with hosted.gate:
                self._let_go(hosted)
        finally:  # whatever closing it met, nobody else would open it again
            self._submit_opening(hosted, None)

    def _close_half_open(self, hosted: HostedShard) -> None:
        half_open, hosted.half_open = hosted.half_open, None
        if half_open is not None:
            half_open.close()

    def _let_go(self, hosted: HostedShard) -> None:
        self._close_half_open(hosted)
        shard, hosted.shard = hosted.shard, None
        try:
            if hosted.consumer is not None:
                hosted.consumer.stop()
        finally:
            if shard is not None:
                shard.close()

    def _close(self, hosted: HostedShard) -> None:
        try:
            with hosted.gate:
                self._let_go(hosted)
        finally:
            self._report(hosted, IngestionStopped())

    def _report(self, hosted: HostedShard, event: ShardEvent) -> None:
        with self._report_lock:  # consumers, openers and the ingest thread report
            if type(event) not in TRANSITIONS[hosted.status.kind]:
                return  # an opening that is tried again stays in Error until it works: its steps are no news
            hosted.status = next_status(hosted.status, event)
            self._report_to(hosted.config.name, hosted.number, hosted.epoch, event)

    def _tell_again(self, hosted: HostedShard) -> None:
        """Whoever gives an order twice did not hear what became of it."""
        with self._report_lock:
            status = hosted.status
            event = {
                ACTIVE: IngestionStarted(), RECOVERY: RecoveryStarted(), ERROR: IngestionError(status.reason),
            }.get(status.kind)  # fmt: skip
            if event is not None:
                self._report_to(hosted.config.name, hosted.number, hosted.epoch, event)

    def _path(self, storage: str, number: int, kind: str = "db") -> Path:
        return self._data_dir / storage / f"shard-{number}.{kind}"

    def _delete_files(self, storage: str, number: int) -> None:
        for path in (self._data_dir / storage).glob(f"shard-{number}.*"):  # with SQLite's -wal and -shm
            path.unlink(missing_ok=True)
        delete_shared_store(self._column_store_url, storage, number)

    @staticmethod
    def _describe(directory: Path, config: DatasetConfig) -> None:
        try:
            write_dataset_file(directory, config)
        except OSError as error:  # only a coordinator that lost its store would miss it
            logger.warning("dataset %s: %s cannot be written: %s", config.name, directory / DATASET_FILE, error)

    def _remove_directory_if_empty(self, storage: str) -> None:
        directory = self._data_dir / storage
        try:
            if not any(directory.glob("shard-*")):
                (directory / DATASET_FILE).unlink(missing_ok=True)
            directory.rmdir()
        except OSError:
            pass


def _not_open(dataset: str, number: int, epoch: int, hosted: HostedShard | None) -> StaleRoute:
    """Why a shard cannot be asked here at ``epoch``, so that the gateway knows what to wait for."""
    shard = f"dataset {dataset} shard {number}"
    if hosted is None:
        return ShardNotHere(f"{shard} at epoch {epoch}: not held here")
    if hosted.epoch != epoch:
        return EpochDiffers(f"{shard} at epoch {epoch}: held at epoch {hosted.epoch} here")
    if hosted.status.kind is ERROR:
        return StaleRoute(f"{shard} at epoch {epoch}: not open here: {hosted.status.reason}")
    return ShardOpening(f"{shard} at epoch {epoch}: being opened here ({hosted.status})")


def _store(shard: Shard, containers: Sequence[bytes | memoryview]) -> list[ShardWriteReply]:
    """Together if all are sound, else one by one: a bad container is its sender's affair alone."""
    try:
        return [*shard.append(containers)]
    except BadData as error:
        if len(containers) == 1:
            return [Refused.of(error)]
        return [reply for container in containers for reply in _store(shard, [container])]
