"""quantile_over_time() and mad_over_time().

A window's samples are kept sorted in scratch space while it slides: what enters is inserted, what leaves is taken
out. Where windows share little, they are sorted anew.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, types

from filoray.nodes.kernels.arrays import Floats
from filoray.nodes.kernels.query.records import RESULTS, SAMPLES, WINDOWS, Results, Samples, Windows
from filoray.nodes.kernels.query.signatures import FLOATS, KERNEL_OPTIONS
from filoray.nodes.kernels.query.windows import find_windows, longest_series


@njit(cache=True, nogil=True)
def weighted_rank(quantile: float, count: int) -> tuple[int, int, float]:
    """Indices of the two order statistics around a quantile of ``count`` samples, and the weight of the upper."""
    rank = quantile * float(count - 1)
    below = math.floor(rank)
    lower = max(0.0, below)
    upper = min(float(count - 1), lower + 1.0)
    return int(lower), int(upper), rank - below


@njit(cache=True, nogil=True)
def _ordered(ordered: Floats, nan_count: int, index: int) -> float:
    """The sample of an index in Prometheus's order, which has NaN before all else."""
    return math.nan if index < nan_count else ordered[index - nan_count]


@njit(cache=True, nogil=True)
def quantile_of_sorted(ordered: Floats, number_count: int, nan_count: int, quantile: float) -> float:
    """Prometheus's quantile of ``ordered[:number_count]``, ascending without NaN, and ``nan_count`` NaNs."""
    if math.isnan(quantile):
        return math.nan
    if quantile < 0.0:
        return -math.inf
    if quantile > 1.0:
        return math.inf
    lower, upper, weight = weighted_rank(quantile, number_count + nan_count)
    return _ordered(ordered, nan_count, lower) * (1.0 - weight) + _ordered(ordered, nan_count, upper) * weight


@njit(cache=True, nogil=True)
def _position(ordered: Floats, count: int, value: float) -> int:
    """Where ``value`` is or belongs in ``ordered[:count]``."""
    low = 0
    high = count
    while low < high:
        middle = (low + high) >> 1
        if ordered[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low


@njit(cache=True, nogil=True)
def _median_deviation(ordered: Floats, count: int, nan_count: int) -> float:
    """Median of the distances from the median. They grow away from the middle on both sides: merge from there.

    NaN comes before all else in Prometheus's order, among samples and among their distances: of 1 2 3 4 NaN it is 1.
    Where the middle lies between two samples a NaN makes it NaN (1 2 NaN 4), as Prometheus's own test scripts want it.
    """
    if nan_count > 0 and (count + nan_count) % 2 == 0:
        return math.nan
    lower, upper, weight = weighted_rank(0.5, count + nan_count)
    median = quantile_of_sorted(ordered, count, nan_count, 0.5)
    if not math.isfinite(median):
        return math.nan  # distances from an infinity are NaN, and those come first in Prometheus's order
    right = _position(ordered, count, median)
    left = right - 1
    at_lower = math.nan
    at_upper = math.nan
    for i in range(nan_count, upper + 1):
        from_left = abs(ordered[left] - median) if left >= 0 else math.inf
        from_right = abs(ordered[right] - median) if right < count else math.inf
        if left >= 0 and from_left <= from_right:
            distance = from_left
            left -= 1
        else:
            distance = from_right
            right += 1
        if i == lower:
            at_lower = distance
        at_upper = distance
    return at_lower * (1.0 - weight) + at_upper * weight


@njit(types.void(SAMPLES, WINDOWS, types.boolean, FLOATS, RESULTS), **KERNEL_OPTIONS)
def quantile_over_time(
    samples: Samples, windows: Windows, is_deviation: bool, quantiles: Floats, results: Results
) -> None:
    """quantile_over_time() by ``quantiles`` float64[steps], or mad_over_time() if ``is_deviation``."""
    offsets, timestamps, values = samples
    out_values, out_valid, samples_per_step, cancelled = results
    steps = out_valid.shape[1]
    lows = np.empty(steps, np.int64)
    highs = np.empty(steps, np.int64)
    ordered = np.empty(longest_series(offsets) + 1)
    for series in range(offsets.shape[0] - 1):
        if cancelled[0]:
            return
        find_windows(
            timestamps,
            offsets[series],
            offsets[series + 1],
            windows,
            lows,
            highs,
            samples_per_step,
        )
        count = 0
        nan_count = 0
        low = offsets[series]
        high = low
        for k in range(steps):
            found = highs[k] > lows[k]
            out_valid[series, k] = found
            out_values[series, k] = 0.0
            if not found:
                continue
            moves = (highs[k] - high) + (lows[k] - low)
            if lows[k] >= high or moves * 4 > highs[k] - lows[k] + 16:
                count = 0
                nan_count = 0
                for i in range(lows[k], highs[k]):
                    if math.isnan(values[i]):
                        nan_count += 1
                    else:
                        ordered[count] = values[i]
                        count += 1
                ordered[:count].sort()
            else:
                for i in range(low, lows[k]):
                    if math.isnan(values[i]):
                        nan_count -= 1
                    else:
                        at = _position(ordered, count, values[i])
                        count -= 1
                        for j in range(at, count):
                            ordered[j] = ordered[j + 1]
                for i in range(high, highs[k]):
                    if math.isnan(values[i]):
                        nan_count += 1
                    else:
                        at = _position(ordered, count, values[i])
                        for j in range(count, at, -1):
                            ordered[j] = ordered[j - 1]
                        ordered[at] = values[i]
                        count += 1
            low = lows[k]
            high = highs[k]
            if not is_deviation:
                out_values[series, k] = quantile_of_sorted(ordered, count, nan_count, quantiles[k])
            else:
                out_values[series, k] = _median_deviation(ordered, count, nan_count)
