"""Samples of several sources, series by series, into one sorted batch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from filoray.nodes.kernels.storage.chunk_gather import find_unsorted


def offsets_of(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """int64[n + 1] from int64[n]."""
    offsets = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=offsets[1:])
    return offsets


def sort_samples(
    offsets: NDArray[np.int64], times: NDArray[np.int64], values: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Make the times of each series strictly rise. Equal times have equal values (the writer saw to it): one stays."""
    unsorted = np.empty(max(len(offsets) - 1, 0), np.int32)
    count = find_unsorted(offsets, times, unsorted)
    if not count:
        return offsets, times, values
    kept = np.ones(len(times), np.bool_)
    for series in unsorted[:count].tolist():
        part = slice(offsets[series], offsets[series + 1])
        order = np.argsort(times[part], kind="stable")
        times[part], values[part] = times[part][order], values[part][order]
        kept[part][1:] = np.diff(times[part]) != 0
    if kept.all():
        return offsets, times, values
    owners = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))[kept]
    return offsets_of(np.bincount(owners, minlength=len(offsets) - 1)), times[kept], values[kept]
