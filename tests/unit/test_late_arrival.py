"""Samples in any order cost about what sorted ones cost. What is counted is work, not time."""

from __future__ import annotations

import numpy as np
import pytest
from shards import NOW_MS, shard_spec

from filoray.nodes.data.part_key import JoinedPartKeys, encode_part_key, hash_part_keys
from filoray.nodes.data.record_container import RecordContainer
from filoray.nodes.memstore import late_samples
from filoray.nodes.memstore.chunks.chunk_reader import ChunkReader
from filoray.nodes.memstore.late_samples import LateSamples
from filoray.nodes.memstore.shard import Shard

ANY_AGE = {"out_of_order_window_ms": 1 << 62, "max_future_ms": None}
KEYS = [encode_part_key({"__name__": "m", "i": str(i)}) for i in range(3)]
HIGH, LOW = hash_part_keys(KEYS)


def samples_container(times: np.ndarray, series: int = 0, *, one_by_one: bool = False) -> bytes:
    """Samples of one series; ``one_by_one``: as a series of the container for each of them."""
    rows = len(times) if one_by_one else 1
    return RecordContainer(
        np.full(rows, HIGH[series]), np.full(rows, LOW[series]), np.full(rows, len(times) // rows, np.int32),
        times, times.astype(np.float64), np.zeros(1, np.int32), JoinedPartKeys.of([KEYS[series]]),
    ).encode()  # fmt: skip


def times_of(order: str, count: int) -> np.ndarray:
    dice = np.random.default_rng(count)
    return {
        "shuffled": dice.permutation(count),
        "falling": np.arange(count)[::-1].copy(),
        "two combs": np.concatenate([np.arange(0, 2 * count, 4), np.arange(count // 2) * 4 + 1]),
        "first and last first": np.concatenate([[0, 2 * count], dice.permutation(np.arange(1, count - 1))]),
        "50 days apart": np.arange(count) * (50 * 86_400_000),
        "50 days apart, falling": np.arange(count)[::-1] * (50 * 86_400_000),
        "the same again and again": np.zeros(count, np.int64),
    }[order].astype(np.int64) * (1 if "days" in order else 15)


ORDERS = [
    "shuffled", "falling", "two combs", "first and last first", "50 days apart", "50 days apart, falling",
    "the same again and again",
]  # fmt: skip


@pytest.mark.parametrize("one_by_one", [False, True])
@pytest.mark.parametrize("order", ORDERS)
def test_a_container_in_any_order_is_taken_whole(tmp_path, order, one_by_one):
    """So many that anything quadratic would take hours."""
    times = times_of(order, 300_000 if "days" not in order else 30_000)
    shard = Shard.open(shard_spec(tmp_path, **ANY_AGE))
    shard.append([samples_container(times[:1])])
    (result,) = shard.append([samples_container(times, one_by_one=one_by_one)])
    assert (result.accepted, result.refused_count) == (len(times), 0)
    for _ in range(2):
        batch = shard.select([], -1, 1 << 62)
        assert np.array_equal(batch.timestamps, np.unique(times))
        assert np.array_equal(batch.values, batch.timestamps)
        shard.flush_all(NOW_MS)
    assert shard.append([samples_container(times, one_by_one=one_by_one)])[0].accepted == len(times), "no news"
    assert shard.stats().samples == len(np.unique(times))


class Work:
    """Samples merged, and samples decoded for a look whether one is there."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.merged = self.decoded = 0
        merge, read_chunks = late_samples._merged, ChunkReader.read

        def counting_merge(runs):
            merged = merge(runs)
            self.merged += len(merged)
            return merged

        def counting_read(reader, *arguments):
            read = read_chunks(reader, *arguments)
            self.decoded += read[0].total
            return read

        monkeypatch.setattr(late_samples, "_merged", counting_merge)
        monkeypatch.setattr(ChunkReader, "read", counting_read)


def work_of(tmp_path, monkeypatch, count, container_samples, flushes):
    with monkeypatch.context() as patch:
        work = Work(patch)
        shard = Shard.open(shard_spec(tmp_path / str(count), **ANY_AGE))
        times = times_of("shuffled", count)
        pieces = np.array_split(times, count // container_samples)
        for number, piece in enumerate(pieces):
            assert shard.append([samples_container(piece)])[0].accepted == len(piece)
            if number in {len(pieces) * part // (flushes + 1) for part in range(1, flushes + 1)}:
                shard.flush_all(NOW_MS)
        batch = shard.select([], -1, 1 << 62)
        assert np.array_equal(batch.timestamps, np.sort(times))
        shard.close()
        return work


@pytest.mark.parametrize(("container_samples", "flushes"), [(500, 0), (500, 2), (20, 1)])
def test_shuffled_samples_in_many_containers_cost_little_more_each_the_more_there_are(
    tmp_path, monkeypatch, container_samples, flushes
):
    few, many = (work_of(tmp_path, monkeypatch, count, container_samples, flushes) for count in (10_000, 80_000))
    assert many.merged <= 8 * 2 * few.merged, "n log n; the square would be 64 times"
    # Each sample looks into the chunks around it, one of each flush and of the buffer, and no further.
    assert many.decoded <= 80_000 * 240 * (flushes + 1)


def test_late_samples_of_many_arrivals_read_as_one(monkeypatch):
    dice = np.random.default_rng(5)
    pairs = dice.permutation(6_000)
    late = LateSamples()
    for piece in np.array_split(pairs, 300):
        late.add((piece % 40).astype(np.int32), (piece // 40).astype(np.int64), piece.astype(np.float64))
    assert len(late) == 6_000
    assert len(late.runs) < 14
    wanted = np.array([3, 7, 39], np.int32)
    place, times, values = late.read(wanted, 10, 99)
    assert [place.tolist(), times.tolist()] == [
        [row for row in range(3) for _ in range(90)],
        [time for _ in range(3) for time in range(10, 100)],
    ]
    assert np.array_equal(values, times * 40 + wanted[place])
    run = late.all()
    late.drop(run.partitions < 39)
    assert np.array_equal(late.all().partitions, np.full(150, 39))
