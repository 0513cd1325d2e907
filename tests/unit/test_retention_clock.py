"""Clocks that jump: what the retention clock makes of them, and that a shard drops nothing for a jump."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shards import NOW_MS, STORE, read, shard_spec, write

from filoray.nodes.memstore.shard import Shard
from filoray.nodes.memstore.upkeep.retention_clock import TOLERANCE_MS, ClockReading, RetentionClock

MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
UP = {"__name__": "up", "instance": "a"}
SAMPLES = [(t * 15_000, float(t)) for t in range(40)]


def tick(shard: Shard, now_ms: int, wall_ms: int | None = None) -> None:
    for _ in range(1000):
        if not shard.upkeep(now_ms, wall_ms):
            return
    raise AssertionError("upkeep does not end")


@pytest.fixture
def flushed(tmp_path):
    """A shard, flushed at NOW_MS, when both clocks said so."""
    shard = Shard.open(shard_spec(tmp_path))
    tick(shard, NOW_MS)
    write(shard, UP, SAMPLES)
    shard.flush_all(NOW_MS)
    return shard


@pytest.mark.parametrize(
    ("jump_ms", "said"), [(25 * HOUR_MS, "1d 1h 0m 0s"), (365 * DAY_MS, "365d"), (-365 * DAY_MS, "-365d")]
)
@pytest.mark.parametrize("ticks", [1, 500])
def test_a_clock_that_jumps_while_a_shard_is_open_drops_nothing(flushed, jump_ms, said, ticks):
    for minute in range(ticks):
        now_ms = NOW_MS + minute * MINUTE_MS
        tick(flushed, now_ms, now_ms + jump_ms)
    assert read(flushed, UP) == SAMPLES
    (notice,) = flushed.take_notices()
    assert "the clock jumped by " + said in notice
    tick(flushed, now_ms + MINUTE_MS, now_ms + MINUTE_MS)
    assert read(flushed, UP) == SAMPLES
    assert flushed.take_notices(), "back again: said as well"
    # The time that passed counts, whatever the calendar says.
    tick(flushed, NOW_MS + DAY_MS - 1, now_ms + jump_ms)
    assert read(flushed, UP) == SAMPLES
    tick(flushed, NOW_MS + DAY_MS, now_ms + jump_ms)
    assert read(flushed, UP) == []


def test_what_is_written_under_a_wrong_clock_lives_as_long_as_everything(flushed):
    for jump_ms in (25 * HOUR_MS, -365 * DAY_MS):
        tick(flushed, NOW_MS + HOUR_MS, NOW_MS + HOUR_MS + jump_ms)
        write(flushed, {"i": str(jump_ms)}, SAMPLES)
        flushed.flush_all(NOW_MS + HOUR_MS, NOW_MS + HOUR_MS + jump_ms)
    tick(flushed, NOW_MS + DAY_MS)
    assert flushed.stats().samples == 2 * len(SAMPLES)
    tick(flushed, NOW_MS + DAY_MS + HOUR_MS)
    assert flushed.stats().samples == 0


@pytest.mark.parametrize(
    ("closed_ms", "has_data"),
    [(20 * HOUR_MS, True), (25 * HOUR_MS, False), (3 * DAY_MS, False), (-365 * DAY_MS, True)],
)
def test_a_long_downtime_counts_once_the_clock_has_stood_by_it(flushed, tmp_path, closed_ms, has_data):
    again = Shard.open(shard_spec(tmp_path, epoch=2))
    steady_ms = 5_000  # another process, another machine: it counts from anywhere
    wall_ms = NOW_MS + closed_ms
    for minute in range(60):
        tick(again, steady_ms + minute * MINUTE_MS, wall_ms + minute * MINUTE_MS)
        assert read(again, UP) == SAMPLES
    assert any("the last flush" in notice for notice in again.take_notices())
    tick(again, steady_ms + 61 * MINUTE_MS, wall_ms + 61 * MINUTE_MS)
    assert (read(again, UP) == SAMPLES) == has_data
    if not has_data:
        notices = " ".join(again.take_notices())
        assert "count from now on" in notices
    tick(again, steady_ms + DAY_MS, wall_ms + DAY_MS)
    assert read(again, UP) == []


def open_for(tmp_path, epoch, wall_ms, minutes):
    """The shard, opened at a time of the calendar and kept so for some minutes."""
    shard = Shard.open(shard_spec(tmp_path, epoch=epoch))
    for minute in range(minutes):
        tick(shard, minute * MINUTE_MS, wall_ms + minute * MINUTE_MS)
    shard.flush_all(minutes * MINUTE_MS, wall_ms + minutes * MINUTE_MS)
    shard.close()
    return shard


def test_a_cluster_that_runs_for_less_than_the_wait_at_a_time_forgets_too(flushed, tmp_path):
    for day in range(1, 3):
        shard = open_for(tmp_path, day + 1, NOW_MS + day * DAY_MS, minutes=50)
        assert shard.stats().samples == (len(SAMPLES) if day == 1 else 0)


def test_starts_in_a_row_under_a_wrong_clock_add_up_to_no_more_than_the_time_that_passed(flushed, tmp_path):
    wrong_ms = NOW_MS + 25 * HOUR_MS
    for start in range(10):
        open_for(tmp_path, start + 2, wrong_ms + start * 6 * MINUTE_MS, minutes=5)
    again = Shard.open(shard_spec(tmp_path, epoch=20))
    tick(again, 0, wrong_ms + 59 * MINUTE_MS)
    assert read(again, UP) == SAMPLES
    tick(again, MINUTE_MS, NOW_MS + HOUR_MS)
    again.flush_all(MINUTE_MS, NOW_MS + HOUR_MS)
    put_right = Shard.open(shard_spec(tmp_path, epoch=21))
    for minute in range(0, 20 * 60, 10):
        tick(put_right, minute * MINUTE_MS, NOW_MS + 2 * HOUR_MS + minute * MINUTE_MS)
    assert read(put_right, UP) == SAMPLES


def test_what_is_owed_is_dropped_when_the_calendar_does_not_stand_by_it():
    owed = ClockReading(NOW_MS, NOW_MS, owed_ms=25 * HOUR_MS, owed_since_ms=NOW_MS - MINUTE_MS)
    put_right = RetentionClock(owed, HOUR_MS)
    assert put_right.observe(NOW_MS - 25 * HOUR_MS, 0) == NOW_MS
    assert put_right.observe(NOW_MS - 20 * HOUR_MS, 5 * HOUR_MS) == NOW_MS + 5 * HOUR_MS
    assert put_right.reading.owed_ms == 0
    stands_by_it = RetentionClock(owed, HOUR_MS)
    assert stands_by_it.observe(NOW_MS + 58 * MINUTE_MS, 0) == NOW_MS
    assert stands_by_it.reading.owed_ms == 25 * HOUR_MS + 58 * MINUTE_MS
    assert (
        stands_by_it.observe(NOW_MS + 59 * MINUTE_MS, MINUTE_MS) == NOW_MS + MINUTE_MS + 25 * HOUR_MS + 58 * MINUTE_MS
    )
    assert RetentionClock(owed, HOUR_MS).observe(NOW_MS + 59 * MINUTE_MS, 0) == NOW_MS + 25 * HOUR_MS + 59 * MINUTE_MS


def test_a_short_downtime_counts_at_once(flushed, tmp_path):
    again = Shard.open(shard_spec(tmp_path, epoch=2))
    tick(again, 0, NOW_MS + 30 * MINUTE_MS)
    tick(again, DAY_MS - 30 * MINUTE_MS - 1, NOW_MS)
    assert read(again, UP) == SAMPLES
    tick(again, DAY_MS - 30 * MINUTE_MS, NOW_MS)
    assert read(again, UP) == []


@pytest.mark.parametrize("wrong_ms", [25 * HOUR_MS, 3 * 365 * DAY_MS])
def test_a_clock_that_is_wrong_at_start_and_put_right_soon_drops_nothing(flushed, tmp_path, wrong_ms):
    again = Shard.open(shard_spec(tmp_path, epoch=2))
    for minute in range(50):
        tick(again, minute * MINUTE_MS, NOW_MS + wrong_ms + minute * MINUTE_MS)
    tick(again, 50 * MINUTE_MS, NOW_MS + 50 * MINUTE_MS)
    again.flush_all(50 * MINUTE_MS, NOW_MS + 50 * MINUTE_MS)
    for hour in range(1, 20):
        tick(again, hour * HOUR_MS, NOW_MS + hour * HOUR_MS)
    assert read(again, UP) == SAMPLES
    last = Shard.open(shard_spec(tmp_path, epoch=3))
    tick(last, 0, NOW_MS + 21 * HOUR_MS)
    assert read(last, UP) == SAMPLES


def test_a_clock_far_ahead_of_all_senders_is_not_believed_however_long_it_stays(flushed, tmp_path):
    again = Shard.open(shard_spec(tmp_path, epoch=2))
    for minute in range(100):
        write(again, {"i": "live"}, [(NOW_MS + minute * MINUTE_MS, 1.0)])
        tick(again, minute * MINUTE_MS, NOW_MS + 25 * HOUR_MS + minute * MINUTE_MS)
    assert read(again, UP) == SAMPLES
    assert any("the newest sample that arrived" in notice for notice in again.take_notices())


def test_many_batches_that_go_at_once_are_told_of(tmp_path):
    shard = Shard.open(shard_spec(tmp_path))
    for hour in range(3):
        write(shard, UP, [(hour * HOUR_MS, 1.0)])
        shard.flush_all(NOW_MS + hour * HOUR_MS)
    tick(shard, NOW_MS + HOUR_MS + STORE.disk_time_to_live_ms)
    assert any(
        notice.startswith("dropped 2 of 3 chunk batches, written until 2023-11-14") for notice in shard.take_notices()
    )


moves = st.lists(
    st.tuples(st.integers(0, 2 * DAY_MS), st.integers(-400 * DAY_MS, 400 * DAY_MS)), min_size=1, max_size=30
)


@given(moves, st.integers(-400 * DAY_MS, 0))
def test_while_open_it_goes_forward_by_the_time_that_passed(moves, closed_ms):
    """``closed_ms`` not positive: nothing of the time before counts."""
    clock = RetentionClock(ClockReading(NOW_MS, NOW_MS + 7), HOUR_MS)
    assert clock.observe(NOW_MS + closed_ms, 100) == NOW_MS + 7
    passed_ms = 0
    for step_ms, jump_ms in moves:
        passed_ms += step_ms
        assert clock.observe(NOW_MS + passed_ms + jump_ms, 100 + passed_ms) == NOW_MS + 7 + passed_ms


@given(moves, st.integers(-400 * DAY_MS, 400 * DAY_MS))
def test_it_never_goes_back_and_never_counts_a_gap_that_did_not_last(moves, closed_ms):
    clock = RetentionClock(ClockReading(NOW_MS, NOW_MS), HOUR_MS)
    last_ms, passed_ms, same_since_ms, last_jump_ms = clock.observe(NOW_MS + closed_ms, 0), 0, 0, closed_ms
    for step_ms, jump_ms in moves:
        passed_ms += step_ms
        if abs(jump_ms - last_jump_ms) > TOLERANCE_MS:
            same_since_ms = passed_ms
        last_jump_ms = jump_ms
        now_ms = clock.observe(NOW_MS + passed_ms + jump_ms, passed_ms)
        assert now_ms - last_ms >= step_ms
        if now_ms - last_ms > step_ms + HOUR_MS:
            assert passed_ms - same_since_ms >= HOUR_MS
        last_ms = now_ms
