"""What the kernels over samples take and fill in: named tuples of arrays, so that no call has a dozen arguments."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import types
from numpy.typing import NDArray

from filoray.nodes.kernels.arrays import Bools, Bytes, Floats, Ints, floats, ints
from filoray.nodes.kernels.query.signatures import (
    FLAG,
    FLOATS,
    INTS,
    OUT_BOOL_MATRIX,
    OUT_FLOAT_MATRIX,
    OUT_INTS,
)
from filoray.nodes.kernels.record_type import record_type


class Samples(NamedTuple):
    """Samples of n series, in order of time within each.

    offsets     int64[n + 1]    series i has the samples ``offsets[i]:offsets[i + 1]``
    timestamps  int64[total]    ms since 1970
    values      float64[total]
    """

    offsets: Ints
    timestamps: Ints
    values: Floats

    @classmethod
    def of(cls, offsets: NDArray[Any], timestamps: NDArray[Any], values: NDArray[Any]) -> Samples:
        """In the form that kernels take: what does not fit is copied."""
        return cls(ints(offsets), ints(timestamps), floats(values))


SAMPLES = record_type(Samples, INTS, INTS, FLOATS)


class Windows(NamedTuple):
    """The window of step k is (end - range_ms, end], with end = first_end_ms + k * step_ms; int64 each."""

    first_end_ms: int
    step_ms: int
    range_ms: int


WINDOWS = record_type(Windows, types.int64, types.int64, types.int64)


class Results(NamedTuple):
    """What a kernel fills in.

    values            float64[n, steps]
    valid             bool[n, steps]
    samples_per_step  int64[steps]       is added to
    cancelled         uint8[1]           set to 1 by another thread to make the kernel return early; what it has
                                         written by then is void
    """

    values: Floats
    valid: Bools
    samples_per_step: Ints
    cancelled: Bytes

    @classmethod
    def empty(cls, series: int, steps: int, cancelled: Bytes) -> Results:
        """To be filled."""
        return cls(np.empty((series, steps)), np.empty((series, steps), np.bool_), np.zeros(steps, np.int64), cancelled)


RESULTS = record_type(Results, OUT_FLOAT_MATRIX, OUT_BOOL_MATRIX, OUT_INTS, FLAG)
