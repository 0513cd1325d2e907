"""What fills a data directory: series, samples and bytes by metric, and which labels make the series many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from filoray.command.tsdb.shard_files import ShardFile
from filoray.command.tsdb.stored_shard import StoredShard
from filoray.nodes.data.matching import METRIC_NAME
from filoray.nodes.data.part_key import decode_part_key
from filoray.nodes.memstore.chunks.chunk_batch import BatchMeta, decode_batch_meta
from filoray.nodes.memstore.store.log_record import decode_log_records
from filoray.nodes.memstore.store.part_key_rows import decode_part_key_row


@dataclass(slots=True)
class MetricUse:
    """``chunk_bytes``: of its values and its share of the time columns, which series of one target have in common."""

    metric: str
    series: int = 0
    chunk_samples: int = 0
    chunk_bytes: float = 0.0
    log_samples: int = 0

    @property
    def bytes_per_sample(self) -> float:
        """In chunks; NaN without any."""
        return self.chunk_bytes / self.chunk_samples if self.chunk_samples else float("nan")


@dataclass(slots=True)
class Analysis:
    """``label_pairs``: series by (label, value). ``label_values``: the distinct values of each label name."""

    files: int = 0
    file_bytes: int = 0
    part_key_bytes: int = 0
    meta_bytes: int = 0
    log_bytes: int = 0
    metrics: dict[str, MetricUse] = field(default_factory=dict)
    label_pairs: Counter[tuple[str, str]] = field(default_factory=Counter)
    label_values: dict[str, set[str]] = field(default_factory=dict)

    @property
    def total(self) -> MetricUse:
        total = MetricUse("")
        for use in self.metrics.values():
            total.series += use.series
            total.chunk_samples += use.chunk_samples
            total.chunk_bytes += use.chunk_bytes
            total.log_samples += use.log_samples
        return total

    @property
    def samples(self) -> int:
        total = self.total
        return total.chunk_samples + total.log_samples


def analyze(files: Sequence[ShardFile], on_file: Callable[[], None] = lambda: None) -> Analysis:
    """Reads part keys, chunk metas and logs, not the chunks. Raises DamagedStore naming what cannot be read."""
    analysis = Analysis()
    for file in files:
        analysis.files += 1
        analysis.file_bytes += sum(path.stat().st_size for path in file.path.parent.glob(f"{file.path.name}*"))
        with StoredShard(file) as shard:
            _analyze_shard(shard, analysis)
        on_file()
    return analysis


def _analyze_shard(shard: StoredShard, analysis: Analysis) -> None:
    metric_of = _count_series(shard, analysis)
    uses = list(analysis.metrics.values())
    place_of = {use.metric: place for place, use in enumerate(uses)}
    ids = np.array(sorted(metric_of), np.int64)
    places = np.array([place_of[metric_of[series_id]] for series_id in ids.tolist()], np.int64)

    def places_of(series_ids: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        at = np.minimum(np.searchsorted(ids, series_ids), max(0, len(ids) - 1))
        known = ids[at] == series_ids if len(ids) else np.zeros(len(series_ids), np.bool_)
        return known, places[at[known]]

    samples, chunk_bytes, log_samples = (np.zeros(len(uses)) for _ in range(3))
    for batch_id, data in shard.batch_metas():
        analysis.meta_bytes += len(data)
        meta = decode_batch_meta(data, f"{shard.file.path}: chunk batch {batch_id}")
        known, owners = places_of(meta.series_ids)
        np.add.at(samples, owners, meta.samples[meta.chunk_columns][known])
        np.add.at(chunk_bytes, owners, _bytes_of_chunks(meta)[known])
    for row in shard.log_after(-1):
        analysis.log_bytes += len(row.data)
        for record in decode_log_records(row.data, f"{shard.file.path}: log row {row.offset}"):
            known, owners = places_of(record.series_ids)
            np.add.at(log_samples, owners, record.counts[known])
    for use, in_chunks, size, in_log in zip(uses, samples, chunk_bytes, log_samples, strict=True):
        use.chunk_samples += int(in_chunks)
        use.chunk_bytes += float(size)
        use.log_samples += int(in_log)


def _bytes_of_chunks(meta: BatchMeta) -> NDArray[np.float64]:
    """Each chunk's own bytes and an equal share of its time column's."""
    users = np.maximum(np.bincount(meta.chunk_columns, minlength=len(meta.lengths)), 1)
    return meta.chunk_lengths + (meta.lengths / users)[meta.chunk_columns]


def _count_series(shard: StoredShard, analysis: Analysis) -> dict[int, str]:
    """Count all series of the shard; returns series id to metric."""
    metric_of: dict[int, str] = {}
    for row in shard.part_keys():
        analysis.part_key_bytes += len(row.data)
        series_ids, keys = decode_part_key_row(row.data, f"{shard.file.path}: part keys of row {row.row_id}")
        for series_id, key in zip(series_ids.tolist(), keys, strict=True):
            labels = decode_part_key(key)
            metric = metric_of[series_id] = labels.get(METRIC_NAME, "")
            analysis.metrics.setdefault(metric, MetricUse(metric)).series += 1
            analysis.label_pairs.update(pair for pair in labels.items() if pair[0] != METRIC_NAME)
            for name, value in labels.items():
                analysis.label_values.setdefault(name, set()).add(value)
    return metric_of
