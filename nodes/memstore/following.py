"""What a follower does with its leader's entries: it makes the same changes, and sees if they come out so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from filoray.nodes.data.part_key import hash_part_keys
from filoray.nodes.data.record_container import RecordContainer
from filoray.nodes.data.write_outcome import WriteOutcome
from filoray.nodes.kernels.arrays import floats, int32s, ints, uint64s
from filoray.nodes.kernels.storage.write_buffers import NewSamples
from filoray.nodes.memstore.ingestion import NOTHING_DONE, Ingestion
from filoray.nodes.memstore.recovery import PartitionOfSeriesId
from filoray.nodes.memstore.replica_entries import (
    CommitEntry,
    DeadSeriesEntry,
    DropEntry,
    FlushEntry,
    ReplicaEntry,
    SealEntry,
    StreamedBatch,
    StreamedEntry,
)
from filoray.nodes.memstore.shard_memory import ShardMemory
from filoray.nodes.memstore.store.checked_bytes import checksum64
from filoray.nodes.memstore.store.column_store import ColumnStore, Commit
from filoray.nodes.memstore.store.log_record import LogRecord, decode_log_records
from filoray.nodes.memstore.store.part_key_rows import decode_part_key_row
from filoray.nodes.memstore.store.store_errors import CopyDiffers
from filoray.nodes.memstore.upkeep.retention_clock import RetentionClock
from filoray.nodes.memstore.upkeep.shard_changes import ShardChanges


@dataclass(frozen=True, slots=True)
class _NewSeries:
    """Those of a commit: ids, part keys and their hashes."""

    ids: NDArray[np.int64]
    keys: list[bytes]
    high: NDArray[np.uint64]
    low: NDArray[np.uint64]


class Following:
    """On the thread that changes the shard."""

    def __init__(
        self,
        memory: ShardMemory,
        store: ColumnStore,
        ingestion: Ingestion,
        changes: ShardChanges,
        clock: RetentionClock,
        shard_name: str,
    ) -> None:
        self._memory = memory
        self.store = store
        self._ingestion = ingestion
        self._changes = changes
        self._clock = clock
        self._shard_name = shard_name
        self._difference = ""

    def check_is_sound(self) -> None:
        """Raises CopyDiffers once something came out otherwise than at the leader."""
        if self._difference:
            raise CopyDiffers(self._difference)

    def follow(self, entry: ReplicaEntry, messages: Sequence[bytes | memoryview]) -> None:
        """See Shard.follow."""
        self.check_is_sound()
        try:
            match entry:
                case CommitEntry(commit):
                    self._commit(commit)
                case StreamedEntry():
                    self._streamed(entry, messages)
                case FlushEntry():
                    self._flush(entry)
                case SealEntry(groups):
                    self._check_groups(groups)
                    self._changes.seal(groups)
                    self._memory.unlike_replay.update(groups)
                case DropEntry(batch_ids, clock):
                    self._check_batches(batch_ids)
                    self._clock.follow(clock)
                    self._changes.drop(batch_ids, clock)
                case DeadSeriesEntry(series_ids, next_series_id):
                    self._drop_dead(series_ids, next_series_id)
        except CopyDiffers as error:
            self._difference = error.message
            raise

    # ---- commits

    def _commit(self, commit: Commit) -> None:
        ingestion, what = self._ingestion, f"{self._shard_name}: an entry of its leader"
        series = self._new_series(commit, what)
        records = [] if commit.log is None else list(decode_log_records(commit.log.data, what))
        self._partitions(records, series.ids)
        self.store.commit(commit)
        known = self._memory.index.count
        with self._applying():
            self._enter(series)
            ingestion.took(commit, known)
            for record, owners in zip(records, self._partitions(records, series.ids), strict=True):
                new = NewSamples(owners, record.counts, record.times, record.values)
                ingestion.apply(new, record.shut_ms, WriteOutcome())

    def _streamed(self, entry: StreamedEntry, messages: Sequence[bytes | memoryview]) -> None:
        ingestion, what = self._ingestion, f"{self._shard_name}: an entry of its leader"
        for batch, message in zip(entry.batches, messages, strict=True):
            if checksum64(message) != batch.checksum:
                raise self._differs(f"its leader has read another message at offset {batch.offset} of their source")
            if batch.offset <= ingestion.applied_offset:
                raise self._differs(
                    f"its leader appends offset {batch.offset}, the copy is at {ingestion.applied_offset}"
                )
        ingestion.check_idle()
        series = None if entry.commit is None else self._new_series(entry.commit, what)
        if entry.commit is not None:
            self.store.commit(entry.commit)
        known = self._memory.index.count
        with self._applying():
            if series is not None:
                self._enter(series)
            ingestion.took(entry.commit, known)
            for batch, message in zip(entry.batches, messages, strict=True):
                self._append(batch, message)

    def _append(self, batch: StreamedBatch, message: bytes | memoryview) -> None:
        """As the leader did: what it did not know, or refused, when it judged this message is left out."""
        ingestion, index = self._ingestion, self._memory.index
        container = RecordContainer.decode(message)
        partitions, _ = index.find(uint64s(container.hash_high), uint64s(container.hash_low))
        known = np.flatnonzero(partitions >= 0)
        partitions[known[index.series_ids.data[partitions[known]] >= batch.series_end]] = NOTHING_DONE
        times, values = ints(container.timestamps), floats(container.values)
        new = NewSamples(partitions, int32s(container.counts), times, values)
        ingestion.pass_over_flushed(new, batch.offset)
        ingestion.apply(new, batch.shut_ms, WriteOutcome())
        ingestion.note_applied(batch.offset)

    def _new_series(self, commit: Commit, what: str) -> _NewSeries:
        """Checked: it fits what is here. Before anything is stored."""
        ingestion = self._ingestion
        ingestion.check_idle()
        log, next_offset = commit.log, ingestion.next_offset
        if (log is not None and log.offset != next_offset) or commit.next_offset != next_offset + (log is not None):
            raise self._differs(f"a commit goes on to offset {commit.next_offset}, the copy is at {next_offset}")
        ids, keys = np.empty(0, np.int64), list[bytes]()
        if commit.part_keys is not None:
            ids, keys = decode_part_key_row(commit.part_keys, what)
            self._check_new_series(ids, commit.next_series_id)
        series = _NewSeries(ids, keys, *hash_part_keys(keys))
        if self._memory.index.find(series.high, series.low)[1] < len(keys):
            raise self._differs("a commit has new series that the copy has already")
        return series

    def _enter(self, series: _NewSeries) -> None:
        memory = self._memory
        if series.keys:
            with memory.lock:
                memory.reserve(memory.index.count + len(series.keys))
                pair_ids, pair_counts = memory.index.split(series.keys)
                memory.index.add(pair_ids, pair_counts, series.high, series.low, series.ids)

    @contextmanager
    def _applying(self) -> Iterator[None]:
        """Once something is stored, what fails leaves a copy that is none."""
        try:
            yield
        except BaseException as error:
            self._difference = f"{self._shard_name}: what the copy has stored is not in its memory: {error}"
            raise

    def _check_new_series(self, new_ids: NDArray[np.int64], next_series_id: int) -> None:
        ids = np.concatenate([[self._ingestion.next_series_id - 1], new_ids, [next_series_id]])
        if not (np.diff(ids) > 0).all():
            raise self._differs(
                f"a commit has new series of ids that end before {next_series_id}, "
                f"the copy is at {self._ingestion.next_series_id}"
            )

    def _partitions(self, records: Sequence[LogRecord], new_ids: NDArray[np.int64]) -> list[NDArray[np.int32]]:
        """Of each record's series; -1 for those that are still to be entered."""
        partition_of = PartitionOfSeriesId(self._memory)
        partitions = [partition_of(record.series_ids) for record in records]
        for record, owners in zip(records, partitions, strict=True):
            unknown = record.series_ids[owners < 0]
            unknown = unknown[~np.isin(unknown, new_ids)]
            if len(unknown):
                raise self._differs(f"a commit has samples of series id {unknown[0]}, which the copy does not know")
        return partitions

    # ---- upkeep

    def _flush(self, entry: FlushEntry) -> None:
        self._check_groups(entry.groups)
        self._check_batches(entry.dropped_batches)
        if entry.batch_id is not None:
            if entry.batch_id < self._changes.next_batch_id:
                raise self._differs(
                    f"a flush makes chunk batch {entry.batch_id}, the copy is at {self._changes.next_batch_id}"
                )
            self._changes.next_batch_id = entry.batch_id
        self._clock.follow(entry.clock)
        self._changes.flush(entry.groups, entry.clock, entry.dropped_batches, entry.group_count, expected=entry)

    def _check_groups(self, groups: Sequence[int]) -> None:
        if groups and not 0 <= min(groups) <= max(groups) < self._memory.group_count:
            raise self._differs(f"a flush is of groups {groups}, the copy has {self._memory.group_count}")

    def _check_batches(self, batch_ids: Sequence[int]) -> None:
        unknown = [batch_id for batch_id in batch_ids if batch_id not in self._memory.batches]
        if unknown:
            raise self._differs(f"chunk batches {unknown} are dropped, which the copy does not have")

    def _drop_dead(self, series_ids: Sequence[int], next_series_id: int) -> None:
        partitions = PartitionOfSeriesId(self._memory)(np.array(series_ids, np.int64))
        living = self._changes.living()
        if (partitions < 0).any() or living[partitions].any():
            raise self._differs("series are dropped that the copy does not know, or has samples of")
        if next_series_id <= self._ingestion.next_series_id:
            raise self._differs(f"the next series id is {next_series_id}, and here it was more already")
        kept = np.ones(len(living), np.bool_)
        kept[partitions] = False
        self._changes.drop_dead(kept, next_series_id)

    def _differs(self, how: str) -> CopyDiffers:
        return CopyDiffers(f"{self._shard_name}: the copy is not its leader's: {how}")
