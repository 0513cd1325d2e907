"""Samples of chosen series in a time range: chunks, late samples and write buffers, merged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from filoray.cluster.errors import LimitExceeded
from filoray.nodes.data.cancel_token import CancelToken
from filoray.nodes.data.label_table import LabelTable
from filoray.nodes.data.matching import LabelMatcher
from filoray.nodes.data.series_batch import SeriesBatch
from filoray.nodes.kernels.storage.chunk_gather import join_samples
from filoray.nodes.memstore.chunks.chunk_reader import ChunkReader
from filoray.nodes.memstore.lock_turns import Breathe, LockTurns, Renumbered, no_breath
from filoray.nodes.memstore.sample_merge import offsets_of, sort_samples
from filoray.nodes.memstore.shard_memory import ShardMemory

_NO_LIMIT = 1 << 62

Samples = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]
"""Counts per series, then flat times and values."""
Listed = tuple[NDArray[np.int64], NDArray[np.int32], int, Samples, Samples]
T = TypeVar("T")


class SampleReader:
    """Any thread."""

    def __init__(self, memory: ShardMemory, chunks: ChunkReader, query_bytes_max: int = _NO_LIMIT) -> None:
        self._memory = memory
        self._chunks = chunks
        self._query_bytes_max = query_bytes_max

    def select(
        self, matchers: Sequence[LabelMatcher], start_ms: int, end_ms: int, cancel: CancelToken | None = None
    ) -> SeriesBatch:
        """See Shard.select."""

        def look(breathe: Breathe) -> tuple[NDArray[np.int32], LabelTable, Listed]:
            partitions = self.matching(matchers, start_ms, end_ms, breathe)
            labels = self._memory.index.label_table(partitions)
            return partitions, labels, self._list(partitions, start_ms, end_ms, self._query_bytes_max)

        while True:
            partitions, labels, listed = self.in_turns(look, cancel)
            try:
                offsets, times, values, warnings = self._gather(partitions, listed, start_ms, end_ms)
            except Renumbered:
                continue
            return self._batch(labels, offsets, times, values, warnings)

    def _batch(
        self,
        labels: LabelTable,
        offsets: NDArray[np.int64],
        times: NDArray[np.int64],
        values: NDArray[np.float64],
        warnings: Sequence[str],
    ) -> SeriesBatch:
        """Without the series that have no sample in the range."""
        counts = np.diff(offsets)
        if not counts.all():
            with_samples = counts > 0
            labels = labels.take(with_samples)
            offsets = offsets_of(counts[with_samples])
        return SeriesBatch(labels, offsets, times, values, (*self._memory.damages, *dict.fromkeys(warnings)))

    def in_turns(self, look: Callable[[Breathe], T], cancel: CancelToken | None = None) -> T:
        """``look`` holding the lock, which it lets go of for a moment when it breathes; again if that spoilt it."""
        memory = self._memory
        while True:
            with memory.lock:
                try:
                    return look(LockTurns(memory.lock, lambda: memory.index.generation, cancel).breathe)
                except Renumbered:
                    pass

    def matching(
        self, matchers: Sequence[LabelMatcher], start_ms: int, end_ms: int, breathe: Breathe = no_breath
    ) -> NDArray[np.int32]:
        """Series that match and may have samples in the range, ascending. The caller holds the lock."""
        found = self._memory.index.select(matchers, breathe)
        buffers = self._memory.buffers
        overlaps = (buffers.oldest_ms.data[found] <= end_ms) & (buffers.newest_ms.data[found] >= start_ms)
        return found if overlaps.all() else found[overlaps]

    def read_chunks(
        self, chunks: NDArray[np.int32], start_ms: int, end_ms: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Counts per chunk, times and values in range; for the thread that renumbers chunks. Damaged ones have none."""
        counts, times, values, _ = self._chunks.read(chunks, self._memory.chunks.generation, start_ms, end_ms)
        return counts, times, values

    def _list(
        self, partitions: NDArray[np.int32], start_ms: int, end_ms: int, bytes_max: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int32], int, Samples, Samples]:
        """What to read: chunk counts per series, chunks, their generation, late and buffered samples."""
        memory = self._memory
        with memory.lock:
            counts, chunks = memory.chunks.overlapping(partitions, start_ms, end_ms)
            if bytes_max < _NO_LIMIT:
                chunk_bytes = int(memory.chunks.chunks.length.data[chunks].sum(dtype=np.int64))
                if chunk_bytes > bytes_max:
                    raise LimitExceeded(
                        f"the query reads {chunk_bytes} bytes of chunks in one shard; "
                        f"max-data-per-shard-query allows {bytes_max}"
                    )
            buffered = memory.buffers.read(partitions, start_ms, end_ms)
            place, times, values = memory.late.read(partitions, start_ms, end_ms)
            late = np.bincount(place, minlength=len(partitions)), times, values
            return counts, chunks, memory.chunks.generation, late, buffered

    def _gather(
        self,
        partitions: NDArray[np.int32],
        listed: tuple[NDArray[np.int64], NDArray[np.int32], int, Samples, Samples],
        start_ms: int,
        end_ms: int,
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], list[str]]:
        chunk_counts, chunks, generation, late, buffered = listed
        warnings: list[str] = []
        samples = _none(len(partitions))
        if len(chunks):
            per_chunk, times, values, warnings = self._chunks.read(chunks, generation, start_ms, end_ms)
            chunk_ends = offsets_of(chunk_counts)
            samples = np.diff(offsets_of(per_chunk)[chunk_ends]), times, values
        samples = _join(_join(samples, late), buffered)
        offsets, times, values = sort_samples(offsets_of(samples[0]), samples[1], samples[2])
        return offsets, times, values, warnings

    def labels_of(
        self,
        matcher_sets: Sequence[Sequence[LabelMatcher]],
        start_ms: int,
        end_ms: int,
        breathe: Breathe = no_breath,
    ) -> NDArray[np.int32]:
        """Series that one of the matcher sets selects (none given: all), ascending. The caller holds the lock."""
        if not matcher_sets:
            return self.matching((), start_ms, end_ms)
        found = [self.matching(matchers, start_ms, end_ms, breathe) for matchers in matcher_sets]
        return found[0] if len(found) == 1 else np.unique(np.concatenate(found))


def _none(series_count: int) -> Samples:
    return np.zeros(series_count, np.int64), np.empty(0, np.int64), np.empty(0, np.float64)


def _join(first: Samples, then: Samples) -> Samples:
    if not len(then[1]):
        return first
    if not len(first[1]):
        return then
    total = len(first[1]) + len(then[1])
    times, values = np.empty(total, np.int64), np.empty(total, np.float64)
    join_samples(*first, *then, times, values)
    return first[0] + then[0], times, values
