"""From record containers to durable log rows and buffered samples.

The order is: look every series up, commit part keys and log under the owner's epoch, then change memory. What
fails before the commit's end leaves memory as it was. After it only a late sample can fail, whose chunk must be read
from a store that cannot be read now; then nothing of the round is acknowledged, and what is sent again is a no-op where
it was applied.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from filoray.cluster.config.store_config import StoreConfig
from filoray.cluster.errors import BadData, Unavailable
from filoray.nodes.data.part_key import decode_part_key, hash_part_keys
from filoray.nodes.data.record_container import RecordContainer
from filoray.nodes.data.write_outcome import AppendReply, RefusalReason, UnknownSeries, WriteOutcome
from filoray.nodes.kernels.arrays import floats, int32s, ints, uint64s
from filoray.nodes.kernels.storage.column_bounds import newest_of
from filoray.nodes.kernels.storage.write_buffers import NewSamples
from filoray.nodes.memstore.append_round import AppendRound, Prepared
from filoray.nodes.memstore.late_arrival import LateArrival
from filoray.nodes.memstore.refusal_text import out_of_bounds_text, sample_text, series_text
from filoray.nodes.memstore.shard_memory import ShardMemory
from filoray.nodes.memstore.store.column_store import ColumnStore, Commit, LogRow
from filoray.nodes.memstore.store.log_record import NEVER_SHUT_MS, LogRecord, encode_log_record
from filoray.nodes.memstore.store.part_key_rows import QUICK_LEVEL, encode_part_key_row
from filoray.nodes.memstore.upkeep.cardinality import NAMESPACE_LABEL, WORKSPACE_LABEL, Cardinality
from filoray.nodes.memstore.upkeep.retention_clock import RetentionClock
from filoray.nodes.memstore.write_buffers import AppendRules

NOTHING_DONE = -1
LOG_BYTES_PER_SERIES_MAX = 8192
"""A shard of many series has a longer log: four times what makes its flushes due."""


class Ingestion:
    """One thread calls it. ``next_offset`` is the offset that the next log row gets."""

    def __init__(
        self,
        memory: ShardMemory,
        store: ColumnStore,
        late: LateArrival,
        cardinality: Cardinality,
        clock: RetentionClock,
        store_config: StoreConfig,
        checkpoints: NDArray[np.int64],
    ) -> None:
        self._memory = memory
        self.store = store
        self._late = late
        self._cardinality = cardinality
        self._clock = clock
        self._window_ms = store_config.out_of_order_window_ms
        self._max_future_ms = store_config.max_future_ms
        self.checkpoints = checkpoints
        self.has_checkpoints = bool(store.state.checkpoints)
        """Whether any are stored: a shard that began before all of its stream has them at -1."""
        known = memory.index.count
        # A number is never given twice, whatever the stored counter says: samples would be of two series.
        self.next_series_id = max(
            store.state.next_series_id, int(memory.index.series_ids.data[known - 1]) + 1 if known else 0
        )
        self.next_offset = store.state.next_offset
        self.log_bytes = 0
        self._log_rows: deque[tuple[int, int]] = deque()
        # Of the log all will be applied; of a stream, what every group has in chunks.
        self.applied_offset = max(self.next_offset - 1, int(checkpoints.min()))
        self.rounds = 0
        self.unflushed_samples = 0
        self._log_bytes_max = store_config.log_size_bytes_max
        self.flush_problem = ""
        """Why the last flush failed; "" if it did not."""
        self.newest_sample_ms: int | None = None
        """Of all that was appended since the shard was opened."""
        self._open_round: AppendRound | None = None
        self._has_given_up = False

    def check_idle(self) -> None:
        """Before any change. Raises Unavailable if an append was given up, of which nobody knows whether it counts."""
        assert self._open_round is None, "an append is under way: it is finished before anything else changes"
        if self._has_given_up:
            raise Unavailable("an append to the shard was given up half-way: it is opened anew before the next change")

    def begin(
        self, containers: Sequence[bytes | memoryview], offsets: Sequence[int] | None, wall_ms: int
    ) -> AppendRound:
        """One transaction for all; see Shard.begin_append."""
        self.check_idle()
        if offsets is None:
            self._check_log_size()
        # A clock that went back must not refuse what is of now: the latest that it was, and what passed since, counts.
        now_ms = max(wall_ms, self._clock.reading.wall_ms)
        memory = self._memory
        series_before, pairs_before = memory.index.count, memory.index.labels.pair_count
        fresh: list[bytes] = []
        try:
            prepared = [
                self._prepare(data, -1 if offsets is None else offsets[i], fresh, now_ms)
                for i, data in enumerate(containers)
            ]
            commit = self._commit(prepared, fresh, series_before, writes_log=offsets is None)
        except BaseException:
            if memory.index.labels.pair_count > pairs_before or memory.index.count > series_before:
                with memory.lock:
                    memory.index.truncate(series_before, pairs_before)
                count_series(memory, self._cardinality)
            raise
        self._open_round = AppendRound(commit, prepared)
        return self._open_round

    def finish(self, append_round: AppendRound) -> list[AppendReply]:
        """See Shard.finish_append."""
        assert append_round is self._open_round, "only the append that is under way can be finished"
        self._open_round = None
        memory = self._memory
        if append_round.commit is not None and append_round.commit.log is not None:
            self.applied_offset = append_round.commit.log.offset
        try:
            for item in append_round.prepared:
                if item.unknown is None:
                    self._apply(item)
                    self._note_newest(item)
                    memory.counters.samples_accepted += item.outcome.accepted
                    memory.counters.samples_refused += item.outcome.refused_count
        except BaseException:
            memory.unlike_replay.update(range(memory.group_count))
            raise
        self.rounds += 1
        return [item.unknown or item.outcome for item in append_round.prepared]

    def give_up(self, append_round: AppendRound) -> None:
        """See Shard.abandon_append."""
        assert append_round is self._open_round, "only the append that is under way can be given up"
        self._open_round = None
        self._has_given_up = True

    def took(self, commit: Commit | None, known: int) -> None:
        """A commit of the leader's, if there was one, is stored here too, after ``known`` series.

        Its samples are applied next.
        """
        if self._memory.index.count > known:
            count_series(self._memory, self._cardinality, known)
        if commit is not None:
            self.next_series_id = commit.next_series_id
            self.next_offset = commit.next_offset
            if commit.log is not None:
                self.note_log(commit.log)
                self.applied_offset = commit.log.offset
        self.rounds += 1

    def _check_log_size(self) -> None:
        """Raises Unavailable where flushes fail for so long that log and memory would grow without end."""
        allowed = max(self._log_bytes_max, self._memory.index.count * LOG_BYTES_PER_SERIES_MAX)
        if self.log_bytes > allowed:
            raise Unavailable(
                f"the log has {self.log_bytes} bytes that no flush could make chunks of, more than max-log-size = "
                f"{self._log_bytes_max} allows; the last flush: {self.flush_problem or 'is under way'}"
            )

    def _note_newest(self, item: Prepared) -> None:
        if self.newest_sample_ms is None or (item.newest_ms is not None and item.newest_ms > self.newest_sample_ms):
            self.newest_sample_ms = item.newest_ms

    # ---- before the commit

    def _prepare(self, data: bytes | memoryview, offset: int, fresh: list[bytes], now_ms: int) -> Prepared:
        container = RecordContainer.decode(data)
        limit_ms = NEVER_SHUT_MS if self._max_future_ms is None else now_ms + self._max_future_ms
        partitions, missing = self._memory.index.find(uint64s(container.hash_high), uint64s(container.hash_low))
        # Columns of received bytes may be at an odd address.
        times = ints(container.timestamps)
        new = NewSamples(partitions, int32s(container.counts), times, floats(container.values))
        prepared = Prepared(data, container, offset, new)
        if len(times):
            prepared.newest_ms = int(times.max())
            # Of a stream nobody would hear of a refusal, and it may be the clock here that is wrong.
            if prepared.newest_ms > limit_ms and offset < 0:
                self._refuse_future(prepared, limit_ms, now_ms)
        if missing:
            self._add_series(prepared, fresh)
        prepared.series_end = self.next_series_id
        if offset >= 0:
            prepared.outcome.accepted += self.pass_over_flushed(prepared.new, offset)
        if newest_of(partitions, self._memory.buffers.newest_ms.data) > limit_ms:
            prepared.shut_ms = limit_ms
        return prepared

    def pass_over_flushed(self, new: NewSamples, offset: int) -> int:
        """From a stream that is replayed: what a group's chunks have already. Returns how many samples that are."""
        known = new.partitions >= 0
        done = self.checkpoints[self._memory.groups_of(new.partitions[known])] >= offset
        new.partitions[np.flatnonzero(known)[done]] = NOTHING_DONE
        return int(new.counts[known][done].sum())

    def _refuse_future(self, prepared: Prepared, limit_ms: int, now_ms: int) -> None:
        """Leave the samples out that are later than ``limit_ms``."""
        container, outcome = prepared.container, prepared.outcome
        taken = container.timestamps <= limit_ms
        owners = np.repeat(np.arange(container.series_count), container.counts)
        counts = np.bincount(owners[taken], minlength=container.series_count).astype(np.int32)
        times, values = container.timestamps[taken], container.values[taken]
        prepared.new = NewSamples(prepared.new.partitions, counts, times, values)
        prepared.newest_ms = int(times.max()) if len(times) else None
        outcome.refuse(RefusalReason.OUT_OF_BOUNDS, int((~taken).sum()))
        if not outcome.example:
            first = int(np.flatnonzero(~taken)[0])
            series, time_ms = int(owners[first]), int(container.timestamps[first])
            outcome.example = f"{self._series_text(prepared, series)}: " + out_of_bounds_text(
                time_ms, float(container.values[first]), now_ms, limit_ms - now_ms
            )

    def _series_text(self, prepared: Prepared, series: int) -> str:
        partition = int(prepared.new.partitions[series])
        if partition >= 0:
            return series_text(self._memory.index.label_set(partition))
        key = prepared.container.part_keys().get(series)
        return "a series" if key is None else series_text(decode_part_key(key))

    def _add_series(self, prepared: Prepared, fresh: list[bytes]) -> None:
        """Enter the container's new series, or say which come without key."""
        container, partitions, counts = prepared.container, prepared.new.partitions, prepared.new.counts
        missing = np.flatnonzero((partitions < 0) & ((counts > 0) | (container.counts == 0)))
        if not len(missing):
            return
        has_key = np.isin(missing, container.key_series)
        if not has_key.all():
            prepared.unknown = UnknownSeries(missing[~has_key].astype(np.int32))
            return
        key_of = container.part_keys()
        keys = [key_of[series] for series in missing.tolist()]
        high, low = hash_part_keys(keys)
        if (high != container.hash_high[missing]).any() or (low != container.hash_low[missing]).any():
            raise BadData("record container: the hash of a part key is not that of its series")
        _, first = np.unique(np.stack([high, low], 1), axis=0, return_index=True)
        chosen = np.sort(first)
        index = self._memory.index
        with self._memory.lock:
            pairs_before = index.labels.pair_count
            pair_ids, pair_counts = index.split([keys[i] for i in chosen.tolist()])
            taken = self._within_limits(prepared, missing[chosen], pair_ids, pair_counts, pairs_before)
            new = chosen[taken]
            if len(new) < len(chosen):
                # Labels of refused series must not stay: they may be other ones with every write.
                index.labels.truncate(pairs_before)
                pair_ids, pair_counts = index.split([keys[i] for i in new.tolist()])
            if len(new):
                series_ids = np.arange(self.next_series_id, self.next_series_id + len(new))
                self._memory.reserve(index.count + len(new))
                index.add(pair_ids, pair_counts, high[new], low[new], series_ids)
                self.next_series_id += len(new)
                fresh += [keys[i] for i in new.tolist()]
        partitions[missing] = index.find(high, low)[0]

    def _within_limits(
        self,
        prepared: Prepared,
        series: NDArray[np.int64],
        pair_ids: NDArray[np.int32],
        pair_counts: NDArray[np.int64],
        pairs_before: int,
    ) -> NDArray[np.bool_]:
        """Which of these new series may be; the others' samples are counted as refused.

        ``pairs_before``: how many label pairs there were before these series' own were entered.
        """
        labels = self._memory.index.labels
        taken = np.ones(len(series), np.bool_)
        ends = np.cumsum(pair_counts).tolist()
        workspace_id, namespace_id = labels.name_id(WORKSPACE_LABEL), labels.name_id(NAMESPACE_LABEL)
        names = labels.pair_name.data[pair_ids]
        shard_key_pairs = np.flatnonzero((names == workspace_id) | (names == namespace_id)).tolist()
        owners = np.searchsorted(ends, shard_key_pairs, side="right").tolist()
        keys = [["", ""] for _ in range(len(series))]
        for owner, at in zip(owners, shard_key_pairs, strict=True):
            name, value = labels.pair_text(int(pair_ids[at]))
            keys[owner][int(name == NAMESPACE_LABEL)] = value
        text_bytes, looks_at_labels = labels.text_bytes, self._cardinality.exceeds_label_size(labels.text_bytes)
        fresh_pairs: set[int] = set()
        if looks_at_labels:
            fresh_pairs = set(range(pairs_before, labels.pair_count))
            text_bytes -= sum(map(labels.pair_bytes, fresh_pairs))
        for i, (workspace, namespace) in enumerate(keys):
            reason = self._cardinality.refusal(workspace, namespace)
            if looks_at_labels and not reason:
                own = fresh_pairs.intersection(pair_ids[ends[i] - pair_counts[i] : ends[i]].tolist())
                more_bytes = sum(map(labels.pair_bytes, own))
                reason = self._cardinality.label_refusal(text_bytes, more_bytes)
                if not reason:
                    fresh_pairs -= own
                    text_bytes += more_bytes
            if reason:
                taken[i] = False
                outcome = prepared.outcome
                outcome.refuse(RefusalReason.OVER_LIMIT, int(prepared.new.counts[series[i]]))
                if not outcome.example:
                    texts = dict(
                        labels.pair_text(pair) for pair in pair_ids[ends[i] - pair_counts[i] : ends[i]].tolist()
                    )
                    outcome.example = f"{series_text(texts)}: new series refused: {reason}"
            else:
                self._cardinality.add(workspace, namespace)
        return taken

    def _commit(
        self, prepared: Sequence[Prepared], fresh: Sequence[bytes], series_before: int, *, writes_log: bool
    ) -> Commit | None:
        ids = self._memory.index.series_ids.data
        part_keys = None
        if fresh:
            part_keys = encode_part_key_row(ids[series_before : series_before + len(fresh)], fresh, QUICK_LEVEL)
        log = None
        if writes_log:
            records = [_log_record(item, ids) for item in prepared if item.unknown is None]
            blob = b"".join([encode_log_record(record) for record in records if len(record.times)])
            if blob:
                log = LogRow(self.next_offset, blob)
        if part_keys is None and log is None:
            return None
        commit = Commit(part_keys, log, self.next_series_id, self.next_offset + (log is not None))
        self.store.commit(commit)
        self.next_offset = commit.next_offset
        if log is not None:
            self.note_log(log)
        return commit

    def note_log(self, row: LogRow) -> None:
        """The log has this row."""
        self._log_rows.append((row.offset, len(row.data)))
        self.log_bytes += len(row.data)

    def forget_log(self, end: int) -> None:
        """The log has no rows up to this offset any more."""
        while self._log_rows and self._log_rows[0][0] <= end:
            self.log_bytes -= self._log_rows.popleft()[1]

    # ---- after the commit

    def _apply(self, item: Prepared) -> None:
        self.apply(item.new, item.shut_ms, item.outcome)
        if item.offset >= 0:
            # Not before: what could not be applied must be read again, so no flush may checkpoint it.
            self.note_applied(item.offset)

    def note_applied(self, offset: int) -> None:
        """All of the stream up to there is in memory, which has no log here."""
        self.applied_offset = max(self.applied_offset, offset)
        self._memory.unlike_replay.update(range(self._memory.group_count))

    def apply(self, new: NewSamples, shut_ms: int, outcome: WriteOutcome) -> None:
        """Samples into memory; what cannot be there is counted in ``outcome``."""
        memory = self._memory
        partitions, counts, times, values = new
        with memory.lock:
            appended = memory.buffers.append(new, AppendRules(self._window_ms, memory.chunk_samples, shut_ms))
        outcome.accepted += appended.accepted + appended.same
        self.unflushed_samples += appended.accepted
        for reason, count, example in (
            (RefusalReason.TOO_OLD, appended.too_old, appended.too_old_example),
            (RefusalReason.DIFFERENT_VALUE, appended.different, appended.different_example),
        ):
            outcome.refuse(reason, count)
            if example >= 0 and not outcome.example:
                owner = partitions[np.searchsorted(np.cumsum(counts), example, side="right")]
                outcome.example = sample_text(memory, int(owner), times[example], values[example], reason)
        if len(appended.late):
            owners = np.repeat(partitions, counts)[appended.late]
            late = appended.late
            self.unflushed_samples += self._late.apply(owners, times[late], values[late], shut_ms, outcome)
        if len(appended.full):
            memory.seal(appended.full)


def _log_record(item: Prepared, series_ids: NDArray[np.int64]) -> LogRecord:
    partitions, counts, times, values = item.new
    if not len(partitions) or partitions.min() >= 0:
        return LogRecord(series_ids[partitions], counts, times, values, item.shut_ms)
    known = partitions >= 0
    samples = np.repeat(known, counts)
    return LogRecord(series_ids[partitions[known]], counts[known], times[samples], values[samples], item.shut_ms)


def count_series(memory: ShardMemory, cardinality: Cardinality, first: int = 0) -> None:
    """Count all series of the index anew, or those from the ``first`` on besides."""
    index = memory.index
    if not first:
        cardinality.reset()
    table = index.label_table(np.arange(first, index.count, dtype=np.int32)).keep([WORKSPACE_LABEL, NAMESPACE_LABEL])
    ids, groups = table.grouped()
    for row, count in enumerate(np.bincount(ids, minlength=groups.count).tolist()):
        cardinality.add(groups.value(row, WORKSPACE_LABEL), groups.value(row, NAMESPACE_LABEL), count)
