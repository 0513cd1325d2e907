"""What must be known of a batch's columns before it is taken: in one pass each, as every write waits for it.

numpy's reductions take 2 µs each, whatever there is to reduce, and a write had a dozen of them.
"""

from __future__ import annotations

from numba import njit, types

from filoray.nodes.kernels.array_types import I64, READ_I32, READ_I64
from filoray.nodes.kernels.arrays import Int32s, Ints

LOG_BOUNDS = 5
FIRST_TIME, LAST_TIME, FIRST_ID, LAST_ID, IS_SINGLE = range(LOG_BOUNDS)
"""Places in the ``bounds`` of ``log_bounds``."""


@njit(types.int64(READ_I32), cache=True, nogil=True)
def total_count(counts: Int32s) -> int:
    """The sum of int32[n] counts, -1 if one of them is negative."""
    total = 0
    for count in counts:
        if count < 0:
            return -1
        total += count
    return total


@njit(types.int64(READ_I32, I64), cache=True, nogil=True)
def newest_of(partitions: Int32s, newest_ms: Ints) -> int:
    """The latest of int64[series] ``newest_ms`` at these partitions; negative ones are passed over.

    The least number there is if none is left.
    """
    newest = -(2**63)
    for partition in partitions:
        if partition >= 0 and newest_ms[partition] > newest:
            newest = int(newest_ms[partition])
    return newest


@njit(types.void(READ_I64, I64), cache=True, nogil=True)
def _find_ends(column: Ints, ends: Ints) -> None:
    """``ends`` int64[2], out: the least and the greatest of a column that is not empty."""
    least = greatest = column[0]
    for value in column:
        least = min(least, value)
        greatest = max(greatest, value)
    ends[0] = least
    ends[1] = greatest


@njit(types.void(READ_I64, READ_I64, READ_I32, I64), cache=True, nogil=True)
def log_bounds(times: Ints, ids: Ints, counts: Int32s, bounds: Ints) -> None:
    """``bounds`` int64[LOG_BOUNDS], out: the ends of times and ids, neither empty, and 1 if every count is 1."""
    _find_ends(times, bounds[FIRST_TIME : LAST_TIME + 1])
    _find_ends(ids, bounds[FIRST_ID : LAST_ID + 1])
    bounds[IS_SINGLE] = 1
    for count in counts:
        if count != 1:
            bounds[IS_SINGLE] = 0
            break
