"""rate(), increase(), delta(), irate() and idelta().

The rules are those of https://prometheus.io/docs/prometheus/latest/querying/functions/#rate: the difference over a
window, counter resets added back, extrapolated to the window's borders. Near a border (within 1.1 of the samples'
mean distance) all the way, else by half that distance; then, for a counter, no further back than to where it
would have been zero.

``anchored`` and ``smoothed`` (extended range selectors) do not extrapolate: the former takes the last sample at
or before the window's start, the latter interpolates at both borders.
"""

from __future__ import annotations

import numpy as np
from numba import njit, types

from filoray.nodes.kernels.arrays import Floats, Ints
from filoray.nodes.kernels.query.records import RESULTS, SAMPLES, WINDOWS, Results, Samples, Windows
from filoray.nodes.kernels.query.signatures import KERNEL_OPTIONS
from filoray.nodes.kernels.query.windows import longest_series


@njit(types.void(SAMPLES, WINDOWS, types.float64, types.boolean, RESULTS), **KERNEL_OPTIONS)
def extrapolated_rate(samples: Samples, windows: Windows, range_s: float, is_counter: bool, results: Results) -> None:
    """delta() of each window, or increase() if ``is_counter``, divided by ``range_s`` (1 if it is no rate).

    Two passes per series: one walks the samples, the other does the arithmetic of all steps in vector registers.
    """
    offsets, timestamps, values = samples
    first_end_ms, step_ms, range_ms = windows
    out_values, out_valid, samples_per_step, cancelled = results
    steps = out_valid.shape[1]
    resets = np.empty(longest_series(offsets), np.int64)
    before_ms = np.empty(steps)
    after_ms = np.empty(steps)
    sampled_ms = np.empty(steps)
    intervals = np.empty(steps)
    first_values = np.empty(steps)
    increases = np.empty(steps)
    for series in range(offsets.shape[0] - 1):
        if cancelled[0]:
            return
        begin = offsets[series]
        end = offsets[series + 1]
        low = begin
        high = begin
        reset_begin = 0
        reset_end = 0
        window_end = first_end_ms
        for k in range(steps):
            while high < end and timestamps[high] <= window_end:
                if is_counter and high > begin and values[high] < values[high - 1]:
                    resets[reset_end] = high
                    reset_end += 1
                high += 1
            window_start = window_end - range_ms
            while low < high and timestamps[low] <= window_start:
                low += 1
            samples_per_step[k] += high - low
            if high - low >= 2:
                while reset_begin < reset_end and resets[reset_begin] <= low:
                    reset_begin += 1
                increase = values[high - 1] - values[low]
                for i in range(reset_begin, reset_end):
                    increase += values[resets[i] - 1]
                out_valid[series, k] = True
                before_ms[k] = float(timestamps[low] - window_start)
                after_ms[k] = float(window_end - timestamps[high - 1])
                sampled_ms[k] = float(timestamps[high - 1] - timestamps[low])
                intervals[k] = float(high - low - 1)
                first_values[k] = values[low]
                increases[k] = increase
            else:
                out_valid[series, k] = False
                before_ms[k] = 0.0
                after_ms[k] = 0.0
                sampled_ms[k] = 1.0
                intervals[k] = 1.0
                first_values[k] = 0.0
                increases[k] = 0.0
            window_end += step_ms
        for k in range(steps):
            to_start = before_ms[k] / 1000.0
            to_end = after_ms[k] / 1000.0
            sampled = sampled_ms[k] / 1000.0
            mean_interval = sampled / intervals[k]
            threshold = mean_interval * 1.1
            half = mean_interval / 2.0
            increase = increases[k]
            to_start = half if to_start >= threshold else to_start
            to_end = half if to_end >= threshold else to_end
            to_zero = sampled * (first_values[k] / increase)
            clamps = is_counter & (increase > 0.0) & (first_values[k] >= 0.0) & (to_zero < to_start)
            to_start = to_zero if clamps else to_start
            factor = (sampled + to_start + to_end) / sampled
            out_values[series, k] = increase * (factor / range_s)


