"""Builds record containers from single samples, and cuts containers to a size: what sources without containers need."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from filoray.nodes.data.record_container import RecordContainer

_HEADER_BYTES = 128  # length, msgpack header and the padding of eight columns
_SERIES_BYTES = 8 + 8 + 4 + 4 + 8
_SAMPLE_BYTES = 16


class ContainerBuilder:
    """Collects samples by part key; samples of one series keep their order."""

    def __init__(self) -> None:
        self._series: dict[bytes, tuple[list[int], list[float]]] = {}
        self.sample_count = 0

    def add(self, part_key: bytes, timestamp_ms: int, value: float) -> None:
        series = self._series.get(part_key)
        if series is None:
            series = self._series[part_key] = ([], [])
        series[0].append(timestamp_ms)
        series[1].append(value)
        self.sample_count += 1

    def take(self) -> RecordContainer:
        """What was collected, with all part keys; the builder is empty afterwards."""
        keys = list(self._series)
        columns = list(self._series.values())
        container = RecordContainer.complete(
            keys,
            np.array([len(times) for times, _ in columns], np.int32),
            np.array([time for times, _ in columns for time in times], np.int64),
            np.array([value for _, values in columns for value in values], np.float64),
        )
        self._series = {}
        self.sample_count = 0
        return container


def without_later_samples(container: RecordContainer, limit_ms: int) -> RecordContainer:
    """The samples up to ``limit_ms`` and their series. ``container`` carries all its part keys, in order."""
    taken = container.timestamps <= limit_ms
    if taken.all():
        return container
    owners = np.repeat(np.arange(container.series_count), container.counts)
    counts = np.bincount(owners[taken], minlength=container.series_count).astype(np.int32)
    kept = counts > 0
    return RecordContainer(
        container.hash_high[kept],
        container.hash_low[kept],
        counts[kept],
        container.timestamps[taken],
        container.values[taken],
        np.arange(int(kept.sum()), dtype=np.int32),
        container.keys.kept(kept),
    )


def split_container(container: RecordContainer, max_bytes: int) -> Iterator[RecordContainer]:
    """The same samples in containers whose encoded form is at most ``max_bytes``; order is kept.

    ``container`` carries the part keys of all its series, in order, and so do the parts. A single sample whose part
    key alone is over the limit comes alone, over the limit.
    """
    key_bytes = container.keys.lengths
    sizes = _SERIES_BYTES + key_bytes + _SAMPLE_BYTES * container.counts.astype(np.int64)
    if _HEADER_BYTES + int(sizes.sum()) <= max_bytes:
        yield container
        return
    sample_ends = np.cumsum(container.counts, dtype=np.int64)
    budget = max_bytes - _HEADER_BYTES
    first = 0
    while first < container.series_count:
        fitting = int(np.searchsorted(np.cumsum(sizes[first:]), budget, side="right"))
        if fitting:
            start = int(sample_ends[first] - container.counts[first])
            yield _part(container, first, first + fitting, start, int(sample_ends[first + fitting - 1]))
            first += fitting
            continue
        room = max(1, int((budget - _SERIES_BYTES - key_bytes[first]) // _SAMPLE_BYTES))
        end = int(sample_ends[first])
        for start in range(end - int(container.counts[first]), end, room):
            yield _part(container, first, first + 1, start, min(start + room, end))
        first += 1


def _part(container: RecordContainer, first: int, end: int, sample_start: int, sample_end: int) -> RecordContainer:
    """Series ``first..end - 1`` with the samples ``sample_start..sample_end - 1``, which may cut a lone series."""
    lone = end - first == 1
    return RecordContainer(
        container.hash_high[first:end],
        container.hash_low[first:end],
        np.array([sample_end - sample_start], np.int32) if lone else container.counts[first:end],
        container.timestamps[sample_start:sample_end],
        container.values[sample_start:sample_end],
        np.arange(end - first, dtype=np.int32),
        container.keys.part(first, end),
    )
