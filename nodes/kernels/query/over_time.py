"""sum, avg, stddev, stdvar, min, max and the counting ``*_over_time`` functions.

Sums, means and deviations are Prometheus's compensated algorithms, run over each window by itself: a result never
depends on which other windows were asked for. Four neighbouring windows are summed side by side, which changes
nothing but the time it takes. Minima, maxima and counts do use the neighbour's work, which is exact there.
"""

from __future__ import annotations

import math
from enum import IntEnum

import numpy as np
from numba import njit, types

from filoray.nodes.kernels.arrays import Floats
from filoray.nodes.kernels.query.compensated import add, add_finite
from filoray.nodes.kernels.query.records import RESULTS, SAMPLES, WINDOWS, Results, Samples, Windows
from filoray.nodes.kernels.query.signatures import KERNEL_OPTIONS
from filoray.nodes.kernels.query.windows import find_windows, longest_series

_Moments = tuple[float, float, float, float, float]
"""Count, mean, its error, sum of squares, its error."""


@njit(cache=True, nogil=True)
def _sum_exactly(values: Floats, begin: int, end: int) -> float:
    total = 0.0
    compensation = 0.0
    for i in range(begin, end):
        total, compensation = add(values[i], total, compensation)
    if math.isinf(total):
        return total
    return total + compensation


@njit(cache=True, nogil=True)
def _mean_exactly(values: Floats, begin: int, end: int) -> float:
    """The mean by its sum, or, from where the sum would overflow, incrementally."""
    total = values[begin]
    compensation = 0.0
    mean = 0.0
    count = 1.0
    incremental = False
    for i in range(begin + 1, end):
        count += 1.0
        if not incremental:
            new_total, new_compensation = add(values[i], total, compensation)
            if not math.isinf(new_total):
                total = new_total
                compensation = new_compensation
                continue
            incremental = True
            mean = total / (count - 1.0)
            compensation /= count - 1.0
        share = (count - 1.0) / count
        mean, compensation = add(values[i] / count, share * mean, share * compensation)
    if incremental:
        return mean + compensation
    return total / count + compensation / count


@njit(cache=True, nogil=True)
def _add_range(values: Floats, begin: int, end: int, total: float, compensation: float) -> tuple[float, float]:
    for i in range(begin, end):
        total, compensation = add_finite(values[i], total, compensation)
    return total, compensation


@njit(cache=True, nogil=True)
def _finish(values: Floats, begin: int, end: int, total: float, compensation: float, is_mean: bool) -> float:
    """The result of a window from its sum; anew, with care, if something in it was not finite."""
    if is_mean:
        count = float(end - begin)
        result = total / count + compensation / count
        if not math.isfinite(result):
            result = _mean_exactly(values, begin, end)
        return result
    result = total + compensation
    if not math.isfinite(result):
        result = _sum_exactly(values, begin, end)
    return result


