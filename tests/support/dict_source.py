"""A SeriesSource over samples in a dictionary, and splitting it into several as if they were nodes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from filoray.nodes.data.label_table import LabelTable
from filoray.nodes.data.matching import LabelMatcher
from filoray.nodes.data.series_batch import SeriesBatch
from filoray.nodes.promql.regex import matches

Labels = tuple[tuple[str, str], ...]


def labels_of(pairs: Mapping[str, str]) -> Labels:
    return tuple(sorted((name, value) for name, value in pairs.items() if value))


class DictSource:
    """``series``: label set -> time in ms -> value."""

    def __init__(self, series: Mapping[Labels, Mapping[int, float]] | None = None) -> None:
        self.series: dict[Labels, dict[int, float]] = {}
        for labels, samples in (series or {}).items():
            self.add(dict(labels), samples.items())

    def add(self, labels: Mapping[str, str], samples: Iterable[tuple[int, float]]) -> None:
        self.series.setdefault(labels_of(labels), {}).update(samples)

    def select(self, matchers: Sequence[LabelMatcher], start_ms: int, end_ms: int) -> SeriesBatch:
        found: list[tuple[Labels, list[int]]] = []
        for labels, samples in self.series.items():
            values = dict(labels)
            if all(matches(matcher, values.get(matcher.name, "")) for matcher in matchers):
                times = sorted(time_ms for time_ms in samples if start_ms <= time_ms <= end_ms)
                if times:
                    found.append((labels, times))
        offsets = np.cumsum([0] + [len(times) for _, times in found]).astype(np.int64)
        return SeriesBatch(
            LabelTable.from_label_sets([dict(labels) for labels, _ in found]),
            offsets,
            np.array([time_ms for _, times in found for time_ms in times], np.int64),
            np.array([self.series[labels][time_ms] for labels, times in found for time_ms in times], np.float64),
        )

    def split(self, count: int) -> list[DictSource]:
        """The series dealt out to ``count`` sources."""
        parts = [DictSource() for _ in range(count)]
        for place, (labels, samples) in enumerate(sorted(self.series.items())):
            parts[place * 7 % count].series[labels] = samples
        return parts
