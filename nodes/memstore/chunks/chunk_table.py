"""Where every chunk of a shard is: its series, its times, its compressed bytes. Columns of numbers, no objects.

A *chunk* is the compressed values of one series; its times are a *time column*, which the series of one
scrape target share. Both lie in *batches*: first in the open batch of their flush group (``place`` is the
index in its list of payloads), after the flush in a stored batch (``place`` is the byte offset in its data).

    chunk        series' partition, time column, batch, place, length, checksum, previous chunk of the series
    time column  batch, place, length, checksum, sample count, first and last time
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from filoray.nodes.kernels.storage.chunk_gather import ChunkChains, count_chunks, list_chunks
from filoray.nodes.memstore.growing_column import GrowingColumn

NO_CHUNK = -1
DROPPED = np.iinfo(np.int64).min
"""Batch of what was dropped and waits for the next ``compact``."""


@dataclass(slots=True)
class OpenBatch:
    """What a flush group has sealed since its last flush; its batch id is negative. Times are found by their digest."""

    batch_id: int
    payloads: list[bytes] = field(default_factory=list)
    chunks: list[int] = field(default_factory=list)
    time_columns: list[int] = field(default_factory=list)
    column_of_times: dict[bytes, int] = field(default_factory=dict)
    nbytes: int = 0


class PieceColumns:
    """Where compressed columns lie."""

    def __init__(self) -> None:
        self.count = 0
        self.batch = GrowingColumn(np.int64, DROPPED)
        self.place = GrowingColumn(np.int64)
        self.length = GrowingColumn(np.int32)
        self.checksum = GrowingColumn(np.uint32)

    def columns(self) -> list[GrowingColumn]:
        return [self.batch, self.place, self.length, self.checksum]

    def keep(self, kept: NDArray[np.bool_]) -> None:
        for column in self.columns():
            column.keep(self.count, kept)
        self.count = int(kept.sum())

    @property
    def nbytes(self) -> int:
        return sum(column.nbytes for column in self.columns())


class TimeColumns(PieceColumns):
    def __init__(self) -> None:
        super().__init__()
        self.samples = GrowingColumn(np.int32)
        self.first_ms = GrowingColumn(np.int64)
        self.last_ms = GrowingColumn(np.int64)

    def columns(self) -> list[GrowingColumn]:
        return [*super().columns(), self.samples, self.first_ms, self.last_ms]


class Chunks(PieceColumns):
    def __init__(self) -> None:
        super().__init__()
        self.partition = GrowingColumn(np.int32)
        self.time_column = GrowingColumn(np.int32)
        self.previous = GrowingColumn(np.int32, NO_CHUNK)

    def columns(self) -> list[GrowingColumn]:
        return [*super().columns(), self.partition, self.time_column, self.previous]


@dataclass(frozen=True, slots=True)
class StoredColumns:
    """What one batch's meta says, chunks and time columns in their order there."""

    partitions: NDArray[np.int32]
    chunk_columns: NDArray[np.int64]
    """Each chunk's time column, as its index in this batch."""
    chunk_places: NDArray[np.int64]
    chunk_lengths: NDArray[np.int64]
    chunk_checksums: NDArray[np.uint32]
    samples: NDArray[np.int64]
    first_ms: NDArray[np.int64]
    last_ms: NDArray[np.int64]
    places: NDArray[np.int64]
    lengths: NDArray[np.int64]
    checksums: NDArray[np.uint32]


