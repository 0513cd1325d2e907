"""A node without Ray and sockets: the NodeCore, and the real world that it is run in. Decides nothing by itself.

What the coordinator says (start, stop, delete) comes in as method calls; what becomes of a shard goes out through
``report``. What the core wants done is done to ``host_shards.py``'s shards on ``host_threads.py``'s threads: opened on
threads of their own, changed on the ingest thread alone, read on any. Reads and writes do not ask the core.
When what failed is tried again is the core's to say (``shard_slot.py``, ``flush_turns.py``).
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path

from filoray.cluster.config.dataset import DatasetConfig
from filoray.cluster.config.dataset_limits import NO_FILES, DatasetLimits
from filoray.cluster.control.copy_set import FollowedShard, InSyncProposed, ShardCopies
from filoray.cluster.control.node_core import NodeCore
from filoray.cluster.control.node_dispatcher import NodeDispatcher
from filoray.cluster.control.node_effects import (
    DeleteFiles,
    FlushTurn,
    Note,
    OpenShard,
    PromoteShard,
    Report,
    TellCopies,
)
from filoray.cluster.control.node_events import (
    DeleteOrdered,
    DropOrdered,
    FilesDeleted,
    FollowOrdered,
    NodeEvent,
    OpeningId,
    RequestId,
    ShutdownOrdered,
    StartOrdered,
    StopOrdered,
    TellCopiesOrdered,
    Tick,
)
from filoray.cluster.control.shard_slot import NodeLimits
from filoray.cluster.control.shard_status import ShardEvent
from filoray.cluster.errors import Unavailable
from filoray.cluster.node_protocol import HeldShard, Peer, ShardEpoch, StoredCopies
from filoray.cluster.process.clocks import steady_ms
from filoray.cluster.process.thread_watch import ThreadWatch
from filoray.nodes.host.append_jobs import AppendJob, PendingWrite, ShardKey
from filoray.nodes.host.host_shards import HostShards
from filoray.nodes.host.host_threads import HostThreads
from filoray.nodes.host.lease import Lease
from filoray.nodes.host.metric_metadata_file import MetricMetadataFile
from filoray.nodes.host.opening import Opening
from filoray.nodes.host.replication.followers import Followers
from filoray.nodes.host.replication.led_shards import LedShards
from filoray.nodes.host.replication.replication import Replication
from filoray.nodes.host.replication.replication_settings import ReplicationSettings
from filoray.nodes.host.shard_files import ShardFiles
from filoray.nodes.host.shard_opener import ShardOpener
from filoray.nodes.memstore.shard import Shard
from filoray.nodes.streams.sources import is_polled

logger = logging.getLogger(__name__)

_LOOK_S = 1.0

ReportTo = Callable[[str, int, int, ShardEvent | InSyncProposed], None]
"""(dataset, shard, epoch, event): what became of a shard, for the coordinator. Called on any thread."""


class ShardHost:
    """``node``: its name. ``data_dir``: where the shards' files are, see ``shard_files``.

    ``column_store_url``: the PostgreSQL that has the shards' samples instead.

    ``limits``: what a data set's source may make this node do, checked whenever it is opened.

    ``node_limits``: when openings and flushes are given up and tried again.
    """

    def __init__(
        self,
        node: str,
        data_dir: Path,
        report: ReportTo,
        column_store_url: str | None = None,
        limits: DatasetLimits = NO_FILES,
        node_limits: NodeLimits | None = None,
        lease: Lease | None = None,
        replication: ReplicationSettings | None = None,
    ) -> None:
        node_limits = node_limits or NodeLimits()
        lease = lease or Lease(is_needed=False)
        self._report_to = report
        self._files = ShardFiles(node, data_dir, column_store_url)
        self._core = NodeCore(node_limits)
        self._dispatcher = NodeDispatcher(self._core, self)
        self._request_ids = itertools.count(1)
        self._requests: dict[RequestId, Future[None]] = {}
        self._replication = Replication(node, replication or ReplicationSettings())
        led_shards = LedShards(self._replication, lease, self._dispatcher.take, self._propose)
        self.shards = HostShards(
            self._files,
            ShardOpener(self._files, limits, node_limits.source_timeout_ms, self._dispatcher.take),
            lease,
            self._core.held_shard,
            self._dispatcher.take,
            node_limits.source_timeout_ms,
            led_shards,
        )
        self.threads = HostThreads(self.shards)
        led_shards.run_with(self.threads.run)
        self.followers = Followers(self._files, limits, self.threads.open, self.shards.served_count)

    # ---- what the coordinator says

    def start_shards(self, config: DatasetConfig, shards: Sequence[ShardEpoch], opened: Sequence[int] = ()) -> None:
        """Take (shard, epoch) pairs over; returns at once, ``report`` tells how it goes. Twice is as once.

        ``opened``: those that were open before, here or elsewhere.
        """
        self._order(lambda request: StartOrdered(request, config, tuple(shards), tuple(opened)))

    def stored_copies(self) -> tuple[StoredCopies, ...]:
        """That this node has on its machine, whoever knows of them."""
        return self._files.stored()

    def follow_shards(self, config: DatasetConfig, shards: Sequence[FollowedShard]) -> None:
        """Have copies of shards, as their leaders make them; returns at once."""
        self._order(lambda request: FollowOrdered(request, config, tuple(shards)))

    def drop_copies(self, dataset: str, generation: int, shards: Sequence[FollowedShard]) -> None:
        """Close copies that were not ordered later, and delete this node's files. Returns when that is done."""
        self._order(lambda request: DropOrdered(request, dataset, generation, tuple(shards)))

    def tell_of_copies(self, dataset: str, copies: Sequence[ShardCopies], peers: Sequence[Peer]) -> None:
        """Which copies there are of shards that lead here. ``peers``: their nodes that are members.

        Raises Unavailable if one of them does not lead here at that epoch.
        """
        self._order(lambda request: TellCopiesOrdered(request, dataset, tuple(copies), tuple(peers)))

    def stop_shards(self, dataset: str, shards: Sequence[ShardEpoch]) -> None:
        """Flush and close those that are held at that epoch. Returns when that is done."""
        self._order(lambda request: StopOrdered(request, dataset, tuple(shards)))

    def delete_shards(self, dataset: str, generation: int, shards: Sequence[int]) -> None:
        """Close what is held of that generation and remove its files alone. Returns when that is done."""
        self._order(lambda request: DeleteOrdered(request, dataset, generation, tuple(shards)))

    def close(self) -> None:
        """Close every shard after what was submitted is stored."""
        try:
            self._order(ShutdownOrdered)
        except Unavailable as error:
            logger.warning("the shards did not close in order: %s", error.message)
        self.followers.close()
        self.threads.close()
        self._replication.close()

    def held(self) -> tuple[HeldShard, ...]:
        return self._core.held()

    def watch_with(self, watch: ThreadWatch) -> None:
        """Have it known when the shards get no further."""
        for part in (self.threads, self.followers, self._replication):
            part.watch_with(watch)

    def _order(self, order: Callable[[RequestId], NodeEvent]) -> None:
        """Returns when it is answered; raises Unavailable with what was met."""
        request = next(self._request_ids)
        answer = self._requests[request] = Future()
        self._dispatcher.take(order(request))
        while self.threads.is_ingesting():
            try:
                return answer.result(_LOOK_S)
            except TimeoutError:
                continue
        if not answer.done():
            raise Unavailable("thread ingest has ended, so nothing is closed any more")
        return answer.result()

    # ---- what gateways ask

    def readable(self, dataset: str, shards: Sequence[ShardEpoch]) -> list[Shard]:
        """As the shards' own."""
        return self.shards.readable(dataset, shards)

    def metadata_files(self, dataset: str, shards: Sequence[ShardEpoch]) -> list[MetricMetadataFile]:
        """As the shards' own."""
        return self.shards.metadata_files(dataset, shards)

    def submit(
        self,
        dataset: str,
        shards: Sequence[ShardEpoch],
        containers: Sequence[bytes | memoryview],
        pending: PendingWrite,
    ) -> None:
        """Queue one container per (shard, epoch); ``pending`` is answered when all are stored or refused."""
        for index, ((number, epoch), container) in enumerate(zip(shards, containers, strict=True)):
            self.threads.submit(AppendJob((dataset, number), epoch, container, pending, index))

    # ---- what the core wants done

    def now_ms(self) -> int:
        return steady_ms()

    def open_shard(self, order: OpenShard) -> None:
        opening = self.shards.begin_opening(order)
        if order.is_follower:
            self.followers.run(
                f"following {opening.name}", partial(self.shards.follow, opening, self.followers.register)
            )
        else:
            self._open(opening)

    def _open(self, opening: Opening) -> None:
        action = partial(self.shards.open, opening, self.threads.run)
        try:
            config = opening.order.config
            self.threads.open(config.name, action, has_source=is_polled(config))
        except BaseException:
            self.shards.drop_opening(opening)
            raise

    def promote_shard(self, order: PromoteShard) -> None:
        opening = self.shards.begin_promotion(order)
        self.followers.give_away(order.opening, order.key, partial(self._promote, opening))

    def _promote(self, opening: Opening, shard: Shard | None) -> None:
        """On the follow thread. Without a copy that is open and sound, what is stored is opened."""
        if shard is not None and self.shards.promote(opening, shard, self.threads.run):
            return
        try:
            self._open(opening)
        except Exception as error:
            self.shards.opening_failed(opening, error)

    def tell_copies(self, copies: TellCopies) -> None:
        self.shards.tell_copies(copies)

    def abandon_opening(self, opening: OpeningId) -> None:
        self._give_up(self.shards.abandon(opening))

    def end_opening(self, opening: OpeningId) -> None:
        self._give_up(self.shards.end_opening(opening))

    def _give_up(self, hanging: threading.Thread | None) -> None:
        if hanging is not None:
            self.threads.give_up(hanging)

    def serve_shard(self, opening: OpeningId) -> None:
        self.shards.serve(opening)

    def close_shard(self, opening: OpeningId) -> None:
        close = partial(self.threads.run, partial(self.shards.close, opening))
        closing = self.shards.opening(opening)
        if not closing.was_followed:
            close()
            return

        def closed(shard: Shard | None) -> None:
            try:
                if shard is not None:
                    shard.close()
            finally:
                close()

        self.followers.give_away(opening, closing.order.key, closed)

    def delete_files(self, deletion: DeleteFiles) -> None:
        self.threads.run_aside(f"delete {deletion.dataset}", partial(self._delete_files, deletion))

    def _delete_files(self, deletion: DeleteFiles) -> None:
        problem = ""
        try:
            delete = self._files.delete_own_copies if deletion.own_only else self._files.delete
            delete(deletion.dataset, deletion.generation, deletion.shards)
        except Exception as error:
            problem = str(error) or type(error).__name__
        self._dispatcher.take(FilesDeleted(deletion.request, problem))

    def flush_in_turn(self, turns: tuple[FlushTurn, ...]) -> None:
        self.shards.flush_in_turn(turns)

    def report(self, report: Report) -> None:
        self._report_to(*report.key, report.epoch, report.event)

    def _propose(self, key: ShardKey, epoch: int, proposal: InSyncProposed) -> None:
        self._report_to(*key, epoch, proposal)

    def answer(self, request: RequestId, problem: str) -> None:
        answer = self._requests.pop(request)
        if problem:
            answer.set_exception(Unavailable(problem))
        else:
            answer.set_result(None)

    def wake_at(self, at_ms: int) -> None:
        self.threads.wake_at(at_ms, partial(self._dispatcher.take, Tick()))

    def note(self, note: Note) -> None:
        logger.log(note.level, "dataset %s shard %d: %s", *note.key, note.text)
