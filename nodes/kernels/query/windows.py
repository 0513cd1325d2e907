"""What all range kernels share: staleness markers taken out, and the borders of every step's window.

Windows are left-open, (end - range, end], since Prometheus 3.0. Steps are regular, so both borders only move
forward and one pass over a series finds the windows of all its steps.
"""

from __future__ import annotations

import numpy as np
from numba import njit, types

from filoray.nodes.kernels.arrays import Ints
from filoray.nodes.kernels.query.records import Samples, Windows
from filoray.nodes.kernels.query.signatures import INTS, KERNEL_OPTIONS, OUT_INTS

STALE_BITS = 0x7FF0000000000002


@njit(types.int64(INTS), **KERNEL_OPTIONS)
def _count_stale(bits: Ints) -> int:
    count = 0
    for i in range(bits.shape[0]):
        count += bits[i] == STALE_BITS
    return count


@njit(types.void(INTS, INTS, INTS, OUT_INTS, OUT_INTS, OUT_INTS), **KERNEL_OPTIONS)
def _drop_stale(
    offsets: Ints, timestamps: Ints, bits: Ints, new_offsets: Ints, new_timestamps: Ints, new_bits: Ints
) -> None:
    kept = 0
    new_offsets[0] = 0
    for series in range(offsets.shape[0] - 1):
        for i in range(offsets[series], offsets[series + 1]):
            if bits[i] != STALE_BITS:
                new_timestamps[kept] = timestamps[i]
                new_bits[kept] = bits[i]
                kept += 1
        new_offsets[series + 1] = kept


def without_stale_markers(samples: Samples) -> Samples:
    """The series without staleness markers: the very samples given where there are none."""
    offsets, timestamps, values = samples
    bits = values.view(np.int64)
    stale_count = _count_stale(bits)
    if stale_count == 0:
        return samples
    kept = len(values) - stale_count
    new_offsets, new_timestamps = np.empty(len(offsets), np.int64), np.empty(kept, np.int64)
    new_values = np.empty(kept, np.float64)
    _drop_stale(offsets, timestamps, bits, new_offsets, new_timestamps, new_values.view(np.int64))
    return Samples.of(new_offsets, new_timestamps, new_values)


@njit(cache=True, nogil=True)
def find_windows(
    timestamps: Ints,
    begin: int,
    end: int,
    windows: Windows,
    lows: Ints,
    highs: Ints,
    samples_per_step: Ints,
) -> None:
    """Fill ``lows[k]:highs[k]``, the samples of one series (``begin:end``) in the window of step k.

    Lower borders are never above the upper ones and neither ever goes back. Adds each window's size to
    ``samples_per_step``.
    """
    first_end_ms, step_ms, range_ms = windows
    low = begin
    high = begin
    window_end = first_end_ms
    for k in range(lows.shape[0]):
        while high < end and timestamps[high] <= window_end:
            high += 1
        window_start = window_end - range_ms
        while low < high and timestamps[low] <= window_start:
            low += 1
        lows[k] = low
        highs[k] = high
        samples_per_step[k] += high - low
        window_end += step_ms


@njit(cache=True, nogil=True)
def longest_series(offsets: Ints) -> int:
    """The number of samples of the longest series: what scratch space has to hold."""
    longest = 0
    for series in range(offsets.shape[0] - 1):
        longest = max(longest, offsets[series + 1] - offsets[series])
    return longest
