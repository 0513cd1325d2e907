"""From chunks of many series to flat sample arrays, in one pass each.

Chunks of a series form a chain from the one sealed last (``newest_chunk`` int32[partitions]) backwards
(``previous_chunk`` int32[chunks]), -1 at its end. Decoded chunks lie in rows of arenas, one of float64 and one of
int32 for chunks of whole numbers, their times in rows of another.

A value row's number: r >= 0 is row r of the float64 arena, r <= -2 row -2 - r of the int32 one, -1 none.
"""

from __future__ import annotations

import math

from numba import njit, types

from filoray.nodes.kernels.array_types import (
    F64,
    F64_ROWS,
    I32,
    I32_ROWS,
    I64,
    I64_ROWS,
    READ_F64,
    READ_I32,
    READ_I64,
    U8,
)
from filoray.nodes.kernels.arrays import Bytes, Floats, Int32s, Ints

_INT32_MAX = 2**31 - 1


@njit(
    types.void(READ_I32, types.int64, types.int64, READ_I32, READ_I32, READ_I32, READ_I64, READ_I64, I64),
    cache=True,
    nogil=True,
)
def count_chunks(
    partitions: Int32s,
    start_ms: int,
    end_ms: int,
    newest_chunk: Int32s,
    previous_chunk: Int32s,
    time_column: Int32s,
    first_ms: Ints,
    last_ms: Ints,
    out: Ints,
) -> None:
    """``out`` int64[n]: chunks of each series that overlap ``start_ms..end_ms``."""
    for i in range(len(partitions)):
        chunk = newest_chunk[partitions[i]]
        found = 0
        while chunk >= 0:
            column = time_column[chunk]
            if first_ms[column] <= end_ms and last_ms[column] >= start_ms:
                found += 1
            chunk = previous_chunk[chunk]
        out[i] = found


@njit(
    types.void(READ_I32, types.int64, types.int64, READ_I32, READ_I32, READ_I32, READ_I64, READ_I64, READ_I64, I32),
    cache=True,
    nogil=True,
)
def list_chunks(
    partitions: Int32s,
    start_ms: int,
    end_ms: int,
    newest_chunk: Int32s,
    previous_chunk: Int32s,
    time_column: Int32s,
    first_ms: Ints,
    last_ms: Ints,
    ends: Ints,
    chunks: Int32s,
) -> None:
    """Write what ``count_chunks`` counted into ``chunks``, oldest first; series i ends before ``ends[i]``."""
    for i in range(len(partitions)):
        chunk = newest_chunk[partitions[i]]
        at = ends[i]
        while chunk >= 0:
            column = time_column[chunk]
            if first_ms[column] <= end_ms and last_ms[column] >= start_ms:
                at -= 1
                chunks[at] = chunk
            chunk = previous_chunk[chunk]


@njit(
    types.void(READ_I32, READ_I32, types.int64, types.int64, I64_ROWS, I64, I64),
    cache=True,
    nogil=True,
)
def count_in_range(
    time_rows: Int32s, sample_counts: Int32s, start_ms: int, end_ms: int, times: Ints, first: Ints, count: Ints
) -> None:
    """Where in the sorted ``times[time_rows[i], :sample_counts[i]]`` the range begins, and how many it has."""
    for i in range(len(time_rows)):
        row = time_rows[i]
        if row < 0:
            first[i] = 0
            count[i] = 0
            continue
        low = 0
        high = types.int64(sample_counts[i])
        while low < high:
            middle = (low + high) // 2
            if times[row, middle] < start_ms:
                low = middle + 1
            else:
                high = middle
        begin = low
        high = types.int64(sample_counts[i])
        while low < high:
            middle = (low + high) // 2
            if times[row, middle] <= end_ms:
                low = middle + 1
            else:
                high = middle
        first[i] = begin
        count[i] = low - begin


@njit(
    types.void(READ_I32, READ_I32, READ_I64, READ_I64, READ_I64, I64_ROWS, F64_ROWS, I32_ROWS, I64, F64),
    cache=True,
    nogil=True,
)
def copy_chunks(
    time_rows: Int32s,
    value_rows: Int32s,
    first: Ints,
    count: Ints,
    positions: Ints,
    times: Ints,
    wide: Floats,
    narrow: Int32s,
    out_times: Ints,
    out_values: Floats,
) -> None:
    """Copy each chunk's range from the arenas to ``positions[i]`` of the flat arrays."""
    for i in range(len(time_rows)):
        if count[i] > 0:
            at = positions[i]
            begin = first[i]
            length = count[i]
            out_times[at : at + length] = times[time_rows[i], begin : begin + length]
            row = value_rows[i]
            if row >= 0:
                out_values[at : at + length] = wide[row, begin : begin + length]
            else:
                for k in range(length):
                    out_values[at + k] = narrow[-2 - row, begin + k]


@njit(types.void(F64_ROWS, READ_I32, U8), cache=True, nogil=True)
def find_whole(decoded: Floats, sample_counts: Int32s, whole: Bytes) -> None:
    """``whole[i]`` tells whether ``decoded[i, :sample_counts[i]]`` are int32 numbers to the bit (-0 is none)."""
    for i in range(len(decoded)):
        fits = True
        for k in range(sample_counts[i]):
            value = decoded[i, k]
            if not (abs(value) <= _INT32_MAX and value == math.floor(value)):
                fits = False
                break
            if value == 0.0 and math.copysign(1.0, value) < 0:
                fits = False
                break
        whole[i] = fits


@njit(types.void(F64_ROWS, READ_I64, READ_I32, READ_I32, I32_ROWS), cache=True, nogil=True)
def keep_narrow(decoded: Floats, chosen: Ints, sample_counts: Int32s, rows: Int32s, narrow: Int32s) -> None:
    """Row ``rows[i]`` of ``narrow`` gets the samples of ``decoded[chosen[i]]``, which ``find_whole`` found whole."""
    for i in range(len(chosen)):
        source = chosen[i]
        for k in range(sample_counts[source]):
            narrow[rows[i], k] = types.int32(decoded[source, k])


@njit(types.int64(READ_I64, READ_I64, I32), cache=True, nogil=True)
def find_unsorted(offsets: Ints, times: Ints, unsorted: Int32s) -> int:
    """Series whose times do not strictly rise go to ``unsorted`` int32[n]; returns how many."""
    found = 0
    for i in range(len(offsets) - 1):
        for at in range(offsets[i] + 1, offsets[i + 1]):
            if times[at] <= times[at - 1]:
                unsorted[found] = i
                found += 1
                break
    return found


@njit(types.void(READ_I64, READ_I64, READ_F64, READ_I64, READ_I64, READ_F64, I64, F64), cache=True, nogil=True)
def join_samples(
    first_counts: Ints,
    first_times: Ints,
    first_values: Floats,
    then_counts: Ints,
    then_times: Ints,
    then_values: Floats,
    times: Ints,
    values: Floats,
) -> None:
    """Series by series: ``first_counts[i]`` samples of one flat source, then ``then_counts[i]`` of the other."""
    at = 0
    first = 0
    then = 0
    for i in range(len(first_counts)):
        for _ in range(first_counts[i]):
            times[at] = first_times[first]
            values[at] = first_values[first]
            at += 1
            first += 1
        for _ in range(then_counts[i]):
            times[at] = then_times[then]
            values[at] = then_values[then]
            at += 1
            then += 1
