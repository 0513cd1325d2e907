"""histogram_quantile() and histogram_fraction() over classic histograms: cumulative bucket series with an ``le`` bound.

Rules and tolerances are those of https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile.
Which series are buckets of one histogram, and what their bounds are, is the caller's business; here, the rows of a
histogram come together in ``BucketRows``, ascending by bound. Rows of one bound are added up.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit, types
from numpy.typing import NDArray

from filoray.nodes.kernels.arrays import Bools, Bytes, Floats, Ints, bools, floats
from filoray.nodes.kernels.query.signatures import (
    BOOL_MATRIX,
    FLAG,
    FLOAT_MATRIX,
    FLOATS,
    INTS,
    KERNEL_OPTIONS,
    OUT_BOOL_MATRIX,
    OUT_FLOAT_MATRIX,
    OUT_FLOATS,
)
from filoray.nodes.kernels.record_type import record_type

FloatMatrix = NDArray[np.float64]
BoolMatrix = NDArray[np.bool_]
CancelFlag = NDArray[np.uint8]
_NEVER: CancelFlag = np.zeros(1, np.uint8)

_TOLERANCE = 1e-12
"""Counts whose relative difference is smaller are the same count with rounding noise (Prometheus's constant)."""
_MIN_NORMAL = 2.2250738585072014e-308
_MAX_FLOAT = 1.7976931348623157e308


class BucketRows(NamedTuple):
    """Histogram g has the rows ``rows[offsets[g]:offsets[g + 1]]``, their upper bounds ascending.

    rows     int64[n]
    bounds   float64[n]  by position in ``rows``
    offsets  int64[histograms + 1]
    """

    rows: Ints
    bounds: Floats
    offsets: Ints

    @classmethod
    def of(cls, group_ids: NDArray[np.int64], bounds: NDArray[np.float64], group_count: int) -> BucketRows:
        """``group_ids`` int64[n] and ``bounds`` float64[n] of each row; rows of group -1 are no buckets."""
        order = np.lexsort((bounds, group_ids))
        order = order[group_ids[order] >= 0].astype(np.int64, copy=False)
        sizes = np.bincount(group_ids[order], minlength=group_count)
        offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        return cls(order, np.ascontiguousarray(bounds[order], np.float64), offsets)

    @property
    def group_count(self) -> int:
        return len(self.offsets) - 1


BUCKET_ROWS = record_type(BucketRows, INTS, FLOATS, INTS)


class HistogramQuantiles(NamedTuple):
    """Quantiles, and what the annotation tells where falling counts were raised.

    values                float64[histograms, steps]
    valid                 bool[histograms, steps]
    forced_monotonic      bool[histograms, steps]  counts that fell were raised
    lowest_forced_bound   float64[histograms]      of buckets whose counts were raised, inf where there is none
    highest_forced_bound  float64[histograms]      of the same, -inf where there is none
    largest_fall          float64[histograms]
    """

    values: Floats
    valid: Bools
    forced_monotonic: Bools
    lowest_forced_bound: Floats
    highest_forced_bound: Floats
    largest_fall: Floats

    @classmethod
    def room_for(cls, histograms: int, steps: int) -> HistogramQuantiles:
        """So many, to be filled."""
        return cls(
            values=np.empty((histograms, steps)),
            valid=np.empty((histograms, steps), np.bool_),
            forced_monotonic=np.empty((histograms, steps), np.bool_),
            lowest_forced_bound=np.full(histograms, np.inf),
            highest_forced_bound=np.full(histograms, -np.inf),
            largest_fall=np.zeros(histograms),
        )


HISTOGRAM_QUANTILES = record_type(
    HistogramQuantiles, OUT_FLOAT_MATRIX, OUT_BOOL_MATRIX, OUT_BOOL_MATRIX, OUT_FLOATS, OUT_FLOATS, OUT_FLOATS
)


@njit(cache=True, nogil=True)
def _almost_equal(a: float, b: float) -> bool:
    if math.isnan(a) and math.isnan(b):
        return True
    if a == b:
        return True
    total = abs(a) + abs(b)
    difference = abs(a - b)
    if a == 0.0 or b == 0.0 or total < _MIN_NORMAL:
        return difference < _TOLERANCE * _MIN_NORMAL
    return difference / min(total, _MAX_FLOAT) < _TOLERANCE


@njit(cache=True, nogil=True)
def _gather(
    values: Floats, valid: Bools, buckets: BucketRows, group: int, k: int, uppers: Floats, counts: Floats
) -> int:
    """The buckets of one histogram at one step, those of one bound added up; returns how many there are."""
    rows, bounds, offsets = buckets
    size = 0
    for i in range(offsets[group], offsets[group + 1]):
        if not valid[rows[i], k]:
            continue
        if size > 0 and uppers[size - 1] == bounds[i]:
            counts[size - 1] += values[rows[i], k]
        else:
            uppers[size] = bounds[i]
            counts[size] = values[rows[i], k]
            size += 1
    return size


@njit(cache=True, nogil=True)
def _interpolate_quantile(quantile: float, uppers: Floats, counts: Floats, size: int) -> float:
    """The quantile of ``size`` buckets whose counts never fall."""
    total = counts[size - 1]
    if size < 2 or total == 0.0:
        return math.nan
    rank = quantile * total
    low = 0
    high = size - 1
    while low < high:
        middle = (low + high) >> 1
        if counts[middle] >= rank:
            high = middle
        else:
            low = middle + 1
    if low == size - 1:
        return uppers[size - 2]
    if low == 0 and uppers[0] <= 0.0:
        return uppers[0]
    start = 0.0
    inside = counts[low]
    if low > 0:
        start = uppers[low - 1]
        inside -= counts[low - 1]
        rank -= counts[low - 1]
    return start + (uppers[low] - start) * (rank / inside)


@njit(types.void(FLOAT_MATRIX, BOOL_MATRIX, BUCKET_ROWS, FLOATS, HISTOGRAM_QUANTILES, FLAG), **KERNEL_OPTIONS)
def _quantile(
    values: Floats, valid: Bools, buckets: BucketRows, quantiles: Floats, result: HistogramQuantiles, cancelled: Bytes
) -> None:
    out_values, out_valid, forced, lowest_forced, highest_forced, largest_fall = result
    uppers = np.empty(buckets.rows.shape[0])
    counts = np.empty(buckets.rows.shape[0])
    for group in range(buckets.offsets.shape[0] - 1):
        if cancelled[0]:
            return
        for k in range(values.shape[1]):
            size = _gather(values, valid, buckets, group, k, uppers, counts)
            out_valid[group, k] = size > 0
            out_values[group, k] = math.nan
            forced[group, k] = False
            quantile = quantiles[k]
            if size == 0 or math.isnan(quantile):
                continue
            if quantile < 0.0:
                out_values[group, k] = -math.inf
                continue
            if quantile > 1.0:
                out_values[group, k] = math.inf
                continue
            if uppers[size - 1] != math.inf:
                continue
            previous = counts[0]
            lowest, highest, fall = math.inf, -math.inf, 0.0
            for i in range(1, size):
                current = counts[i]
                if current == previous:
                    continue
                if _almost_equal(previous, current):
                    counts[i] = previous
                elif current < previous:
                    counts[i] = previous
                    lowest = min(lowest, uppers[i])
                    highest = max(highest, uppers[i])
                    fall = max(fall, previous - current)
                else:
                    previous = current
            if fall > 0.0 and counts[size - 1] != 0.0:  # without observations nobody is told
                forced[group, k] = True
                lowest_forced[group] = min(lowest_forced[group], lowest)
                highest_forced[group] = max(highest_forced[group], highest)
                largest_fall[group] = max(largest_fall[group], fall)
            out_values[group, k] = _interpolate_quantile(quantile, uppers, counts, size)


@njit(cache=True, nogil=True)
def _rank_of(value: float, uppers: Floats, counts: Floats, size: int) -> float:
    """How many observations lie below ``value``, by linear interpolation inside its bucket."""
    rank = 0.0
    lower = -math.inf if uppers[0] <= 0.0 else 0.0
    for i in range(size):
        if i > 0:
            lower = uppers[i - 1]
        if lower >= value:
            return rank
        if uppers[i] > value:
            if lower == -math.inf:
                return counts[i]
            return rank + (counts[i] - rank) * (value - lower) / (uppers[i] - lower)
        rank = counts[i]
    return counts[size - 1]


@njit(
    types.void(FLOAT_MATRIX, BOOL_MATRIX, BUCKET_ROWS, FLOATS, FLOATS, OUT_FLOAT_MATRIX, OUT_BOOL_MATRIX, FLAG),
    **KERNEL_OPTIONS,
)
def _fraction(
    values: Floats,
    valid: Bools,
    buckets: BucketRows,
    lowers: Floats,
    uppers_asked: Floats,
    out_values: Floats,
    out_valid: Bools,
    cancelled: Bytes,
) -> None:
    uppers = np.empty(buckets.rows.shape[0])
    counts = np.empty(buckets.rows.shape[0])
    for group in range(buckets.offsets.shape[0] - 1):
        if cancelled[0]:
            return
        for k in range(values.shape[1]):
            size = _gather(values, valid, buckets, group, k, uppers, counts)
            out_valid[group, k] = size > 0
            out_values[group, k] = math.nan
            if size == 0 or uppers[size - 1] != math.inf:
                continue
            total = counts[size - 1]
            if total == 0.0 or math.isnan(lowers[k]) or math.isnan(uppers_asked[k]):
                continue
            if lowers[k] >= uppers_asked[k]:
                out_values[group, k] = 0.0
                continue
            below = _rank_of(lowers[k], uppers, counts, size)
            up_to = _rank_of(uppers_asked[k], uppers, counts, size)
            below = total if below > total else below
            up_to = total if up_to > total else up_to
            out_values[group, k] = (up_to - below) / total


def histogram_quantiles(
    values: FloatMatrix,
    valid: BoolMatrix,
    buckets: BucketRows,
    quantiles: NDArray[np.float64],
    cancelled: CancelFlag = _NEVER,
) -> HistogramQuantiles:
    """histogram_quantile() of each histogram at each step; ``quantiles`` float64[steps].

    Valid where a histogram has any bucket. NaN without a +Inf bucket, with fewer than two buckets or without
    observations; -Inf and +Inf for quantiles below 0 and above 1.
    """
    result = HistogramQuantiles.room_for(buckets.group_count, values.shape[1])
    _quantile(floats(values), bools(valid), buckets, floats(quantiles), result, cancelled)
    return result


def histogram_fractions(
    values: FloatMatrix,
    valid: BoolMatrix,
    buckets: BucketRows,
    lowers: NDArray[np.float64],
    uppers: NDArray[np.float64],
    cancelled: CancelFlag = _NEVER,
) -> tuple[FloatMatrix, BoolMatrix]:
    """histogram_fraction() of each histogram at each step as values and validity; bounds float64[steps]."""
    shape = (buckets.group_count, values.shape[1])
    out_values, out_valid = np.empty(shape), np.empty(shape, np.bool_)
    _fraction(floats(values), bools(valid), buckets, floats(lowers), floats(uppers), out_values, out_valid, cancelled)
    return out_values, out_valid
