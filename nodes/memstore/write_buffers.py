"""The newest samples of every series of a shard; see ``kernels/storage/write_buffers.py`` for the layout.

Indexed by partition id. One thread appends; locks are the shard's business.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from filoray.nodes.kernels.storage.samples import CountedSamples
from filoray.nodes.kernels.storage.write_buffers import (
    NO_BLOCK,
    NOTHING_YET_MS,
    BlockPool,
    BufferChains,
    NewSamples,
    append_samples,
    clear_buffers,
    copy_buffered,
    count_buffered,
)
from filoray.nodes.memstore.growing_column import GrowingColumn

BLOCK_SAMPLES = 30
_FIRST_BLOCKS = 64


class AppendRules(NamedTuple):
    """What is appended, and when a buffer is full, as ``append_samples`` takes it.

    ``window_ms``: how much older than its series' newest sample one may be. ``full_count``: samples in a full buffer.
    ``shut_ms``: nothing is too old for a series whose newest sample is later than this.
    """

    window_ms: int
    full_count: int
    shut_ms: int


@dataclass(frozen=True, slots=True)
class AppendOutcome:
    """Counts of samples by what became of them; ``late`` and examples are sample indices (-1: none)."""

    accepted: int
    same: int
    too_old: int
    different: int
    too_old_example: int
    different_example: int
    late: NDArray[np.int32]
    full: NDArray[np.int32]
    """Partitions whose buffer just reached the size of a chunk."""


class WriteBuffers:
    def __init__(self) -> None:
        self.counts = GrowingColumn(np.int32)
        self.newest_ms = GrowingColumn(np.int64, NOTHING_YET_MS)
        self.oldest_ms = GrowingColumn(np.int64, np.iinfo(np.int64).max)
        self._base_ms = GrowingColumn(np.int64)
        self._first_block = GrowingColumn(np.int32, NO_BLOCK)
        self._last_block = GrowingColumn(np.int32, NO_BLOCK)
        self._note_chains()
        self._new_pool(_FIRST_BLOCKS)

    def _new_pool(self, blocks: int) -> None:
        self._pool = BlockPool(
            np.empty((blocks, BLOCK_SAMPLES), np.uint32),
            np.empty((blocks, BLOCK_SAMPLES), np.float64),
            np.empty(blocks, np.int32),
            np.empty(blocks, np.int32),
            np.zeros(2, np.int64),
        )

    def _columns(self) -> tuple[GrowingColumn, ...]:
        """In the order of ``BufferChains``."""
        return self._first_block, self._last_block, self.counts, self._base_ms, self.newest_ms, self.oldest_ms

    def _note_chains(self) -> None:
        """The columns as kernels take them; to be called whenever these may have moved."""
        self._chains = BufferChains(*[column.data for column in self._columns()])

    def reserve(self, series_count: int) -> None:
        """Make room for partitions below ``series_count``; new ones are empty."""
        for column in self._columns():
            column.reserve(series_count)
        self._note_chains()

    def append(self, new: NewSamples, rules: AppendRules) -> AppendOutcome:
        """See the kernel."""
        self._reserve_blocks(len(new.partitions) + len(new.times) // BLOCK_SAMPLES + 1)
        late = np.empty(len(new.times), np.int32)
        full = np.empty(len(new.partitions), np.int32)
        outcome = np.empty(8, np.int64)
        append_samples(new, *rules, self._pool, self._chains, late, full, outcome)
        accepted, same, too_old, different, late_count, full_count, old_example, different_example = outcome.tolist()
        return AppendOutcome(
            accepted, same, too_old, different, old_example, different_example, late[:late_count], full[:full_count]
        )

    def _reserve_blocks(self, more: int) -> None:
        old = self._pool
        capacity = len(old.next_block)
        free, used = old.usage.tolist()
        if free + capacity - used >= more:
            return
        self._new_pool(max(used + more, capacity * 3 // 2))
        grown = self._pool
        grown.times[:used], grown.values[:used] = old.times[:used], old.values[:used]
        grown.next_block[:used], grown.free_blocks[:free] = old.next_block[:used], old.free_blocks[:free]
        grown.usage[:] = old.usage

    def read(self, partitions: NDArray[np.int32], start_ms: int, end_ms: int) -> CountedSamples:
        """The buffered samples of these series in ``start_ms..end_ms``."""
        counts = np.empty(len(partitions), np.int64)
        pool, chains = self._pool, self._chains
        total = count_buffered(partitions, start_ms, end_ms, pool, chains, counts)
        samples = CountedSamples.room_for(counts, total)
        if total:
            copy_buffered(partitions, start_ms, end_ms, pool, chains, samples)
        return samples

    def clear(self, partitions: NDArray[np.int32]) -> None:
        """Empty these buffers; what is known of the series' newest and oldest sample stays."""
        clear_buffers(partitions, self._pool, self._chains)

    def shrink(self) -> None:
        """Give the pool's memory back if no block of it is in use."""
        free, used = self._pool.usage.tolist()
        if free == used and len(self._pool.next_block) > _FIRST_BLOCKS:
            self._new_pool(_FIRST_BLOCKS)

    def first_buffered_ms(self, series_count: int) -> NDArray[np.int64]:
        """Time of each series' first buffered sample, INT64_MAX where there is none."""
        is_empty = self.counts.data[:series_count] == 0
        return np.where(is_empty, np.iinfo(np.int64).max, self._base_ms.data[:series_count])

    def keep(self, count: int, kept: NDArray[np.bool_]) -> None:
        """Of the first ``count`` partitions only those of the mask stay, closed up; the others' buffers are empty."""
        for column in self._columns():
            column.keep(count, kept)
        self._note_chains()

    @property
    def nbytes(self) -> int:
        """Memory in use: blocks ever touched, and the columns."""
        touched = int(self._pool.usage[1]) * (BLOCK_SAMPLES * 12 + 8)
        return touched + sum(column.nbytes for column in self._columns())
