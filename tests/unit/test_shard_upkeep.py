"""Flushing, paging, retention and the forgetting of series."""

import numpy as np
import pytest
from shards import NOW_MS, STORE, container, matching, read, shard_spec, write

from filoray.nodes.data.write_outcome import RefusalReason
from filoray.nodes.memstore.shard import Shard

UP = {"__name__": "up", "instance": "a"}
HOUR_MS = 3_600_000


def until_done(shard: Shard, now_ms: int) -> None:
    for _ in range(1000):
        if not shard.upkeep(now_ms):
            return
    raise AssertionError("upkeep does not end")


def series(count: int, samples: int, first: int = 0) -> bytes:
    values = np.random.default_rng(first).normal(size=samples)
    return container(
        [
            ({"__name__": "m", "i": str(i)}, [(t * 15_000, round(values[t], 2) + i) for t in range(samples)])
            for i in range(first, first + count)
        ]
    )


def test_a_flush_moves_samples_from_the_log_into_chunks_and_answers_stay_the_same(tmp_path):
    shard = Shard.open(shard_spec(tmp_path))
    shard.append([series(300, 250)])
    before = shard.select([], 0, 1 << 40)
    assert shard.stats().log_bytes > 300 * 250 * 8
    shard.flush_all(NOW_MS)
    stats = shard.stats()
    assert (stats.log_bytes, stats.buffered_samples, stats.samples) == (0, 0, 300 * 250)
    for opened in (shard, Shard.open(shard_spec(tmp_path, epoch=2))):
        after = opened.select([], 0, 1 << 40)
        assert after.labels.label_sets() == before.labels.label_sets()
        assert np.array_equal(after.values, before.values)
        assert np.array_equal(after.timestamps, before.timestamps)


