"""topk, bottomk, limitk, quantile and count_values by group.

Their result depends on all samples of a group at once. Rows come grouped (``RowGroups``), and each group is
walked by itself. The order of values is Prometheus's: NaN ranks behind every number in topk as in bottomk, and
before every number in a quantile. Of equals, topk and bottomk keep the earlier row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numba import njit, types
from numpy.typing import NDArray

from filoray.nodes.kernels.arrays import Bools, Bytes, Floats, Ints, bools, floats, ints
from filoray.nodes.kernels.query.order_statistics import weighted_rank
from filoray.nodes.kernels.query.signatures import (
    BOOL_MATRIX,
    FLAG,
    FLOAT_MATRIX,
    FLOATS,
    INTS,
    KERNEL_OPTIONS,
    OUT_BOOL_MATRIX,
    OUT_FLOAT_MATRIX,
)
from filoray.nodes.kernels.record_type import record_type

FloatMatrix = NDArray[np.float64]
BoolMatrix = NDArray[np.bool_]
CancelFlag = NDArray[np.uint8]
_NEVER: CancelFlag = np.zeros(1, np.uint8)


class RowGroups(NamedTuple):
    """Group g holds the rows ``rows[offsets[g]:offsets[g + 1]]``, ascending. int64[n] and int64[groups + 1]."""

    rows: Ints
    offsets: Ints

    @classmethod
    def of(cls, group_ids: NDArray[np.int64], group_count: int) -> RowGroups:
        rows = np.argsort(group_ids, kind="stable").astype(np.int64, copy=False)
        sizes = np.bincount(group_ids, minlength=group_count)
        return cls(rows, np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64))

    @property
    def group_count(self) -> int:
        return len(self.offsets) - 1


ROW_GROUPS = record_type(RowGroups, INTS, INTS)


class Pick(IntEnum):
    """Which samples of a group ``pick_samples`` selects."""

    TOP = 0
    BOTTOM = 1
    FIRST = 2


_BOTTOM = int(Pick.BOTTOM)
_FIRST = int(Pick.FIRST)


@njit(cache=True, nogil=True)
def _ranks_before(value: float, row: int, other: float, other_row: int) -> bool:
    """Whether a sample ranks before another: greater, or not NaN, or of the earlier row."""
    if math.isnan(value) or math.isnan(other):
        if math.isnan(value) and math.isnan(other):
            return row < other_row
        return math.isnan(other)
    return value > other or (value == other and row < other_row)


@njit(cache=True, nogil=True)
def _sift_down(keys: Floats, rows: Ints, size: int) -> None:
    """Restore the heap, which has the last-ranking sample at its root, after its root was replaced."""
    at = 0
    key = keys[0]
    row = rows[0]
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        if child + 1 < size and _ranks_before(keys[child], rows[child], keys[child + 1], rows[child + 1]):
            child += 1
        if not _ranks_before(key, row, keys[child], rows[child]):
            break
        keys[at] = keys[child]
        rows[at] = rows[child]
        at = child
    keys[at] = key
    rows[at] = row


@njit(cache=True, nogil=True)
def _sift_up(keys: Floats, rows: Ints, at: int) -> None:
    key = keys[at]
    row = rows[at]
    while at > 0:
        parent = (at - 1) >> 1
        if not _ranks_before(keys[parent], rows[parent], key, row):
            break
        keys[at] = keys[parent]
        rows[at] = rows[parent]
        at = parent
    keys[at] = key
    rows[at] = row


@njit(types.void(FLOAT_MATRIX, BOOL_MATRIX, ROW_GROUPS, types.int64, INTS, OUT_BOOL_MATRIX, FLAG), **KERNEL_OPTIONS)
def _pick(
    values: Floats, valid: Bools, groups: RowGroups, pick: int, limits: Ints, picked: Bools, cancelled: Bytes
) -> None:
    rows, group_offsets = groups
    steps = values.shape[1]
    sizes = np.zeros(steps, np.int64)
    largest = 0
    for k in range(steps):
        largest = max(largest, limits[k])
    for group in range(group_offsets.shape[0] - 1):
        begin = group_offsets[group]
        end = group_offsets[group + 1]
        width = min(largest, end - begin)
        if width <= 0:
            continue
        keys = np.empty((steps, width))
        kept = np.empty((steps, width), np.int64)
        sizes[:] = 0
        for i in range(begin, end):
            if cancelled[0]:
                return
            row = rows[i]
            for k in range(steps):
                if not valid[row, k] or limits[k] <= 0:
                    continue
                if pick == _FIRST:
                    if sizes[k] < limits[k]:
                        sizes[k] += 1
                        picked[row, k] = True
                    continue
                key = -values[row, k] if pick == _BOTTOM else values[row, k]
                size = sizes[k]
                if size < min(limits[k], width):
                    keys[k, size] = key
                    kept[k, size] = row
                    sizes[k] = size + 1
                    _sift_up(keys[k], kept[k], size)
                elif _ranks_before(key, row, keys[k, 0], kept[k, 0]):
                    keys[k, 0] = key
                    kept[k, 0] = row
                    _sift_down(keys[k], kept[k], size)
        if pick != _FIRST:
            for k in range(steps):
                for i in range(sizes[k]):
                    picked[kept[k, i], k] = True


@njit(cache=True, nogil=True)
def _select(scratch: Floats, count: int, index: int) -> float:
    """The ``index``-th smallest of ``scratch[:count]``; what is right of it afterwards is not smaller."""
    low = 0
    high = count - 1
    while low < high:
        pivot = scratch[(low + high) >> 1]
        i = low
        j = high
        while i <= j:
            while scratch[i] < pivot:
                i += 1
            while scratch[j] > pivot:
                j -= 1
            if i <= j:
                scratch[i], scratch[j] = scratch[j], scratch[i]
                i += 1
                j -= 1
        if index <= j:
            high = j
        elif index >= i:
            low = i
        else:
            break
    return scratch[index]


@njit(
    types.void(FLOAT_MATRIX, BOOL_MATRIX, ROW_GROUPS, FLOATS, OUT_FLOAT_MATRIX, OUT_BOOL_MATRIX, FLAG),
    **KERNEL_OPTIONS,
)
def _quantile(
    values: Floats,
    valid: Bools,
    groups: RowGroups,
    quantiles: Floats,
    out_values: Floats,
    out_valid: Bools,
    cancelled: Bytes,
) -> None:
    rows, group_offsets = groups
    scratch = np.empty(rows.shape[0])
    for group in range(group_offsets.shape[0] - 1):
        for k in range(values.shape[1]):
            if cancelled[0]:
                return
            count = 0
            nan_count = 0
            for i in range(group_offsets[group], group_offsets[group + 1]):
                if valid[rows[i], k]:
                    value = values[rows[i], k]
                    if math.isnan(value):
                        nan_count += 1
                    else:
                        scratch[count] = value
                        count += 1
            total = count + nan_count
            out_valid[group, k] = total > 0
            out_values[group, k] = math.nan
            quantile = quantiles[k]
            if total == 0 or math.isnan(quantile):
                continue
            if quantile < 0.0:
                out_values[group, k] = -math.inf
                continue
            if quantile > 1.0:
                out_values[group, k] = math.inf
                continue
            lower, upper, weight = weighted_rank(quantile, total)
            if lower < nan_count:
                continue
            at_lower = _select(scratch, count, lower - nan_count)
            at_upper = at_lower
            if upper > lower:
                at_upper = scratch[upper - nan_count]
                for i in range(upper - nan_count + 1, count):
                    at_upper = min(at_upper, scratch[i])
            out_values[group, k] = at_lower * (1.0 - weight) + at_upper * weight


def pick_samples(
    values: FloatMatrix,
    valid: BoolMatrix,
    groups: RowGroups,
    pick: Pick,
    limits: NDArray[np.int64],
    cancelled: CancelFlag = _NEVER,
) -> BoolMatrix:
    """bool[n, steps]: the samples that topk, bottomk or limitk keep. ``limits`` int64[steps]: how many by group."""
    picked = np.zeros(values.shape, np.bool_)
    _pick(floats(values), bools(valid), groups, int(pick), ints(limits), picked, cancelled)
    return picked


def group_quantiles(
    values: FloatMatrix,
    valid: BoolMatrix,
    groups: RowGroups,
    quantiles: NDArray[np.float64],
    cancelled: CancelFlag = _NEVER,
) -> tuple[FloatMatrix, BoolMatrix]:
    """quantile() as values and validity [groups, steps]; ``quantiles`` float64[steps].

    A quantile below 0 gives -Inf, above 1 +Inf, NaN gives NaN.
    """
    shape = (groups.group_count, values.shape[1])
    out_values, out_valid = np.empty(shape), np.empty(shape, np.bool_)
    _quantile(floats(values), bools(valid), groups, floats(quantiles), out_values, out_valid, cancelled)
    return out_values, out_valid


@dataclass(frozen=True, slots=True)
class ValueCounts:
    """count_values(): pair i is value ``values[i]`` in group ``groups[i]``, seen ``counts[i, step]`` times.

    int64[pairs], float64[pairs], float64[pairs, steps]; pairs by group, then value. All NaNs are one value; 0 and -0
    are two, as they print differently.
    """

    groups: NDArray[np.int64]
    values: NDArray[np.float64]
    counts: FloatMatrix


_COUNTED_CELLS = 1 << 20
"""Samples that are sorted at once; between two such pieces the token is looked at."""


def count_values(
    values: FloatMatrix, valid: BoolMatrix, group_ids: NDArray[np.int64], cancelled: CancelFlag = _NEVER
) -> ValueCounts:
    """How often each value occurs in each group at each step. Merged by grouping (group, value) anew and adding."""
    steps_at_once = max(1, _COUNTED_CELLS // max(1, values.shape[0]))
    pieces: list[ValueCounts] = []
    for first in range(0, values.shape[1], steps_at_once):
        if cancelled[0]:
            break
        some = slice(first, first + steps_at_once)
        pieces.append(_count_values(values[:, some], valid[:, some], group_ids))
    if len(pieces) == 1:
        return pieces[0]
    groups = np.concatenate([np.empty(0, np.int64), *(piece.groups for piece in pieces)])
    bits = np.concatenate([np.empty(0), *(piece.values for piece in pieces)]).view(np.int64)
    order, is_new, pairs = _sorted_pairs(bits, groups)
    counts = np.zeros((int(pairs[-1]) + 1 if len(pairs) else 0, values.shape[1]))
    places = np.empty(len(order), np.int64)
    places[order] = pairs
    done_rows = done_steps = 0
    for piece in pieces:
        rows, steps = piece.counts.shape
        counts[places[done_rows : done_rows + rows], done_steps : done_steps + steps] = piece.counts
        done_rows, done_steps = done_rows + rows, done_steps + steps
    firsts = order[is_new]
    return ValueCounts(groups[firsts], bits[firsts].view(np.float64), counts)


def _sorted_pairs(
    bits: NDArray[np.int64], owners: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64]]:
    """The order by group and value; in that order which are new, and the number of each one's pair."""
    # Sign and magnitude of a float as an integer that sorts as the floats do, -0 before 0.
    sortable = np.where(bits < 0, np.int64(np.iinfo(np.int64).min) - bits - 1, bits)
    order = np.lexsort((sortable, owners))
    is_new = np.ones(len(order), np.bool_)
    is_new[1:] = (np.diff(sortable[order]) != 0) | (np.diff(owners[order]) != 0)
    return order, is_new, np.cumsum(is_new) - 1


def _count_values(values: FloatMatrix, valid: BoolMatrix, group_ids: NDArray[np.int64]) -> ValueCounts:
    rows, steps = np.nonzero(valid)
    chosen = values[rows, steps]
    chosen[np.isnan(chosen)] = np.nan
    owners = group_ids[rows]
    order, is_new, pairs = _sorted_pairs(chosen.view(np.int64), owners)
    counts = np.zeros((int(pairs[-1]) + 1 if len(pairs) else 0, values.shape[1]))
    np.add.at(counts, (pairs, steps[order]), 1.0)
    firsts = order[is_new]
    return ValueCounts(owners[firsts], chosen[firsts], counts)
