"""A compiled hash table from 128-bit hashes to dense row numbers: open addressing with linear probing.

``slots`` int32[power of two] holds row numbers, -1 where free; the hashes themselves are columns by row. A table
is at most half full, which its owner (``filoray.http.remote.remote_write_series``) sees to; rows are never removed.
"""

from __future__ import annotations

from numba import njit, types

from filoray.nodes.kernels.arrays import Int32s, UInt64s

_I32S = types.Array(types.int32, 1, "C")
_U64S = types.Array(types.uint64, 1, "C")


@njit(types.int64(_U64S, _U64S, _I32S, _U64S, _U64S, _I32S), cache=True, nogil=True)
def find_rows(
    first: UInt64s, second: UInt64s, slots: Int32s, row_first: UInt64s, row_second: UInt64s, rows: Int32s
) -> int:
    """Rows of hashes.

    first, second  uint64[k]: the hashes' halves; ``row_first``, ``row_second`` uint64[rows]: those of the rows
    rows           int32[k], out: the row of each hash, -1 where there is none

    Returns how many are -1.
    """
    mask = types.uint64(len(slots) - 1)
    missing = 0
    for i in range(len(first)):
        slot = first[i] & mask
        row = slots[slot]
        while row >= 0 and (row_first[row] != first[i] or row_second[row] != second[i]):
            slot = (slot + types.uint64(1)) & mask
            row = slots[slot]
        rows[i] = row
        if row < 0:
            missing += 1
    return missing


@njit(types.int64(_U64S, _U64S, _I32S, _U64S, _U64S, types.int64, _I32S), cache=True, nogil=True)
def add_rows(
    first: UInt64s, second: UInt64s, slots: Int32s, row_first: UInt64s, row_second: UInt64s, count: int, rows: Int32s
) -> int:
    """Like ``find_rows``, but a hash that is not there becomes row ``count``, the next one ``count + 1`` ...

    Returns the new count. ``row_first`` and ``row_second`` have room for it.
    """
    mask = types.uint64(len(slots) - 1)
    for i in range(len(first)):
        slot = first[i] & mask
        row = slots[slot]
        while row >= 0 and (row_first[row] != first[i] or row_second[row] != second[i]):
            slot = (slot + types.uint64(1)) & mask
            row = slots[slot]
        if row < 0:
            row = count
            slots[slot] = row
            row_first[row] = first[i]
            row_second[row] = second[i]
            count += 1
        rows[i] = row
    return count
