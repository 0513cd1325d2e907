"""Samples ahead of the clock: refused past max-future-time, and what is in a shard already shuts nothing."""

from __future__ import annotations

import pytest
from shards import NOW_MS, STORE, container, read, shard_spec, write

from filoray.nodes.data.record_container import RecordContainer
from filoray.nodes.data.write_outcome import RefusalReason
from filoray.nodes.memstore.shard import Shard
from filoray.nodes.streams.record_batches import without_later_samples

MINUTE_MS, HOUR_MS = 60_000, 3_600_000
UP = {"__name__": "up", "instance": "a"}
OTHER = {"__name__": "other", "instance": "b"}


def append(shard: Shard, series: list, now_ms: int = NOW_MS, **options: bool):
    return shard.append([container(series, **options)], None, now_ms)[0]


@pytest.mark.parametrize(
    ("ahead_ms", "is_taken"), [(0, True), (10 * MINUTE_MS, True), (10 * MINUTE_MS + 1, False), (1 << 61, False)]
)
@pytest.mark.parametrize("is_known", [True, False])
def test_a_sample_more_than_ten_minutes_ahead_is_refused_and_the_rest_is_kept(tmp_path, ahead_ms, is_taken, is_known):
    shard = Shard.open(shard_spec(tmp_path))
    if is_known:
        append(shard, [(UP, [(NOW_MS - MINUTE_MS, 0.0)])])
    result = append(shard, [(OTHER, [(NOW_MS, 5.0)]), (UP, [(NOW_MS - 5, 1.0), (NOW_MS + ahead_ms, 2.0)])])
    assert (result.accepted, result.refused.get(RefusalReason.OUT_OF_BOUNDS, 0)) == (2 + is_taken, 1 - is_taken)
    assert result.refused == ({} if is_taken else {"out of bounds": 1})
    for opened in (shard, Shard.open(shard_spec(tmp_path, epoch=2))):
        assert (NOW_MS - 5, 1.0) in read(opened, UP)
        assert ((NOW_MS + ahead_ms, 2.0) in read(opened, UP)) == is_taken
        assert read(opened, OTHER) == [(NOW_MS, 5.0)]
    if not is_taken:
        assert 'up{instance="a"}: the sample 2.0 at ' in result.example
        assert "is out of bounds: " in result.example
        assert "ahead of the clock here, 2023-11-14 22:13:20 UTC; max-future-time allows 10m 0s" in result.example


def test_a_series_of_the_future_only_is_not_made_and_its_key_not_asked_for(tmp_path):
    shard = Shard.open(shard_spec(tmp_path))
    for with_keys in (True, False):
        result = append(shard, [(UP, [(NOW_MS + HOUR_MS, 1.0)])], with_keys=with_keys)
        assert (result.accepted, result.refused_count) == (0, 1)
    assert shard.stats().series == 0
    assert append(shard, [(UP, [(NOW_MS, 1.0)]), (OTHER, [(NOW_MS + HOUR_MS, 1.0)])]).accepted == 1
    assert shard.stats().series == 1


def test_seconds_taken_for_milliseconds_and_a_clock_put_right_shut_nothing(tmp_path):
    shard = Shard.open(shard_spec(tmp_path))
    for time_ms, accepted in [
        (NOW_MS - 30_000, 1), (NOW_MS * 1000, 0), (NOW_MS - 15_000, 1), (NOW_MS + HOUR_MS, 0), (NOW_MS - 10_000, 1),
        (NOW_MS, 1),
    ]:  # fmt: skip
        assert append(shard, [(UP, [(time_ms, 1.0)])]).accepted == accepted
    assert [time for time, _ in read(shard, UP)] == [NOW_MS - 30_000, NOW_MS - 15_000, NOW_MS - 10_000, NOW_MS]


def test_what_comes_from_a_stream_is_taken_whatever_its_time_and_shuts_nothing(tmp_path):
    shard = Shard.open(shard_spec(tmp_path))
    times = [NOW_MS - 30_000, NOW_MS * 1000, NOW_MS - 15_000, NOW_MS + HOUR_MS, NOW_MS - 10_000, NOW_MS]
    for offset, time_ms in enumerate(times):
        (result,) = shard.append([container([(UP, [(time_ms, 1.0)])])], [offset], NOW_MS)
        assert (result.accepted, result.refused_count) == (1, 0)
    assert [time for time, _ in read(shard, UP)] == sorted(times)


