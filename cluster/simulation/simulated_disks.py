"""The disks of a simulated cluster: files of shards in the place that all nodes share, and each node's own copies."""

from __future__ import annotations

import itertools

from filoray.cluster.simulation.checkers import FileKey, SampleId, StoredKey
from filoray.cluster.simulation.shard_file import ShardFile

SHARED = ""
"""In place of a node: what all of them share."""


class SimulatedDisks(dict[StoredKey, ShardFile]):
    """They outlive processes."""

    def __init__(self) -> None:
        super().__init__()
        self._lost: set[StoredKey] = set()
        self._samples = itertools.count(1)

    def next_sample(self) -> SampleId:
        return next(self._samples)

    def copies_on(self, node: str) -> list[StoredKey]:
        return [stored for stored in self if stored[3] == node]

    def lose(self, node: str) -> None:
        """All copies that it has."""
        for stored in self.copies_on(node):
            del self[stored]
            self._lost.add(stored)

    def is_lost(self, stored: StoredKey) -> bool:
        """Whether it was lost with its disk, and nothing was made there since."""
        return stored in self._lost and stored not in self

    def remove(self, file: FileKey) -> None:
        """Wherever it is."""
        for stored in [stored for stored in self if stored[:3] == file]:
            del self[stored]
