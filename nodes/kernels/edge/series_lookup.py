"""A compiled hash table from 128-bit hashes to dense row numbers: open addressing with linear probing.

``slots`` int32[power of two] holds row numbers, -1 where free; the hashes themselves are columns by row. A table
is at most half full, which its owner (``filoray.http.remote.remote_write_series``) sees to; rows are never removed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit, types
from numpy.typing import NDArray

from filoray.nodes.kernels.array_types import I32, I64, U8, U64
from filoray.nodes.kernels.arrays import Bytes, Int32s, Ints, UInt64s
from filoray.nodes.kernels.record_type import record_type


class SeriesColumns(NamedTuple):
    """What is kept of series in numbers, by row.

    label_first, label_second  uint64  halves of the hash of its labels as they came
    last_used                  int64   number of the last request that had the series
    hash_high, hash_low        uint64  halves of its part key's hash
    shards                     int32   negative for a refused series, then minus its verdict (``part_keys``)
    known                      uint8   1 once the series' shard has acknowledged a write with its part key
    """

    label_first: UInt64s
    label_second: UInt64s
    last_used: Ints
    hash_high: UInt64s
    hash_low: UInt64s
    shards: Int32s
    known: Bytes

    @classmethod
    def empty(cls) -> SeriesColumns:
        first, second, high, low = (np.zeros(0, np.uint64) for _ in range(4))
        return cls(first, second, np.zeros(0, np.int64), high, low, np.zeros(0, np.int32), np.zeros(0, np.uint8))

    @property
    def room(self) -> int:
        return len(self.last_used)

    def arrays(self) -> tuple[NDArray[Any], ...]:
        return self

    def grown(self, room: int) -> SeriesColumns:
        """The same rows and as many as ``room`` in all."""
        return SeriesColumns(*[np.concatenate([old, np.zeros(room - len(old), old.dtype)]) for old in self.arrays()])


SERIES_COLUMNS = record_type(SeriesColumns, U64, U64, I64, U64, U64, I32, U8)


@njit(types.int64(U64, U64, I32, U64, U64, I32), cache=True, nogil=True)
def find_rows(
    first: UInt64s, second: UInt64s, slots: Int32s, row_first: UInt64s, row_second: UInt64s, rows: Int32s
) -> int:
    """Rows of hashes.

    first, second  uint64[k]: the halves of label hashes; ``row_first``, ``row_second`` uint64[rows]: those of the rows
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


@njit(types.int64(U64, U64, I32, U64, U64, types.int64, I32), cache=True, nogil=True)
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
