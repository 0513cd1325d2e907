"""Series batches on their way between files and shards: built of samples, cut to a size, put into containers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from filoray.nodes.data.label_table import LabelTable
from filoray.nodes.data.part_key import encode_part_key, hash_part_keys, ingestion_shard, shard_key_hash
from filoray.nodes.data.record_container import RecordContainer
from filoray.nodes.data.series_batch import SeriesBatch


class BlockBuilder:
    """Collects samples by series."""

    def __init__(self) -> None:
        self._series: dict[bytes, tuple[Mapping[str, str], list[int], list[float]]] = {}
        self._last: tuple[Mapping[str, str] | None, list[int], list[float]] = (None, [], [])
        self.sample_count = 0

    def add(self, labels: Mapping[str, str], time_ms: int, value: float) -> None:
        """Samples of a series mostly follow each other, with the same ``labels`` object. Raises BadData."""
        last, times, values = self._last
        if last is not labels:
            _, times, values = self._series.setdefault(encode_part_key(labels), (labels, [], []))
            self._last = (labels, times, values)
        times.append(time_ms)
        values.append(value)
        self.sample_count += 1

    def take(self) -> SeriesBatch:
        """What was collected, by time within each series; the builder is empty afterwards."""
        series = list(self._series.values())
        times, values = [], []
        for _, of_times, of_values in series:
            time_column, value_column = np.array(of_times, np.int64), np.array(of_values, np.float64)
            if len(time_column) > 1 and (np.diff(time_column) < 0).any():
                order = np.argsort(time_column, kind="stable")
                time_column, value_column = time_column[order], value_column[order]
            times.append(time_column)
            values.append(value_column)
        batch = SeriesBatch(
            LabelTable.from_label_sets([labels for labels, _, _ in series]),
            np.cumsum([0, *(len(column) for column in times)], dtype=np.int64),
            np.concatenate([np.empty(0, np.int64), *times]),
            np.concatenate([np.empty(0, np.float64), *values]),
        )
        self._series = {}
        self._last = (None, [], [])
        self.sample_count = 0
        return batch


def pieces_of(batch: SeriesBatch, samples_max: int) -> Iterator[SeriesBatch]:
    """The same samples in batches of at most so many; a long series is cut."""
    offsets = batch.offsets
    total = int(offsets[-1])
    for start in range(0, total, samples_max):
        end = min(start + samples_max, total)
        first = int(np.searchsorted(offsets, start, side="right")) - 1
        last = int(np.searchsorted(offsets, end, side="left"))
        cut = np.clip(offsets[first : last + 1], start, end) - start
        yield SeriesBatch(
            batch.labels.take(np.arange(first, last)), cut, batch.timestamps[start:end], batch.values[start:end]
        )


def containers_of(batch: SeriesBatch, num_shards: int, spread: int) -> dict[int, RecordContainer]:
    """By shard, with all part keys. Raises BadData for labels that no part key can hold."""
    label_sets = batch.labels.label_sets()
    keys = [encode_part_key(labels) for labels in label_sets]
    _, low = hash_part_keys(keys)
    shards = np.array(
        [
            ingestion_shard(shard_key_hash(labels), key_low, num_shards, spread)
            for labels, key_low in zip(label_sets, low.tolist(), strict=True)
        ],
        np.int64,
    )
    counts = np.diff(batch.offsets)
    containers = {}
    for shard in np.unique(shards).tolist():
        rows = np.flatnonzero(shards == shard)
        samples = np.repeat(shards == shard, counts)
        containers[shard] = RecordContainer.complete(
            [keys[row] for row in rows.tolist()],
            counts[rows].astype(np.int32),
            batch.timestamps[samples],
            batch.values[samples],
        )
    return containers
