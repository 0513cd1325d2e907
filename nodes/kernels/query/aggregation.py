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
from dataclasses import dataclass

import numpy as np
from numba import njit, types
from numpy.typing import NDArray

from filoray.nodes.kernels.arrays import Bools, Bytes, Floats, Ints, bools, floats, ints
from filoray.nodes.kernels.query.compensated import add, add_finite
from filoray.nodes.kernels.query.signatures import (
    BOOL_MATRIX,
    FLAG,
    FLOAT_MATRIX,
    INTS,
    KERNEL_OPTIONS,
    OUT_BOOL_MATRIX,
    OUT_FLOAT_MATRIX,
)

FloatMatrix = NDArray[np.float64]
BoolMatrix = NDArray[np.bool_]
GroupIds = NDArray[np.int64]
CancelFlag = NDArray[np.uint8]
_NEVER: CancelFlag = np.zeros(1, np.uint8)


@dataclass(frozen=True, slots=True)
class SumPart:
    """A compensated sum: its value is ``high + low``. All float64[groups, steps]."""

    high: FloatMatrix
    low: FloatMatrix
    count: FloatMatrix

    @property
    def valid(self) -> BoolMatrix:
        return self.count > 0

    def result(self) -> FloatMatrix:
        """The sums."""
        with np.errstate(invalid="ignore"):
            return np.where(np.isinf(self.high), self.high, self.high + self.low)


