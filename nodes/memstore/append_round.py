"""An append under way: stored here, and in memory only when it is finished.

Between the two its owner waits for the followers; see ``Shard.begin_append``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from filoray.nodes.data.record_container import RecordContainer
from filoray.nodes.data.write_outcome import UnknownSeries, WriteOutcome
from filoray.nodes.kernels.storage.write_buffers import NewSamples
from filoray.nodes.memstore.store.column_store import Commit
from filoray.nodes.memstore.store.log_record import NEVER_SHUT_MS


@dataclass(slots=True)
class Prepared:
    """A container whose series are looked up.

    ``new``: its samples without those that are too far ahead; a series that is refused has no partition. ``shut_ms``:
    nothing is too old for series whose newest sample is later than this.
    """

    container: RecordContainer
    offset: int
    new: NewSamples
    newest_ms: int | None = None
    shut_ms: int = NEVER_SHUT_MS
    outcome: WriteOutcome = field(default_factory=WriteOutcome)
    unknown: UnknownSeries | None = None
    """If there are any, nothing of the container is applied."""


@dataclass(frozen=True, slots=True)
class AppendRound:
    """``commit``: what the followers must commit too; None: there was nothing to be stored."""

    commit: Commit | None
    prepared: Sequence[Prepared]
