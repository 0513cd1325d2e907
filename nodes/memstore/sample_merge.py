"""Samples of several sources, series by series, into one sorted batch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from filoray.nodes.kernels.storage.samples import CountedSamples, find_unsorted, join_samples


def offsets_of(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """int64[n + 1] from int64[n]."""
    offsets = np.zeros(len(counts) + 1, np.int64)
    counts.cumsum(out=offsets[1:])
    return offsets


def sort_samples(samples: CountedSamples) -> CountedSamples:
    """Make the times of each series strictly rise. Equal times have equal values (the writer saw to it): one stays."""
    counts, times, values = samples
    unsorted = np.empty(len(counts), np.int32)
    count = find_unsorted(counts, times, unsorted)
    if not count:
        return samples
    offsets = offsets_of(counts)
    kept = np.ones(len(times), np.bool_)
    for series in unsorted[:count].tolist():
        part = slice(offsets[series], offsets[series + 1])
        order = np.argsort(times[part], kind="stable")
        times[part], values[part] = times[part][order], values[part][order]
        kept[part][1:] = np.diff(times[part]) != 0
    if kept.all():
        return samples
    owners = np.repeat(np.arange(len(counts)), counts)[kept]
    return CountedSamples(np.bincount(owners, minlength=len(counts)), times[kept], values[kept])


def join_each(first: CountedSamples, then: CountedSamples) -> CountedSamples:
    """Of each series the samples of ``first``, then those of ``then``."""
    if not then.total:
        return first
    if not first.total:
        return then
    joined = CountedSamples.room_for(first.counts + then.counts, first.total + then.total)
    join_samples(first, then, joined)
    return joined