@dataclass(frozen=True, slots=True)
class MeanPart:
    """A mean: ``high + low`` is the sum, or the mean itself where the sum overflowed (``incremental``, bool)."""

    high: FloatMatrix
    low: FloatMatrix
    count: FloatMatrix
    incremental: BoolMatrix

    @property
    def valid(self) -> BoolMatrix:
        return self.count > 0

    def result(self) -> FloatMatrix:
        """The means."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(self.incremental, self.high + self.low, self.high / self.count + self.low / self.count)


@dataclass(frozen=True, slots=True)
class VariancePart:
    """Count, mean and sum of squared distances from the mean, both compensated. All float64[groups, steps]."""

    count: FloatMatrix
    mean: FloatMatrix
    mean_low: FloatMatrix
    squares: FloatMatrix
    squares_low: FloatMatrix

    @property
    def valid(self) -> BoolMatrix:
        return self.count > 0

    def variance(self) -> FloatMatrix:
        """stdvar(); its square root is stddev()."""
        with np.errstate(invalid="ignore", divide="ignore"):
            squares = np.where(np.isinf(self.squares), self.squares, self.squares + self.squares_low)
            return squares / self.count

    def deviation(self) -> FloatMatrix:
        with np.errstate(invalid="ignore"):
            return np.sqrt(self.variance())


@dataclass(frozen=True, slots=True)
class ExtremePart:
    """``values`` float64[groups, steps] where ``valid``."""

    values: FloatMatrix
    valid: BoolMatrix


@njit(
    types.void(FLOAT_MATRIX, BOOL_MATRIX, INTS, OUT_FLOAT_MATRIX, OUT_FLOAT_MATRIX, OUT_FLOAT_MATRIX, FLAG),
    **KERNEL_OPTIONS,
)
def _sum(
    values: Floats, valid: Bools, group_ids: Ints, high: Floats, low: Floats, count: Floats, cancelled: Bytes
) -> None:
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


@njit(
    types.void(
        FLOAT_MATRIX,
        BOOL_MATRIX,
        INTS,
        OUT_FLOAT_MATRIX,
        OUT_FLOAT_MATRIX,
        OUT_FLOAT_MATRIX,
        OUT_BOOL_MATRIX,
        OUT_BOOL_MATRIX,
        FLAG,
    ),
    **KERNEL_OPTIONS,
)
def _mean_again(
    values: Floats,
    valid: Bools,
    group_ids: Ints,
    high: Floats,
    low: Floats,
    count: Floats,
    incremental: Bools,
    chosen: Bools,
    cancelled: Bytes,
) -> None:
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


@njit(
    types.void(
        FLOAT_MATRIX,
        BOOL_MATRIX,
        INTS,
        OUT_FLOAT_MATRIX,
        OUT_FLOAT_MATRIX,
        OUT_FLOAT_MATRIX,
        OUT_FLOAT_MATRIX,
        OUT_FLOAT_MATRIX,
        FLAG,
    ),
    **KERNEL_OPTIONS,
)
def _variance(
    values: Floats,
    valid: Bools,
    group_ids: Ints,
    count: Floats,
    mean: Floats,
    mean_low: Floats,
    squares: Floats,
    squares_low: Floats,
    cancelled: Bytes,
) -> None:
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


@njit(
    types.void(FLOAT_MATRIX, BOOL_MATRIX, INTS, types.boolean, OUT_FLOAT_MATRIX, OUT_BOOL_MATRIX, FLAG),
    **KERNEL_OPTIONS,
)
def _extreme(
    values: Floats, valid: Bools, group_ids: Ints, is_max: bool, best: Floats, found: Bools, cancelled: Bytes
) -> None:
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


@njit(
    types.void(
        FLOAT_MATRIX, FLOAT_MATRIX, FLOAT_MATRIX, INTS, OUT_FLOAT_MATRIX, OUT_FLOAT_MATRIX, OUT_FLOAT_MATRIX, FLAG
    ),
    **KERNEL_OPTIONS,
)
def _merge_sums(
    part_high: Floats,
    part_low: Floats,
    part_count: Floats,
    group_ids: Ints,
    high: Floats,
    low: Floats,
    count: Floats,
    cancelled: Bytes,
) -> None:
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


@njit(
    types.void(
        FLOAT_MATRIX,
        FLOAT_MATRIX,
        FLOAT_MATRIX,
        BOOL_MATRIX,
        INTS,
        OUT_FLOAT_MATRIX,
        OUT_FLOAT_MATRIX,
        OUT_FLOAT_MATRIX,
        OUT_BOOL_MATRIX,
        FLAG,
    ),
    **KERNEL_OPTIONS,
)
def _merge_means(
    part_high: Floats,
    part_low: Floats,
    part_count: Floats,
    part_incremental: Bools,
    group_ids: Ints,
    high: Floats,
    low: Floats,
    count: Floats,
    incremental: Bools,
    cancelled: Bytes,
) -> None:
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


@njit(
    types.void(
        FLOAT_MATRIX,
        FLOAT_MATRIX,
        FLOAT_MATRIX,
        FLOAT_MATRIX,
        FLOAT_MATRIX,
        INTS,
        OUT_FLOAT_MATRIX,
        OUT_FLOAT_MATRIX,
        OUT_FLOAT_MATRIX,
        OUT_FLOAT_MATRIX,
        OUT_FLOAT_MATRIX,
        FLAG,
    ),
    **KERNEL_OPTIONS,
)
def _merge_variances(
    part_count: Floats,
    part_mean: Floats,
    part_mean_low: Floats,
    part_squares: Floats,
    part_squares_low: Floats,
    group_ids: Ints,
    count: Floats,
    mean: Floats,
    mean_low: Floats,
    squares: Floats,
    squares_low: Floats,
    cancelled: Bytes,
) -> None:
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


def _zeros(group_count: int, steps: int) -> FloatMatrix:
    return np.zeros((group_count, steps))


def group_sums(
    values: FloatMatrix, valid: BoolMatrix, group_ids: GroupIds, group_count: int, cancelled: CancelFlag = _NEVER
) -> SumPart:
    """The parts of sum()."""
    high, low, count = (_zeros(group_count, values.shape[1]) for _ in range(3))
    _sum(floats(values), bools(valid), ints(group_ids), high, low, count, cancelled)
    return SumPart(high, low, count)


def group_means(
    values: FloatMatrix, valid: BoolMatrix, group_ids: GroupIds, group_count: int, cancelled: CancelFlag = _NEVER
) -> MeanPart:
    """The parts of avg(): by the sum, and incrementally from the row on that would make the sum overflow."""
    sums = group_sums(values, valid, group_ids, group_count, cancelled)
    incremental = np.zeros(sums.high.shape, np.bool_)
    overflowed = ~np.isfinite(sums.high)
    if overflowed.any():
        for part in (sums.high, sums.low, sums.count):
            part[overflowed] = 0.0
        _mean_again(
            floats(values),
            bools(valid),
            ints(group_ids),
            sums.high,
            sums.low,
            sums.count,
            incremental,
            overflowed,
            cancelled,
        )
    return MeanPart(sums.high, sums.low, sums.count, incremental)


def group_variances(
    values: FloatMatrix, valid: BoolMatrix, group_ids: GroupIds, group_count: int, cancelled: CancelFlag = _NEVER
) -> VariancePart:
    """The parts of stddev() and stdvar(), by Welford's recurrence. NaN where a group holds NaN or an infinity."""
    count, mean, mean_low, squares, squares_low = (_zeros(group_count, values.shape[1]) for _ in range(5))
    _variance(floats(values), bools(valid), ints(group_ids), count, mean, mean_low, squares, squares_low, cancelled)
    return VariancePart(count, mean, mean_low, squares, squares_low)


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
    found = np.zeros(best.shape, np.bool_)
    _extreme(floats(values), bools(valid), ints(group_ids), is_max, best, found, cancelled)
    return ExtremePart(best, found)


