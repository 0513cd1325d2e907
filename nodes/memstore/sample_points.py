"""Which of many (series, time) a shard has a sample at already; it reads no more than the chunks around them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from filoray.nodes.kernels.storage.point_lookup import find_wanted_runs, mark_present
from filoray.nodes.memstore.sample_merge import offsets_of
from filoray.nodes.memstore.sample_reader import SampleReader
from filoray.nodes.memstore.shard_memory import ShardMemory

_CHUNKS_AT_ONCE = 2048  # decoded they are 8 MB


def present_bits(
    memory: ShardMemory, reader: SampleReader, partitions: NDArray[np.int32], times: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Whether each (partition, time) is there, and its value's bits; sorted by both, for the thread that appends.

    Of equal ones the first is answered for.
    """
    is_present = np.zeros(len(times), np.uint8)
    bits = np.zeros(len(times), np.int64)
    series, starts = np.unique(partitions, return_index=True)
    ends = np.append(starts[1:], len(times)).astype(np.int64)
    starts = starts.astype(np.int64)
    start_ms, end_ms = int(times.min()), int(times.max())

    def mark(
        run_starts: NDArray[np.int64],
        run_ends: NDArray[np.int64],
        run_times: NDArray[np.int64],
        run_values: NDArray[np.float64],
        owners: NDArray[np.int64] | slice,
    ) -> None:
        """``owners``: each run's series, as its place in ``series``."""
        mark_present(
            run_starts,
            run_ends,
            run_times,
            run_values.view(np.int64),
            starts[owners],
            ends[owners],
            times,
            is_present,
            bits,
        )

    counts, found_times, found_values = memory.buffers.read(series, start_ms, end_ms)
    offsets = offsets_of(counts)
    mark(offsets[:-1], offsets[1:], found_times, found_values, slice(None))
    for run in memory.late.runs:
        run_starts = np.searchsorted(run.partitions, series, "left")
        run_ends = np.searchsorted(run.partitions, series, "right")
        mark(run_starts, run_ends, run.times, run.values, slice(None))

    chunk_counts, chunks = memory.chunks.overlapping(series, start_ms, end_ms)
    owners = np.repeat(np.arange(len(series)), chunk_counts)
    columns = memory.chunks.chunks.time_column.data[chunks]
    table = memory.chunks.times
    is_wanted = np.empty(len(chunks), np.uint8)
    find_wanted_runs(
        table.first_ms.data[columns], table.last_ms.data[columns], starts[owners], ends[owners], times, is_wanted
    )
    chosen = np.flatnonzero(is_wanted)
    for at in range(0, len(chosen), _CHUNKS_AT_ONCE):
        piece = chosen[at : at + _CHUNKS_AT_ONCE]
        per_chunk, found_times, found_values = reader.read_chunks(chunks[piece], start_ms, end_ms)
        offsets = offsets_of(per_chunk)
        mark(offsets[:-1], offsets[1:], found_times, found_values, owners[piece])
    return is_present.astype(np.bool_), bits
