"""A shard's store as a node knows it that keeps the shard warm: others write it, and this node reads chunks from it.

    rows = SnapshotRows(name)                        # at the follower
    for piece in snapshot.pieces(bytes_max, with_data=False):
        rows.add(piece)
    store = WarmStore(rows, open_chunks(spec))       # then Shard.keep_warm

It takes changes as any column store, and writes nothing: their owner has written them. It only counts, so that it knows
what the store must look like if nothing was missed: ``check_may_go_on`` compares that with what a takeover finds.

Two states with equal numbers, of one owner's epoch, are of the same content: offsets, series ids and batch ids are
never given twice, the dropping of series uses an id up, and batches leave in the order in which they came.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from filoray.cluster.errors import BadData
from filoray.nodes.memstore.store.column_store import (
    Commit,
    Flush,
    LogRow,
    PartKeyRow,
    StoredChunks,
    StoreState,
)
from filoray.nodes.memstore.store.snapshot_pieces import Intake, Kind
from filoray.nodes.memstore.store.store_errors import CopyDiffers, DamagedStore
from filoray.nodes.memstore.upkeep.retention_clock import ClockReading

T = TypeVar("T")

_FORMAT = 1
"""Of the rows, which both kinds of store have in common."""
CATCH_UP_BYTES_MAX = 8 << 20
"""Of log rows that were missed: a node that lacks more is as quick if it opens the shard from its store."""


class SnapshotRows:
    """The rows of a snapshot, in memory. ``name``: of the shard, for errors. One thread."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._intake = Intake(f"{name}: a snapshot")
        self.group_count = self.next_series_id = self.next_offset = 0
        self.clock: ClockReading | None = None
        self.checkpoints: dict[int, int] = {}
        self.part_keys: list[PartKeyRow] = []
        self.log: list[LogRow] = []
        self.batch_metas: list[tuple[int, int, bytes]] = []

    def add(self, piece: bytes) -> None:
        """Pieces come in their order. Raises DamagedStore, or BadData for what does not belong here."""
        for kind, fields in self._intake.items(piece, _FORMAT):
            match kind, fields:
                case Kind.META, [int(), int(groups), int(series), int(offset)]:
                    self.group_count, self.next_series_id, self.next_offset = groups, series, offset
                case Kind.CLOCK, [int(wall), int(retention), int(owed), int(owed_since)]:
                    self.clock = ClockReading(wall, retention, owed, owed_since)
                case Kind.CHECKPOINT, [int(group), int(offset)]:
                    self.checkpoints[group] = offset
                case Kind.PART_KEYS, [int(row_id), bytes(data)]:
                    self.part_keys.append(PartKeyRow(row_id, data))
                case Kind.LOG, [int(offset), bytes(data)]:
                    self.log.append(LogRow(offset, data))
                case Kind.SHARED, [int(batch_id), int(written), bytes(meta)]:
                    self.batch_metas.append((batch_id, written, meta))
                case _:
                    raise BadData(f"{self._intake.what}: {kind.name} is of a copy with data of its own")

    def check_whole(self) -> None:
        """Raises BadData."""
        self._intake.check_whole()


