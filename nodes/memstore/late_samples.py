"""Samples that came after their series' buffer had been sealed, but inside the out-of-order window.

Few at any time, so they are plain columns sorted by (partition, time) and merged anew with every arrival.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class LateSamples:
    def __init__(self) -> None:
        self.partitions = np.empty(0, np.int32)
        self.times = np.empty(0, np.int64)
        self.values = np.empty(0, np.float64)

    def add(self, partitions: NDArray[np.int32], times: NDArray[np.int64], values: NDArray[np.float64]) -> None:
        """None of these (partition, time) is there yet."""
        partitions = np.concatenate([self.partitions, partitions])
        times = np.concatenate([self.times, times])
        values = np.concatenate([self.values, values])
        order = np.lexsort((times, partitions))
        self.partitions, self.times, self.values = partitions[order], times[order], values[order]

    def read(
        self, partitions: NDArray[np.int32], start_ms: int, end_ms: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """For ascending partitions: index in ``partitions``, time and value of each late sample in range, sorted."""
        if not len(self.times) or not len(partitions):
            return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float64)
        place = np.searchsorted(partitions, self.partitions)
        place[place == len(partitions)] = 0
        wanted = (partitions[place] == self.partitions) & (self.times >= start_ms) & (self.times <= end_ms)
        return place[wanted], self.times[wanted], self.values[wanted]

    def take(self, chosen: NDArray[np.bool_]) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.float64]]:
        """Remove and give the samples of a mask."""
        taken = self.partitions[chosen], self.times[chosen], self.values[chosen]
        rest = ~chosen
        self.partitions, self.times, self.values = self.partitions[rest], self.times[rest], self.values[rest]
        return taken

    def renumber(self, renumbered: NDArray[np.int32]) -> None:
        self.partitions = renumbered[self.partitions]

    def __len__(self) -> int:
        return len(self.times)

    @property
    def nbytes(self) -> int:
        return 20 * len(self.times)
