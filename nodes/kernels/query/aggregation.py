"""sum, avg, count, min, max, stddev and stdvar by group, in parts that can be merged.

Each function takes a Frame's ``values`` float64[n, steps] and ``valid`` bool[n, steps], ``group_ids`` int64[n] below
``group_count``, and an optional ``cancelled`` uint8[1], and returns arrays [groups, steps]. Where ``count`` is 0 the
group has no sample at the step. Rows are added in order with Prometheus's compensated sum, so what one node
computes alone is Prometheus's result to the bit; partial results are merged by the ``merge_*`` functions with the
same care and differ from it, if at all, in the last place. Variances are compensated where Prometheus's are not, as
rounding would else make them depend on the order of the rows.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, types
from numpy.typing import NDArray

from filoray.nodes.kernels.arrays import Bools, Bytes, Ints, floats, ints
from filoray.nodes.kernels.query.aggregation_parts import (
    GROUPED_ROWS,
    MEAN_PART,
    OUT_EXTREME_PART,
    OUT_MEAN_PART,
    OUT_SUM_PART,
    OUT_VARIANCE_PART,
    SUM_PART,
    VARIANCE_PART,
    ExtremePart,
    GroupedRows,
    MeanPart,
    SumPart,
    VariancePart,
)
from filoray.nodes.kernels.query.compensated import add, add_finite
from filoray.nodes.kernels.query.signatures import BOOL_MATRIX, FLAG, INTS, KERNEL_OPTIONS

FloatMatrix = NDArray[np.float64]
BoolMatrix = NDArray[np.bool_]
GroupIds = NDArray[np.int64]
CancelFlag = NDArray[np.uint8]
_NEVER: CancelFlag = np.zeros(1, np.uint8)


@njit(types.void(GROUPED_ROWS, OUT_SUM_PART, FLAG), **KERNEL_OPTIONS)
def _sum(rows: GroupedRows, sums: SumPart, cancelled: Bytes) -> None:
    values, valid, group_ids = rows
    high, low, count = sums
    for row in range(values.shape[0]):
        if cancelled[0]:
            return
        group = group_ids[row]
        # Branch-free over steps, for vector registers: an invalid cell adds nothing.
        for k in range(values.shape[1]):
            present = valid[row, k]
            term = values[row, k]
            total = high[group, k]
            new_total = total + term
            part = new_total - total
            error = low[group, k] + ((total - (new_total - part)) + (term - part))
            error = 0.0 if abs(new_total) == np.inf else error
            high[group, k] = new_total if present else total
            low[group, k] = error if present else low[group, k]
            count[group, k] += 1.0 if present else 0.0


@njit(types.void(GROUPED_ROWS, OUT_MEAN_PART, BOOL_MATRIX, FLAG), **KERNEL_OPTIONS)
def _mean_again(rows: GroupedRows, means: MeanPart, chosen: Bools, cancelled: Bytes) -> None:
    values, valid, group_ids = rows
    high, low, count, incremental = means
    for row in range(values.shape[0]):
        if cancelled[0]:
            return
        group = group_ids[row]
        for k in range(values.shape[1]):
            if not chosen[group, k] or not valid[row, k]:
                continue
            term = values[row, k]
            count[group, k] += 1.0
            seen = count[group, k]
            if seen == 1.0:
                high[group, k] = term
                continue
            if not incremental[group, k]:
                total, error = add(term, high[group, k], low[group, k])
                if not math.isinf(total):
                    high[group, k] = total
                    low[group, k] = error
                    continue
                incremental[group, k] = True
                high[group, k] /= seen - 1.0
                low[group, k] /= seen - 1.0
            share = (seen - 1.0) / seen
            mean, error = add(term / seen, share * high[group, k], share * low[group, k])
            high[group, k] = mean
            low[group, k] = error


@njit(types.void(GROUPED_ROWS, OUT_VARIANCE_PART, FLAG), **KERNEL_OPTIONS)
def _variance(rows: GroupedRows, variances: VariancePart, cancelled: Bytes) -> None:
    values, valid, group_ids = rows
    count, mean, mean_low, squares, squares_low = variances
    for row in range(values.shape[0]):
        if cancelled[0]:
            return
        group = group_ids[row]
        for k in range(values.shape[1]):
            present = valid[row, k]
            term = values[row, k]
            seen = count[group, k] + (1.0 if present else 0.0)
            # Subtracting in this order keeps what distinguishes values that are near the mean and far from zero.
            delta = (term - mean[group, k]) - mean_low[group, k]
            new_mean, new_mean_low = add_finite(delta / seen, mean[group, k], mean_low[group, k])
            rest = (term - new_mean) - new_mean_low
            new_squares, new_squares_low = add_finite(delta * rest, squares[group, k], squares_low[group, k])
            count[group, k] = seen
            mean[group, k] = new_mean if present else mean[group, k]
            mean_low[group, k] = new_mean_low if present else mean_low[group, k]
            squares[group, k] = new_squares if present else squares[group, k]
            squares_low[group, k] = new_squares_low if present else squares_low[group, k]


@njit(types.void(GROUPED_ROWS, types.boolean, OUT_EXTREME_PART, FLAG), **KERNEL_OPTIONS)
def _extreme(rows: GroupedRows, is_max: bool, extremes: ExtremePart, cancelled: Bytes) -> None:
    values, valid, group_ids = rows
    best, found = extremes
    for row in range(values.shape[0]):
        if cancelled[0]:
            return
        group = group_ids[row]
        for k in range(values.shape[1]):
            value = values[row, k]
            old = best[group, k]
            better = value > old if is_max else value < old
            # ``best`` starts as NaN, which anything replaces.
            replaces = valid[row, k] & (better | (old != old))
            best[group, k] = value if replaces else old
            found[group, k] |= valid[row, k]


@njit(types.void(SUM_PART, INTS, OUT_SUM_PART, FLAG), **KERNEL_OPTIONS)
def _merge_sums(part: SumPart, group_ids: Ints, merged: SumPart, cancelled: Bytes) -> None:
    part_high, part_low, part_count = part
    high, low, count = merged
    for row in range(part_high.shape[0]):
        if cancelled[0]:
            return
        group = group_ids[row]
        for k in range(part_high.shape[1]):
            if part_count[row, k] == 0.0:
                continue
            if count[group, k] == 0.0:
                high[group, k] = part_high[row, k]
                low[group, k] = part_low[row, k]
            else:
                total, error = add(part_high[row, k], high[group, k], low[group, k])
                high[group, k] = total
                low[group, k] = error if math.isinf(total) else error + part_low[row, k]
            count[group, k] += part_count[row, k]


@njit(types.void(MEAN_PART, INTS, OUT_MEAN_PART, FLAG), **KERNEL_OPTIONS)
def _merge_means(part: MeanPart, group_ids: Ints, merged: MeanPart, cancelled: Bytes) -> None:
    part_high, part_low, part_count, part_incremental = part
    high, low, count, incremental = merged
    for row in range(part_high.shape[0]):
        if cancelled[0]:
            return
        group = group_ids[row]
        for k in range(part_high.shape[1]):
            other = part_count[row, k]
            if other == 0.0:
                continue
            seen = count[group, k]
            count[group, k] = seen + other
            if seen == 0.0:
                high[group, k] = part_high[row, k]
                low[group, k] = part_low[row, k]
                incremental[group, k] = part_incremental[row, k]
                continue
            if not incremental[group, k] and not part_incremental[row, k]:
                total, error = add(part_high[row, k], high[group, k], low[group, k])
                if not math.isinf(total):
                    high[group, k] = total
                    low[group, k] = error + part_low[row, k]
                    continue
            if not incremental[group, k]:
                incremental[group, k] = True
                high[group, k] /= seen
                low[group, k] /= seen
            other_high = part_high[row, k]
            other_low = part_low[row, k]
            if not part_incremental[row, k]:
                other_high /= other
                other_low /= other
            share = seen / (seen + other)
            other_share = other / (seen + other)
            mean, error = add(other_high * other_share, share * high[group, k], share * low[group, k])
            high[group, k] = mean
            low[group, k] = error if math.isinf(mean) else error + other_low * other_share


@njit(types.void(VARIANCE_PART, INTS, OUT_VARIANCE_PART, FLAG), **KERNEL_OPTIONS)
def _merge_variances(part: VariancePart, group_ids: Ints, merged: VariancePart, cancelled: Bytes) -> None:
    part_count, part_mean, part_mean_low, part_squares, part_squares_low = part
    count, mean, mean_low, squares, squares_low = merged
    for row in range(part_count.shape[0]):
        if cancelled[0]:
            return
        group = group_ids[row]
        for k in range(part_count.shape[1]):
            other = part_count[row, k]
            if other == 0.0:
                continue
            seen = count[group, k]
            total = seen + other
            count[group, k] = total
            if seen == 0.0:
                mean[group, k] = part_mean[row, k]
                mean_low[group, k] = part_mean_low[row, k]
                squares[group, k] = part_squares[row, k]
                squares_low[group, k] = part_squares_low[row, k]
                continue
            delta = (part_mean[row, k] - mean[group, k]) + (part_mean_low[row, k] - mean_low[group, k])
            high, low = add_finite(delta * (other / total), mean[group, k], mean_low[group, k])
            mean[group, k] = high
            mean_low[group, k] = low
            high, low = add_finite(part_squares[row, k], squares[group, k], squares_low[group, k])
            high, low = add_finite(delta * delta * (seen * (other / total)), high, low + part_squares_low[row, k])
            squares[group, k] = high
            squares_low[group, k] = low


def group_sums(
    values: FloatMatrix, valid: BoolMatrix, group_ids: GroupIds, group_count: int, cancelled: CancelFlag = _NEVER
) -> SumPart:
    """The parts of sum()."""
    sums = SumPart.zeros(group_count, values.shape[1])
    _sum(GroupedRows.of(values, valid, group_ids), sums, cancelled)
    return sums


def group_means(
    values: FloatMatrix, valid: BoolMatrix, group_ids: GroupIds, group_count: int, cancelled: CancelFlag = _NEVER
) -> MeanPart:
    """The parts of avg(): by the sum, and incrementally from the row on that would make the sum overflow."""
    sums = group_sums(values, valid, group_ids, group_count, cancelled)
    means = MeanPart(*sums, np.zeros(sums.high.shape, np.bool_))
    overflowed = ~np.isfinite(sums.high)
    if overflowed.any():
        for part in sums:
            part[overflowed] = 0.0
        _mean_again(GroupedRows.of(values, valid, group_ids), means, overflowed, cancelled)
    return means


def group_variances(
    values: FloatMatrix, valid: BoolMatrix, group_ids: GroupIds, group_count: int, cancelled: CancelFlag = _NEVER
) -> VariancePart:
    """The parts of stddev() and stdvar(), by Welford's recurrence. NaN where a group holds NaN or an infinity."""
    variances = VariancePart.zeros(group_count, values.shape[1])
    _variance(GroupedRows.of(values, valid, group_ids), variances, cancelled)
    return variances


