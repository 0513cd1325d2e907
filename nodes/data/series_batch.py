"""Samples of many series in flat arrays: what the memstore gives and the kernels take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from filoray.nodes.data.label_table import LabelTable
from filoray.nodes.data.matching import LabelMatcher

STALE_NAN_BITS = 0x7FF0000000000002
"""The one NaN that means "the series ended here" (Prometheus's staleness marker); others are values."""


@dataclass(frozen=True, slots=True)
class SeriesBatch:
    """Samples of n series, sorted by time within each, each timestamp once.

    ``offsets`` int64[n + 1]: series i has the samples ``offsets[i]:offsets[i + 1]``.
    ``timestamps`` int64[total], ms. ``values`` float64[total], staleness markers included.
    ``warnings``: what the reader of an answer must know, e.g. a damaged chunk that was skipped.
    """

    labels: LabelTable
    offsets: NDArray[np.int64]
    timestamps: NDArray[np.int64]
    values: NDArray[np.float64]
    warnings: tuple[str, ...] = ()

    @classmethod
    def empty(cls) -> SeriesBatch:
        """No series."""
        return cls(LabelTable.empty_sets(0), np.zeros(1, np.int64), np.empty(0, np.int64), np.empty(0))

    @classmethod
    def concat(cls, batches: Sequence[SeriesBatch]) -> SeriesBatch:
        """Series of several batches, stacked. At least one batch."""
        if len(batches) == 1:
            return batches[0]
        starts = np.cumsum([0] + [len(batch.timestamps) for batch in batches])
        offsets = [batch.offsets[:-1] + start for batch, start in zip(batches, starts, strict=False)]
        return cls(
            LabelTable.concat([batch.labels for batch in batches]),
            np.concatenate([*offsets, starts[-1:]]).astype(np.int64),
            np.concatenate([batch.timestamps for batch in batches]),
            np.concatenate([batch.values for batch in batches]),
            tuple(dict.fromkeys(warning for batch in batches for warning in batch.warnings)),
        )


class SeriesSource(Protocol):
    """Where the engine's leaves get samples: a shard, several shards of a node, or a test's dictionary."""

    def select(self, matchers: Sequence[LabelMatcher], start_ms: int, end_ms: int) -> SeriesBatch:
        """All series that match and have a sample with ``start_ms <= t <= end_ms``, with just those samples."""
        ...