@njit(cache=True, nogil=True)
def _interpolated(timestamps: Ints, values: Floats, i: int, time: int, is_counter: bool) -> float:
    """The value at ``time`` between samples i and i + 1; a counter that was reset between them starts at zero."""
    left = values[i]
    right = values[i + 1]
    if is_counter and right < left:
        left = 0.0
    return left + (right - left) * float(time - timestamps[i]) / float(timestamps[i + 1] - timestamps[i])


@njit(types.void(SAMPLES, WINDOWS, types.int64, types.float64, types.boolean, types.boolean, RESULTS), **KERNEL_OPTIONS)
def extended_rate(
    samples: Samples,
    windows: Windows,
    lookback_ms: int,
    range_s: float,
    is_counter: bool,
    smoothed: bool,
    results: Results,
) -> None:
    """rate(), increase(), delta() of ``smoothed``, else ``anchored``, ranges.

    Samples up to ``lookback_ms`` before the window count, and as far after it if ``smoothed``.
    """
    offsets, timestamps, values = samples
    first_end_ms, step_ms, range_ms = windows
    out_values, out_valid, samples_per_step, cancelled = results
    steps = out_valid.shape[1]
    for series in range(offsets.shape[0] - 1):
        if cancelled[0]:
            return
        begin = offsets[series]
        end = offsets[series + 1]
        low = begin  # the first sample that may be looked at
        start = begin  # the first one after the window's start
        high = begin  # the end of those that may be looked at
        window_end = first_end_ms
        for k in range(steps):
            window_start = window_end - range_ms
            limit = window_end + lookback_ms if smoothed else window_end
            while high < end and timestamps[high] <= limit:
                high += 1
            while low < high and timestamps[low] <= window_start - lookback_ms:
                low += 1
            start = max(start, low)
            while start < high and timestamps[start] <= window_start:
                start += 1
            samples_per_step[k] += high - low
            out_valid[series, k] = False
            out_values[series, k] = 0.0
            window_time = window_end
            window_end += step_ms
            if start == high:
                continue
            first = max(start - 1, low)
            last = high - 1
            if smoothed:
                while last > first and timestamps[last - 1] >= window_time:
                    last -= 1
                if timestamps[first] > window_time:
                    continue
            left = values[first]
            if smoothed and timestamps[first] < window_start:
                left = _interpolated(timestamps, values, first, window_start, is_counter)
            right = values[last]
            if smoothed and last > low and timestamps[last] > window_time:
                right = _interpolated(timestamps, values, last - 1, window_time, is_counter)
            result = right - left
            if is_counter:
                inner_first = first + 1 if timestamps[first] <= window_start else first
                inner_last = last - 1 if timestamps[last] >= window_time else last
                correction = 0.0
                previous = left
                for i in range(inner_first, inner_last + 1):
                    if values[i] < previous:
                        correction += previous
                    previous = values[i]
                if right < previous:
                    correction += previous
                result += correction
            out_values[series, k] = result / range_s
            out_valid[series, k] = True


@njit(types.void(SAMPLES, WINDOWS, types.boolean, RESULTS), **KERNEL_OPTIONS)
def last_difference(samples: Samples, windows: Windows, is_rate: bool, results: Results) -> None:
    """irate() (``is_rate``) or idelta(): the difference of the window's last two samples."""
    offsets, timestamps, values = samples
    first_end_ms, step_ms, range_ms = windows
    out_values, out_valid, samples_per_step, cancelled = results
    steps = out_valid.shape[1]
    for series in range(offsets.shape[0] - 1):
        if cancelled[0]:
            return
        begin = offsets[series]
        end = offsets[series + 1]
        low = begin
        high = begin
        window_end = first_end_ms
        for k in range(steps):
            while high < end and timestamps[high] <= window_end:
                high += 1
            while low < high and timestamps[low] <= window_end - range_ms:
                low += 1
            samples_per_step[k] += high - low
            found = high - low >= 2
            out_valid[series, k] = found
            result = 0.0
            if found:
                result = values[high - 1]
                # After a reset a counter started from zero: its last value is the increase.
                if not (is_rate and result < values[high - 2]):
                    result -= values[high - 2]
                if is_rate:
                    result /= float(timestamps[high - 1] - timestamps[high - 2]) / 1000.0
            out_values[series, k] = result
            window_end += step_ms
