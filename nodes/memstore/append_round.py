"""An append under way: stored here, and in memory only when it is finished.

Between the two its owner waits for the followers; see ``Shard.begin_append``. ``AppendRound.entry`` is what they are
told: of samples that were written here all of them, of a stream's only what decides what becomes of each message.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from filoray.nodes.data.record_container import RecordContainer
from filoray.nodes.data.write_outcome import UnknownSeries, WriteOutcome
from filoray.nodes.kernels.storage.write_buffers import NewSamples
from filoray.nodes.memstore.replica_entries import CommitEntry, StreamedBatch, StreamedEntry
from filoray.nodes.memstore.store.checked_bytes import checksum64
from filoray.nodes.memstore.store.column_store import Commit
from filoray.nodes.memstore.store.log_record import NEVER_SHUT_MS


@dataclass(slots=True)
class Prepared:
    """A container whose series are looked up.

    ``new``: its samples without those that are too far ahead; a series that is refused has no partition. ``shut_ms``:
    nothing is too old for series whose newest sample is later than this. ``series_end``: series of that id or a later
    one were not known when it was judged.
    """

    data: bytes | memoryview
    container: RecordContainer
    offset: int
    new: NewSamples
    newest_ms: int | None = None
    shut_ms: int = NEVER_SHUT_MS
    series_end: int = 0
    outcome: WriteOutcome = field(default_factory=WriteOutcome)
    unknown: UnknownSeries | None = None
    """If there are any, nothing of the container is applied."""


@dataclass(frozen=True, slots=True)
class AppendRound:
    """``commit``: what the followers must commit too; None: there was nothing to be stored."""

    commit: Commit | None
    prepared: Sequence[Prepared]

    @property
    def entry(self) -> CommitEntry | StreamedEntry | None:
        """What followers must do too; None: nothing."""
        if self.prepared and self.prepared[0].offset >= 0:
            batches = [
                StreamedBatch(item.offset, checksum64(item.data), item.series_end, item.shut_ms)
                for item in self.prepared
            ]
            sample_count = sum(item.container.sample_count for item in self.prepared)
            return StreamedEntry(self.commit, tuple(batches), sample_count, sum(len(it.data) for it in self.prepared))
        return None if self.commit is None else CommitEntry(self.commit)
