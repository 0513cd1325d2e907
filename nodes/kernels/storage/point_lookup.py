"""Which of many wanted moments have a sample already, and what its value is.

*Points* are the wanted moments: ``point_times`` int64[n], those of a series side by side and rising. *Runs* are sorted
samples of one series each: ``times`` and ``bits`` (int64, the values' bits) from ``run_starts`` to ``run_ends``.
``point_starts`` and ``point_ends`` give, for each run, the points of its series.
"""

from __future__ import annotations

from numba import njit, types

from filoray.nodes.kernels.array_types import I64, READ_I64, U8
from filoray.nodes.kernels.arrays import Bytes, Ints


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


@njit(types.void(READ_I64, READ_I64, READ_I64, READ_I64, READ_I64, U8), cache=True, nogil=True)
def find_wanted_runs(
    first_ms: Ints, last_ms: Ints, point_starts: Ints, point_ends: Ints, point_times: Ints, is_wanted: Bytes
) -> None:
    """``is_wanted`` uint8[runs]: whether a point lies between the run's first and last time."""
    for run in range(len(first_ms)):
        place = first_not_before(point_times, point_starts[run], point_ends[run], first_ms[run])
        is_wanted[run] = place < point_ends[run] and point_times[place] <= last_ms[run]


@njit(
    types.void(READ_I64, READ_I64, READ_I64, READ_I64, READ_I64, READ_I64, READ_I64, U8, I64),
    cache=True,
    nogil=True,
)
def mark_present(
    run_starts: Ints,
    run_ends: Ints,
    times: Ints,
    bits: Ints,
    point_starts: Ints,
    point_ends: Ints,
    point_times: Ints,
    is_present: Bytes,
    present_bits: Ints,
) -> None:
    """Set ``is_present`` uint8[n] and ``present_bits`` int64[n] of the points that the runs have a sample at."""
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