def group_counts(valid: BoolMatrix, group_ids: GroupIds, group_count: int) -> FloatMatrix:
    """count() as float64[groups, steps]; 0 is no sample. Merged by adding; group() is 1 where it is not 0."""
    counts = _zeros(group_count, valid.shape[1])
    if len(group_ids):
        order = np.argsort(group_ids, kind="stable")
        groups, starts = np.unique(group_ids[order], return_index=True)
        counts[groups] = np.add.reduceat(valid[order], starts, axis=0, dtype=np.float64)
    return counts


def merge_sums(part: SumPart, group_ids: GroupIds, group_count: int, cancelled: CancelFlag = _NEVER) -> SumPart:
    """Partial sums, stacked by row, merged by ``group_ids`` int64[rows]."""
    high, low, count = (_zeros(group_count, part.high.shape[1]) for _ in range(3))
    _merge_sums(floats(part.high), floats(part.low), floats(part.count), ints(group_ids), high, low, count, cancelled)
    return SumPart(high, low, count)


def merge_means(part: MeanPart, group_ids: GroupIds, group_count: int, cancelled: CancelFlag = _NEVER) -> MeanPart:
    """Partial means, stacked by row, merged by ``group_ids`` int64[rows]."""
    high, low, count = (_zeros(group_count, part.high.shape[1]) for _ in range(3))
    incremental = np.zeros(high.shape, np.bool_)
    _merge_means(part.high, part.low, part.count, part.incremental, group_ids, high, low, count, incremental, cancelled)
    return MeanPart(high, low, count, incremental)


def merge_variances(
    part: VariancePart, group_ids: GroupIds, group_count: int, cancelled: CancelFlag = _NEVER
) -> VariancePart:
    """Partial variances, stacked by row, merged by ``group_ids`` int64[rows] (Chan's rule)."""
    count, mean, mean_low, squares, squares_low = (_zeros(group_count, part.count.shape[1]) for _ in range(5))
    _merge_variances(
        floats(part.count),
        floats(part.mean),
        floats(part.mean_low),
        floats(part.squares),
        floats(part.squares_low),
        ints(group_ids),
        count,
        mean,
        mean_low,
        squares,
        squares_low,
        cancelled,
    )
    return VariancePart(count, mean, mean_low, squares, squares_low)
