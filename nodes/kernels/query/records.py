"""What the kernels over samples take and fill in: named tuples of arrays, so that no call has a dozen arguments.

numba takes a named tuple for what its class and the types of its fields are, to the letter, and compiles nothing for
others. So inputs are read-only views, whatever they were: make them with ``of``. The types are in ``signatures``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from filoray.nodes.kernels.arrays import floats, ints


class Samples(NamedTuple):
    """Samples of n series, in order of time within each.

    ``offsets`` int64[n + 1]: series i has the samples ``offsets[i]:offsets[i + 1]``. ``timestamps`` int64[total], ms.
    ``values`` float64[total].
    """

    offsets: NDArray[np.int64]
    timestamps: NDArray[np.int64]
    values: NDArray[np.float64]

    @classmethod
    def of(cls, offsets: NDArray[Any], timestamps: NDArray[Any], values: NDArray[Any]) -> Samples:
        return cls(_read_only(ints(offsets)), _read_only(ints(timestamps)), _read_only(floats(values)))


class Windows(NamedTuple):
    """The window of step k is (end - range_ms, end], with end = first_end_ms + k * step_ms."""

    first_end_ms: int
    step_ms: int
    range_ms: int


class Results(NamedTuple):
    """What a kernel fills in.

    ``values`` float64[n, steps], ``valid`` bool[n, steps]. ``samples_per_step`` int64[steps] is added to.
    ``cancelled`` uint8[1]: set to 1 by another thread to make the kernel return early; what it has written by then is
    void.
    """

    values: NDArray[np.float64]
    valid: NDArray[np.bool_]
    samples_per_step: NDArray[np.int64]
    cancelled: NDArray[np.uint8]

    @classmethod
    def empty(cls, series: int, steps: int, cancelled: NDArray[np.uint8]) -> Results:
        samples_per_step = np.zeros(steps, np.int64)
        return cls(
            np.empty((series, steps)), np.empty((series, steps), np.bool_), samples_per_step, _read_only(cancelled)
        )


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    view = array.view()
    view.flags.writeable = False
    return view