class WarmStore:
    """See ColumnStore. ``chunks``: read from the store that is shared; closed with this."""

    def __init__(self, rows: SnapshotRows, chunks: StoredChunks) -> None:
        self._chunks = chunks
        self._rows: SnapshotRows | None = rows
        self._group_count = rows.group_count
        self._next_series_id = rows.next_series_id
        self._checkpoints = dict(rows.checkpoints)
        self._clock = rows.clock
        self._log = deque((row.offset, len(row.data)) for row in rows.log)
        self._log_bytes = sum(size for _, size in self._log)
        self._next_offset = max(rows.next_offset, self._log[-1][0] + 1 if self._log else 0)
        self._batches = dict.fromkeys(batch_id for batch_id, _, _ in rows.batch_metas)

    # ---- what is known

    @property
    def state(self) -> StoreState:
        return StoreState(
            group_count=self._group_count,
            next_series_id=self._next_series_id,
            next_offset=self._next_offset,
            checkpoints=dict(self._checkpoints),
            log_bytes=self._log_bytes,
            is_new=False,
            next_batch_id=max(self._batches, default=0) + 1,
            first_batch_id=min(self._batches, default=None),
            clock=self._clock,
        )

    def check_may_go_on(self, found: StoreState, epoch: int) -> None:
        """``found``: by whoever has just taken the store over from the owner of ``epoch``, whom this one follows.

        Raises CopyDiffers unless it is what is known here, or has only more rows in its log.
        """
        mine = self.state
        numbers = {
            "owner": (epoch, found.former_epoch),
            "groups": (mine.group_count, found.group_count),
            "next series id": (mine.next_series_id, found.next_series_id),
            "first batch": (mine.first_batch_id, found.first_batch_id),
            "next batch": (mine.next_batch_id, found.next_batch_id),
            "clock": (mine.clock, found.clock),
            "checkpoints": (mine.checkpoints, found.checkpoints),
        }
        differing = [f"{name} {here}, not {there}" for name, (here, there) in numbers.items() if here != there]
        missed_rows, missed_bytes = found.next_offset - mine.next_offset, found.log_bytes - mine.log_bytes
        if (missed_rows, missed_bytes) != (0, 0) and min(missed_rows, missed_bytes) <= 0:
            differing.append(f"log to {mine.next_offset}, not {found.next_offset}, with {-missed_bytes} bytes more")
        if found.lost or found.is_new:
            differing.append("what was stored is gone")
        if missed_bytes > CATCH_UP_BYTES_MAX:
            differing.append(f"log without the last {missed_bytes} bytes")
        if differing:
            raise CopyDiffers(f"the store is not as it was known here: {'; '.join(differing)}")

    def check_is_as(self, found: StoreState) -> None:
        """After the rows of the log that were missed. Raises CopyDiffers."""
        if (self._next_offset, self._log_bytes) != (found.next_offset, found.log_bytes):
            raise CopyDiffers(
                f"the log is not as it was known here: to {self._next_offset} with {self._log_bytes} bytes, "
                f"not {found.next_offset} with {found.log_bytes}"
            )

    # ---- recovery

    def part_keys(self) -> Iterator[PartKeyRow]:
        return iter(() if self._rows is None else self._rows.part_keys)

    def batch_metas(self) -> Iterator[tuple[int, int, bytes]]:
        return iter(() if self._rows is None else self._rows.batch_metas)

    def log_after(self, offset: int) -> Iterator[LogRow]:
        return (row for row in ([] if self._rows is None else self._rows.log) if row.offset > offset)

    def forget_rows(self) -> None:
        """They are in memory by now."""
        self._rows = None

    # ---- changes

    @property
    def trouble(self) -> str | None:
        return None

    def commit(self, commit: Commit) -> None:
        self._next_series_id, self._next_offset = commit.next_series_id, commit.next_offset
        if commit.log is not None:
            self._log.append((commit.log.offset, len(commit.log.data)))
            self._log_bytes += len(commit.log.data)

    def flush(self, flush: Flush) -> None:
        self._batches |= dict.fromkeys(row.batch_id for row in flush.batches)
        if flush.group_count is not None:
            self._group_count = flush.group_count
            self._checkpoints = {}
        if flush.next_series_id is not None:
            self._next_series_id = flush.next_series_id
        if flush.next_offset is not None:
            self._next_offset = max(self._next_offset, flush.next_offset)
        self._clock = flush.clock or self._clock
        self._checkpoints.update(flush.checkpoints)
        while self._log and self._log[0][0] <= flush.log_end:
            self._log_bytes -= self._log.popleft()[1]
        for batch_id in flush.dropped_batches:
            self._batches.pop(batch_id, None)

    def promote(self, epoch: int) -> None:
        raise AssertionError("who keeps a shard warm owns nothing that could be promoted: it takes the store over")

    # ---- chunks

    def read_batch(self, batch_id: int) -> bytes | None:
        """As ``read_pieces``: raises CopyDiffers where the owner has read what cannot be read here any more."""
        return self._there(batch_id, lambda: self._chunks.read_batch(batch_id))

    def read_pieces(self, batch_id: int, pieces: Sequence[tuple[int, int]]) -> list[bytes] | None:
        return self._there(batch_id, lambda: self._chunks.read_pieces(batch_id, pieces))

    def _there(self, batch_id: int, read: Callable[[], T | None]) -> T | None:
        """What is left out here might have told a sample that is there from one that is not."""
        try:
            found = read()
        except DamagedStore as error:
            raise CopyDiffers(f"chunk batch {batch_id} cannot be read here: {error.message}") from error
        if found is None and batch_id in self._batches:
            raise CopyDiffers(f"chunk batch {batch_id} was dropped before this was told here")
        return found

    # ---- the end

    def reclaim(self) -> bool:
        """What is stored is its owner's business."""
        return False

    def close(self) -> None:
        self._rows = None
        self._chunks.close()

    def delete(self) -> None:
        self.close()
