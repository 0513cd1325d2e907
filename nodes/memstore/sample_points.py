"""Which of many (series, time) a shard has a sample at already; it reads no more than the chunks around them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from filoray.nodes.kernels.storage.point_lookup import Points, SortedRuns, find_wanted_runs, mark_present
from filoray.nodes.kernels.storage.samples import CountedSamples
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
    series, first = np.unique(partitions, return_index=True)
    points = Points(first.astype(np.int64), np.append(first[1:], len(times)).astype(np.int64), times)
    start_ms, end_ms = int(times.min()), int(times.max())

    def mark(found: CountedSamples, of_runs: Points) -> None:
        offsets = offsets_of(found.counts)
        runs = SortedRuns(offsets[:-1], offsets[1:], found.times, found.values.view(np.int64))
        mark_present(runs, of_runs, is_present, bits)

    mark(memory.buffers.read(series, start_ms, end_ms), points)
    for run in memory.late.runs:
        run_starts = np.searchsorted(run.partitions, series, "left")
        run_ends = np.searchsorted(run.partitions, series, "right")
        runs = SortedRuns(run_starts, run_ends, run.times, run.values.view(np.int64))
        mark_present(runs, points, is_present, bits)

    chunk_counts, chunks = memory.chunks.overlapping(series, start_ms, end_ms)
    owners = np.repeat(np.arange(len(series)), chunk_counts)
    columns = memory.chunks.chunks.time_column.data[chunks]
    table = memory.chunks.times
    is_wanted = np.empty(len(chunks), np.uint8)
    find_wanted_runs(table.first_ms.data[columns], table.last_ms.data[columns], _points_of(points, owners), is_wanted)
    chosen = np.flatnonzero(is_wanted)
    for at in range(0, len(chosen), _CHUNKS_AT_ONCE):
        piece = chosen[at : at + _CHUNKS_AT_ONCE]
        mark(reader.read_chunks(chunks[piece], start_ms, end_ms), _points_of(points, owners[piece]))
    return is_present.astype(np.bool_), bits


def _points_of(points: Points, owners: NDArray[np.int64]) -> Points:
    """The points that each run may have whose series are ``owners``, as their places in ``points``."""
    return Points(points.starts[owners], points.ends[owners], points.times)
