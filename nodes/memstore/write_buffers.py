"""The newest samples of every series of a shard; see ``kernels/storage/write_buffers.py`` for the layout.

Indexed by partition id. One thread appends; locks are the shard's business.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from filoray.nodes.kernels.storage import write_buffers as kernels
from filoray.nodes.memstore.growing_column import GrowingColumn

BLOCK_SAMPLES = 30
_FIRST_BLOCKS = 64


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
        self.newest_ms = GrowingColumn(np.int64, kernels.NOTHING_YET_MS)
        self.oldest_ms = GrowingColumn(np.int64, np.iinfo(np.int64).max)
        self._base_ms = GrowingColumn(np.int64)
        self._first_block = GrowingColumn(np.int32, kernels.NO_BLOCK)
        self._last_block = GrowingColumn(np.int32, kernels.NO_BLOCK)
        self._new_pool(_FIRST_BLOCKS)

    def _new_pool(self, blocks: int) -> None:
        self._times = np.empty((blocks, BLOCK_SAMPLES), np.uint32)
        self._values = np.empty((blocks, BLOCK_SAMPLES), np.float64)
        self._next_block = np.empty(blocks, np.int32)
        self._free_blocks = np.empty(blocks, np.int32)
        self._pool = np.zeros(2, np.int64)

    def _columns(self) -> tuple[GrowingColumn, ...]:
        return self.counts, self.newest_ms, self.oldest_ms, self._base_ms, self._first_block, self._last_block

    def reserve(self, series_count: int) -> None:
        """Make room for partitions below ``series_count``; new ones are empty."""
        for column in self._columns():
            column.reserve(series_count)

    def append(
        self,
        partitions: NDArray[np.int32],
        sample_counts: NDArray[np.int32],
        times: NDArray[np.int64],
        values: NDArray[np.float64],
        window_ms: int,
        full_count: int,
        shut_ms: int,
    ) -> AppendOutcome:
        """Samples of n series (-1: pass over), flat; see the kernel."""
        self._reserve_blocks(len(partitions) + len(times) // BLOCK_SAMPLES + 1)
        late = np.empty(len(times), np.int32)
        full = np.empty(len(partitions), np.int32)
        outcome = np.empty(8, np.int64)
        kernels.append_samples(
            partitions,
            sample_counts,
            times,
            values,
            window_ms,
            full_count,
            shut_ms,
            self._times,
            self._values,
            self._next_block,
            self._free_blocks,
            self._pool,
            self._first_block.data,
            self._last_block.data,
            self.counts.data,
            self._base_ms.data,
            self.newest_ms.data,
            self.oldest_ms.data,
            late,
            full,
            outcome,
        )
        accepted, same, too_old, different, late_count, full_count, old_example, different_example = outcome.tolist()
        return AppendOutcome(
            accepted, same, too_old, different, old_example, different_example, late[:late_count], full[:full_count]
        )

    def _reserve_blocks(self, more: int) -> None:
        capacity = len(self._next_block)
        if self._pool[0] + capacity - self._pool[1] >= more:
            return
        old = self._times, self._values, self._next_block, self._free_blocks, self._pool
        used = int(old[4][1])
        self._new_pool(max(used + more, capacity * 3 // 2))
        self._times[:used], self._values[:used], self._next_block[:used] = old[0][:used], old[1][:used], old[2][:used]
        self._free_blocks[: old[4][0]] = old[3][: old[4][0]]
        self._pool[:] = old[4]

    def read(
        self, partitions: NDArray[np.int32], start_ms: int, end_ms: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Counts int64[n], times and values of the buffered samples in ``start_ms..end_ms``, flat, in order of time."""
        counts = np.empty(len(partitions), np.int64)
        kernels.count_buffered(
            partitions,
            start_ms,
            end_ms,
            self._times,
            self._next_block,
            self._first_block.data,
            self.counts.data,
            self._base_ms.data,
            counts,
        )
        ends = np.cumsum(counts)
        total = int(ends[-1]) if len(ends) else 0
        times, values = np.empty(total, np.int64), np.empty(total, np.float64)
        if total:
            kernels.copy_buffered(
                partitions,
                start_ms,
                end_ms,
                self._times,
                self._values,
                self._next_block,
                self._first_block.data,
                self.counts.data,
                self._base_ms.data,
                ends - counts,
                times,
                values,
            )
        return counts, times, values

    def clear(self, partitions: NDArray[np.int32]) -> None:
        """Empty these buffers; what is known of the series' newest and oldest sample stays."""
        kernels.clear_buffers(
            partitions,
            self._next_block,
            self._free_blocks,
            self._pool,
            self._first_block.data,
            self._last_block.data,
            self.counts.data,
        )

    def shrink(self) -> None:
        """Give the pool's memory back if no block of it is in use."""
        if self._pool[0] == self._pool[1] and len(self._next_block) > _FIRST_BLOCKS:
            self._new_pool(_FIRST_BLOCKS)

    def first_buffered_ms(self, series_count: int) -> NDArray[np.int64]:
        """Time of each series' first buffered sample, INT64_MAX where there is none."""
        is_empty = self.counts.data[:series_count] == 0
        return np.where(is_empty, np.iinfo(np.int64).max, self._base_ms.data[:series_count])

    def keep(self, count: int, kept: NDArray[np.bool_]) -> None:
        """Of the first ``count`` partitions only those of the mask stay, closed up; the others' buffers are empty."""
        for column in self._columns():
            column.keep(count, kept)

    @property
    def nbytes(self) -> int:
        """Memory in use: blocks ever touched, and the columns."""
        touched = int(self._pool[1]) * (BLOCK_SAMPLES * 12 + 8)
        return touched + sum(column.nbytes for column in self._columns())
