"""Opens one shard on the thread that calls: its store, and what its source has by now if it is fed by one.

Raises whatever keeps it from that; whether it is tried again is the NodeCore's to say.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from filoray.cluster.config.dataset_limits import DatasetLimits
from filoray.cluster.control.node_events import NodeEvent, OpeningProgressed, SourceFailed, SourceWentOn
from filoray.cluster.control.shard_status import IngestionError, ShardEvent
from filoray.cluster.process.open_files import check_room
from filoray.nodes.host.opening import Abandoned, Opening
from filoray.nodes.host.shard_files import ShardFiles
from filoray.nodes.memstore.shard import Shard
from filoray.nodes.streams.consumer import RunsOnIngestThread, StreamConsumer
from filoray.nodes.streams.sources import is_polled, open_stream
from filoray.nodes.streams.stream import IngestionStream

logger = logging.getLogger(__name__)


class ShardOpener:
    """``limits``: what a data set's source may make this node do, checked whenever it is opened.

    ``source_timeout_ms``: of one answer of a source. ``tell``: how an opening gets on, and how its source does later.
    """

    def __init__(
        self, files: ShardFiles, limits: DatasetLimits, source_timeout_ms: int, tell: Callable[[NodeEvent], None]
    ) -> None:
        self._files = files
        self._limits = limits
        self._source_timeout_ms = source_timeout_ms
        self._tell = tell

    def open(self, opening: Opening, open_count: int, run_on_ingest_thread: RunsOnIngestThread) -> None:
        """What it opens is ``opening``'s. ``open_count``: of shards that are open in this node."""
        order = opening.order
        if self._files.column_store_url is None:
            check_room(open_count)
        self._files.prepare(order.config)
        spec = self._files.spec(order)

        def on_progress(progress_pct: int) -> None:
            self._tell(OpeningProgressed(order.key, order.opening, progress_pct))

        if is_polled(order.config):
            opening.shard = Shard.open(spec)  # its log is empty, the stream's progress is what counts
            opening.consumer = self._recover_stream(opening, opening.shard, on_progress, run_on_ingest_thread)
        else:
            opening.shard = Shard.open(spec, on_progress)
        self._files.describe(order.config)
        for damage in opening.shard.stats().damages:
            logger.error("%s", damage)

    def resume_stream(self, opening: Opening, run_on_ingest_thread: RunsOnIngestThread) -> None:
        """Of a copy that leads from now on, where its source feeds it: that goes on behind what the copy has."""
        if is_polled(opening.order.config):
            assert opening.shard is not None, "it was followed"
            opening.consumer = self._consumer(opening, opening.shard, run_on_ingest_thread)
            opening.consumer.resume()

    def _recover_stream(
        self,
        opening: Opening,
        shard: Shard,
        on_progress: Callable[[int], None],
        run_on_ingest_thread: RunsOnIngestThread,
    ) -> StreamConsumer:
        """The consumer of a shard that has all its source holds now; closes the shard if that fails."""
        consumer = self._consumer(opening, shard, run_on_ingest_thread)
        try:
            consumer.recover(on_progress, opening.unwanted, opening.at_source, self._source_timeout_ms / 1000)
        except Abandoned:
            consumer.stop()
            raise
        except BaseException:
            consumer.stop()
            shard.close()
            raise
        return consumer

    def _consumer(self, opening: Opening, shard: Shard, run_on_ingest_thread: RunsOnIngestThread) -> StreamConsumer:
        order = opening.order

        def reopen(offset: int | None) -> IngestionStream:
            stream = open_stream(order.config, order.shard, offset, self._limits)
            assert stream is not None, "its source is polled"
            return stream

        def report(event: ShardEvent) -> None:
            if isinstance(event, IngestionError):
                self._tell(SourceFailed(order.key, order.opening, event.reason))
            else:
                self._tell(SourceWentOn(order.key, order.opening))

        return StreamConsumer(opening.name, shard, reopen, run_on_ingest_thread, report)
