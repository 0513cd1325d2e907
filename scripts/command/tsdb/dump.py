"""Reads all series out of shard files, metric by metric, for whoever writes them down."""

from __future__ import annotations

import dataclasses
import heapq
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filoray.cluster.config.server_config import default_server_config
from filoray.command.tsdb.database_copy import copy_database
from filoray.command.tsdb.shard_files import ShardFile
from filoray.command.tsdb.stored_shard import StoredShard
from filoray.nodes.data.matching import METRIC_NAME, LabelMatcher, MatchOp
from filoray.nodes.data.series_batch import SeriesBatch
from filoray.nodes.memstore.shard import Shard
from filoray.nodes.memstore.shard_spec import ShardSpec

_UNLIMITED = 1 << 62


@contextmanager
def opened_copies(files: Sequence[ShardFile], on_file: Callable[[], None] = lambda: None) -> Iterator[list[Shard]]:
    """The shards as they are at this moment, opened from copies beside the originals, which may be in use."""
    with ExitStack() as stack:
        scratch = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix=".dump-", dir=files[0].path.parent.parent))
        )
        shards = []
        for number, file in enumerate(files):
            copy = dataclasses.replace(file, path=scratch / f"{number}.db")
            copy_database(file.path, copy.path)
            with StoredShard(copy) as stored:
                state = stored.state
            store = dataclasses.replace(
                default_server_config().store,
                groups_per_shard=state.group_count,
                max_data_per_shard_query_bytes=_UNLIMITED,
                max_series_per_shard=1 << 40,
            )
            shard = Shard.open(ShardSpec(file.dataset, file.shard, state.epoch, copy.path, store))
            stack.callback(shard.close)
            shards.append(shard)
            on_file()
        yield shards


def metrics_of(shards: Sequence[Shard], start_ms: int, end_ms: int) -> list[str]:
    """Sorted; ``""`` comes first if there are series without a metric name."""
    names = list(heapq.merge(*(shard.label_values(METRIC_NAME, (), start_ms, end_ms) for shard in shards)))
    return ["", *dict.fromkeys(names)]


def batches_of(
    shards: Sequence[Shard],
    matchers: Sequence[LabelMatcher],
    start_ms: int,
    end_ms: int,
    on_metric: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[SeriesBatch]:
    """Series that match, one metric of one shard at a time, so that a metric's series stand together.

    ``warnings`` of a batch name what is damaged and therefore missing. ``on_metric`` gets how many metrics are done.
    """
    metrics = metrics_of(shards, start_ms, end_ms)
    for done, metric in enumerate(metrics):
        on_metric(done, len(metrics))
        chosen = (LabelMatcher(METRIC_NAME, MatchOp.EQUAL, metric), *matchers)
        for shard in shards:
            batch = shard.select(chosen, start_ms, end_ms)
            if batch.labels.count or batch.warnings:
                yield batch
    on_metric(len(metrics), len(metrics))
