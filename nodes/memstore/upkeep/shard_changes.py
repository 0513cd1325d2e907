"""What followers of a shard do just as its leader does: the changes of store and memory that are no appends.

Here is how each is made; that it is to be made the leader decides (``flusher``), and its followers hear of it
(``following``). From the same samples, appended in the same order, every copy makes the same bytes. What a change did
is told as an entry to ``on_entry``, once it is durable here.

A copy that is opened from what is stored replays the log from the checkpoints. That makes what its leader has in
memory but for groups in ``unlike_replay``: chunks of theirs were dropped while samples waited that had been judged by
them, or were made in a flush that failed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from filoray.nodes.kernels.storage.write_buffers import NOTHING_YET_MS
from filoray.nodes.memstore.chunks.chunk_batch import BatchMeta, encode_batch_meta
from filoray.nodes.memstore.chunks.chunk_reader import ChunkReader
from filoray.nodes.memstore.chunks.chunk_table import NO_CHUNK, OpenBatch
from filoray.nodes.memstore.ingestion import Ingestion, count_series
from filoray.nodes.memstore.replica_entries import DeadSeriesEntry, DropEntry, FlushEntry, ReplicaEntry, SealEntry
from filoray.nodes.memstore.shard_memory import ShardMemory, StoredBatch
from filoray.nodes.memstore.shard_spec import ShardSpec
from filoray.nodes.memstore.store.column_store import ChunkBatchRow, ColumnStore, Flush
from filoray.nodes.memstore.store.copy_checksums import batch_checksum
from filoray.nodes.memstore.store.part_key_rows import merge_small_rows, without_series
from filoray.nodes.memstore.store.store_errors import CopyDiffers
from filoray.nodes.memstore.upkeep.cardinality import Cardinality
from filoray.nodes.memstore.upkeep.retention_clock import ClockReading, time_text


class ShardChanges:
    """On the thread that changes the shard, between its appends."""

    def __init__(
        self,
        spec: ShardSpec,
        memory: ShardMemory,
        store: ColumnStore,
        ingestion: Ingestion,
        chunks: ChunkReader,
        cardinality: Cardinality,
    ) -> None:
        self._spec = spec
        self._memory = memory
        self.store = store
        self._ingestion = ingestion
        self._chunks = chunks
        self._cardinality = cardinality
        self.next_batch_id = store.state.next_batch_id
        self.on_entry: Callable[[ReplicaEntry], None] | None = None
        self._notices: list[str] = []

    def take_notices(self) -> list[str]:
        """Sentences on much that was dropped, which nobody took yet."""
        notices, self._notices = self._notices, []
        return notices

    def _tell(self, entry: ReplicaEntry) -> None:
        if self.on_entry is not None:
            self.on_entry(entry)

    # ---- flush

    def flush(
        self,
        groups: Sequence[int],
        clock: ClockReading,
        expired: Sequence[int] = (),
        group_count: int | None = None,
        expected: FlushEntry | None = None,
    ) -> None:
        """One transaction: chunks of these groups, their checkpoints, the log cut, ``expired`` batches dropped.

        ``group_count``: so many groups there are from then on; then all are flushed. Raises CopyDiffers, with
        nothing stored, if what it makes is not ``expected``.
        """
        memory, ingestion = self._memory, self._ingestion
        ingestion.check_idle()
        try:
            self.seal(groups)
            opened = [memory.open_batches[group] for group in groups if memory.open_batches[group].chunks]
            row, places = self._batch(opened, clock.retention_ms) if opened else (None, [])
            checkpoints = self._checkpoints(groups)
            log_end = int(checkpoints.min())
            if group_count is not None:
                checkpoints = np.full(group_count, log_end, np.int64)
            entry = FlushEntry(
                groups=tuple(groups),
                clock=clock,
                group_count=group_count,
                checkpoints=tuple(checkpoints.tolist()),
                next_offset=ingestion.next_offset,
                dropped_batches=tuple(expired),
                batch_id=None if row is None else row.batch_id,
                # Only who has copies needs it.
                batch_checksum=0 if row is None or (self.on_entry or expected) is None else batch_checksum(row),
            )
            if expected is not None and entry != expected:
                raise CopyDiffers(
                    f"{self._spec.name}: the copy's flush is not its leader's: {_unlike(entry, expected)}"
                )
            memory.expiring = frozenset(expired)
            self.store.flush(
                Flush(
                    clock=clock,
                    batches=[] if row is None else [row],
                    checkpoints=dict(enumerate(entry.checkpoints)),
                    log_end=log_end,
                    dropped_batches=expired,
                    group_count=group_count,
                    next_offset=ingestion.next_offset,
                )
            )
        except BaseException:
            memory.unlike_replay.update(groups)
            self._tell(SealEntry(tuple(groups)))
            raise
        with memory.lock:
            if row is not None:
                self._moved(opened, row, places)
            if group_count is not None:
                memory.set_groups(group_count)
        ingestion.checkpoints, ingestion.has_checkpoints = checkpoints, True
        ingestion.forget_log(log_end)
        memory.unlike_replay.intersection_update(np.flatnonzero(checkpoints < ingestion.applied_offset).tolist())
        if expired:
            self._forget(expired)
        if not (memory.buffers.counts.data[: memory.index.count] > 0).any():
            with memory.lock:
                memory.buffers.shrink()
        self.evict()
        self._tell(entry)

    def seal(self, groups: Sequence[int]) -> None:
        """All samples of these groups into chunks of their open batches."""
        memory = self._memory
        waiting = np.flatnonzero(memory.buffers.counts.data[: memory.index.count] > 0).astype(np.int32)
        memory.seal(waiting[np.isin(memory.groups_of(waiting), groups)])
        memory.seal_late(groups)

    def _checkpoints(self, flushed: Sequence[int]) -> NDArray[np.int64]:
        """Checkpoints after a flush: a group that has nothing waiting is as far as one that was flushed."""
        memory = self._memory
        waits = np.zeros(memory.group_count, np.bool_)
        buffered = np.flatnonzero(memory.buffers.counts.data[: memory.index.count] > 0).astype(np.int32)
        waits[memory.groups_of(buffered)] = True
        waits[memory.groups_of(memory.late.all().partitions)] = True
        waits[[group for group, batch in enumerate(memory.open_batches) if batch.chunks]] = True
        waits[list(flushed)] = False
        known = self._ingestion.checkpoints
        # A stream that is replayed may be behind where this group was flushed to already.
        return np.where(waits, known, np.maximum(known, self._ingestion.applied_offset))

    def _batch(self, opened: Sequence[OpenBatch], written_ms: int) -> tuple[ChunkBatchRow, list[NDArray[np.int64]]]:
        """The row of these open batches, and for each the byte offsets of its time columns, then of its chunks."""
        table = self._memory.chunks
        times, chunks = table.times, table.chunks
        place_of: dict[bytes, int] = {}
        stored_columns: list[int] = []
        column_index: list[int] = []
        for batch in opened:
            for column in batch.time_columns:
                payload = batch.payloads[int(times.place.data[column])]
                index = place_of.setdefault(payload, len(place_of))
                if index == len(stored_columns):
                    stored_columns.append(column)
                column_index.append(index)
        all_columns = np.array([column for batch in opened for column in batch.time_columns], np.int64)
        all_chunks = np.array([chunk for batch in opened for chunk in batch.chunks], np.int64)
        kept = np.array(stored_columns, np.int64)
        order = np.argsort(all_columns)
        chunk_columns = order[np.searchsorted(all_columns[order], chunks.time_column.data[all_chunks])]
        index_array = np.array(column_index, np.int64)
        meta = BatchMeta(
            series_ids=self._memory.index.series_ids.data[chunks.partition.data[all_chunks]],
            chunk_columns=index_array[chunk_columns].astype(np.uint32),
            chunk_lengths=chunks.length.data[all_chunks].astype(np.uint32),
            chunk_checksums=chunks.checksum.data[all_chunks],
            samples=times.samples.data[kept].astype(np.uint32),
            first_ms=times.first_ms.data[kept],
            last_ms=times.last_ms.data[kept],
            lengths=times.length.data[kept].astype(np.uint32),
            checksums=times.checksum.data[kept],
        )
        payloads = [batch.payloads[int(chunks.place.data[chunk])] for batch in opened for chunk in batch.chunks]
        data = b"".join([*place_of, *payloads])
        column_places, chunk_places = meta.places()
        row = ChunkBatchRow(self.next_batch_id, written_ms, encode_batch_meta(meta), data)
        return row, [column_places[index_array], chunk_places]

    def _moved(self, opened: Sequence[OpenBatch], row: ChunkBatchRow, places: list[NDArray[np.int64]]) -> None:
        """What was open is stored now."""
        memory = self._memory
        table = memory.chunks
        all_chunks = [chunk for batch in opened for chunk in batch.chunks]
        table.moved(table.times, [column for batch in opened for column in batch.time_columns], row.batch_id, places[0])
        table.moved(table.chunks, all_chunks, row.batch_id, places[1])
        columns = table.chunks.time_column.data[all_chunks]
        self._ingestion.unflushed_samples -= int(table.times.samples.data[columns].sum(dtype=np.int64))
        for batch in opened:
            memory.open_batches[-1 - batch.batch_id] = OpenBatch(batch.batch_id)
        memory.batches[row.batch_id] = StoredBatch(row.written_ms, len(row.data))
        memory.keep_resident(row.batch_id, row.data)
        self.next_batch_id = row.batch_id + 1

    def evict(self) -> None:
        """Past shard-mem-size the oldest stored batches leave memory; queries page them in."""
        memory = self._memory
        excess = memory.nbytes - self._spec.store.shard_mem_bytes
        while excess > 0 and memory.resident:
            with memory.lock:
                oldest = next(iter(memory.resident))
                excess -= len(memory.resident[oldest])
                memory.drop_resident(oldest)

    # ---- retention

    def drop(self, expired: Sequence[int], clock: ClockReading) -> None:
        """These batches leave store and memory."""
        self._ingestion.check_idle()
        self._memory.expiring = frozenset(expired)
        self.store.flush(Flush(dropped_batches=expired, clock=clock))
        self._forget(expired)
        self._tell(DropEntry(tuple(expired), clock))

    def _forget(self, expired: Sequence[int]) -> None:
        """These batches are gone from the store."""
        memory = self._memory
        if 2 * len(expired) > len(memory.batches) > 1:
            self._notices.append(
                f"dropped {len(expired)} of {len(memory.batches)} chunk batches, written until "
                f"{time_text(memory.batches[expired[-1]].written_ms)}: disk-time-to-live is over for them"
            )
        chunks = memory.chunks.chunks
        owners = chunks.partition.data[: chunks.count][np.isin(chunks.batch.data[: chunks.count], expired)]
        behind = self._ingestion.checkpoints < self._ingestion.applied_offset
        memory.unlike_replay.update(group for group in np.unique(memory.groups_of(owners)).tolist() if behind[group])
        with self._chunks.lock, memory.lock:
            memory.drop_batches(expired)
            memory.expiring = frozenset()
            self._set_bounds()

    def _set_bounds(self) -> None:
        """Oldest and newest sample of each series, as they would be found at opening."""
        memory = self._memory
        table, count = memory.chunks, memory.index.count
        oldest = memory.buffers.first_buffered_ms(count)
        newest = np.where(memory.buffers.counts.data[:count] > 0, memory.buffers.newest_ms.data[:count], NOTHING_YET_MS)
        partitions = table.chunks.partition.data[: table.chunks.count]
        columns = table.chunks.time_column.data[: table.chunks.count]
        np.minimum.at(oldest, partitions, table.times.first_ms.data[columns])
        np.maximum.at(newest, partitions, table.times.last_ms.data[columns])
        late = memory.late.all()
        np.minimum.at(oldest, late.partitions, late.times)
        np.maximum.at(newest, late.partitions, late.times)
        memory.buffers.oldest_ms.data[:count] = oldest
        memory.buffers.newest_ms.data[:count] = newest

    # ---- series

    def living(self) -> NDArray[np.bool_]:
        """Which series, by partition, have any sample."""
        memory = self._memory
        count = memory.index.count
        living: NDArray[np.bool_] = (memory.chunks.newest_chunk.data[:count] != NO_CHUNK) | (
            memory.buffers.counts.data[:count] > 0
        )
        living[memory.late.all().partitions] = True
        return living

    def drop_dead(self, living: NDArray[np.bool_], next_series_id: int | None = None) -> None:
        """Series outside the mask, which have no sample, leave index and store, together.

        That uses a series id up (``next_series_id``: another leader's), by which a store shows that some left it.
        """
        memory = self._memory
        self._ingestion.check_idle()
        count = memory.index.count
        dead_ids = memory.index.series_ids.data[:count][~living]
        dropped, rows = without_series(self.store, dead_ids, self._spec.name)
        after = self._ingestion.next_series_id + 1 if next_series_id is None else next_series_id
        self.store.flush(Flush(dropped_part_keys=dropped, new_part_keys=rows, next_series_id=after))
        self._ingestion.next_series_id = after
        with self._chunks.lock, memory.lock:
            memory.index.keep(living)
            memory.buffers.keep(count, living)
            memory.chunks.keep_series(count, living)
            memory.late.renumber((np.cumsum(living) - 1).astype(np.int32))
        count_series(memory, self._cardinality)
        self._tell(DeadSeriesEntry(tuple(dead_ids.tolist()), after))

    # ---- each copy's own

    def tidy(self) -> bool:
        """For quiet moments: merge small part key rows, shrink the file. True if there is more to do."""
        self._ingestion.check_idle()
        dropped, rows = merge_small_rows(self.store, self._spec.name)
        if dropped:
            self.store.flush(Flush(dropped_part_keys=dropped, new_part_keys=rows))
        return self.store.reclaim()


def _unlike(found: FlushEntry, expected: FlushEntry) -> str:
    names = [field.name for field in dataclasses.fields(FlushEntry)]
    pairs = [(name, getattr(found, name), getattr(expected, name)) for name in names]
    return "; ".join(f"{name} {here}, the leader's {there}" for name, here, there in pairs if here != there)