@njit(types.void(SAMPLES, WINDOWS, types.boolean, RESULTS), **KERNEL_OPTIONS)
def sum_over_time(samples: Samples, windows: Windows, is_mean: bool, results: Results) -> None:
    """sum_over_time(), or avg_over_time() if ``is_mean``."""
    offsets, timestamps, values = samples
    out_values, out_valid, samples_per_step, cancelled = results
    steps = out_valid.shape[1]
    # Three empty windows past the last step: the four lanes below need no remainder loop.
    lows = np.empty(steps + 3, np.int64)
    highs = np.empty(steps + 3, np.int64)
    for series in range(offsets.shape[0] - 1):
        if cancelled[0]:
            return
        find_windows(
            timestamps,
            offsets[series],
            offsets[series + 1],
            windows,
            lows[:steps],
            highs[:steps],
            samples_per_step,
        )
        lows[steps:] = lows[steps - 1]
        highs[steps:] = highs[steps - 1]
        for k in range(0, steps, 4):
            low = lows[k + 3]
            high = highs[k]
            if low >= high:
                # The four have no sample in common.
                for lane in range(k, min(k + 4, steps)):
                    found = highs[lane] > lows[lane]
                    out_valid[series, lane] = found
                    out_values[series, lane] = 0.0
                    if found:
                        total, error = _add_range(values, lows[lane], highs[lane], 0.0, 0.0)
                        out_values[series, lane] = _finish(values, lows[lane], highs[lane], total, error, is_mean)
                continue
            total_0, error_0 = _add_range(values, lows[k], low, 0.0, 0.0)
            total_1, error_1 = _add_range(values, lows[k + 1], low, 0.0, 0.0)
            total_2, error_2 = _add_range(values, lows[k + 2], low, 0.0, 0.0)
            total_3, error_3 = 0.0, 0.0
            for i in range(low, high):
                value = values[i]
                total_0, error_0 = add_finite(value, total_0, error_0)
                total_1, error_1 = add_finite(value, total_1, error_1)
                total_2, error_2 = add_finite(value, total_2, error_2)
                total_3, error_3 = add_finite(value, total_3, error_3)
            out_values[series, k] = _finish(values, lows[k], high, total_0, error_0, is_mean)
            out_valid[series, k] = True
            if k + 1 < steps:
                total_1, error_1 = _add_range(values, high, highs[k + 1], total_1, error_1)
                out_values[series, k + 1] = _finish(values, lows[k + 1], highs[k + 1], total_1, error_1, is_mean)
                out_valid[series, k + 1] = True
            if k + 2 < steps:
                total_2, error_2 = _add_range(values, high, highs[k + 2], total_2, error_2)
                out_values[series, k + 2] = _finish(values, lows[k + 2], highs[k + 2], total_2, error_2, is_mean)
                out_valid[series, k + 2] = True
            if k + 3 < steps:
                total_3, error_3 = _add_range(values, high, highs[k + 3], total_3, error_3)
                out_values[series, k + 3] = _finish(values, low, highs[k + 3], total_3, error_3, is_mean)
                out_valid[series, k + 3] = True


@njit(cache=True, nogil=True)
def _variance_exactly(values: Floats, begin: int, end: int) -> float:
    """Welford's recurrence with compensated sums."""
    count = 0.0
    mean = 0.0
    mean_error = 0.0
    squares = 0.0
    squares_error = 0.0
    for i in range(begin, end):
        count += 1.0
        delta = values[i] - (mean + mean_error)
        mean, mean_error = add(delta / count, mean, mean_error)
        squares, squares_error = add(delta * (values[i] - (mean + mean_error)), squares, squares_error)
    return (squares + squares_error) / count


@njit(cache=True, nogil=True)
def _take_in(value: float, state: _Moments) -> _Moments:
    """One step of Welford's recurrence."""
    count, mean, mean_error, squares, squares_error = state
    count += 1.0
    delta = value - (mean + mean_error)
    mean, mean_error = add_finite(delta / count, mean, mean_error)
    squares, squares_error = add_finite(delta * (value - (mean + mean_error)), squares, squares_error)
    return count, mean, mean_error, squares, squares_error


@njit(cache=True, nogil=True)
def _take_in_range(values: Floats, begin: int, end: int, state: _Moments) -> _Moments:
    for i in range(begin, end):
        state = _take_in(values[i], state)
    return state


@njit(cache=True, nogil=True)
def _finish_variance(values: Floats, begin: int, end: int, state: _Moments, is_deviation: bool) -> float:
    count, _, _, squares, squares_error = state
    variance = (squares + squares_error) / count
    if not math.isfinite(variance):
        variance = _variance_exactly(values, begin, end)
    return math.sqrt(variance) if is_deviation else variance


