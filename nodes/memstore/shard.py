"""One shard: the series it owns, their samples in memory and in its column store.

    shard = Shard.open(spec, on_progress)
    results = shard.append(containers)          # durable when it returns
    batch = shard.select(matchers, start_ms, end_ms)
    while shard.upkeep(now_ms, wall_ms): ...    # flush groups, retention, memory budget
    shard.close()

One thread calls ``append``, the flushes, ``upkeep`` and ``close``; any thread may query meanwhile. Which node owns the
shard, and its life cycle, are the node's business.

A shard with copies has a leader, whose owner sends on what each append and each ``on_entry`` says, and followers:

    append_round = leader.begin_append(containers)       # durable here
    ...                                                  # append_round.entry to the followers
    results = leader.finish_append(append_round)         # to be seen, and to be answered

    follower.follow(entry)                               # all entries, in their order
    while follower.follower_upkeep(now_ms): ...
    follower.promote(epoch)                              # from then on it is a leader

A follower has a copy with a store of its own, or, where its leader's store is within reach of all nodes, only keeps the
shard warm in memory: ``Shard.keep_warm``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from filoray.cluster.errors import LimitExceeded
from filoray.cluster.process.clocks import wall_ms
from filoray.nodes.data.cancel_token import CancelToken
from filoray.nodes.data.label_table import LabelTable
from filoray.nodes.data.matching import LabelMatcher
from filoray.nodes.data.node_figures import ShardFigures
from filoray.nodes.data.part_key import SHARD_KEY_LABELS
from filoray.nodes.data.series_batch import SeriesBatch
from filoray.nodes.data.write_outcome import AppendReply
from filoray.nodes.kernels.storage.write_buffers import NOTHING_YET_MS
from filoray.nodes.memstore.append_round import AppendRound
from filoray.nodes.memstore.chunks.chunk_reader import ChunkReader
from filoray.nodes.memstore.following import Following
from filoray.nodes.memstore.ingestion import Ingestion, count_series
from filoray.nodes.memstore.late_arrival import LateArrival
from filoray.nodes.memstore.lock_turns import Breathe
from filoray.nodes.memstore.recovery import OnProgress, load_chunks, load_part_keys, reading_of_batches, replay_log
from filoray.nodes.memstore.replica_entries import ReplicaEntry
from filoray.nodes.memstore.sample_reader import SampleReader
from filoray.nodes.memstore.shard_memory import ShardMemory
from filoray.nodes.memstore.shard_spec import ShardSpec, ShardStats
from filoray.nodes.memstore.store.column_store import ColumnStore
from filoray.nodes.memstore.store.store_choice import Snapshot, open_chunks, open_column_store, open_snapshot
from filoray.nodes.memstore.store.warm_store import SnapshotRows, WarmStore
from filoray.nodes.memstore.takeover import take_over
from filoray.nodes.memstore.upkeep.cardinality import Cardinality
from filoray.nodes.memstore.upkeep.flusher import Flusher
from filoray.nodes.memstore.upkeep.retention_clock import RetentionClock
from filoray.nodes.memstore.upkeep.shard_changes import ShardChanges

MatcherSets = Sequence[Sequence[LabelMatcher]]


class Shard:
    def __init__(self, spec: ShardSpec, store: ColumnStore, on_progress: OnProgress) -> None:
        """Use ``open``."""
        self.spec = spec
        state = store.state
        self._store = store
        self._memory = ShardMemory(state.group_count, spec.store.max_chunks_size, spec.store.max_chunk_time_ms)
        if state.lost:
            self._memory.damages[f"{spec.name}: {state.lost}; its samples are missing"] = None
        load_part_keys(self._memory, store, spec.name)
        load_chunks(self._memory, store, spec.name)
        self._chunks = ChunkReader(self._memory, store, spec.store.decoded_chunk_cache_bytes, spec.name)
        self._reader = SampleReader(self._memory, self._chunks, spec.store.max_data_per_shard_query_bytes)
        checkpoints = np.array([state.checkpoints.get(group, -1) for group in range(state.group_count)], np.int64)
        cardinality = Cardinality(spec.store)
        late = LateArrival(self._memory, self._reader, spec.store.out_of_order_window_ms)
        clock = RetentionClock(state.clock or reading_of_batches(self._memory), spec.store.clock_jump_wait_ms)
        self._ingestion = Ingestion(self._memory, store, late, cardinality, clock, spec.store, checkpoints)
        count_series(self._memory, cardinality)
        replay_log(self._memory, store, self._ingestion, spec.name, on_progress)
        self._changes = ShardChanges(spec, self._memory, store, self._ingestion, self._chunks, cardinality)
        self._flusher = Flusher(spec, self._memory, self._ingestion, self._changes, cardinality, clock)
        self._following = Following(self._memory, store, self._ingestion, self._changes, clock, spec.name)
        self._is_follower = False
        self._warm: WarmStore | None = None

    @classmethod
    def open(cls, spec: ShardSpec, on_progress: OnProgress = lambda percent: None) -> Shard:
        """Take the shard over with ``spec.epoch`` and recover it; ``on_progress`` gets percents of the log's replay.

        Raises StaleRoute if a later owner has it, DamagedStore if its file cannot be opened, Unavailable if the
        place cannot be reached or written.
        """
        store = open_column_store(spec)
        try:
            return cls(spec, store, on_progress)
        except BaseException:
            store.close()
            raise

    @classmethod
    def keep_warm(cls, spec: ShardSpec, rows: SnapshotRows) -> Shard:
        """A follower of the shard's owner at ``spec.epoch``, in memory alone: ``rows`` are a snapshot of the owner's.

        Raises BadData if they are not whole, DamagedStore, Unavailable if the store's chunks cannot be reached.
        """
        rows.check_whole()
        store = WarmStore(rows, open_chunks(spec))
        try:
            shard = cls(spec, store, lambda percent: None)
        except BaseException:
            store.close()
            raise
        store.forget_rows()
        shard._is_follower, shard._warm = True, store
        return shard

    # ---- writing

    def append(
        self,
        containers: Sequence[bytes | memoryview],
        offsets: Sequence[int] | None = None,
        calendar_ms: int | None = None,
    ) -> list[AppendReply]:
        """Encoded RecordContainers, all in one transaction; one result each, durable when it returns.

        ``offsets``: each container's place in the stream that it came from, which then is the log: samples are not
        written to the embedded one, and flushes checkpoint those offsets. Raises StaleRoute if another owner
        has the shard, Unavailable if nothing could be written, BadData for what is no container: nothing is applied.

        ``calendar_ms`` (None: the machine's clock): samples further ahead of it than max-future-time are refused,
        unless they come from a stream.
        """
        return self.finish_append(self.begin_append(containers, calendar_ms, offsets))

    def begin_append(
        self,
        containers: Sequence[bytes | memoryview],
        calendar_ms: int | None = None,
        offsets: Sequence[int] | None = None,
    ) -> AppendRound:
        """The half of ``append`` that may fail: durable here when it returns, and in no answer yet.

        Until it is finished nothing else may change the shard. Raises as ``append``; then all is as before.
        """
        self._check_leads()
        return self._ingestion.begin(containers, offsets, wall_ms() if calendar_ms is None else calendar_ms)

    def finish_append(self, append_round: AppendRound) -> list[AppendReply]:
        """The other half: queries show the samples when it returns.

        Raises Unavailable if a late sample cannot be compared with what is stored: none of them is acknowledged then.
        """
        return self._ingestion.finish(append_round)

    def abandon_append(self, append_round: AppendRound) -> None:
        """Nobody will finish it, as the shard is lost: all that may be done with this one is to close it."""
        self._ingestion.give_up(append_round)

    @property
    def trouble(self) -> str | None:
        """Why the shard takes no writes until it is closed and opened anew; None if all is well."""
        return self._store.trouble

    @property
    def resume_offset(self) -> int:
        """The first offset of its stream that the shard must be sent again after opening."""
        return int(self._ingestion.checkpoints.min()) + 1

    @property
    def stream_checkpoint(self) -> int | None:
        """The last offset of its stream that it need not be sent again after opening; -1: it must have all of it.

        None: nothing was ever flushed, so where in the stream it begins is not durable yet.
        """
        return self.resume_offset - 1 if self._ingestion.has_checkpoints else None

    @property
    def stream_offset(self) -> int:
        """The last offset of its stream that is in memory or in chunks; -1: there is none."""
        return self._ingestion.applied_offset

    def flush_due(self, now_ms: int) -> list[int]:
        """Groups whose turn it is: each once per flush-interval, all when the log is long or the shard idle."""
        return self._flusher.due(now_ms)

    def flush_group(self, group: int, now_ms: int, wall_ms: int | None = None) -> None:
        """Make chunks of all samples of a group, durable with its checkpoint; drop what the log need not keep.

        ``now_ms``: of a clock that never jumps, counted from anywhere; ``wall_ms``: the calendar's (None: the same).
        """
        self._check_leads()
        self._flusher.flush([group], now_ms, now_ms if wall_ms is None else wall_ms)

    def flush_all(self, now_ms: int, wall_ms: int | None = None) -> None:
        self._check_leads()
        self._flusher.flush(range(self._memory.group_count), now_ms, now_ms if wall_ms is None else wall_ms)

    def upkeep(self, now_ms: int, wall_ms: int | None = None) -> bool:
        """A bounded piece of flushing, retention or clearing; True if more is due at once. For twice a second or so.

        Times as for ``flush_group``.
        """
        self._check_leads()
        try:
            is_more_due = self._flusher.upkeep(now_ms, now_ms if wall_ms is None else wall_ms)
        except Exception as error:
            self._ingestion.flush_problem = str(error)
            raise
        self._ingestion.flush_problem = ""
        return is_more_due

    def take_notices(self) -> list[str]:
        """Sentences for the log, since this was last asked: clocks that jumped, much that was dropped."""
        return self._flusher.take_notices()

    # ---- copies

    @property
    def on_entry(self) -> Callable[[ReplicaEntry], None] | None:
        """Called on the changing thread for each change that followers must make too, once it is durable here.

        Commits of appends are not told: whoever appends has them from the ``AppendRound``.
        """
        return self._changes.on_entry

    @on_entry.setter
    def on_entry(self, on_entry: Callable[[ReplicaEntry], None] | None) -> None:
        self._changes.on_entry = on_entry

    def snapshot(self, now_ms: int, wall_ms: int | None = None) -> Snapshot:
        """What is stored now: a copy that is made of it and follows from here on is as this shard.

        It may need a flush first, which is told as any other. Times as for ``flush_group``. To be closed by the caller.
        Raises Unavailable.
        """
        self._check_leads()
        self._ingestion.check_idle()
        self._flusher.flush_unlike_replay(now_ms, now_ms if wall_ms is None else wall_ms)
        return open_snapshot(self.spec)

    def follow(self, entry: ReplicaEntry, messages: Sequence[bytes | memoryview] = ()) -> None:
        """Make a change of the leader's, durable when it returns.

        ``messages``: those that a StreamedEntry names, one for each of its batches; durable are they in their stream.

        Raises CopyDiffers if it does not come out as the leader's: no entry is taken from then on. Raises DamagedStore
        for rows that are none, StaleRoute and Unavailable as ``append``: with nothing changed, if it is of a commit.
        """
        self._is_follower = True
        self._following.follow(entry, messages)

    def follower_upkeep(self, now_ms: int) -> bool:
        """A bounded piece of what each copy does by itself: merging rows, clearing; True if more is due at once."""
        return self._flusher.follower_upkeep(now_ms)

    def promote(self, epoch: int) -> None:
        """A follower leads from now on, at this epoch; all that it was told it has.

        Raises CopyDiffers if it is not as its leader was, or as the store that it keeps warm is, StaleRoute or
        StoreIsAhead if a later owner has the store, Unavailable: then it is a follower as before, or to be closed if it
        keeps the shard warm.
        """
        self._following.check_is_sound()
        if self._warm is None:
            self._store.promote(epoch)
        else:
            led = replace(self.spec, epoch=epoch, was_open=True)
            self._go_on_in(take_over(self._warm, led, self.spec.epoch, self._following))
        self.spec = replace(self.spec, epoch=epoch)
        self._is_follower = False

    def _go_on_in(self, store: ColumnStore) -> None:
        """All changes are made there from now on. Nobody reads meanwhile."""
        self._store.close()
        self._ingestion.store = self._changes.store = self._chunks.store = self._following.store = store
        self._store, self._warm = store, None

    def _check_leads(self) -> None:
        assert not self._is_follower, "a follower changes nothing that its leader did not tell"

    # ---- reading

    def select(
        self, matchers: Sequence[LabelMatcher], start_ms: int, end_ms: int, cancel: CancelToken | None = None
    ) -> SeriesBatch:
        """All series that match and have a sample with ``start_ms <= t <= end_ms``, with just those samples.

        Raises LimitExceeded past max-data-per-shard-query, and what ``cancel`` raises. ``warnings`` name damage.
        """
        return self._reader.select(matchers, start_ms, end_ms, cancel)

    def label_table(
        self,
        matcher_sets: MatcherSets,
        start_ms: int,
        end_ms: int,
        limit: int = 0,
        cancel: CancelToken | None = None,
    ) -> LabelTable:
        """Label sets of the series that one of the matcher sets selects (none given: all) and that live in the range.

        Raises LimitExceeded if there are more than ``limit`` (0: any number).
        """

        def look(breathe: Breathe) -> LabelTable:
            partitions = self._reader.labels_of(matcher_sets, start_ms, end_ms, breathe)
            if limit and len(partitions) > limit:
                raise LimitExceeded(f"{len(partitions)} series match in one shard; the limit is {limit}")
            return self._memory.index.label_table(partitions)

        return self._reader.in_turns(look, cancel)

    def label_names(
        self,
        matcher_sets: MatcherSets,
        start_ms: int,
        end_ms: int,
        limit: int = 0,
        cancel: CancelToken | None = None,
    ) -> list[str]:
        """Names of those series' labels, sorted; the first ``limit`` of them (0: all)."""

        def look(breathe: Breathe) -> list[str]:
            index = self._memory.index
            partitions = self._reader.labels_of(matcher_sets, start_ms, end_ms, breathe)
            return [index.labels.names[i] for i in index.names_of(partitions)]

        names = self._reader.in_turns(look, cancel)
        return names[:limit] if limit else names

    def label_values(
        self,
        name: str,
        matcher_sets: MatcherSets,
        start_ms: int,
        end_ms: int,
        limit: int = 0,
        cancel: CancelToken | None = None,
    ) -> list[str]:
        """Values of that label among those series, sorted; the first ``limit`` of them (0: all)."""

        def look(breathe: Breathe) -> list[str]:
            return self._memory.index.values_of(name, self._reader.labels_of(matcher_sets, start_ms, end_ms, breathe))

        values = self._reader.in_turns(look, cancel)
        return values[:limit] if limit else values

    def cardinality(self, group_by: Sequence[str] = SHARD_KEY_LABELS) -> tuple[LabelTable, list[int]]:
        """How many series there are for each combination of these labels."""
        with self._memory.lock:
            index = self._memory.index
            table = index.label_table(np.arange(index.count, dtype=np.int32)).keep(group_by)
        ids, groups = table.grouped()
        return groups, np.bincount(ids, minlength=groups.count).tolist()

    @property
    def damages(self) -> tuple[str, ...]:
        """What could not be read when the shard was opened: every answer of it is to say so."""
        return tuple(self._memory.damages)

    def stats(self) -> ShardStats:
        memory = self._memory
        with memory.lock:
            buffered = int(memory.buffers.counts.data[: memory.index.count].sum(dtype=np.int64)) + len(memory.late)
            chunks = memory.chunks.chunks
            columns = chunks.time_column.data[: chunks.count]
            return ShardStats(
                series=memory.index.count,
                buffered_samples=buffered,
                samples=buffered + int(memory.chunks.times.samples.data[columns].sum(dtype=np.int64)),
                chunks=chunks.count,
                resident_chunk_bytes=memory.resident_bytes,
                memory_bytes=memory.nbytes,
                cache_bytes=self._chunks.nbytes,
                log_bytes=self._ingestion.log_bytes,
                stored_bytes=sum(batch.data_bytes for batch in memory.batches.values()),
                next_offset=self._ingestion.next_offset,
                damages=tuple(memory.damages),
            )

    def figures(self, stream_lag: int | None = None) -> ShardFigures:
        """What can be told every second on any thread: ``stats`` without what takes longer, and counters.

        ``stream_lag``: what whoever feeds the shard from a stream knows.
        """
        memory, counters = self._memory, self._memory.counters
        with memory.lock:
            newest_ms = int(memory.buffers.newest_ms.data[: memory.index.count].max(initial=NOTHING_YET_MS))
            return ShardFigures(
                dataset=self.spec.dataset,
                shard=self.spec.shard,
                epoch=self.spec.epoch,
                samples_accepted=counters.samples_accepted,
                samples_refused=counters.samples_refused,
                selects=counters.selects,
                read_bytes=counters.read_bytes,
                series=memory.index.count,
                unflushed_samples=self._ingestion.unflushed_samples,
                log_bytes=self._ingestion.log_bytes,
                newest_sample_ms=None if newest_ms == NOTHING_YET_MS else newest_ms,
                memory_bytes=memory.nbytes + self._chunks.nbytes,
                stored_bytes=sum(batch.data_bytes for batch in memory.batches.values()),
                stream_lag=stream_lag,
            )

    # ---- the end

    def close(self) -> None:
        """Stop. What is not in chunks yet is in the log."""
        self._store.close()

    def delete(self) -> None:
        """Stop and remove all that is stored."""
        self._store.delete()
