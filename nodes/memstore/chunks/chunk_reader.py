"""Decoded samples of chunks: from the cache, from memory, or paged in from the column store."""

from __future__ import annotations

import threading
from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from filoray.nodes.kernels.storage.chunk_gather import Arenas, copy_chunks, count_in_range
from filoray.nodes.kernels.storage.dense_codes import compacted
from filoray.nodes.kernels.storage.samples import CountedSamples
from filoray.nodes.memstore.chunks.chunk_codec import CHUNK_SAMPLES_MAX, checksum_of, decode_column
from filoray.nodes.memstore.chunks.chunk_table import PieceColumns
from filoray.nodes.memstore.chunks.decoded_cache import NO_ROW, DecodedCache, DecodedValues
from filoray.nodes.memstore.lock_turns import Renumbered
from filoray.nodes.memstore.shard_memory import ShardMemory
from filoray.nodes.memstore.store.column_store import ColumnStore
from filoray.nodes.memstore.store.store_errors import DamagedStore

_ROWS_MIN = 64
_TIMES_SHARE = 4  # a quarter of the cache: time columns are shared
_PIECES_MAX = 24
"""Past so many pieces of one stored batch, it is read whole."""
_DECODED_AT_ONCE = 256


class ChunkReader:
    """Any thread may read. Lock order: this reader's lock, then the memory's."""

    def __init__(self, memory: ShardMemory, store: ColumnStore, cache_bytes: int, shard_name: str) -> None:
        self._memory = memory
        self.store = store
        self._shard_name = shard_name
        rows = max(_ROWS_MIN, cache_bytes // (CHUNK_SAMPLES_MAX * 8))
        self.lock = threading.RLock()
        self._values = DecodedValues(rows - rows // _TIMES_SHARE)
        self._times = DecodedCache(np.int64, max(_ROWS_MIN, rows // _TIMES_SHARE))
        self.tranche = min(self._values.row_count, self._times.row_count)
        self.generation = -1

    def read(
        self, chunks: NDArray[np.int32], generation: int, start_ms: int, end_ms: int
    ) -> tuple[CountedSamples, list[str]]:
        """Samples in range of each chunk, and warnings on what cannot be read.

        Raises Renumbered if ``generation`` is not the chunk table's any more.
        """
        warnings: list[str] = []
        with self.lock:
            tranches = [
                self._read_tranche(chunks[start : start + self.tranche], generation, start_ms, end_ms, warnings)
                for start in range(0, len(chunks), self.tranche)
            ]
        if len(tranches) == 1:
            return tranches[0], warnings
        if not tranches:
            return CountedSamples.none(0), warnings
        return CountedSamples(*[np.concatenate(column) for column in zip(*tranches, strict=True)]), warnings

    def _read_tranche(
        self, chunks: NDArray[np.int32], generation: int, start_ms: int, end_ms: int, warnings: list[str]
    ) -> CountedSamples:
        with self._memory.lock:
            table = self._memory.chunks
            if table.generation != generation:
                raise Renumbered
            if self.generation != generation:
                self._values.clear()
                self._times.clear()
                self.generation = generation
            column_of = table.chunks.time_column.data[chunks]
            columns, column_index = compacted(column_of)
            samples = table.times.samples.data[columns]
        column_rows = self._rows(self._times, table.times, columns, samples, warnings)
        value_rows = self._rows(self._values, table.chunks, chunks, samples[column_index], warnings)
        time_rows = column_rows[column_index]
        time_rows[value_rows == NO_ROW] = NO_ROW
        first, counts = np.empty(len(chunks), np.int64), np.empty(len(chunks), np.int64)
        total = count_in_range(time_rows, samples[column_index], start_ms, end_ms, self._times.rows, first, counts)
        found = CountedSamples.room_for(counts, total)
        copy_chunks(time_rows, value_rows, first, Arenas(self._times.rows, *self._values.arenas), found)
        return found

    def _rows(
        self,
        cache: DecodedCache | DecodedValues,
        pieces: PieceColumns,
        entries: NDArray[np.int32],
        samples: NDArray[np.int32],
        warnings: list[str],
    ) -> NDArray[np.int32]:
        """Rows of the entries in the cache, decoding what is not there; -1 for what cannot be."""
        rows = cache.find(entries)
        missing = np.flatnonzero(rows == NO_ROW)
        if not len(missing):
            return rows
        wanted, counts = entries[missing], samples[missing]
        with self._memory.lock:
            batches, places = pieces.batch.data[wanted].tolist(), pieces.place.data[wanted].tolist()
            lengths, checksums = pieces.length.data[wanted].tolist(), pieces.checksum.data[wanted].tolist()
            fetched, absent = self._from_memory(batches, places, lengths)
        for batch, indices in absent.items():
            found = self._from_store(batch, [(places[i], lengths[i]) for i in indices], warnings)
            if found is not None:
                for i, piece in zip(indices, found, strict=True):
                    fetched[i] = piece
        decoded = np.empty((min(_DECODED_AT_ONCE, len(wanted)), CHUNK_SAMPLES_MAX), cache.dtype)
        readable: list[int] = []
        for i, (data, count) in enumerate(zip(fetched, counts.tolist(), strict=True)):
            if data is None:
                continue
            if checksum_of(data) != checksums[i] or not decode_column(data, decoded[len(readable), :count]):
                warnings.append(self._damage(batches[i], places[i], lengths[i]))
                continue
            readable.append(i)
            if len(readable) == len(decoded):
                rows[missing[readable]] = cache.keep(wanted[readable], decoded, counts[readable])
                readable.clear()
        if readable:
            rows[missing[readable]] = cache.keep(wanted[readable], decoded[: len(readable)], counts[readable])
        return rows

    def _from_memory(
        self, batches: list[int], places: list[int], lengths: list[int]
    ) -> tuple[list[bytes | memoryview | None], dict[int, list[int]]]:
        """Pieces of open and resident batches; and which are in batches that must be paged in."""
        fetched: list[bytes | memoryview | None] = [None] * len(batches)
        absent: defaultdict[int, list[int]] = defaultdict(list)
        open_batches, resident = self._memory.open_batches, self._memory.resident
        for i, (batch, place) in enumerate(zip(batches, places, strict=True)):
            if batch < 0:
                if -1 - batch < len(open_batches):
                    fetched[i] = open_batches[-1 - batch].payloads[place]
            elif (data := resident.get(batch)) is not None:
                fetched[i] = data[place : place + lengths[i]]
            else:
                absent[batch].append(i)
        return fetched, absent

    def _from_store(self, batch: int, pieces: list[tuple[int, int]], warnings: list[str]) -> list[bytes] | None:
        try:
            if len(pieces) <= _PIECES_MAX:
                found = self.store.read_pieces(batch, pieces)
            else:
                data = self.store.read_batch(batch)
                found = None if data is None else [data[place : place + length] for place, length in pieces]
        except DamagedStore as error:
            warnings.append(f"{self._shard_name}: chunk batch {batch} is damaged and was left out: {error}")
            return None
        if found is None and batch not in self._memory.expiring:
            warnings.append(f"{self._shard_name}: chunk batch {batch} is not in its store any more and was left out")
        return found

    def _damage(self, batch: int, place: int, length: int) -> str:
        where = f"chunk batch {batch}, bytes {place} to {place + length}" if batch >= 0 else "a chunk in memory"
        return f"{self._shard_name}: {where}: checksum does not match; the chunk was left out"

    @property
    def nbytes(self) -> int:
        return self._values.nbytes + self._times.nbytes