@njit(types.void(SAMPLES, WINDOWS, types.boolean, RESULTS), **KERNEL_OPTIONS)
def variance_over_time(samples: Samples, windows: Windows, is_deviation: bool, results: Results) -> None:
    """stdvar_over_time(), or stddev_over_time() if ``is_deviation``, four windows side by side as in sum_over_time."""
    offsets, timestamps, values = samples
    out_values, out_valid, samples_per_step, cancelled = results
    steps = out_valid.shape[1]
    lows = np.empty(steps + 3, np.int64)
    highs = np.empty(steps + 3, np.int64)
    empty = (0.0, 0.0, 0.0, 0.0, 0.0)
    for series in range(offsets.shape[0] - 1):
        if cancelled[0]:
            return
        find_windows(
            timestamps,
            offsets[series],
            offsets[series + 1],
            windows,
            lows[:steps],
            highs[:steps],
            samples_per_step,
        )
        lows[steps:] = lows[steps - 1]
        highs[steps:] = highs[steps - 1]
        for k in range(0, steps, 4):
            low = lows[k + 3]
            high = highs[k]
            lanes = min(4, steps - k)
            if low >= high:
                for lane in range(k, k + lanes):
                    found = highs[lane] > lows[lane]
                    out_valid[series, lane] = found
                    out_values[series, lane] = 0.0
                    if found:
                        state = _take_in_range(values, lows[lane], highs[lane], empty)
                        out_values[series, lane] = _finish_variance(
                            values, lows[lane], highs[lane], state, is_deviation
                        )
                continue
            out_valid[series, k : k + lanes] = True
            state_0 = _take_in_range(values, lows[k], low, empty)
            state_1 = _take_in_range(values, lows[k + 1], low, empty)
            state_2 = _take_in_range(values, lows[k + 2], low, empty)
            state_3 = empty
            for i in range(low, high):
                value = values[i]
                state_0 = _take_in(value, state_0)
                state_1 = _take_in(value, state_1)
                state_2 = _take_in(value, state_2)
                state_3 = _take_in(value, state_3)
            out_values[series, k] = _finish_variance(values, lows[k], high, state_0, is_deviation)
            if lanes > 1:
                state_1 = _take_in_range(values, high, highs[k + 1], state_1)
                out_values[series, k + 1] = _finish_variance(values, lows[k + 1], highs[k + 1], state_1, is_deviation)
            if lanes > 2:
                state_2 = _take_in_range(values, high, highs[k + 2], state_2)
                out_values[series, k + 2] = _finish_variance(values, lows[k + 2], highs[k + 2], state_2, is_deviation)
            if lanes > 3:
                state_3 = _take_in_range(values, high, highs[k + 3], state_3)
                out_values[series, k + 3] = _finish_variance(values, low, highs[k + 3], state_3, is_deviation)


@njit(types.void(SAMPLES, WINDOWS, types.boolean, types.boolean, RESULTS), **KERNEL_OPTIONS)
def extreme_over_time(samples: Samples, windows: Windows, is_max: bool, want_times: bool, results: Results) -> None:
    """min_over_time() or max_over_time(); or, with ``want_times``, the time in seconds of the last such sample.

    NaN only where a window has nothing else. Candidates wait in a queue, best first, that each sample enters and
    leaves once.
    """
    offsets, timestamps, values = samples
    first_end_ms, step_ms, range_ms = windows
    out_values, out_valid, samples_per_step, cancelled = results
    steps = out_valid.shape[1]
    queue = np.empty(longest_series(offsets), np.int64)
    sign = 1.0 if is_max else -1.0
    for series in range(offsets.shape[0] - 1):
        if cancelled[0]:
            return
        begin = offsets[series]
        end = offsets[series + 1]
        low = begin
        high = begin
        head = 0
        tail = 0
        window_end = first_end_ms
        for k in range(steps):
            while high < end and timestamps[high] <= window_end:
                value = values[high] * sign
                if not math.isnan(value):
                    # Of equals, the value functions keep the first, the time functions the last.
                    while tail > head and (
                        values[queue[tail - 1]] * sign < value
                        or (want_times and values[queue[tail - 1]] * sign == value)
                    ):
                        tail -= 1
                    queue[tail] = high
                    tail += 1
                high += 1
            while low < high and timestamps[low] <= window_end - range_ms:
                low += 1
            while head < tail and queue[head] < low:
                head += 1
            samples_per_step[k] += high - low
            found = high > low
            out_valid[series, k] = found
            result = 0.0
            if found:
                best = queue[head] if head < tail else high - 1
                result = timestamps[best] / 1000.0 if want_times else values[best]
            out_values[series, k] = result
            window_end += step_ms


