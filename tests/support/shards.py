"""Shards and record containers for tests, built from plain label sets and samples."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from filoray.cluster.config.store_config import StoreConfig
from filoray.nodes.data.matching import LabelMatcher, MatchOp
from filoray.nodes.data.part_key import JoinedPartKeys, encode_part_key, hash_part_keys
from filoray.nodes.data.record_container import RecordContainer
from filoray.nodes.data.series_batch import SeriesBatch
from filoray.nodes.data.write_outcome import WriteOutcome
from filoray.nodes.memstore.shard import Shard
from filoray.nodes.memstore.shard_spec import ShardSpec

Labels = Mapping[str, str]
Sample = tuple[int, float]
NOW_MS = 1_700_000_000_000
ALL_TIME = (np.iinfo(np.int64).min, np.iinfo(np.int64).max)

STORE = StoreConfig(
    flush_interval_ms=3_600_000,
    disk_time_to_live_ms=86_400_000,
    max_chunks_size=240,
    max_chunk_time_ms=None,
    groups_per_shard=4,
    shard_mem_bytes=64 << 20,
    max_data_per_shard_query_bytes=1 << 40,
    out_of_order_window_ms=600_000,
    durability="process",
    max_series_per_shard=1_000_000,
    decoded_chunk_cache_bytes=1 << 20,
    max_workspace_series_per_shard=2_000_000,
    max_namespace_series_per_shard=2_000_000,
    flush_when_idle_ms=5_000,
    clock_jump_wait_ms=3_600_000,
    max_future_ms=600_000,
    label_bytes_max=256 << 20,
    log_size_bytes_max=512 << 20,
)


def shard_spec(path: Path, *, epoch: int = 1, log_bytes_max: int = 64 << 20, **store: object) -> ShardSpec:
    """Keyword arguments beyond the named ones replace settings of ``STORE``."""
    config = replace(STORE, **store)  # type: ignore[arg-type]
    return ShardSpec("prom", 3, epoch, path / "shard-3.db", config, log_bytes_max=log_bytes_max)


def container(series: Sequence[tuple[Labels, Sequence[Sample]]], *, with_keys: bool = True) -> bytes:
    keys = [encode_part_key(labels) for labels, _ in series]
    high, low = hash_part_keys(keys)
    samples = [sample for _, of_series in series for sample in of_series]
    sent = keys if with_keys else []
    return RecordContainer(
        high,
        low,
        np.array([len(of_series) for _, of_series in series], np.int32),
        np.array([time for time, _ in samples], np.int64),
        np.array([value for _, value in samples], np.float64),
        np.arange(len(sent), dtype=np.int32),
        JoinedPartKeys.of(sent),
    ).encode()


def write(shard: Shard, labels: Labels, samples: Sequence[Sample]) -> WriteOutcome:
    return shard.append([container([(labels, samples)])])[0]


def matching(**labels: str) -> list[LabelMatcher]:
    """Equality matchers; ``name_`` stands for ``__name__``."""
    return [LabelMatcher({"name_": "__name__"}.get(k, k), MatchOp.EQUAL, v) for k, v in labels.items()]


def samples_of(batch: SeriesBatch) -> dict[tuple[tuple[str, str], ...], list[tuple[int, bytes]]]:
    """Label set to samples, values as their bits."""
    found = {}
    offsets = batch.offsets.tolist()
    for row, labels in enumerate(batch.labels.label_sets()):
        part = slice(offsets[row], offsets[row + 1])
        key = tuple(sorted(labels.items()))
        assert key not in found, f"twice: {key}"
        found[key] = [
            (time, struct.pack("<d", value))
            for time, value in zip(batch.timestamps[part].tolist(), batch.values[part].tolist(), strict=True)
        ]
    return found


def read(
    shard: Shard, labels: Labels | None = None, start_ms: int = ALL_TIME[0], end_ms: int = ALL_TIME[1]
) -> list[Sample]:
    """The samples of one series (the only one, if ``labels`` is None)."""
    matchers = [LabelMatcher(name, MatchOp.EQUAL, value) for name, value in (labels or {}).items()]
    batch = shard.select(matchers, start_ms, end_ms)
    assert batch.labels.count <= 1
    return list(zip(batch.timestamps.tolist(), batch.values.tolist(), strict=True))


def bits(value: float) -> bytes:
    return struct.pack("<d", value)


STALE_NAN = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))[0]
assert math.isnan(STALE_NAN)
