"""The disks of a simulated cluster: files of shards in the place that all nodes share, and each node's own copies."""

from __future__ import annotations

import itertools

from filoray.cluster.node_protocol import StoredCopies
from filoray.cluster.simulation.checkers import FileKey, SampleId, StoredKey
from filoray.cluster.simulation.shard_file import ShardFile

SHARED = ""
"""In place of a node: what all of them share."""


class SimulatedDisks(dict[StoredKey, ShardFile]):
    """They outlive processes. ``are_apart``: each node's are on a machine of its own, which is its home."""

    def __init__(self, *, are_apart: bool = False) -> None:
        super().__init__()
        self.are_apart = are_apart
        self.homes: dict[str, str] = {}
        """By node the address of its machine, where they are apart."""
        self._lost: set[StoredKey] = set()
        self._samples = itertools.count(1)

    def next_sample(self) -> SampleId:
        return next(self._samples)

    def copies_on(self, node: str) -> list[StoredKey]:
        return [stored for stored in self if stored[3] == node]

    def move_in(self, node: str, home: str) -> None:
        """The node is launched on that machine: where it never was, it has nothing."""
        if self.homes.get(node, home) != home:
            self.lose(node)
        self.homes[node] = home

    def lose(self, node: str) -> None:
        """All copies that it has."""
        for stored in self.copies_on(node):
            del self[stored]
            self._lost.add(stored)

    def is_lost(self, stored: StoredKey) -> bool:
        """Whether it was lost with its disk, and nothing was made there since."""
        return stored in self._lost and stored not in self

    def remove(self, file: FileKey) -> None:
        """Every node's, where they are not apart."""
        assert not self.are_apart
        for stored in [stored for stored in self if stored[:3] == file]:
            del self[stored]

    def found_by(self, node: str) -> tuple[StoredCopies, ...]:
        """What a node finds on a machine of its own."""
        shards: dict[tuple[str, int], list[int]] = {}
        for dataset, shard, generation, _ in sorted(self.copies_on(node)) if self.are_apart else ():
            shards.setdefault((dataset, generation), []).append(shard)
        return tuple(StoredCopies(*key, tuple(numbers)) for key, numbers in shards.items())
