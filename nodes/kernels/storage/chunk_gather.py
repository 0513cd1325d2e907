"""From chunks of many series to flat sample arrays, in one pass each.

A value row's number: r >= 0 is row r of the float64 arena, r <= -2 row -2 - r of the int32 one, -1 none.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from numba import njit, types

from filoray.nodes.kernels.array_types import F64_ROWS, I32, I32_ROWS, I64, I64_ROWS, READ_I32, READ_I64, U8
from filoray.nodes.kernels.arrays import Bytes, Floats, Int32s, Ints
from filoray.nodes.kernels.record_type import record_type
from filoray.nodes.kernels.storage.samples import OUT_SAMPLES, CountedSamples

_INT32_MAX = 2**31 - 1


class ChunkChains(NamedTuple):
    """The chunks of each series, a chain from the one sealed last backwards, -1 at its end; and when they are of.

    newest_chunk       int32[partitions]
    previous_chunk     int32[chunks]
    time_column        int32[chunks]        where a chunk's times are
    first_ms, last_ms  int64[time columns]  their first and last
    """

    newest_chunk: Int32s
    previous_chunk: Int32s
    time_column: Int32s
    first_ms: Ints
    last_ms: Ints


CHUNK_CHAINS = record_type(ChunkChains, READ_I32, READ_I32, READ_I32, READ_I64, READ_I64)


class Arenas(NamedTuple):
    """Decoded columns, one in each row; C is the most samples that a chunk has.

    times   int64[rows, C]    ms
    wide    float64[rows, C]  values
    narrow  int32[rows, C]    those of chunks of whole numbers
    """

    times: Ints
    wide: Floats
    narrow: Int32s


ARENAS = record_type(Arenas, I64_ROWS, F64_ROWS, I32_ROWS)


@njit(types.void(READ_I32, types.int64, types.int64, CHUNK_CHAINS, I64), cache=True, nogil=True)
def count_chunks(partitions: Int32s, start_ms: int, end_ms: int, chains: ChunkChains, out: Ints) -> None:
    """``out`` int64[n]: chunks of each series that overlap ``start_ms..end_ms``."""
    newest_chunk, previous_chunk, time_column, first_ms, last_ms = chains
    for i in range(len(partitions)):
        chunk = newest_chunk[partitions[i]]
        found = 0
        while chunk >= 0:
            column = time_column[chunk]
            if first_ms[column] <= end_ms and last_ms[column] >= start_ms:
                found += 1
            chunk = previous_chunk[chunk]
        out[i] = found


@njit(types.void(READ_I32, types.int64, types.int64, CHUNK_CHAINS, READ_I64, I32), cache=True, nogil=True)
def list_chunks(
    partitions: Int32s, start_ms: int, end_ms: int, chains: ChunkChains, ends: Ints, chunks: Int32s
) -> None:
    """Write what ``count_chunks`` counted into ``chunks``, oldest first; series i ends before ``ends[i]``."""
    newest_chunk, previous_chunk, time_column, first_ms, last_ms = chains
    for i in range(len(partitions)):
        chunk = newest_chunk[partitions[i]]
        at = ends[i]
        while chunk >= 0:
            column = time_column[chunk]
            if first_ms[column] <= end_ms and last_ms[column] >= start_ms:
                at -= 1
                chunks[at] = chunk
            chunk = previous_chunk[chunk]


@njit(types.int64(READ_I32, READ_I32, types.int64, types.int64, I64_ROWS, I64, I64), cache=True, nogil=True)
def count_in_range(
    time_rows: Int32s, sample_counts: Int32s, start_ms: int, end_ms: int, times: Ints, first: Ints, count: Ints
) -> int:
    """Where in the sorted ``times[time_rows[i], :sample_counts[i]]`` the range begins, and how many it has.

    Returns how many there are in all.
    """
    total = 0
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
        total += low - begin
    return total


@njit(types.void(READ_I32, READ_I32, READ_I64, ARENAS, OUT_SAMPLES), cache=True, nogil=True)
def copy_chunks(time_rows: Int32s, value_rows: Int32s, first: Ints, arenas: Arenas, out: CountedSamples) -> None:
    """Fill ``out`` with each chunk's samples from ``first[i]`` on, out of its rows of the arenas."""
    times, wide, narrow = arenas
    count, out_times, out_values = out
    at = 0
    for i in range(len(time_rows)):
        if count[i] > 0:
            begin = first[i]
            length = count[i]
            out_times[at : at + length] = times[time_rows[i], begin : begin + length]
            row = value_rows[i]
            if row >= 0:
                out_values[at : at + length] = wide[row, begin : begin + length]
            else:
                for k in range(length):
                    out_values[at + k] = narrow[-2 - row, begin + k]
            at += length


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
