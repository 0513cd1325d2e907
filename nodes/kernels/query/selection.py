"""The newest sample at each step: what an instant selector sees.

The lookback is left-open, (t - lookback, t]. A staleness marker as the newest sample ends the series there and
then. The ``smoothed`` modifier (an extended range selector) instead interpolates between the samples
around t, each at most a lookback away, and knows no markers.
"""

from __future__ import annotations

import numpy as np
from numba import njit, types

from filoray.nodes.kernels.query.records import RESULTS, SAMPLES, WINDOWS, Results, Samples, Windows
from filoray.nodes.kernels.query.signatures import KERNEL_OPTIONS
from filoray.nodes.kernels.query.windows import STALE_BITS


@njit(types.void(SAMPLES, WINDOWS, types.boolean, RESULTS), **KERNEL_OPTIONS)
def newest_samples(samples: Samples, windows: Windows, want_times: bool, results: Results) -> None:
    """Newest sample of each series at each step.

    ``want_times``: write the sample's time in seconds in place of its value. Writes bits, not floats, so that a NaN
    keeps its payload.
    """
    offsets, timestamps, values = samples
    first_end_ms, step_ms, lookback_ms = windows
    out_values, out_valid, samples_per_step, cancelled = results
    bits = values.view(np.int64)
    steps = out_valid.shape[1]
    out_bits = out_values.view(np.int64)
    for series in range(offsets.shape[0] - 1):
        if cancelled[0]:
            return
        newest = offsets[series] - 1
        first = offsets[series]
        last = offsets[series + 1] - 1
        time = first_end_ms
        for k in range(steps):
            while newest < last and timestamps[newest + 1] <= time:
                newest += 1
            found = newest >= first and timestamps[newest] > time - lookback_ms and bits[newest] != STALE_BITS
            out_valid[series, k] = found
            if not found:
                out_values[series, k] = 0.0
            elif want_times:
                out_values[series, k] = timestamps[newest] / 1000.0
            else:
                out_bits[series, k] = bits[newest]
            samples_per_step[k] += found
            time += step_ms


@njit(types.void(SAMPLES, WINDOWS, RESULTS), **KERNEL_OPTIONS)
def smoothed_samples(samples: Samples, windows: Windows, results: Results) -> None:
    """The value at each step by linear interpolation; the sample before it where none follows. Without markers."""
    offsets, timestamps, values = samples
    first_end_ms, step_ms, lookback_ms = windows
    out_values, out_valid, samples_per_step, cancelled = results
    steps = out_valid.shape[1]
    for series in range(offsets.shape[0] - 1):
        if cancelled[0]:
            return
        first = offsets[series]
        end = offsets[series + 1]
        after = first
        time = first_end_ms
        for k in range(steps):
            while after < end and timestamps[after] <= time:
                after += 1
            before = after - 1
            found = before >= first and timestamps[before] > time - lookback_ms
            value = 0.0
            if found:
                value = values[before]
                since = time - timestamps[before]
                if since > 0 and after < end and timestamps[after] <= time + lookback_ms:
                    value += (values[after] - value) * float(since) / float(timestamps[after] - timestamps[before])
            out_values[series, k] = value
            out_valid[series, k] = found
            samples_per_step[k] += found
            time += step_ms