@pytest.mark.parametrize(
    ("limits", "chunks"),
    [
        ({}, [(0, 119), (120, 239), (240, 249)]),
        ({"max_chunks_size": 400}, [(0, 239), (240, 249)]),
        ({"max_chunk_time_ms": 900_000}, [(0, 60), (61, 119), (120, 180), (181, 239), (240, 249)]),
        ({"max_chunk_time_ms": 900_000, "max_chunks_size": 50}, [*((50 * i, 50 * i + 49) for i in range(5))]),
        ({"max_chunk_time_ms": 1 << 62}, [(0, 119), (120, 239), (240, 249)]),
    ],
)
def test_a_chunk_has_at_most_so_many_samples_and_so_much_time(tmp_path, limits, chunks):
    shard = Shard.open(shard_spec(tmp_path, **{"max_chunks_size": 120, **limits}))
    for start in range(0, 250, 10):
        write(shard, UP, [(t * 15_000, float(t)) for t in range(start, start + 10)])
    shard.flush_all(NOW_MS)
    times = shard._memory.chunks.times
    spans = zip(times.first_ms.data[: times.count].tolist(), times.last_ms.data[: times.count].tolist(), strict=True)
    assert [(first // 15_000, last // 15_000) for first, last in spans] == chunks
    assert read(shard, UP) == [(t * 15_000, float(t)) for t in range(250)]


def test_groups_are_flushed_in_turn_once_per_interval(tmp_path):
    shard = Shard.open(shard_spec(tmp_path))
    write(shard, UP, [(1, 1.0)])
    due = [shard.flush_due(NOW_MS + quarter * HOUR_MS // 4) for quarter in range(5)]
    assert due == [[], [0], [0, 1], [0, 1, 2], [0, 1, 2, 3]]
    shard.flush_group(0, NOW_MS + HOUR_MS // 4)
    assert shard.flush_due(NOW_MS + HOUR_MS) == [1, 2, 3]
    assert shard.stats().log_bytes == 0


def test_a_group_that_waits_keeps_its_part_of_the_log(tmp_path):
    shard = Shard.open(shard_spec(tmp_path))
    shard.append([series(200, 3)])  # four groups
    shard.flush_group(0, NOW_MS)
    shard.append([series(200, 2, first=200)])
    shard.flush_group(1, NOW_MS)
    assert shard.stats().log_bytes > 0
    expected = shard.select([], 0, 1 << 40)
    again = Shard.open(shard_spec(tmp_path, epoch=2)).select([], 0, 1 << 40)
    assert np.array_equal(expected.values, again.values)
    assert np.array_equal(expected.offsets, again.offsets)


def test_a_quiet_shard_flushes_well_filled_buffers_and_gives_disk_space_back(tmp_path):
    shard = Shard.open(shard_spec(tmp_path))
    for _ in range(20):
        shard.append([series(200, 120)])  # the same again: log grows, memory does not
    size_before = sum(file.stat().st_size for file in tmp_path.iterdir())
    until_done(shard, NOW_MS)
    assert shard.stats().buffered_samples == 24_000
    until_done(shard, NOW_MS + 6_000)
    assert (shard.stats().buffered_samples, shard.stats().log_bytes) == (0, 0)
    until_done(shard, NOW_MS + 7_000)
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < size_before / 10


def test_a_pause_between_two_scrapes_makes_no_tiny_chunks(tmp_path):
    shard = Shard.open(shard_spec(tmp_path))
    for minute in range(5):
        write(shard, UP, [(minute * 60_000, 1.0)])
        until_done(shard, NOW_MS + minute * 60_000)
        until_done(shard, NOW_MS + minute * 60_000 + 30_000)
    assert shard.stats().chunks == 0


def test_a_long_log_makes_all_groups_due(tmp_path):
    shard = Shard.open(shard_spec(tmp_path, log_bytes_max=10_000))
    shard.append([series(2, 700)])
    assert shard.flush_due(NOW_MS) == [0, 1, 2, 3]
    until_done(shard, NOW_MS)
    assert shard.stats().log_bytes == 0


def test_past_the_memory_budget_flushed_chunks_are_paged_in_on_demand(tmp_path):
    shard = Shard.open(shard_spec(tmp_path, shard_mem_bytes=700_000, decoded_chunk_cache_bytes=1 << 16))
    for part in range(3):
        shard.append([series(400, 240, first=400 * part)])
        shard.flush_all(NOW_MS)
    stats = shard.stats()
    assert stats.resident_chunk_bytes < stats.stored_bytes
    assert stats.memory_bytes < 750_000
    batch = shard.select([], 0, 1 << 40)
    assert (batch.labels.count, len(batch.values), batch.warnings) == (1200, 1200 * 240, ())
    assert shard.stats().cache_bytes < 1 << 18
    expected = np.random.default_rng(800).normal(size=240)
    one = shard.select(matching(i="801"), 0, 1 << 40)
    assert np.array_equal(one.values, np.array([round(v, 2) + 801 for v in expected]))


def test_chunks_that_wait_for_their_flush_outlive_the_drop_of_older_batches(tmp_path):
    shard = Shard.open(shard_spec(tmp_path, max_chunks_size=10))
    shard.append([series(5, 25)])
    shard.flush_all(NOW_MS)
    later = [({"__name__": "m", "i": str(i)}, [(t * 15_000, t + i / 10) for t in range(25, 60)]) for i in range(5)]
    shard.append([container(later)])
    until_done(shard, NOW_MS + STORE.disk_time_to_live_ms)
    assert len(shard._memory.batches) == 0
    shard.append([container([(labels, [(60 * 15_000, 1.0)]) for labels, _ in later])])
    shard.flush_all(NOW_MS + STORE.disk_time_to_live_ms)
    for opened in (shard, Shard.open(shard_spec(tmp_path, epoch=2, max_chunks_size=10))):
        for labels, samples in later:
            assert read(opened, labels) == [*samples, (60 * 15_000, 1.0)]


def test_retention_counts_from_writing_and_dead_series_leave_index_and_store(tmp_path):
    shard = Shard.open(shard_spec(tmp_path))
    shard.append([series(100, 5)])
    shard.flush_all(NOW_MS)
    later_ms = NOW_MS + STORE.disk_time_to_live_ms // 2
    shard.append([series(20, 6, first=100)])
    write(shard, {"__name__": "m", "i": "7"}, [(75_000, 5.0)])
    shard.flush_all(later_ms)
    until_done(shard, NOW_MS + STORE.disk_time_to_live_ms - 1)
    assert shard.stats().series == 120
    until_done(shard, NOW_MS + STORE.disk_time_to_live_ms)
    assert (shard.stats().series, shard.stats().samples) == (21, 121)
    for opened in (shard, Shard.open(shard_spec(tmp_path, epoch=2))):
        assert opened.stats().series == 21
        assert read(opened, {"i": "7"}) == [(75_000, 5.0)]
        assert len(opened.label_values("i", [], 0, 1 << 40)) == 21
        assert opened.label_values("i", [], 0, 60_000) == sorted(str(i) for i in range(100, 120))
    returned = Shard.open(shard_spec(tmp_path, epoch=3))
    assert returned.append([series(100, 5)])[0].accepted == 500
    assert len(Shard.open(shard_spec(tmp_path, epoch=4)).select([], 0, 1 << 40).values) == 121 + 500


@pytest.mark.parametrize(
    ("limits", "dead"),
    [({"max_series_per_shard": 30}, 30), ({"max_namespace_series_per_shard": 10}, 10)],
)
def test_series_without_data_make_room_where_a_limit_refuses_new_ones(tmp_path, limits, dead):
    shard = Shard.open(shard_spec(tmp_path, **limits))

    def of_namespace(name, first, count):
        rows = [({"__name__": "m", "_ws_": "w", "_ns_": name, "i": str(first + i)}, [(1, 1.0)]) for i in range(count)]
        return container(rows)

    shard.append([of_namespace("short lived", 0, dead)])
    shard.flush_all(NOW_MS)
    later_ms = NOW_MS + STORE.disk_time_to_live_ms
    until_done(shard, later_ms)
    assert shard.stats().samples == 0, "so few that they stay in the index for now"
    assert shard.append([of_namespace("short lived", 500, 5)])[0].refused.get(RefusalReason.OVER_LIMIT, 0) == 5
    until_done(shard, later_ms)
    assert shard.append([of_namespace("short lived", 500, 5)])[0].accepted == 5
    assert shard.stats().series == 5
    again = Shard.open(shard_spec(tmp_path, epoch=2, **limits))
    assert again.label_values("i", [], 0, 10) == [str(500 + i) for i in range(5)]


def test_only_the_rows_of_dead_series_are_written_anew(tmp_path):
    shard = Shard.open(shard_spec(tmp_path))
    for first in (0, 200, 400):
        shard.append([series(200, 2, first=first)])
        shard.flush_all(NOW_MS + first)
    before = {row.row_id: row.data for row in shard._store.part_keys()}
    until_done(shard, NOW_MS + STORE.disk_time_to_live_ms)
    assert shard.stats().series == 400
    assert [(row.row_id, row.data) for row in shard._store.part_keys()] == list(before.items())[1:]


@pytest.mark.parametrize("groups", [1, 7])
def test_another_number_of_groups_takes_effect_without_loss(tmp_path, groups):
    shard = Shard.open(shard_spec(tmp_path))
    shard.append([series(200, 3)])
    shard.flush_group(1, NOW_MS)
    again = Shard.open(shard_spec(tmp_path, epoch=2, groups_per_shard=groups))
    until_done(again, NOW_MS)
    again.append([series(200, 4)])
    again.flush_group(0, NOW_MS)
    last = Shard.open(shard_spec(tmp_path, epoch=3, groups_per_shard=groups))
    assert len(last.select([], 0, 1 << 40).values) == 800


def test_memory_and_disk_stay_flat_under_series_churn(tmp_path):
    store = {"disk_time_to_live_ms": 4 * HOUR_MS, "shard_mem_bytes": 1 << 20}
    shard = Shard.open(shard_spec(tmp_path, **store))
    seen = []
    for hour in range(24):
        shard.append([series(300, 60, first=300 * hour)])
        now_ms = NOW_MS + hour * HOUR_MS
        until_done(shard, now_ms)
        until_done(shard, now_ms + HOUR_MS // 2)
        stats = shard.stats()
        seen.append((stats.memory_bytes, sum(file.stat().st_size for file in tmp_path.iterdir()), stats.series))
    settled, last = np.max(seen[8:14], axis=0), np.max(seen[18:], axis=0)
    assert (last <= settled * 1.1).all(), seen
