"""What a shard needs of durable storage: part keys, log, chunk batches and checkpoints under one owner's epoch.

The store moves opaque bytes; what is in them, and their checksums, is the codecs' business
(``part_key_rows``, ``log_record``, ``chunk_batch``). Every change names the owner's epoch and is refused with
StaleRoute once a later owner has opened the store, in the very transaction that would have made it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from filoray.nodes.memstore.upkeep.retention_clock import ClockReading


@dataclass(frozen=True, slots=True)
class StoreState:
    """What is known at opening. ``checkpoints``: per flush group, the last offset whose samples are all in chunks."""

    group_count: int
    next_series_id: int
    next_offset: int
    checkpoints: Mapping[int, int]
    log_bytes: int
    is_new: bool
    next_batch_id: int = 1
    """From the rows' keys: a batch whose meta is damaged has its number all the same."""
    first_batch_id: int | None = None
    """None: there are no chunk batches."""
    former_epoch: int = 0
    """Of whoever had it before."""
    clock: ClockReading | None = None
    """The one of the last flush."""
    lost: str = ""
    """What is known to have been stored before and is not there any more."""


@dataclass(frozen=True, slots=True)
class PartKeyRow:
    """Part keys of the series that were new in one commit, or many such rows merged. ``row_id`` grows."""

    row_id: int
    data: bytes


@dataclass(frozen=True, slots=True)
class LogRow:
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class ChunkBatchRow:
    """Chunks flushed together: ``meta`` tells where each lies in ``data``. ``written_ms``: by the retention clock."""

    batch_id: int
    written_ms: int
    meta: bytes
    data: bytes


@dataclass(frozen=True, slots=True)
class Commit:
    """One group commit. ``next_series_id`` and ``next_offset`` are the counters' values after it."""

    part_keys: bytes | None
    log: LogRow | None
    next_series_id: int
    next_offset: int


@dataclass(frozen=True, slots=True)
class Flush:
    """One flush: all of it becomes durable, or nothing."""

    batches: Sequence[ChunkBatchRow] = ()
    checkpoints: Mapping[int, int] = field(default_factory=dict)
    log_end: int = -1
    """Log rows up to this offset are dropped."""
    dropped_batches: Sequence[int] = ()
    dropped_part_keys: Sequence[int] = ()
    """Part key rows to drop; ``new_part_keys`` take their place."""
    new_part_keys: Sequence[bytes] = ()
    group_count: int | None = None
    next_offset: int | None = None
    next_series_id: int | None = None
    clock: ClockReading | None = None


class StoredChunks(Protocol):
    """The data of a shard's chunk batches, for any thread."""

    def read_batch(self, batch_id: int) -> bytes | None:
        """The data of a chunk batch; None if there is none (any more).

        Raises StaleRoute where a store that was closed meanwhile can be read no more; so does ``read_pieces``.
        """
        ...

    def read_pieces(self, batch_id: int, pieces: Sequence[tuple[int, int]]) -> list[bytes] | None:
        """(offset, length) pieces of a batch's data."""
        ...

    def close(self) -> None: ...


class ColumnStore(StoredChunks, Protocol):
    """One shard's storage. Changes come from one thread; ``read_*`` may be called from any."""

    @property
    def state(self) -> StoreState: ...

    @property
    def trouble(self) -> str | None:
        """Why no change is taken any more until the shard is opened anew; None if all is well."""
        ...

    def part_keys(self) -> Iterator[PartKeyRow]: ...

    def batch_metas(self) -> Iterator[tuple[int, int, bytes]]:
        """(batch id, written ms, meta) of every chunk batch, by id."""
        ...

    def log_after(self, offset: int) -> Iterator[LogRow]:
        """Log rows with a greater offset, in order."""
        ...

    def commit(self, commit: Commit) -> None:
        """Durable when it returns. Raises StaleRoute, or Unavailable with nothing changed (disk full, ...)."""
        ...

    def flush(self, flush: Flush) -> None:
        """As ``commit``."""
        ...

    def promote(self, epoch: int) -> None:
        """The store is this owner's at that epoch from now on.

        Raises StaleRoute if another owner took it over, StoreIsAhead for an epoch before its own; Unavailable.
        """
        ...

    def reclaim(self) -> bool:
        """Give some room of dropped rows back to the file system, in quiet moments. True if there is more."""
        ...

    def delete(self) -> None:
        """Close and remove everything."""
        ...
