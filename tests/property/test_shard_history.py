"""Random writes, flushes, evictions, kills and reads of a shard against a plain dictionary of what was acknowledged."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from shards import NOW_MS, STALE_NAN, bits, container, samples_of, shard_spec

from filoray.nodes.data.matching import LabelMatcher, MatchOp
from filoray.nodes.data.write_outcome import RefusalReason
from filoray.nodes.memstore.shard import Shard

WINDOW_MS = 50
CALENDAR_MS, MAX_FUTURE_MS = 200, 100
SERIES = [{"__name__": "m", "i": str(i), "odd": str(i % 2)} for i in range(150)]
VALUES = st.sampled_from([0.0, -0.0, 1.5, float("inf"), float("nan"), STALE_NAN, 1e300])
SAMPLES = st.lists(st.tuples(st.integers(-200, 400), VALUES), min_size=1, max_size=12)
WRITES = st.lists(st.tuples(st.integers(0, len(SERIES) - 1), SAMPLES), min_size=1, max_size=6)


class Model:
    """What Prometheus's rules make of writes, a sample at a time."""

    def __init__(self):
        self.samples = {}
        self.limit_ms = None

    def write(self, series, time, value):
        """ "accepted", "too_old", "different" or "out_of_bounds"."""
        if self.limit_ms is not None and time > self.limit_ms:
            return "out_of_bounds"
        there = self.samples.setdefault(series, {})
        value = bits(value)
        if time in there:
            return "accepted" if there[time] == value else "different"
        # A series that has samples of the future already takes late ones of any age.
        is_shut = self.limit_ms is not None and there and max(there) > self.limit_ms
        if there and time < max(there) - WINDOW_MS and not is_shut:
            return "too_old"
        there[time] = value
        return "accepted"


