"""Samples that the write buffers cannot hold: they came after their series' buffer had been sealed, or far from it.

Kept in *runs*, each sorted by (partition, time). What arrives is a run of its own, and is merged with those before it
as long as they are not much longer: every sample is merged a logarithmic number of times, however small the arrivals.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class LateRun:
    """Columns of samples, sorted by partition, then time."""

    partitions: NDArray[np.int32]
    times: NDArray[np.int64]
    values: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.times)


_EMPTY = LateRun(np.empty(0, np.int32), np.empty(0, np.int64), np.empty(0, np.float64))


class LateSamples:
    """One thread changes it; ``runs`` is replaced, never changed, so that whoever reads it under the lock is safe."""

    def __init__(self) -> None:
        self.runs: tuple[LateRun, ...] = ()

    def add(self, partitions: NDArray[np.int32], times: NDArray[np.int64], values: NDArray[np.float64]) -> None:
        """None of these (partition, time) is there yet."""
        runs = [*self.runs, _merged([LateRun(partitions, times, values)])]
        while len(runs) > 1 and len(runs[-2]) <= 2 * len(runs[-1]):
            runs[-2:] = [_merged(runs[-2:])]
        self.runs = tuple(runs)

    def all(self) -> LateRun:
        """Everything in one run, which it is from then on."""
        if not self.runs:
            return _EMPTY
        if len(self.runs) > 1:
            self.runs = (_merged(self.runs),)
        return self.runs[0]

    def read(
        self, partitions: NDArray[np.int32], start_ms: int, end_ms: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """For ascending partitions: index in ``partitions``, time and value of each late sample in range, sorted."""
        found = [_in_range(run, partitions, start_ms, end_ms) for run in self.runs] if len(partitions) else []
        found = [(place, times, values) for place, times, values in found if len(place)]
        if not found:
            return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float64)
        if len(found) == 1:
            return found[0]
        place, times, values = (np.concatenate(column) for column in zip(*found, strict=True))
        order = np.lexsort((times, place))
        return place[order], times[order], values[order]

    def drop(self, chosen: NDArray[np.bool_]) -> None:
        """Remove the samples of a mask over ``all()``."""
        run, rest = self.all(), ~chosen
        kept = LateRun(run.partitions[rest], run.times[rest], run.values[rest])
        self.runs = (kept,) if len(kept) else ()

    def renumber(self, renumbered: NDArray[np.int32]) -> None:
        self.runs = tuple(LateRun(renumbered[run.partitions], run.times, run.values) for run in self.runs)

    def __len__(self) -> int:
        return sum(len(run) for run in self.runs)

    @property
    def nbytes(self) -> int:
        return 20 * len(self)


def _merged(runs: list[LateRun] | tuple[LateRun, ...]) -> LateRun:
    partitions = np.concatenate([run.partitions for run in runs])
    times = np.concatenate([run.times for run in runs])
    values = np.concatenate([run.values for run in runs])
    order = np.lexsort((times, partitions))
    return LateRun(partitions[order], times[order], values[order])


def _in_range(
    run: LateRun, partitions: NDArray[np.int32], start_ms: int, end_ms: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Looks at the samples of those partitions only: queries ask under the shard's lock."""
    starts = np.searchsorted(run.partitions, partitions, "left")
    counts = np.searchsorted(run.partitions, partitions, "right") - starts
    place = np.repeat(np.arange(len(partitions)), counts)
    ends = np.cumsum(counts)
    rows = np.arange(len(place)) + np.repeat(starts - ends + counts, counts)
    times = run.times[rows]
    wanted = (times >= start_ms) & (times <= end_ms)
    return place[wanted], times[wanted], run.values[rows[wanted]]
