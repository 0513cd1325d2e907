"""Samples of chosen series in a time range: chunks, late samples and write buffers, merged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from filoray.cluster.errors import LimitExceeded
from filoray.nodes.data.cancel_token import CancelToken
from filoray.nodes.data.label_table import LabelTable
from filoray.nodes.data.matching import LabelMatcher
from filoray.nodes.data.series_batch import SeriesBatch
from filoray.nodes.kernels.storage.samples import CountedSamples
from filoray.nodes.memstore.chunks.chunk_reader import ChunkReader
from filoray.nodes.memstore.lock_turns import Breathe, LockTurns, Renumbered, no_breath
from filoray.nodes.memstore.sample_merge import join_each, offsets_of, sort_samples
from filoray.nodes.memstore.shard_memory import ShardMemory

_NO_LIMIT = 1 << 62

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Listed:
    """What is to be read of n series: the chunks, and a copy of what is in no chunk yet.

    ``chunk_counts`` int64[n], ``chunks`` int32[], series by series, valid in this ``generation`` of the chunk table.
    """

    chunk_counts: NDArray[np.int64]
    chunks: NDArray[np.int32]
    generation: int
    late: CountedSamples
    buffered: CountedSamples


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

        def look(breathe: Breathe) -> tuple[LabelTable, _Listed]:
            partitions = self.matching(matchers, start_ms, end_ms, breathe)
            labels = self._memory.index.label_table(partitions)
            return labels, self._list(partitions, start_ms, end_ms, self._query_bytes_max)

        while True:
            labels, listed = self.in_turns(look, cancel)
            try:
                samples, warnings = self._gather(listed, start_ms, end_ms)
            except Renumbered:
                continue
            return self._batch(labels, samples, warnings)

    def _batch(self, labels: LabelTable, samples: CountedSamples, warnings: Sequence[str]) -> SeriesBatch:
        """Without the series that have no sample in the range."""
        counts, times, values = samples
        if not counts.all():
            with_samples = counts > 0
            labels, counts = labels.take(with_samples), counts[with_samples]
        told = (*self._memory.damages, *dict.fromkeys(warnings))
        return SeriesBatch(labels, offsets_of(counts), times, values, told)

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

    def read_chunks(self, chunks: NDArray[np.int32], start_ms: int, end_ms: int) -> CountedSamples:
        """Samples in range of each chunk; for the thread that renumbers chunks. Damaged ones have none."""
        samples, _ = self._chunks.read(chunks, self._memory.chunks.generation, start_ms, end_ms)
        return samples

    def _list(self, partitions: NDArray[np.int32], start_ms: int, end_ms: int, bytes_max: int) -> _Listed:
        memory = self._memory
        with memory.lock:
            counts, chunks = memory.chunks.overlapping(partitions, start_ms, end_ms)
            chunk_bytes = int(memory.chunks.chunks.length.data[chunks].sum(dtype=np.int64))
            if chunk_bytes > bytes_max:
                raise LimitExceeded(
                    f"the query reads {chunk_bytes} bytes of chunks in one shard; "
                    f"max-data-per-shard-query allows {bytes_max}"
                )
            memory.counters.selects += 1
            memory.counters.read_bytes += chunk_bytes
            buffered = memory.buffers.read(partitions, start_ms, end_ms)
            place, times, values = memory.late.read(partitions, start_ms, end_ms)
            late = CountedSamples(np.bincount(place, minlength=len(partitions)), times, values)
            return _Listed(counts, chunks, memory.chunks.generation, late, buffered)

    def _gather(self, listed: _Listed, start_ms: int, end_ms: int) -> tuple[CountedSamples, list[str]]:
        warnings: list[str] = []
        samples = CountedSamples.none(len(listed.chunk_counts))
        if len(listed.chunks):
            per_chunk, warnings = self._chunks.read(listed.chunks, listed.generation, start_ms, end_ms)
            counts = np.diff(offsets_of(per_chunk.counts)[offsets_of(listed.chunk_counts)])
            samples = per_chunk._replace(counts=counts)
        samples = join_each(join_each(samples, listed.late), listed.buffered)
        return sort_samples(samples), warnings

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
