"""deriv(), predict_linear() and double_exponential_smoothing()."""

from __future__ import annotations

import math

import numpy as np
from numba import njit, types

from filoray.nodes.kernels.arrays import Floats, Ints
from filoray.nodes.kernels.query.compensated import add, add_finite
from filoray.nodes.kernels.query.records import RESULTS, SAMPLES, WINDOWS, Results, Samples, Windows
from filoray.nodes.kernels.query.signatures import FLOATS, KERNEL_OPTIONS
from filoray.nodes.kernels.query.windows import find_windows


@njit(cache=True, nogil=True)
def _line(count: float, sum_x: float, sum_y: float, sum_xy: float, sum_xx: float) -> tuple[float, float]:
    """Slope and value at the origin of the least-squares line, from its sums."""
    covariance = sum_xy - sum_x * sum_y / count
    variance = sum_xx - sum_x * sum_x / count
    slope = covariance / variance
    return slope, sum_y / count - slope * sum_x / count


@njit(cache=True, nogil=True)
def _fit_exactly(timestamps: Ints, values: Floats, begin: int, end: int, origin_ms: int) -> tuple[float, float]:
    """As ``_fit``, for sums that leave the finite."""
    sum_x, error_x = 0.0, 0.0
    sum_y, error_y = 0.0, 0.0
    sum_xy, error_xy = 0.0, 0.0
    sum_xx, error_xx = 0.0, 0.0
    for i in range(begin, end):
        y = values[i]
        x = float(timestamps[i] - origin_ms) / 1e3
        sum_x, error_x = add(x, sum_x, error_x)
        sum_y, error_y = add(y, sum_y, error_y)
        sum_xy, error_xy = add(x * y, sum_xy, error_xy)
        sum_xx, error_xx = add(x * x, sum_xx, error_xx)
    return _line(float(end - begin), sum_x + error_x, sum_y + error_y, sum_xy + error_xy, sum_xx + error_xx)


@njit(cache=True, nogil=True)
def _fit(timestamps: Ints, values: Floats, begin: int, end: int, origin_ms: int) -> tuple[float, float]:
    """Slope per second and value at ``origin_ms`` of the least-squares line through samples ``begin:end``."""
    sum_x, error_x = 0.0, 0.0
    sum_y, error_y = 0.0, 0.0
    sum_xy, error_xy = 0.0, 0.0
    sum_xx, error_xx = 0.0, 0.0
    first = values[begin]
    constant = True
    for i in range(begin, end):
        y = values[i]
        # A lone NaN differs from itself; Prometheus compares from the second sample on.
        constant &= (y == first) | (i == begin)
        x = float(timestamps[i] - origin_ms) / 1e3
        sum_x, error_x = add_finite(x, sum_x, error_x)
        sum_y, error_y = add_finite(y, sum_y, error_y)
        sum_xy, error_xy = add_finite(x * y, sum_xy, error_xy)
        sum_xx, error_xx = add_finite(x * x, sum_xx, error_xx)
    if constant:
        if math.isinf(first):
            return math.nan, math.nan
        return 0.0, first
    slope, intercept = _line(float(end - begin), sum_x + error_x, sum_y + error_y, sum_xy + error_xy, sum_xx + error_xx)
    if not (math.isfinite(slope) and math.isfinite(intercept)):
        return _fit_exactly(timestamps, values, begin, end, origin_ms)
    return slope, intercept


@njit(types.void(SAMPLES, WINDOWS, types.boolean, types.int64, types.int64, FLOATS, RESULTS), **KERNEL_OPTIONS)
def linear_regression(
    samples: Samples,
    windows: Windows,
    predicts: bool,
    first_origin_ms: int,
    origin_step_ms: int,
    ahead_s: Floats,
    results: Results,
) -> None:
    """deriv(), or, if ``predicts``, predict_linear() by ``ahead_s`` float64[steps] seconds after each evaluation time.

    The evaluation time of step k is ``first_origin_ms + k * origin_step_ms``; it is not the window's end where the
    selector has an offset or an ``@``. Needs two samples.
    """
    offsets, timestamps, values = samples
    out_values, out_valid, samples_per_step, cancelled = results
    steps = out_valid.shape[1]
    lows = np.empty(steps, np.int64)
    highs = np.empty(steps, np.int64)
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
        for k in range(steps):
            found = highs[k] - lows[k] >= 2
            out_valid[series, k] = found
            result = 0.0
            if found:
                if predicts:
                    slope, intercept = _fit(timestamps, values, lows[k], highs[k], first_origin_ms + k * origin_step_ms)
                    result = slope * ahead_s[k] + intercept
                else:
                    # An origin near the samples keeps the squares small.
                    result, _ = _fit(timestamps, values, lows[k], highs[k], timestamps[lows[k]])
            out_values[series, k] = result


@njit(types.void(SAMPLES, WINDOWS, FLOATS, FLOATS, RESULTS), **KERNEL_OPTIONS)
def double_exponential_smoothing(
    samples: Samples, windows: Windows, smoothing_factors: Floats, trend_factors: Floats, results: Results
) -> None:
    """Holt's linear method over each window of at least two samples; factors float64[steps], each in (0, 1)."""
    offsets, timestamps, values = samples
    out_values, out_valid, samples_per_step, cancelled = results
    steps = out_valid.shape[1]
    lows = np.empty(steps, np.int64)
    highs = np.empty(steps, np.int64)
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
        for k in range(steps):
            low = lows[k]
            found = highs[k] - low >= 2
            out_valid[series, k] = found
            out_values[series, k] = 0.0
            if not found:
                continue
            smoothing = smoothing_factors[k]
            trend_factor = trend_factors[k]
            before = 0.0
            level = values[low]
            trend = values[low + 1] - values[low]
            for i in range(low + 1, highs[k]):
                if i > low + 1:
                    trend = trend_factor * (level - before) + (1.0 - trend_factor) * trend
                new_level = smoothing * values[i] + (1.0 - smoothing) * (level + trend)
                before = level
                level = new_level
            out_values[series, k] = level
