"""Which of many wanted moments have a sample already, and what its value is."""

from __future__ import annotations

from typing import NamedTuple

from numba import njit, types

from filoray.nodes.kernels.array_types import I64, READ_I64, U8
from filoray.nodes.kernels.arrays import Bytes, Ints
from filoray.nodes.kernels.record_type import record_type


class SortedRuns(NamedTuple):
    """Sorted samples of one series each: those from ``starts[r]`` to ``ends[r]``.

    starts, ends  int64[runs]
    times         int64[samples], ms
    bits          int64[samples]  the values' bits
    """

    starts: Ints
    ends: Ints
    times: Ints
    bits: Ints


SORTED_RUNS = record_type(SortedRuns, READ_I64, READ_I64, READ_I64, READ_I64)


class Points(NamedTuple):
    """The wanted moments, those of a series side by side and rising; and which of them each run may have.

    starts, ends  int64[runs]  the points of the run's series
    times         int64[n], ms
    """

    starts: Ints
    ends: Ints
    times: Ints


POINTS = record_type(Points, READ_I64, READ_I64, READ_I64)


@njit(types.int64(READ_I64, types.int64, types.int64, types.int64), cache=True, nogil=True)
def first_not_before(times: Ints, start: int, end: int, time: int) -> int:
    """The first place from ``start`` on, before ``end``, whose time is at least ``time``; ``end`` if there is none."""
    while start < end:
        middle = (start + end) // 2
        if times[middle] < time:
            start = middle + 1
        else:
            end = middle
    return start


@njit(types.void(READ_I64, READ_I64, POINTS, U8), cache=True, nogil=True)
def find_wanted_runs(first_ms: Ints, last_ms: Ints, points: Points, is_wanted: Bytes) -> None:
    """``is_wanted`` uint8[runs]: whether a point lies between the run's first and last time."""
    starts, ends, times = points
    for run in range(len(first_ms)):
        place = first_not_before(times, starts[run], ends[run], first_ms[run])
        is_wanted[run] = place < ends[run] and times[place] <= last_ms[run]


@njit(types.void(SORTED_RUNS, POINTS, U8, I64), cache=True, nogil=True)
def mark_present(runs: SortedRuns, points: Points, is_present: Bytes, present_bits: Ints) -> None:
    """Set ``is_present`` uint8[n] and ``present_bits`` int64[n] of the points that the runs have a sample at."""
    run_starts, run_ends, times, bits = runs
    point_starts, point_ends, point_times = points
    for run in range(len(run_starts)):
        start, end = run_starts[run], run_ends[run]
        if start == end:
            continue
        last = times[end - 1]
        point = first_not_before(point_times, point_starts[run], point_ends[run], times[start])
        while point < point_ends[run] and point_times[point] <= last:
            start = first_not_before(times, start, end, point_times[point])
            if times[start] == point_times[point]:
                is_present[point] = 1
                present_bits[point] = bits[start]
            point += 1
