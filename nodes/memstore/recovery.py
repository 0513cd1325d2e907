"""Opening a shard: part keys in bulk, metadata of chunks, then the log from the checkpoints.

Chunks stay on disk until a query asks for them. What is damaged is named in ``memory.damages`` and left out;
all the rest is served.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from filoray.nodes.data.part_key import hash_part_keys
from filoray.nodes.data.write_outcome import WriteOutcome
from filoray.nodes.kernels.storage.write_buffers import NewSamples
from filoray.nodes.memstore.chunks.chunk_batch import decode_batch_meta
from filoray.nodes.memstore.chunks.chunk_table import StoredColumns
from filoray.nodes.memstore.ingestion import Ingestion
from filoray.nodes.memstore.shard_memory import GROUP_RUN, ShardMemory, StoredBatch
from filoray.nodes.memstore.store.column_store import ColumnStore
from filoray.nodes.memstore.store.log_record import LogRecord, decode_log_records
from filoray.nodes.memstore.store.part_key_rows import decode_part_key_row
from filoray.nodes.memstore.store.store_errors import DamagedStore
from filoray.nodes.memstore.upkeep.retention_clock import ClockReading

OnProgress = Callable[[int], None]
"""Called with percents, rising to 100."""


def load_part_keys(memory: ShardMemory, store: ColumnStore, shard_name: str) -> None:
    ids: list[NDArray[np.int64]] = []
    keys: list[bytes] = []
    for row in store.part_keys():
        try:
            series_ids, row_keys = decode_part_key_row(row.data, f"{shard_name}: part keys of row {row.row_id}")
        except DamagedStore as error:
            memory.damages[f"{error}; its series are missing"] = None
            continue
        ids.append(series_ids)
        keys += row_keys
    if not keys:
        return
    # Rewritten rows come after younger ones; partitions go by series id.
    all_ids = np.concatenate(ids)
    order = np.argsort(all_ids)
    keys = [keys[i] for i in order.tolist()]
    pair_ids, pair_counts = memory.index.split(keys)
    high, low = hash_part_keys(keys)
    memory.reserve(len(keys))
    memory.index.add(pair_ids, pair_counts, high, low, all_ids[order])


def load_chunks(memory: ShardMemory, store: ColumnStore, shard_name: str) -> None:
    """Metadata of all chunks, and from it the series' oldest and newest sample."""
    partition_of = PartitionOfSeriesId(memory)
    clock = store.state.clock
    newest_ms = 0
    for batch_id, written_ms, data in store.batch_metas():
        # Batches are numbered in the order of their writing, and none is written ahead of the retention clock.
        newest_ms = max(newest_ms, written_ms if clock is None else min(written_ms, clock.retention_ms))
        memory.batches[batch_id] = StoredBatch(newest_ms, 0)
        try:
            meta = decode_batch_meta(data, f"{shard_name}: chunk batch {batch_id}")
        except DamagedStore as error:
            memory.damages[f"{error}; its samples are missing"] = None
            continue  # it leaves the store when its time is over, as the others do
        column_places, chunk_places = meta.places()
        partitions = partition_of(meta.series_ids)
        memory.chunks.add_stored(
            batch_id,
            StoredColumns(
                partitions=partitions,
                chunk_columns=meta.chunk_columns.astype(np.int64),
                chunk_places=chunk_places,
                chunk_lengths=meta.chunk_lengths.astype(np.int64),
                chunk_checksums=meta.chunk_checksums,
                samples=meta.samples.astype(np.int64),
                first_ms=meta.first_ms,
                last_ms=meta.last_ms,
                places=column_places,
                lengths=meta.lengths.astype(np.int64),
                checksums=meta.checksums,
            ),
        )
        memory.batches[batch_id] = StoredBatch(newest_ms, meta.data_bytes())
    memory.chunks.link()
    chunks, times = memory.chunks.chunks, memory.chunks.times
    partitions = chunks.partition.data[: chunks.count]
    columns = chunks.time_column.data[: chunks.count]
    np.maximum.at(memory.buffers.newest_ms.data, partitions, times.last_ms.data[columns])
    np.minimum.at(memory.buffers.oldest_ms.data, partitions, times.first_ms.data[columns])


def reading_of_batches(memory: ShardMemory) -> ClockReading | None:
    """A shard that no retention clock was stored with: as if it had been closed when it was last flushed."""
    if not memory.batches:
        return None
    newest_ms = next(reversed(memory.batches.values())).written_ms
    return ClockReading(newest_ms, newest_ms)


def replay_log(
    memory: ShardMemory, store: ColumnStore, ingestion: Ingestion, shard_name: str, on_progress: OnProgress
) -> None:
    """Apply the log's samples that are not in chunks yet, group by group's checkpoint."""
    checkpoints = ingestion.checkpoints
    first = int(checkpoints.min())
    span = max(1, store.state.next_offset - 1 - first)
    partition_of = PartitionOfSeriesId(memory)
    reported = -1
    for row in store.log_after(first):
        ingestion.note_log(row)
        try:
            for record in decode_log_records(row.data, f"{shard_name}: log row {row.offset}"):
                _replay(memory, ingestion, record, row.offset, partition_of)
        except DamagedStore as error:
            memory.damages[f"{error}; its samples are missing"] = None
        percent = min(99, 100 * (row.offset - first) // span)
        if percent != reported:
            reported = percent
            on_progress(percent)
    on_progress(100)


def _replay(
    memory: ShardMemory, ingestion: Ingestion, record: LogRecord, offset: int, partition_of: PartitionOfSeriesId
) -> None:
    partitions = partition_of(record.series_ids)
    groups = record.series_ids // GROUP_RUN % memory.group_count
    partitions[ingestion.checkpoints[groups] >= offset] = -1
    new = NewSamples(partitions, record.counts, record.times, record.values)
    ingestion.apply(new, record.shut_ms, WriteOutcome())


class PartitionOfSeriesId:
    """int32 partitions of series ids, -1 for ids that are not in the index."""

    def __init__(self, memory: ShardMemory) -> None:
        self._ids: NDArray[np.int64] = memory.index.series_ids.data[: memory.index.count]

    def __call__(self, series_ids: NDArray[np.int64]) -> NDArray[np.int32]:
        # Series ids only grow with partition ids, so they are sorted.
        if not len(self._ids):
            return np.full(len(series_ids), -1, np.int32)
        place = np.searchsorted(self._ids, series_ids)
        place[place == len(self._ids)] = 0
        return np.where(self._ids[place] == series_ids, place, -1).astype(np.int32)
