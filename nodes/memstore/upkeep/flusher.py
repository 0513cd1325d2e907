"""What a shard does between appends: flush groups in turn, drop what is too old, stay inside the memory budget.

A *flush* turns buffers of some flush groups into one stored chunk batch and moves the groups' checkpoints to the last
applied offset; the log is cut behind the oldest checkpoint. As in FiloDB, ``disk-time-to-live`` counts from when a
chunk was written, not from its samples' times, so that samples from 1970 live as long as others. What time it is for
that, ``retention_clock`` says; all else here goes by a clock that never jumps (``now_ms``).
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray

from filoray.nodes.memstore.ingestion import Ingestion
from filoray.nodes.memstore.shard_memory import ShardMemory
from filoray.nodes.memstore.shard_spec import ShardSpec
from filoray.nodes.memstore.upkeep.cardinality import Cardinality
from filoray.nodes.memstore.upkeep.retention_clock import RetentionClock
from filoray.nodes.memstore.upkeep.shard_changes import ShardChanges

_WELL_FILLED_SAMPLES = 100
_LOG_BYTES_PER_SERIES = 16 * 120
_PIECE_SERIES = 2048
"""About so many series are flushed in one piece of upkeep (some 80 ms), so that appends never wait for long."""
_SEALED_PER_BUFFERED = 8  # storing a chunk that is compressed already takes an eighth of the time
_DEAD_SHARE = 4  # series without data leave the index once they are a quarter of it
_DEAD_MIN = 64
_MAKE_ROOM_INTERVAL_MS = 60_000
"""Where a series limit refuses new ones, series without data leave at once, but rewriting costs: not more often."""


class Flusher:
    def __init__(
        self,
        spec: ShardSpec,
        memory: ShardMemory,
        ingestion: Ingestion,
        changes: ShardChanges,
        cardinality: Cardinality,
        clock: RetentionClock,
    ) -> None:
        self._spec = spec
        self._memory = memory
        self._ingestion = ingestion
        self._changes = changes
        self._cardinality = cardinality
        self._clock = clock
        self._due_ms: NDArray[np.int64] | None = None
        self._seen_rounds = -1
        self._quiet_since_ms = 0
        self._owed: list[int] = []
        self._room_made_ms: int | None = None
        self._is_clean = False

    # ---- when

    def due(self, now_ms: int) -> list[int]:
        memory, interval_ms = self._memory, self._spec.store.flush_interval_ms
        groups = memory.group_count
        if self._due_ms is None or len(self._due_ms) != groups:
            self._due_ms = now_ms + (np.arange(groups, dtype=np.int64) + 1) * interval_ms // groups
        if self._ingestion.unflushed_samples and (self._is_under_pressure() or self._is_idle_and_well_filled(now_ms)):
            return list(range(groups))
        return np.flatnonzero(self._due_ms <= now_ms).tolist()

    def _is_under_pressure(self) -> bool:
        series = self._memory.index.count
        if self._ingestion.log_bytes > max(self._spec.log_bytes_max, series * _LOG_BYTES_PER_SERIES):
            return True
        return (
            not self._memory.resident
            and self._ingestion.unflushed_samples > 30 * series
            and self._memory.nbytes > self._spec.store.shard_mem_bytes
        )

    def _is_idle(self, now_ms: int) -> bool:
        return self._ingestion.rounds == self._seen_rounds and (
            now_ms - self._quiet_since_ms >= self._spec.store.flush_when_idle_ms
        )

    def _is_idle_and_well_filled(self, now_ms: int) -> bool:
        """Chunks of a few samples would be made if every pause between two scrapes led to a flush."""
        if not self._is_idle(now_ms):
            return False
        memory = self._memory
        waiting = memory.buffers.counts.data[: memory.index.count] > 0
        for batch in memory.open_batches:
            waiting[memory.chunks.chunks.partition.data[batch.chunks]] = True
        return self._ingestion.unflushed_samples >= _WELL_FILLED_SAMPLES * int(waiting.sum())

    def take_notices(self) -> list[str]:
        """See Shard.take_notices."""
        return self._clock.take_notices() + self._changes.take_notices()

    def upkeep(self, now_ms: int, wall_ms: int) -> bool:
        """See Shard.upkeep."""
        self._ingestion.check_idle()
        retention_ms = self._clock.observe(wall_ms, now_ms, self._ingestion.newest_sample_ms)
        self._note_rounds(now_ms)
        if self._spec.store.groups_per_shard != self._memory.group_count:
            self._regroup(self._spec.store.groups_per_shard, retention_ms)
            return True
        if not self._owed:
            self._owed = self.due(now_ms)
        if self._owed:
            piece = self._next_piece()
            self._owed = self._owed[len(piece) :]
            self.flush(piece, now_ms, wall_ms)
            self._is_clean = False
            return True
        expired = self._expired(retention_ms)
        if expired:
            self._changes.drop(expired, self._clock.reading)
            self._drop_dead_series()
            self._is_clean = False
            return True
        if self._cardinality.has_refused and self._make_room(now_ms):
            return True
        return self._tidy(now_ms)

    def follower_upkeep(self, now_ms: int) -> bool:
        """See Shard.follower_upkeep."""
        self._note_rounds(now_ms)
        self._changes.evict()
        return self._tidy(now_ms)

    def _note_rounds(self, now_ms: int) -> None:
        if self._ingestion.rounds != self._seen_rounds:
            self._seen_rounds = self._ingestion.rounds
            self._quiet_since_ms = now_ms
            self._is_clean = False

    def _tidy(self, now_ms: int) -> bool:
        if self._is_clean or not self._is_idle(now_ms):
            return False
        self._is_clean = not self._changes.tidy()
        return not self._is_clean

    def _next_piece(self) -> list[int]:
        """As many of the owed groups as make a bounded piece of work."""
        memory = self._memory
        groups = memory.groups_of(np.flatnonzero(memory.buffers.counts.data[: memory.index.count] > 0).astype(np.int32))
        work = np.bincount(groups, minlength=memory.group_count)
        work += np.array([len(batch.chunks) for batch in memory.open_batches]) // _SEALED_PER_BUFFERED
        return self._owed[: max(1, int(np.searchsorted(np.cumsum(work[self._owed]), _PIECE_SERIES, side="right")))]

    # ---- flush

    def flush(self, groups: Iterable[int], now_ms: int, wall_ms: int) -> None:
        """See ShardChanges.flush; with it goes what is expired."""
        chosen = list(groups)
        retention_ms = self._clock.observe(wall_ms, now_ms, self._ingestion.newest_sample_ms)
        self._flush(chosen, retention_ms, group_count=None)
        if self._due_ms is not None and len(self._due_ms) == self._memory.group_count:
            self._due_ms[chosen] = now_ms + self._spec.store.flush_interval_ms

    def _flush(self, groups: list[int], retention_ms: int, group_count: int | None) -> None:
        expired = self._expired(retention_ms)
        self._changes.flush(groups, self._clock.reading, expired, group_count)
        if expired:
            self._drop_dead_series()

    def _regroup(self, group_count: int, retention_ms: int) -> None:
        """The configured number of groups is another than the stored one."""
        self._flush(list(range(self._memory.group_count)), retention_ms, group_count)
        self._due_ms = None

    def flush_unlike_replay(self, now_ms: int, wall_ms: int) -> None:
        """What is stored is enough then for a copy to make what is in memory here."""
        if self._memory.unlike_replay:
            self.flush(sorted(self._memory.unlike_replay), now_ms, wall_ms)

    # ---- retention

    def _expired(self, retention_ms: int) -> list[int]:
        oldest_ms = retention_ms - self._spec.store.disk_time_to_live_ms
        # They are in the order of their writing, and this is asked often: look no further than the first that stays.
        expired = takewhile(lambda item: item[1].written_ms <= oldest_ms, self._memory.batches.items())
        return [batch_id for batch_id, _ in expired]

    def _make_room(self, now_ms: int) -> bool:
        """Series without data must not use a limit up that refuses new ones. True if there were any."""
        if self._room_made_ms is not None and 0 <= now_ms - self._room_made_ms < _MAKE_ROOM_INTERVAL_MS:
            return False
        self._room_made_ms = now_ms
        self._cardinality.has_refused = False
        return self._drop_dead_series(dead_min=1)

    def _drop_dead_series(self, dead_min: int | None = None) -> bool:
        """Series without any sample leave once they are many. True if they did."""
        living = self._changes.living()
        count = len(living)
        dead = count - int(living.sum())
        if dead < (max(_DEAD_MIN, count // _DEAD_SHARE) if dead_min is None else dead_min):
            return False
        self._changes.drop_dead(living)
        return True
