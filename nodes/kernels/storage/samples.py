"""The record in which samples of chosen series leave a shard's buffers, late runs and chunks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit, types

from filoray.nodes.kernels.array_types import F64, I32, I64, READ_F64, READ_I64
from filoray.nodes.kernels.arrays import Floats, Int32s, Ints
from filoray.nodes.kernels.record_type import record_type


class CountedSamples(NamedTuple):
    """Samples of n series (or chunks), one's after the other's, those of each in order of time.

    counts  int64[n]        samples of each
    times   int64[total]    ms since 1970
    values  float64[total]
    """

    counts: Ints
    times: Ints
    values: Floats

    @classmethod
    def room_for(cls, counts: Ints, total: int) -> CountedSamples:
        """So many samples of each, ``total`` in all, to be filled."""
        return cls(counts, np.empty(total, np.int64), np.empty(total, np.float64))

    @classmethod
    def none(cls, series_count: int) -> CountedSamples:
        return cls.room_for(np.zeros(series_count, np.int64), 0)

    @property
    def total(self) -> int:
        return len(self.times)


SAMPLES = record_type(CountedSamples, READ_I64, READ_I64, READ_F64)
OUT_SAMPLES = record_type(CountedSamples, I64, I64, F64)


@njit(types.void(SAMPLES, SAMPLES, OUT_SAMPLES), cache=True, nogil=True)
def join_samples(first: CountedSamples, then: CountedSamples, joined: CountedSamples) -> None:
    """Fill ``joined``, series by series: the samples of ``first``, then those of ``then``."""
    first_counts, first_times, first_values = first
    then_counts, then_times, then_values = then
    _, times, values = joined
    at = 0
    first_at = 0
    then_at = 0
    for i in range(len(first_counts)):
        for _ in range(first_counts[i]):
            times[at] = first_times[first_at]
            values[at] = first_values[first_at]
            at += 1
            first_at += 1
        for _ in range(then_counts[i]):
            times[at] = then_times[then_at]
            values[at] = then_values[then_at]
            at += 1
            then_at += 1


@njit(types.int64(READ_I64, READ_I64, I32), cache=True, nogil=True)
def find_unsorted(counts: Ints, times: Ints, unsorted: Int32s) -> int:
    """Series whose times do not strictly rise go to ``unsorted`` int32[n]; returns how many."""
    found = 0
    start = 0
    for i in range(len(counts)):
        end = start + counts[i]
        earlier, later = times[start : end - 1], times[start + 1 : end]
        falls = 0
        for at in range(len(later)):  # no way out and no index below 0: a loop over vectors
            falls += later[at] <= earlier[at]
        if falls:
            unsorted[found] = i
            found += 1
        start = end
    return found
