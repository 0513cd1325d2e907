"""A shard's data in a simulated cluster: how many samples are where; of copies also which, as they may differ."""

from __future__ import annotations

import bisect
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from filoray.cluster.control.node_events import OpeningId
from filoray.cluster.simulation.checkers import FileKey, SampleId, StoredKey
from filoray.cluster.simulation.world import Action


class KeptSample(NamedTuple):
    """``place``: among all samples of its shard, the first being 1."""

    timestamp_ms: int
    place: int
    value: float


@dataclass(frozen=True, slots=True)
class SentSample:
    """Of a client that knows it again. ``taken``: what happens when it is acknowledged."""

    series: str
    timestamp_ms: int
    value: float
    taken: Action


@dataclass(slots=True)
class ShardFile:
    """``committed``: samples that the log ever had, up to ``checkpoint`` no more; ``flushed``: those in chunks.

    ``is_late``: made anew after it was to be deleted, by an order of a coordinator that is no more. Nobody who goes by
    a view finds it, and nobody knows of it who could delete it. ``contents``: those of the samples that a client knows
    again, by series and time. ``ids``: which samples those committed are, in order.
    """

    epoch: int
    is_late: bool = False
    committed: int = 0
    checkpoint: int = 0
    flushed: int = 0
    contents: dict[str, list[KeptSample]] = field(default_factory=dict)
    ids: dict[SampleId, None] = field(default_factory=dict)

    @property
    def samples(self) -> int:
        """What is found by whoever opens it."""
        return self.flushed + self.committed - self.checkpoint

    def found_ids(self) -> list[SampleId]:
        """Those that are found by whoever opens it."""
        every = list(self.ids)
        return every[: self.flushed] + every[self.checkpoint :]

    def what_is_found(self) -> tuple[int, int, int, tuple[SampleId, ...]]:
        """All by which two that differ can be told from each other."""
        return self.committed, self.checkpoint, self.flushed, tuple(self.ids)

    def flush(self) -> None:
        """Chunks and checkpoint in one transaction."""
        self.flushed += self.committed - self.checkpoint
        self.checkpoint = self.committed

    def copied(self) -> ShardFile:
        """All that whoever opens it would find: a snapshot."""
        contents = {series: list(samples) for series, samples in self.contents.items()}
        return replace(self, is_late=False, contents=contents, ids=dict(self.ids))

    def keep(self, series: str, sample: KeptSample) -> None:
        """Nothing if it is there: it was sent again."""
        known = self.contents.setdefault(series, [])
        place = bisect.bisect_left(known, (sample.timestamp_ms,))
        if place == len(known) or known[place].timestamp_ms != sample.timestamp_ms:
            known.insert(place, sample)

    def found(self, series: str, samples: int, after_ms: int, until_ms: int) -> list[KeptSample]:
        """Of the first ``samples`` of the shard, those of that series and time."""
        known = self.contents.get(series, [])
        first, last = (bisect.bisect_left(known, (time_ms + 1,)) for time_ms in (after_ms, until_ms))
        return [one for one in known[first:last] if one.place <= samples]


@dataclass(slots=True)
class ServedShard:
    """``samples``: what its readers see. ``stored``: where they are.

    ``is_shown``: readers are answered; a leader first makes sure that what it has cannot be lost.
    """

    opening: OpeningId
    epoch: int
    stored: StoredKey
    samples: int
    is_shown: bool = True

    @property
    def file(self) -> FileKey:
        return self.stored[:3]
