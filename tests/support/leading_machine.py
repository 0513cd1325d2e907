"""A shard that is written to and kept up at random, and tells what it does: what machines of copies begin with."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from shards import NOW_MS, STALE_NAN, container, shard_spec

from filoray.cluster.errors import Unavailable
from filoray.nodes.memstore.replica_entries import ReplicaEntry
from filoray.nodes.memstore.shard import Shard
from filoray.nodes.memstore.shard_spec import ShardSpec

CALENDAR_MS, WINDOW_MS, TTL_MS = 200, 50, 100
SERIES = [{"__name__": "m", "i": str(i), "_ws_": "w", "_ns_": str(i % 3)} for i in range(150)]
VALUES = st.sampled_from([0.0, 1.5, float("nan"), STALE_NAN, 1e300])
TIMES = st.one_of(st.integers(-200, 400), st.sampled_from([-(1 << 34), 1 << 34]))
SAMPLES = st.lists(st.tuples(TIMES, VALUES), min_size=1, max_size=12)
WRITES = st.lists(st.tuples(st.integers(0, len(SERIES) - 1), SAMPLES), min_size=1, max_size=6)


class LeadingMachine(RuleBasedStateMachine):
    """``leader``: whose entries go to ``send``, which with ``begin`` is the machine's own."""

    leader: Shard | None = None

    @initialize(
        chunk_samples=st.sampled_from([2, 7, 240]),
        chunk_time_ms=st.sampled_from([None, 60]),
        groups=st.sampled_from([1, 3]),
        max_future_ms=st.sampled_from([None, 100]),
        series_max=st.sampled_from([40, 1000]),
        label_bytes_max=st.sampled_from([300, 1 << 20]),
        is_streamed=st.booleans(),
    )
    def open(self, chunk_samples, chunk_time_ms, groups, max_future_ms, series_max, label_bytes_max, is_streamed):
        self.is_streamed = is_streamed
        """For machines whose shard may be fed by a stream."""
        self.directory = Path(tempfile.mkdtemp(prefix="shard-machine-"))
        self.store = {
            "out_of_order_window_ms": WINDOW_MS,
            "max_chunks_size": chunk_samples,
            "max_chunk_time_ms": chunk_time_ms,
            "groups_per_shard": groups,
            "decoded_chunk_cache_bytes": 0,
            "max_future_ms": max_future_ms,
            "flush_when_idle_ms": 8,
            "disk_time_to_live_ms": TTL_MS,
            "max_series_per_shard": series_max,
            "label_bytes_max": label_bytes_max,
        }
        self.epoch = 1
        self.now_ms = NOW_MS
        self.begin()

    def begin(self):
        """Open ``leader``."""
        raise NotImplementedError

    def send(self, entry: ReplicaEntry) -> None:
        """What the leader did."""
        raise NotImplementedError

    @property
    def calendar_ms(self):
        return CALENDAR_MS + self.now_ms - NOW_MS

    def spec(self, folder: Path) -> ShardSpec:
        return shard_spec(folder, epoch=self.epoch, **self.store)

    def open_shard(self, folder: Path) -> Shard:
        return Shard.open(self.spec(folder))

    def append(self, containers):
        append_round = self.leader.begin_append(containers, self.calendar_ms)
        if append_round.entry is not None:
            self.send(append_round.entry)
        return self.leader.finish_append(append_round)

    # ---- what happens

    @rule(writes=WRITES)
    def write(self, writes):
        self.append([container([(SERIES[series], samples)]) for series, samples in writes])

    @rule(writes=WRITES)
    def write_in_one_container(self, writes):
        self.append([container([(SERIES[series], samples) for series, samples in writes])])

    @rule(first=st.integers(0, 149), count=st.integers(1, 60), steps=st.integers(1, 20), gap=st.integers(1, 9))
    def scrape(self, first, count, steps, gap):
        chosen = range(first, min(first + count, len(SERIES)))
        times = [self.calendar_ms - gap * step for step in reversed(range(steps))]
        self.append([container([(SERIES[series], [(time, time + 0.5)]) for series in chosen]) for time in times])

    @rule(passed_ms=st.sampled_from([1, 10, 60, 120]))
    def time_passes(self, passed_ms):
        self.now_ms += passed_ms

    @rule(group=st.integers(0, 2))
    def flush(self, group):
        self.leader.flush_group(group % self.leader._memory.group_count, self.now_ms, self.calendar_ms)

    @rule()
    def upkeep(self):
        while self.leader.upkeep(self.now_ms, self.calendar_ms):
            pass

    @rule()
    def all_that_is_stored_expires(self):
        self.now_ms += TTL_MS + 10
        self.upkeep()

    @rule(group=st.integers(0, 2))
    def a_flush_fails(self, group):
        """The disk of the leader is full for a moment."""
        writer = self.leader._store._writer
        (pages,) = writer.execute("PRAGMA page_count").fetchone()
        writer.execute(f"PRAGMA max_page_count = {pages}")
        try:
            self.leader.flush_group(group % self.leader._memory.group_count, self.now_ms, self.calendar_ms)
        except Unavailable:
            pass
        finally:
            writer.execute("PRAGMA max_page_count = 1073741823")

    def teardown(self):
        if self.leader is not None:
            self.end()
            shutil.rmtree(self.directory, ignore_errors=True)

    def end(self):
        """Close all."""
        raise NotImplementedError
