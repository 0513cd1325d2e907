"""What a simulated leader sends its followers: entries, and which leader's session they are of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from filoray.cluster.control.leader_copies import SessionId
from filoray.cluster.control.node_events import OpeningId
from filoray.cluster.simulation.checkers import Process, SampleId, ShardKey


class KnownSample(NamedTuple):
    """One that a client knows again."""

    id: SampleId
    series: str
    timestamp_ms: int
    value: float


@dataclass(frozen=True, slots=True)
class OpenedEntry:
    """The first of every leader: what it has may be shown when those that may lead after it have it."""


@dataclass(frozen=True, slots=True)
class CommitEntry:
    """``known``: those of the samples that clients know."""

    ids: tuple[SampleId, ...]
    known: tuple[KnownSample, ...] = ()


@dataclass(frozen=True, slots=True)
class FlushEntry:
    """``ids``: what the leader's flush moved into chunks; a copy that moves other samples is not sound."""

    ids: tuple[SampleId, ...]


Entry = OpenedEntry | CommitEntry | FlushEntry


@dataclass(frozen=True, slots=True)
class SessionOrigin:
    """Whose session it is. A node opens a shard anew at one epoch, and counts sessions from 1 again then."""

    leader: Process
    key: ShardKey
    generation: int
    epoch: int
    opening: OpeningId
    session: SessionId

    @property
    def order(self) -> tuple[int, int, int]:
        """Higher for a later one."""
        return self.epoch, self.opening, self.session