class ShardHistory(RuleBasedStateMachine):
    @initialize(chunk_samples=st.sampled_from([2, 7, 240]), groups=st.sampled_from([1, 3]))
    def open(self, chunk_samples, groups):
        self.directory = Path(tempfile.mkdtemp(prefix="shard-history-"))
        self.store = {
            "out_of_order_window_ms": WINDOW_MS,
            "max_chunks_size": chunk_samples,
            "groups_per_shard": groups,
            "decoded_chunk_cache_bytes": 0,
            "max_future_ms": None,
            "flush_when_idle_ms": 8,
        }
        self.epoch = 0
        self.now_ms = NOW_MS
        self.model = Model()
        self.shard = None
        self.kill()

    @rule()
    def kill(self):
        """The process is gone; its file is what it is."""
        self.epoch += 1
        self.shard = Shard.open(shard_spec(self.directory, epoch=self.epoch, **self.store))

    @rule(writes=WRITES)
    def write(self, writes):
        # One by one: the late samples of one container are judged together, after those in order.
        one_by_one = [(series, [sample]) for series, samples in writes for sample in samples]
        for series, samples in one_by_one:
            (time, value) = samples[0]
            expected = self.model.write(series, time, value)
            result = self.append([container([(SERIES[series], samples)])])[0]
            refused = [
                result.refused.get(reason, 0)
                for reason in (RefusalReason.TOO_OLD, RefusalReason.DIFFERENT_VALUE, RefusalReason.OUT_OF_BOUNDS)
            ]
            assert (result.accepted, *refused) == (
                int(expected == "accepted"), int(expected == "too_old"), int(expected == "different"),
                int(expected == "out_of_bounds"),
            )  # fmt: skip

    @property
    def calendar_ms(self):
        return CALENDAR_MS + self.now_ms - NOW_MS

    def append(self, containers):
        return self.shard.append(containers, None, self.calendar_ms)

    @rule(writes=WRITES)
    def write_unsorted(self, writes):
        """Containers whose samples come in any order: the answer tells what was taken, and must keep telling it."""
        before = self.expected(-(1 << 60), 1 << 60)
        results = self.append([container([(SERIES[series], samples)]) for series, samples in writes])
        after = samples_of(self.shard.select([], -(1 << 60), 1 << 60))
        for labels, samples in before.items():
            assert set(samples) <= set(after[labels])
        sent = {(series, time, bits(value)) for series, samples in writes for time, value in samples}
        number = {tuple(sorted(labels.items())): series for series, labels in enumerate(SERIES)}
        for labels, samples in after.items():
            fresh = set(samples) - set(before.get(labels, []))
            assert {(number[labels], time, value) for time, value in fresh} <= sent
            self.model.samples[number[labels]] = dict(samples)
        refused = sum(result.refused_count for result in results)
        assert sum(result.accepted for result in results) + refused == sum(len(samples) for _, samples in writes)
        if not refused:
            assert all((time, value) in after[tuple(sorted(SERIES[i].items()))] for i, time, value in sent)

    @rule(first=st.integers(0, 149), count=st.integers(1, 60), steps=st.integers(1, 20), gap=st.integers(1, 9))
    def scrape(self, first, count, steps, gap):
        """Rising times for many series at once, all in one commit."""
        chosen = range(first, min(first + count, len(SERIES)))
        start = max([max(self.model.samples.get(series, {0: b""})) for series in chosen])
        times = [start + gap * (step + 1) for step in range(steps)]
        if self.model.limit_ms is not None and times[-1] > self.model.limit_ms:
            return
        containers = [
            container([(SERIES[series], [(time, float(time + series))]) for series in chosen]) for time in times
        ]
        for result in self.append(containers):
            assert result.accepted == len(chosen)
        for series in chosen:
            for time in times:
                assert self.model.write(series, time, float(time + series)) == "accepted"

    @rule(group=st.integers(0, 2))
    def flush(self, group):
        self.now_ms += 1
        self.shard.flush_group(group % self.shard._memory.group_count, self.now_ms, self.calendar_ms)

    @rule()
    def upkeep_in_quiet(self):
        for _ in range(3):
            while self.shard.upkeep(self.now_ms, self.calendar_ms):
                pass
            self.now_ms += 10

    @rule()
    def evict(self):
        """As past the memory budget."""
        memory = self.shard._memory
        for batch in list(memory.resident):
            memory.drop_resident(batch)

    @rule()
    def regroup(self):
        self.store["groups_per_shard"] = 4 - self.store["groups_per_shard"]
        self.kill()

    @rule()
    def limit_the_future(self):
        """Or no more; what is there of it stays."""
        self.store["max_future_ms"] = MAX_FUTURE_MS if self.store["max_future_ms"] is None else None
        self.kill()

    @rule(start=st.integers(-250, 600), length=st.integers(0, 300), odd=st.sampled_from(["0", "1"]))
    def read_some(self, start, length, odd):
        found = samples_of(self.shard.select([LabelMatcher("odd", MatchOp.EQUAL, odd)], start, start + length))
        assert found == self.expected(start, start + length, odd)

    @invariant()
    def the_future_begins_later(self):
        if getattr(self, "shard", None) is not None:
            is_limited = self.store["max_future_ms"] is not None
            self.model.limit_ms = self.calendar_ms + MAX_FUTURE_MS if is_limited else None

    @invariant()
    def everything_acknowledged_is_answered_once(self):
        if getattr(self, "shard", None) is not None:
            batch = self.shard.select([], -(1 << 60), 1 << 60)
            assert batch.warnings == ()
            assert samples_of(batch) == self.expected(-(1 << 60), 1 << 60)
            assert int(np.diff(batch.offsets).sum()) == self.shard.stats().samples

    def expected(self, start, end, odd=None):
        found = {}
        for series, samples in self.model.samples.items():
            chosen = sorted((time, value) for time, value in samples.items() if start <= time <= end)
            if chosen and odd in (None, SERIES[series]["odd"]):
                found[tuple(sorted(SERIES[series].items()))] = chosen
        return found

    def teardown(self):
        if getattr(self, "shard", None) is not None:
            self.shard.close()
            shutil.rmtree(self.directory, ignore_errors=True)


ShardHistory.TestCase.settings = settings(
    max_examples=30, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
TestShardHistory = ShardHistory.TestCase
