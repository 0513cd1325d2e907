"""Random writes and upkeep of a leader: its followers, from the start and joined in the middle, have what it has.

Of a shard that is fed by a stream each copy takes the messages from there, and only those that the topic has kept.
"""

import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from shards import ALL_TIME, NOW_MS, STALE_NAN, container, samples_of, shard_spec

from filoray.cluster.errors import Unavailable
from filoray.nodes.memstore.replica_entries import StreamedEntry, decode_entry, encode_entry
from filoray.nodes.memstore.shard import Shard
from filoray.nodes.memstore.store.copy_checksums import differences, stored_checksums
from filoray.nodes.memstore.store.snapshot import SnapshotFile

CALENDAR_MS, WINDOW_MS, TTL_MS = 200, 50, 100
SERIES = [{"__name__": "m", "i": str(i), "_ws_": "w", "_ns_": str(i % 3)} for i in range(150)]
VALUES = st.sampled_from([0.0, 1.5, float("nan"), STALE_NAN, 1e300])
TIMES = st.one_of(st.integers(-200, 400), st.sampled_from([-(1 << 34), 1 << 34]))
SAMPLES = st.lists(st.tuples(TIMES, VALUES), min_size=1, max_size=12)
WRITES = st.lists(st.tuples(st.integers(0, len(SERIES) - 1), SAMPLES), min_size=1, max_size=6)


class ReplicaCopies(RuleBasedStateMachine):
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
        self.topic = {}
        """Messages by offset."""
        self.next_offset = 0
        self.directory = Path(tempfile.mkdtemp(prefix="replica-copies-"))
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
        self.copies = 0
        self.now_ms = NOW_MS
        self.followers = []
        self.leader = self.new_shard()
        self.leader.on_entry = self.send
        self.followers.append(self.new_shard())

    def new_shard(self):
        self.copies += 1
        return self.open_shard(self.directory / str(self.copies))

    def open_shard(self, folder):
        return Shard.open(shard_spec(folder, epoch=self.epoch, **self.store))

    @property
    def calendar_ms(self):
        return CALENDAR_MS + self.now_ms - NOW_MS

    def send(self, entry):
        received = decode_entry(encode_entry(entry), "an entry")
        assert received == entry
        for follower in self.followers:
            self.follow(follower, received)

    def follow(self, follower, entry):
        messages = [self.topic[offset] for offset in entry.offsets] if isinstance(entry, StreamedEntry) else []
        follower.follow(entry, messages)

    def append(self, containers):
        offsets = None
        if self.is_streamed:
            offsets = [self.next_offset + 2 * index for index in range(len(containers))]  # what is between is no data
            self.next_offset = offsets[-1] + 2
            self.topic.update(zip(offsets, containers, strict=True))
        append_round = self.leader.begin_append(containers, self.calendar_ms, offsets)
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

    @rule()
    def follower_upkeep(self):
        for follower in self.followers:
            follower.follower_upkeep(self.now_ms)
            while follower.follower_upkeep(self.now_ms + 10):
                pass

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

    @precondition(lambda self: self.is_streamed)
    @rule()
    def the_topic_forgets_what_is_in_chunks(self):
        self.topic = {offset: data for offset, data in self.topic.items() if offset >= self.leader.resume_offset}

    @precondition(lambda self: len(self.followers) < 3)
    @rule(bytes_max=st.sampled_from([1, 500, 1 << 20]))
    def one_joins(self, bytes_max):
        self.copies += 1
        self.join(self.directory / str(self.copies), bytes_max)

    @precondition(lambda self: self.followers)
    @rule(bytes_max=st.sampled_from([1, 500, 1 << 20]), writes=WRITES)
    def one_joins_anew(self, bytes_max, writes):
        """It missed something."""
        follower = self.followers.pop(0)
        self.write(writes)
        self.upkeep()
        follower.close()
        self.join(follower.spec.path.parent, bytes_max)

    def join(self, folder, bytes_max):
        path = shard_spec(folder).path
        joining = SnapshotFile(path, self.epoch, "process")
        snapshot = self.leader.snapshot(self.now_ms, self.calendar_ms)
        held = joining.held()
        missed = []
        tell, self.leader.on_entry = self.leader.on_entry, lambda entry: (self.send(entry), missed.append(entry))
        for piece in snapshot.pieces(bytes_max, without=held):
            joining.add(piece)
            if len(missed) < 3:
                self.now_ms += 1
                self.leader.flush_all(self.now_ms, self.calendar_ms)
        snapshot.close()
        joining.install()
        self.leader.on_entry = tell
        self.followers.append(self.open_shard(folder))
        for entry in missed:
            self.follow(self.followers[-1], entry)

    @precondition(lambda self: self.followers)
    @rule()
    def one_leads(self):
        self.agree()
        self.leader.close()
        self.epoch += 1
        self.leader = self.followers.pop()
        self.leader.promote(self.epoch)
        self.leader.on_entry = self.send
        self.all_join_anew()

    @rule(max_future_ms=st.sampled_from([None, 100]))
    def the_leader_is_opened_anew(self, max_future_ms):
        """After a change of the configuration: samples of the future may be there that would not be taken now."""
        self.store["max_future_ms"] = max_future_ms
        self.epoch += 1
        self.leader.close()
        self.leader = self.open_shard(self.leader.spec.path.parent)
        for offset in sorted(offset for offset in self.topic if offset >= self.leader.resume_offset):
            self.leader.append([self.topic[offset]], [offset], self.calendar_ms)
        self.leader.on_entry = self.send
        self.all_join_anew()

    def all_join_anew(self):
        folders = [follower.spec.path.parent for follower in self.followers]
        for follower in self.followers:
            follower.close()
        self.followers = []
        for folder in folders:
            self.join(folder, 500)

    # ---- what must hold

    @invariant()
    def all_answer_the_same(self):
        if getattr(self, "leader", None) is not None:
            expected = samples_of(self.leader.select([], *ALL_TIME))
            for follower in self.followers:
                assert samples_of(follower.select([], *ALL_TIME)) == expected
                assert follower.stats().next_offset == self.leader.stats().next_offset
                assert follower.stream_offset == self.leader.stream_offset
                assert follower.stats().series == self.leader.stats().series
                assert follower.stats().buffered_samples == self.leader.stats().buffered_samples
                assert follower.figures().unflushed_samples == self.leader.figures().unflushed_samples

    def agree(self):
        leader = stored_checksums(self.leader.spec.path)
        for follower in self.followers:
            assert differences(leader, stored_checksums(follower.spec.path)) == []
            assert follower.damages == ()

    def teardown(self):
        if getattr(self, "leader", None) is not None:
            self.leader.flush_all(self.now_ms, self.calendar_ms)
            self.all_answer_the_same()
            self.agree()
            for shard in [self.leader, *self.followers]:
                shard.close()
            shutil.rmtree(self.directory, ignore_errors=True)


ReplicaCopies.TestCase.settings = settings(
    max_examples=30, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
TestReplicaCopies = ReplicaCopies.TestCase