def group_extremes(
    values: FloatMatrix,
    valid: BoolMatrix,
    group_ids: GroupIds,
    group_count: int,
    cancelled: CancelFlag = _NEVER,
    *,
    is_max: bool,
) -> ExtremePart:
    """max() or min(), NaN only where there is nothing else. Its own merge: extremes of extremes."""
    best = np.full((group_count, values.shape[1]), np.nan)
    extremes = ExtremePart(best, np.zeros(best.shape, np.bool_))
    _extreme(GroupedRows.of(values, valid, group_ids), is_max, extremes, cancelled)
    return extremes


def group_counts(valid: BoolMatrix, group_ids: GroupIds, group_count: int) -> FloatMatrix:
    """count() as float64[groups, steps]; 0 is no sample. Merged by adding; group() is 1 where it is not 0."""
    counts = np.zeros((group_count, valid.shape[1]))
    if len(group_ids):
        order = np.argsort(group_ids, kind="stable")
        groups, starts = np.unique(group_ids[order], return_index=True)
        counts[groups] = np.add.reduceat(valid[order], starts, axis=0, dtype=np.float64)
    return counts


def merge_sums(part: SumPart, group_ids: GroupIds, group_count: int, cancelled: CancelFlag = _NEVER) -> SumPart:
    """Partial sums, stacked by row, merged by ``group_ids`` int64[rows]."""
    merged = SumPart.zeros(group_count, part.high.shape[1])
    _merge_sums(SumPart(*map(floats, part)), ints(group_ids), merged, cancelled)
    return merged


def merge_means(part: MeanPart, group_ids: GroupIds, group_count: int, cancelled: CancelFlag = _NEVER) -> MeanPart:
    """Partial means, stacked by row, merged by ``group_ids`` int64[rows]."""
    merged = MeanPart.zeros(group_count, part.high.shape[1])
    _merge_means(part, group_ids, merged, cancelled)
    return merged


def merge_variances(
    part: VariancePart, group_ids: GroupIds, group_count: int, cancelled: CancelFlag = _NEVER
) -> VariancePart:
    """Partial variances, stacked by row, merged by ``group_ids`` int64[rows] (Chan's rule)."""
    merged = VariancePart.zeros(group_count, part.counts.shape[1])
    _merge_variances(VariancePart(*map(floats, part)), ints(group_ids), merged, cancelled)
    return merged