def test_without_a_limit_all_times_are_taken(tmp_path):
    shard = Shard.open(shard_spec(tmp_path, max_future_ms=None))
    assert append(shard, [(UP, [(NOW_MS, 1.0), (1 << 62, 2.0)])]).accepted == 2


def test_a_clock_that_was_set_back_refuses_nothing_of_now(tmp_path):
    shard = Shard.open(shard_spec(tmp_path))
    shard.upkeep(0, NOW_MS)
    shard.upkeep(HOUR_MS, NOW_MS - 365 * 24 * HOUR_MS)
    result = append(shard, [(UP, [(NOW_MS + HOUR_MS, 1.0)])], NOW_MS - 365 * 24 * HOUR_MS)
    assert result.accepted == 1
    shard.flush_all(HOUR_MS, NOW_MS - 365 * 24 * HOUR_MS)
    again = Shard.open(shard_spec(tmp_path, epoch=2))
    assert append(again, [(UP, [(NOW_MS + HOUR_MS + 1, 1.0)])], NOW_MS - 365 * 24 * HOUR_MS).accepted == 1


@pytest.mark.parametrize("future_ms", [NOW_MS + HOUR_MS, NOW_MS * 1000])
@pytest.mark.parametrize("is_flushed", [True, False])
def test_a_series_that_is_shut_opens_again(tmp_path, future_ms, is_flushed):
    """As a version without the limit, or an import, left it."""
    before = Shard.open(shard_spec(tmp_path, max_future_ms=None))
    write(before, UP, [(NOW_MS - 2 * HOUR_MS, 0.0)])
    write(before, UP, [(future_ms, 9.0)])
    write(before, OTHER, [(NOW_MS - 15_000, 0.0)])
    if is_flushed:
        before.flush_all(NOW_MS - HOUR_MS)
    shard = Shard.open(shard_spec(tmp_path, epoch=2))
    written = [(NOW_MS + step * 15_000, float(step)) for step in range(40)]
    for time_ms, value in written:
        assert append(shard, [(UP, [(time_ms, value)]), (OTHER, [(time_ms, value)])], time_ms).refused_count == 0
        assert append(shard, [(UP, [(time_ms, value)])], time_ms).accepted == 1, "again is no news"
    assert append(shard, [(UP, [(NOW_MS, 77.0)])]).refused.get(RefusalReason.DIFFERENT_VALUE, 0) == 1
    assert append(shard, [(OTHER, [(NOW_MS - 30 * MINUTE_MS, 1.0)])]).refused.get(RefusalReason.TOO_OLD, 0) == 1, (
        "others keep their window"
    )
    expected = [(NOW_MS - 2 * HOUR_MS, 0.0), *written, (future_ms, 9.0)]
    assert read(shard, UP) == expected
    # Killed here; long after, when the clock says that nothing was of the future, all that was acknowledged is there.
    for epoch in (3, 4):
        again = Shard.open(shard_spec(tmp_path, epoch=epoch))
        assert read(again, UP) == expected
        again.flush_all(NOW_MS)
    assert read(again, UP) == expected


def test_once_the_future_is_forgotten_its_series_is_as_any_other(tmp_path):
    before = Shard.open(shard_spec(tmp_path, max_future_ms=None))
    write(before, UP, [(NOW_MS * 1000, 9.0)])
    before.flush_all(NOW_MS)
    shard = Shard.open(shard_spec(tmp_path, epoch=2))
    append(shard, [(UP, [(NOW_MS, 1.0)])])
    assert len(shard._memory.late) == 1
    shard.flush_all(NOW_MS)
    later_ms = NOW_MS + STORE.disk_time_to_live_ms // 2
    append(shard, [(UP, [(later_ms, 2.0)])], later_ms)
    shard.flush_all(later_ms)
    while shard.upkeep(NOW_MS + STORE.disk_time_to_live_ms):
        pass
    assert read(shard, UP) == [(later_ms, 2.0)]
    assert append(shard, [(UP, [(later_ms + 1, 3.0)])], later_ms).accepted == 1
    assert len(shard._memory.late) == 0, "it is appended, not looked up"


def test_what_goes_to_a_topic_leaves_the_future_out():
    sent = container([(UP, [(1, 1.0), (50, 2.0)]), (OTHER, [(60, 3.0)]), ({"x": "y"}, [(2, 4.0)])])
    kept = without_later_samples(RecordContainer.decode(sent), 10)
    assert kept.encode() == container([(UP, [(1, 1.0)]), ({"x": "y"}, [(2, 4.0)])])
    assert without_later_samples(kept, 10) is kept