class Edge(IntEnum):
    """What ``edge_over_time`` takes from a window."""

    COUNT = 0
    PRESENT = 1
    FIRST = 2
    LAST = 3
    FIRST_TIME = 4
    LAST_TIME = 5


_COUNT = int(Edge.COUNT)
_PRESENT = int(Edge.PRESENT)
_FIRST = int(Edge.FIRST)
_LAST = int(Edge.LAST)
_FIRST_TIME = int(Edge.FIRST_TIME)


@njit(types.void(SAMPLES, WINDOWS, types.int64, RESULTS), **KERNEL_OPTIONS)
def edge_over_time(samples: Samples, windows: Windows, edge: int, results: Results) -> None:
    """count, present (1), first, last, ts_of_first and ts_of_last ``_over_time``, by ``edge`` (an Edge)."""
    offsets, timestamps, values = samples
    first_end_ms, step_ms, range_ms = windows
    out_values, out_valid, samples_per_step, cancelled = results
    steps = out_valid.shape[1]
    for series in range(offsets.shape[0] - 1):
        if cancelled[0]:
            return
        end = offsets[series + 1]
        low = offsets[series]
        high = low
        window_end = first_end_ms
        for k in range(steps):
            while high < end and timestamps[high] <= window_end:
                high += 1
            while low < high and timestamps[low] <= window_end - range_ms:
                low += 1
            samples_per_step[k] += high - low
            found = high > low
            out_valid[series, k] = found
            result = 0.0
            if found:
                if edge == _COUNT:
                    result = float(high - low)
                elif edge == _PRESENT:
                    result = 1.0
                elif edge == _FIRST:
                    result = values[low]
                elif edge == _LAST:
                    result = values[high - 1]
                elif edge == _FIRST_TIME:
                    result = timestamps[low] / 1000.0
                else:
                    result = timestamps[high - 1] / 1000.0
            out_values[series, k] = result
            window_end += step_ms


@njit(types.void(SAMPLES, WINDOWS, types.int64, types.boolean, types.boolean, RESULTS), **KERNEL_OPTIONS)
def transitions(
    samples: Samples, windows: Windows, lookback_ms: int, anchored: bool, only_resets: bool, results: Results
) -> None:
    """changes(), or resets() if ``only_resets``: how often a window's value differs from the one before (is less).

    NaN after NaN is no change. ``anchored``: the last sample at or before the window's start, up to
    ``lookback_ms`` back, belongs to the window; there must be one after the start.
    """
    offsets, timestamps, values = samples
    first_end_ms, step_ms, range_ms = windows
    out_values, out_valid, samples_per_step, cancelled = results
    steps = out_valid.shape[1]
    before = np.empty(longest_series(offsets), np.int64)  # transitions up to and including each sample
    for series in range(offsets.shape[0] - 1):
        if cancelled[0]:
            return
        begin = offsets[series]
        end = offsets[series + 1]
        low = begin
        high = begin
        seen = 0
        window_end = first_end_ms
        for k in range(steps):
            while high < end and timestamps[high] <= window_end:
                if high > begin:
                    current = values[high]
                    previous = values[high - 1]
                    if only_resets:
                        seen += current < previous
                    else:
                        seen += current != previous and not (math.isnan(current) and math.isnan(previous))
                before[high - begin] = seen
                high += 1
            window_start = window_end - range_ms
            while low < high and timestamps[low] <= window_start:
                low += 1
            first = low
            if anchored and low > begin and timestamps[low - 1] > window_start - lookback_ms:
                first = low - 1
            found = high > low
            samples_per_step[k] += high - first
            out_valid[series, k] = found
            out_values[series, k] = float(before[high - 1 - begin] - before[first - begin]) if found else 0.0
            window_end += step_ms
