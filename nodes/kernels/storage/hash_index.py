"""An open-addressing table from 128-bit part key hashes to partition ids.

``slots`` int32[2^k] holds partition ids, -1 where free; the hashes themselves are the columns
``known_high``/``known_low`` uint64[partitions], indexed by partition id. At most half of the slots are
taken, so that probing ends soon.
"""

from __future__ import annotations

from numba import njit, types

from filoray.nodes.kernels.array_types import I32, READ_I32, READ_U64
from filoray.nodes.kernels.arrays import Int32s, UInt64s

FREE = -1


@njit(types.int64(READ_U64, READ_U64, READ_I32, READ_U64, READ_U64, I32), cache=True, nogil=True)
def find_partitions(
    high: UInt64s, low: UInt64s, slots: Int32s, known_high: UInt64s, known_low: UInt64s, partitions: Int32s
) -> int:
    """``partitions`` int32[n] gets the partition id of each of n hashes, -1 if unknown. Returns the number unknown."""
    mask = len(slots) - 1
    missing = 0
    for i in range(len(low)):
        position = types.int64(low[i]) & mask
        found = FREE
        while slots[position] != FREE:
            candidate = slots[position]
            if known_low[candidate] == low[i] and known_high[candidate] == high[i]:
                found = candidate
                break
            position = (position + 1) & mask
        partitions[i] = found
        if found == FREE:
            missing += 1
    return missing


@njit(types.void(I32, READ_U64, types.int64, types.int64), cache=True, nogil=True)
def insert_partitions(slots: Int32s, known_low: UInt64s, first: int, end: int) -> None:
    """Enter partitions ``first`` to ``end - 1``, none of which is in the table."""
    mask = len(slots) - 1
    for partition in range(first, end):
        position = types.int64(known_low[partition]) & mask
        while slots[position] != FREE:
            position = (position + 1) & mask
        slots[position] = partition