class ChunkTable:
    def __init__(self) -> None:
        self.chunks = Chunks()
        self.times = TimeColumns()
        self.newest_chunk = GrowingColumn(np.int32, NO_CHUNK)
        self.generation = 0
        """Changes when chunks are renumbered."""

    def reserve(self, series_count: int) -> None:
        self.newest_chunk.reserve(series_count)

    def add_time_column(
        self, batch: int, place: int, length: int, checksum: int, samples: int, first_ms: int, last_ms: int
    ) -> int:
        column = self.times.count
        for target, value in zip(
            self.times.columns(), (batch, place, length, checksum, samples, first_ms, last_ms), strict=True
        ):
            target.reserve(column + 1)
            target.data[column] = value
        self.times.count += 1
        return column

    def add_chunk(self, batch: int, place: int, length: int, checksum: int, partition: int, time_column: int) -> int:
        chunk = self.chunks.count
        previous = int(self.newest_chunk.data[partition])
        for target, value in zip(
            self.chunks.columns(), (batch, place, length, checksum, partition, time_column, previous), strict=True
        ):
            target.reserve(chunk + 1)
            target.data[chunk] = value
        self.chunks.count += 1
        self.newest_chunk.data[partition] = chunk
        return chunk

    def add_stored(self, batch: int, stored: StoredColumns) -> None:
        """A whole batch, at opening."""
        first_column, first_chunk = self.times.count, self.chunks.count
        columns = len(stored.samples)
        of_columns: list[NDArray[Any]] = [
            np.full(columns, batch, np.int64),
            stored.places,
            stored.lengths,
            stored.checksums,
            stored.samples,
            stored.first_ms,
            stored.last_ms,
        ]
        for target, values in zip(self.times.columns(), of_columns, strict=True):
            target.write(first_column, values)
        self.times.count += columns
        known = stored.partitions >= 0
        count = int(known.sum())
        of_chunks: list[NDArray[Any]] = [
            np.full(count, batch, np.int64),
            stored.chunk_places[known],
            stored.chunk_lengths[known],
            stored.chunk_checksums[known],
            stored.partitions[known],
            stored.chunk_columns[known] + first_column,
            np.full(count, NO_CHUNK, np.int32),
        ]
        for target, values in zip(self.chunks.columns(), of_chunks, strict=True):
            target.write(first_chunk, values)
        self.chunks.count += count

    def link(self) -> None:
        """Chain the chunks of each series anew, in the order of their ids."""
        count = self.chunks.count
        self.newest_chunk.data[:] = NO_CHUNK
        partitions = self.chunks.partition.data[:count]
        order = np.argsort(partitions, kind="stable")
        ordered = partitions[order]
        previous = np.full(count, NO_CHUNK, np.int32)
        same = ordered[1:] == ordered[:-1]
        previous[order[1:][same]] = order[:-1][same]
        self.chunks.previous.write(0, previous)
        # Written in ascending order of chunk ids, so that the last one stays.
        self.newest_chunk.data[partitions] = np.arange(count, dtype=np.int32)

    def overlapping(
        self, partitions: NDArray[np.int32], start_ms: int, end_ms: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """How many chunks each series has with times in ``start_ms..end_ms``, and those chunks, oldest first."""
        if not self.chunks.count:
            return np.zeros(len(partitions), np.int64), np.empty(0, np.int32)
        counts = np.empty(len(partitions), np.int64)
        chains = ChunkChains(
            self.newest_chunk.data,
            self.chunks.previous.data,
            self.chunks.time_column.data,
            self.times.first_ms.data,
            self.times.last_ms.data,
        )
        count_chunks(partitions, start_ms, end_ms, chains, counts)
        ends = np.cumsum(counts)
        chunks = np.empty(int(ends[-1]) if len(ends) else 0, np.int32)
        list_chunks(partitions, start_ms, end_ms, chains, ends, chunks)
        return counts, chunks

    def moved(self, pieces: PieceColumns, ids: Sequence[int], batch: int, places: NDArray[np.int64]) -> None:
        """These pieces now lie in a stored batch."""
        index = np.array(ids, np.int64)
        pieces.batch.data[index] = batch
        pieces.place.data[index] = places

    def drop_batches(self, batches: Sequence[int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Forget what lies in these; returns new ids of the chunks and time columns that stay, by their old ones."""
        gone = np.array(batches, np.int64)
        for pieces in (self.chunks, self.times):
            kept = ~np.isin(pieces.batch.data[: pieces.count], gone)
            if pieces is self.chunks:
                kept_chunks = kept
            else:
                kept_columns = kept
        new_chunks, new_columns = np.cumsum(kept_chunks) - 1, np.cumsum(kept_columns) - 1
        self.chunks.keep(kept_chunks)
        self.times.keep(kept_columns)
        columns = self.chunks.time_column.data
        columns[: self.chunks.count] = new_columns[columns[: self.chunks.count]]
        self.link()
        self.generation += 1
        return new_chunks, new_columns

    def keep_series(self, count: int, kept: NDArray[np.bool_]) -> None:
        """Renumber partitions: those outside the mask (which have no chunks) are gone, the others close up."""
        renumbered = (np.cumsum(kept) - 1).astype(np.int32)
        partitions = self.chunks.partition.data
        partitions[: self.chunks.count] = renumbered[partitions[: self.chunks.count]]
        self.newest_chunk.keep(count, kept)

    @property
    def nbytes(self) -> int:
        return self.chunks.nbytes + self.times.nbytes + self.newest_chunk.nbytes
