"""Label sets of chosen series as columns of codes."""

from __future__ import annotations

from typing import NamedTuple

from numba import njit, types

from filoray.nodes.kernels.array_types import I32_ROWS, I64, READ_I32, READ_I64, READ_U8, U8
from filoray.nodes.kernels.arrays import Bytes, Int32s, Ints
from filoray.nodes.kernels.record_type import record_type


class LabelPairs(NamedTuple):
    """The pairs (name, value) of all series: those of series p are ``ids[offsets[p]:offsets[p + 1]]``.

    offsets  int64[partitions + 1]
    ids      int32[]       pair ids
    names    int32[pairs]  id of each pair's name
    codes    int32[pairs]  code of its value among those of the name
    """

    offsets: Ints
    ids: Int32s
    names: Int32s
    codes: Int32s


LABEL_PAIRS = record_type(LabelPairs, READ_I64, READ_I32, READ_I32, READ_I32)


@njit(types.void(READ_I32, LABEL_PAIRS, U8), cache=True, nogil=True)
def mark_names(partitions: Int32s, pairs: LabelPairs, used: Bytes) -> None:
    """``used`` uint8[names] becomes 1 for each label name that one of the series has."""
    pair_offsets, pair_ids, pair_name, _ = pairs
    for i in range(len(partitions)):
        partition = partitions[i]
        for at in range(pair_offsets[partition], pair_offsets[partition + 1]):
            used[pair_name[pair_ids[at]]] = 1


@njit(types.void(READ_I32, LABEL_PAIRS, READ_I32, I32_ROWS), cache=True, nogil=True)
def fill_codes(partitions: Int32s, pairs: LabelPairs, name_row: Int32s, codes: Int32s) -> None:
    """``codes`` int32[rows, n] holds -1; row ``name_row[name]`` (-1: not wanted) gets each series' value code."""
    pair_offsets, pair_ids, pair_name, pair_code = pairs
    for i in range(len(partitions)):
        partition = partitions[i]
        for at in range(pair_offsets[partition], pair_offsets[partition + 1]):
            pair = pair_ids[at]
            row = name_row[pair_name[pair]]
            if row >= 0:
                codes[row, i] = pair_code[pair]


@njit(types.int64(READ_U8, READ_I64, READ_I64, I64, I64), cache=True, nogil=True)
def split_part_keys(data: Bytes, starts: Ints, ends: Ints, label_starts: Ints, label_counts: Ints) -> int:
    """Find the labels of part keys ``data[starts[i]:ends[i]]``.

    ``label_starts`` int64[>= bytes // 4 + 1] gets where each label begins, key by key, ``label_counts`` int64[n] how
    many each has. Returns the number of labels, or -1 - i if key i is not a whole part key.
    """
    total = 0
    for i in range(len(starts)):
        at = starts[i]
        end = ends[i]
        found = 0
        while at < end:
            label_starts[total + found] = at
            for _ in range(2):
                if at + 2 > end:
                    return -1 - i
                at += 2 + types.int64(data[at]) + 256 * types.int64(data[at + 1])
                if at > end:
                    return -1 - i
            found += 1
        label_counts[i] = found
        total += found
    return total
