"""A shard's data in a simulated cluster: how many samples are where."""

from __future__ import annotations

from dataclasses import dataclass

from filoray.cluster.control.node_events import OpeningId
from filoray.cluster.simulation.checkers import FileKey


@dataclass(slots=True)
class ShardFile:
    """``committed``: samples that the log ever had, up to ``checkpoint`` no more; ``flushed``: those in chunks.

    ``is_late``: made anew after it was to be deleted, by an order of a coordinator that is no more. Nobody who goes by
    a view finds it, and nobody knows of it who could delete it.
    """

    epoch: int
    is_late: bool = False
    committed: int = 0
    checkpoint: int = 0
    flushed: int = 0

    @property
    def samples(self) -> int:
        """What is found by whoever opens it."""
        return self.flushed + self.committed - self.checkpoint


@dataclass(slots=True)
class ServedShard:
    """``samples``: what its readers see."""

    opening: OpeningId
    epoch: int
    file: FileKey
    samples: int
