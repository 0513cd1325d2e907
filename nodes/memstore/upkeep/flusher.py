"""What a shard does between appends: flush groups in turn, drop what is too old, stay inside the memory budget.

A *flush* turns buffers of some flush groups into one stored chunk batch and moves the groups' checkpoints to the last
applied offset; the log is cut behind the oldest checkpoint. As in FiloDB, ``disk-time-to-live`` counts from when a
chunk was written, not from its samples' times, so that samples from 1970 live as long as others. What time it is for
that, ``retention_clock`` says; all else here goes by a clock that never jumps (``now_ms``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray

from filoray.nodes.kernels.storage.write_buffers import NOTHING_YET_MS
from filoray.nodes.memstore.chunks.chunk_batch import BatchMeta, encode_batch_meta
from filoray.nodes.memstore.chunks.chunk_reader import ChunkReader
from filoray.nodes.memstore.chunks.chunk_table import NO_CHUNK, OpenBatch
from filoray.nodes.memstore.ingestion import Ingestion, count_series
from filoray.nodes.memstore.shard_memory import ShardMemory, StoredBatch
from filoray.nodes.memstore.shard_spec import ShardSpec
from filoray.nodes.memstore.store.column_store import ChunkBatchRow, ColumnStore, Flush
from filoray.nodes.memstore.store.part_key_rows import merge_small_rows, without_series
from filoray.nodes.memstore.upkeep.cardinality import Cardinality
from filoray.nodes.memstore.upkeep.retention_clock import RetentionClock, time_text

_WELL_FILLED_SAMPLES = 100
_LOG_BYTES_PER_SERIES = 16 * 120
_PIECE_SERIES = 2048
"""About so many series are flushed in one piece of upkeep (some 80 ms), so that appends never wait for long."""
_SEALED_PER_BUFFERED = 8  # storing a chunk that is compressed already takes an eighth of the time
_DEAD_SHARE = 4  # series without data leave the index once they are a quarter of it
_DEAD_MIN = 64
_MAKE_ROOM_INTERVAL_MS = 60_000
"""Where a series limit refuses new ones, series without data leave at once, but rewriting costs: not more often."""


class Flusher:
    def __init__(
        self,
        spec: ShardSpec,
        memory: ShardMemory,
        store: ColumnStore,
        ingestion: Ingestion,
        chunks: ChunkReader,
        cardinality: Cardinality,
        clock: RetentionClock,
    ) -> None:
        self._spec = spec
        self._memory = memory
        self._store = store
        self._ingestion = ingestion
        self._chunks = chunks
        self._cardinality = cardinality
        self._next_batch_id = store.state.next_batch_id
        self._clock = clock
        self._notices: list[str] = []
        self._due_ms: NDArray[np.int64] | None = None
        self._seen_rounds = -1
        self._quiet_since_ms = 0
        self._owed: list[int] = []
        self._room_made_ms: int | None = None
        self._is_clean = False

    # ---- when

    def due(self, now_ms: int) -> list[int]:
        memory, interval_ms = self._memory, self._spec.store.flush_interval_ms
        groups = memory.group_count
        if self._due_ms is None or len(self._due_ms) != groups:
            self._due_ms = now_ms + (np.arange(groups, dtype=np.int64) + 1) * interval_ms // groups
        if self._ingestion.unflushed_samples and (self._is_under_pressure() or self._is_idle_and_well_filled(now_ms)):
            return list(range(groups))
        return np.flatnonzero(self._due_ms <= now_ms).tolist()

    def _is_under_pressure(self) -> bool:
        series = self._memory.index.count
        if self._ingestion.log_bytes > max(self._spec.log_bytes_max, series * _LOG_BYTES_PER_SERIES):
            return True
        return (
            not self._memory.resident
            and self._ingestion.unflushed_samples > 30 * series
            and self._memory.nbytes > self._spec.store.shard_mem_bytes
        )

    def _is_idle(self, now_ms: int) -> bool:
        return self._ingestion.rounds == self._seen_rounds and (
            now_ms - self._quiet_since_ms >= self._spec.store.flush_when_idle_ms
        )

    def _is_idle_and_well_filled(self, now_ms: int) -> bool:
        """Chunks of a few samples would be made if every pause between two scrapes led to a flush."""
        if not self._is_idle(now_ms):
            return False
        memory = self._memory
        waiting = memory.buffers.counts.data[: memory.index.count] > 0
        for batch in memory.open_batches:
            waiting[memory.chunks.chunks.partition.data[batch.chunks]] = True
        return self._ingestion.unflushed_samples >= _WELL_FILLED_SAMPLES * int(waiting.sum())

    def take_notices(self) -> list[str]:
        """See Shard.take_notices."""
        notices, self._notices = self._clock.take_notices() + self._notices, []
        return notices

    def upkeep(self, now_ms: int, wall_ms: int) -> bool:
        """See Shard.upkeep."""
        retention_ms = self._clock.observe(wall_ms, now_ms, self._ingestion.newest_sample_ms)
        if self._ingestion.rounds != self._seen_rounds:
            self._seen_rounds = self._ingestion.rounds
            self._quiet_since_ms = now_ms
            self._is_clean = False
        if self._spec.store.groups_per_shard != self._memory.group_count:
            self._regroup(self._spec.store.groups_per_shard, retention_ms)
            return True
        if not self._owed:
            self._owed = self.due(now_ms)
        if self._owed:
            piece = self._next_piece()
            self._owed = self._owed[len(piece) :]
            self.flush(piece, now_ms, wall_ms)
            self._is_clean = False
            return True
        expired = self._expired(retention_ms)
        if expired:
            self._drop(expired)
            return True
        if self._cardinality.has_refused and self._make_room(now_ms):
            return True
        if not self._is_clean and self._is_idle(now_ms):
            self._is_clean = not self._tidy()
            return not self._is_clean
        return False

    def _next_piece(self) -> list[int]:
        """As many of the owed groups as make a bounded piece of work."""
        memory = self._memory
        groups = memory.groups_of(np.flatnonzero(memory.buffers.counts.data[: memory.index.count] > 0).astype(np.int32))
        work = np.bincount(groups, minlength=memory.group_count)
        work += np.array([len(batch.chunks) for batch in memory.open_batches]) // _SEALED_PER_BUFFERED
        return self._owed[: max(1, int(np.searchsorted(np.cumsum(work[self._owed]), _PIECE_SERIES, side="right")))]

    # ---- flush

    def flush(self, groups: Iterable[int], now_ms: int, wall_ms: int) -> None:
        """One transaction: chunks of these groups, their checkpoints, the log cut, expired batches dropped."""
        chosen = list(groups)
        retention_ms = self._clock.observe(wall_ms, now_ms, self._ingestion.newest_sample_ms)
        self._flush(chosen, retention_ms, group_count=None)
        if self._due_ms is not None and len(self._due_ms) == self._memory.group_count:
            self._due_ms[chosen] = now_ms + self._spec.store.flush_interval_ms

    def _flush(self, groups: list[int], retention_ms: int, group_count: int | None) -> None:
        memory, ingestion = self._memory, self._ingestion
        waiting = np.flatnonzero(memory.buffers.counts.data[: memory.index.count] > 0).astype(np.int32)
        memory.seal(waiting[np.isin(memory.groups_of(waiting), groups)])
        memory.seal_late(groups)
        opened = [memory.open_batches[group] for group in groups if memory.open_batches[group].chunks]
        row, places = self._batch(opened, retention_ms) if opened else (None, [])
        checkpoints = self._checkpoints(groups)
        log_end = int(checkpoints.min())
        if group_count is not None:
            checkpoints = np.full(group_count, log_end, np.int64)
        expired = self._expired(retention_ms)
        memory.expiring = frozenset(expired)
        self._store.flush(
            Flush(
                clock=self._clock.reading,
                batches=[] if row is None else [row],
                checkpoints=dict(enumerate(checkpoints.tolist())),
                log_end=log_end,
                dropped_batches=expired,
                group_count=group_count,
                next_offset=ingestion.next_offset,
            )
        )
        with memory.lock:
            if row is not None:
                self._moved(opened, row, places)
            if group_count is not None:
                memory.set_groups(group_count)
        ingestion.checkpoints = checkpoints
        ingestion.forget_log(log_end)
        if expired:
            self._forget(expired)
        if not (memory.buffers.counts.data[: memory.index.count] > 0).any():
            with memory.lock:
                memory.buffers.shrink()
        self._evict()

    def _regroup(self, group_count: int, retention_ms: int) -> None:
        """The configured number of groups is another than the stored one."""
        self._flush(list(range(self._memory.group_count)), retention_ms, group_count)
        self._due_ms = None

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
        row = ChunkBatchRow(self._next_batch_id, written_ms, encode_batch_meta(meta), data)
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
        self._next_batch_id += 1

    # ---- budgets

    def _evict(self) -> None:
        """Past shard-mem-size the oldest stored batches leave memory; queries page them in."""
        memory = self._memory
        excess = memory.nbytes - self._spec.store.shard_mem_bytes
        while excess > 0 and memory.resident:
            with memory.lock:
                oldest = next(iter(memory.resident))
                excess -= len(memory.resident[oldest])
                memory.drop_resident(oldest)

    def _expired(self, retention_ms: int) -> list[int]:
        oldest_ms = retention_ms - self._spec.store.disk_time_to_live_ms
        # They are in the order of their writing, and this is asked often: look no further than the first that stays.
        expired = takewhile(lambda item: item[1].written_ms <= oldest_ms, self._memory.batches.items())
        return [batch_id for batch_id, _ in expired]

    def _drop(self, expired: Sequence[int]) -> None:
        self._memory.expiring = frozenset(expired)
        self._store.flush(Flush(dropped_batches=expired, clock=self._clock.reading))
        self._forget(expired)
        self._is_clean = False

    def _forget(self, expired: Sequence[int]) -> None:
        """These batches are gone from the store."""
        memory = self._memory
        if 2 * len(expired) > len(memory.batches) > 1:
            self._notices.append(
                f"dropped {len(expired)} of {len(memory.batches)} chunk batches, written until "
                f"{time_text(memory.batches[expired[-1]].written_ms)}: disk-time-to-live is over for them"
            )
        with self._chunks.lock, memory.lock:
            memory.chunks.drop_batches(expired)
            for batch_id in expired:
                memory.drop_resident(batch_id)
                del memory.batches[batch_id]
            memory.expiring = frozenset()
            self._set_oldest()
        self._drop_dead_series()

    def _set_oldest(self) -> None:
        memory = self._memory
        table = memory.chunks
        oldest = memory.buffers.first_buffered_ms(memory.index.count)
        partitions = table.chunks.partition.data[: table.chunks.count]
        columns = table.chunks.time_column.data[: table.chunks.count]
        np.minimum.at(oldest, partitions, table.times.first_ms.data[columns])
        late = memory.late.all()
        np.minimum.at(oldest, late.partitions, late.times)
        memory.buffers.oldest_ms.data[: len(oldest)] = oldest
        self._lower_newest()

    def _lower_newest(self) -> None:
        """A series whose newest sample was of the future, and is gone, takes samples of now without looking back."""
        memory = self._memory
        count = memory.index.count
        newest = memory.buffers.newest_ms.data[:count]
        ahead = np.flatnonzero(newest > self._clock.reading.wall_ms)
        if not len(ahead):
            return
        table, late = memory.chunks, memory.late.all()
        left = np.full(count, NOTHING_YET_MS, np.int64)
        columns = table.chunks.time_column.data[: table.chunks.count]
        np.maximum.at(left, table.chunks.partition.data[: table.chunks.count], table.times.last_ms.data[columns])
        np.maximum.at(left, late.partitions, late.times)
        chosen = ahead[memory.buffers.counts.data[ahead] == 0]
        newest[chosen] = left[chosen]

    def _make_room(self, now_ms: int) -> bool:
        """Series without data must not use a limit up that refuses new ones. True if there were any."""
        if self._room_made_ms is not None and 0 <= now_ms - self._room_made_ms < _MAKE_ROOM_INTERVAL_MS:
            return False
        self._room_made_ms = now_ms
        self._cardinality.has_refused = False
        return self._drop_dead_series(dead_min=1)

    def _drop_dead_series(self, dead_min: int | None = None) -> bool:
        """Series without any sample leave index and store, together, once they are many. True if they did."""
        memory = self._memory
        count = memory.index.count
        living = (memory.chunks.newest_chunk.data[:count] != NO_CHUNK) | (memory.buffers.counts.data[:count] > 0)
        living[memory.late.all().partitions] = True
        dead = count - int(living.sum())
        if dead < (max(_DEAD_MIN, count // _DEAD_SHARE) if dead_min is None else dead_min):
            return False
        dead_ids = memory.index.series_ids.data[:count][~living]
        dropped, rows = without_series(self._store, dead_ids, self._spec.name)
        self._store.flush(Flush(dropped_part_keys=dropped, new_part_keys=rows))
        with self._chunks.lock, memory.lock:
            memory.index.keep(living)
            memory.buffers.keep(count, living)
            memory.chunks.keep_series(count, living)
            memory.late.renumber((np.cumsum(living) - 1).astype(np.int32))
        count_series(memory, self._cardinality)
        return True

    def _tidy(self) -> bool:
        """For quiet moments: merge small part key rows, shrink the file. True if there is more to do."""
        dropped, rows = merge_small_rows(self._store, self._spec.name)
        if dropped:
            self._store.flush(Flush(dropped_part_keys=dropped, new_part_keys=rows))
        return self._store.reclaim()
