"""Aggregations that keep some of the samples: topk, bottomk, limitk and limit_ratio. They ship what can still win.

All series are taken in the order of their labels, so that the result does not depend on where they live.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import xxhash
from numpy.typing import NDArray

from filoray.nodes.data.cancel_token import CancelFlag
from filoray.nodes.data.frame import BoolMatrix, Frame
from filoray.nodes.data.label_table import LabelTable
from filoray.nodes.engine.evaluate.aggregation import Parameter, Reduction, grouping_labels
from filoray.nodes.engine.fragments import FragmentResult
from filoray.nodes.kernels.query.ranking import Pick, RowGroups, pick_samples
from filoray.nodes.promql.ast import Aggregate

_LONG_TEXT = 255


class RankedAggregation(ABC):
    """What it keeps is at its place still; only the first so many of the best have an order of their own."""

    def map_phase(self, expr: Aggregate, frame: Frame, parameter: Parameter, cancelled: CancelFlag) -> FragmentResult:
        return self._kept(expr, frame.take(frame.labels.sorted_rows()), parameter, cancelled)

    def reduce_phase(self, expr: Aggregate, parts: Sequence[FragmentResult], reduction: Reduction) -> Frame:
        stacked = Frame.concat(cast(list[Frame], parts))
        chosen = stacked.take(stacked.labels.sorted_rows())
        if len(parts) > 1:
            chosen = self._kept(expr, chosen, reduction.parameter, reduction.cancelled)
        return chosen if reduction.is_range else self.in_order(chosen, grouping_labels(expr, chosen.labels))

    def _kept(self, expr: Aggregate, ordered: Frame, parameter: Parameter, cancelled: CancelFlag) -> Frame:
        assert isinstance(parameter, np.ndarray)
        ids, groups = grouping_labels(expr, ordered.labels).grouped()
        picked = self.picked(ordered, ids, groups.count, parameter, cancelled)
        return Frame(ordered.labels, ordered.values, picked, ordered.drop_name).without_empty_series()

    @abstractmethod
    def picked(
        self,
        frame: Frame,
        ids: NDArray[np.int64],
        group_count: int,
        parameter: NDArray[np.float64],
        cancelled: CancelFlag,
    ) -> BoolMatrix:
        """The samples kept of each group at each step; rows come sorted by labels."""

    def in_order(self, frame: Frame, group_labels: LabelTable) -> Frame:
        """An instant query's order."""
        return frame


class FirstSamples(RankedAggregation):
    """So many of each group, by labels."""

    pick = Pick.FIRST

    def picked(
        self,
        frame: Frame,
        ids: NDArray[np.int64],
        group_count: int,
        parameter: NDArray[np.float64],
        cancelled: CancelFlag,
    ) -> BoolMatrix:
        limits = np.clip(np.trunc(parameter), 0, max(frame.series_count, 1)).astype(np.int64)
        groups = RowGroups.of(ids, group_count)
        values, valid = np.ascontiguousarray(frame.values), np.ascontiguousarray(frame.valid)
        return pick_samples(values, valid, groups, self.pick, limits, cancelled)


class BestSamples(FirstSamples):
    """So many of each group, by value."""

    def __init__(self, *, is_top: bool) -> None:
        self.pick = Pick.TOP if is_top else Pick.BOTTOM

    def in_order(self, frame: Frame, group_labels: LabelTable) -> Frame:
        """Group by group, in each the best first; equals by labels, as the rows come."""
        ids, groups = group_labels.grouped()
        group_rank = np.empty(groups.count, np.int64)
        group_rank[groups.sorted_rows()] = np.arange(groups.count)
        values = frame.values[:, 0]
        is_nan = np.isnan(values)
        keys = np.where(is_nan, 0.0, -values if self.pick is Pick.TOP else values)
        return frame.take(np.lexsort((keys, is_nan, group_rank[ids])))


class SampledSeries(RankedAggregation):
    """A share of the series, by their hashes."""

    def picked(
        self,
        frame: Frame,
        ids: NDArray[np.int64],
        group_count: int,
        parameter: NDArray[np.float64],
        cancelled: CancelFlag,
    ) -> BoolMatrix:
        ratios = np.clip(parameter, -1.0, 1.0)
        offsets = _hash_offsets(frame.labels)[:, np.newaxis]
        picked = frame.valid & np.where(ratios >= 0, offsets < ratios, offsets >= 1.0 + ratios)
        # At 1 a hash of all ones counts as well.
        return np.where(ratios == 1.0, frame.valid, picked)


def _hash_offsets(labels: LabelTable) -> NDArray[np.float64]:
    """Where each label set lies in [0, 1): its 64-bit hash, as Prometheus's labels.Hash() over its own encoding."""
    hashes = (xxhash.xxh64_intdigest(_hashed_bytes(labels_)) for labels_ in labels.label_sets())
    return np.fromiter(hashes, np.uint64, labels.count).astype(np.float64) / 2.0**64


def _hashed_bytes(labels: Mapping[str, str]) -> bytes:
    """Names and values in the order of names, each behind its length: one byte, or 255 and three more."""
    pieces: list[bytes] = []
    for name in sorted(labels):
        for text in (name, labels[name]):
            data = text.encode("utf-8", "surrogateescape")
            size = len(data)
            pieces += (bytes([size]) if size < _LONG_TEXT else b"\xff" + size.to_bytes(3, "little"), data)
    return b"".join(pieces)
