"""Aggregations that ship partial figures of each group: sum, avg, min, max, count, group, stddev and stdvar.

All series are taken as they come, and the figures are merged so (double-doubles) that the result does not depend on
where the series live.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from filoray.nodes.data.cancel_token import CancelFlag
from filoray.nodes.data.frame import BoolMatrix, FloatMatrix, Frame
from filoray.nodes.data.label_table import LabelTable
from filoray.nodes.engine.evaluate.aggregation import Parameter, Reduction, any_by_group, grouping_labels
from filoray.nodes.engine.fragments import AggregatePartial, FragmentResult
from filoray.nodes.kernels.query import aggregation as kernels
from filoray.nodes.kernels.query.aggregation_parts import MeanPart, SumPart, VariancePart
from filoray.nodes.promql.ast import Aggregate

Planes = tuple[Any, ...]
"""float64 and bool arrays [groups, steps]; which ones is each kind's matter."""
Ids = NDArray[np.int64]


class FigureAggregation(ABC):
    def map_phase(self, expr: Aggregate, frame: Frame, parameter: Parameter, cancelled: CancelFlag) -> FragmentResult:
        ids, groups = grouping_labels(expr, frame.labels).grouped()
        values, valid = np.ascontiguousarray(frame.values), np.ascontiguousarray(frame.valid)
        planes = self.planes(values, valid, ids, groups.count, cancelled)
        return AggregatePartial(groups, any_by_group(frame.drop_name, ids, groups.count), planes)

    def reduce_phase(self, expr: Aggregate, parts: Sequence[FragmentResult], reduction: Reduction) -> Frame:
        partials = cast(Sequence[AggregatePartial], parts)
        if len(partials) == 1:
            labels, drop_name, planes = partials[0].labels, partials[0].drop_name, partials[0].planes
            ids = None
        else:
            ids, labels = LabelTable.concat([part.labels for part in partials]).grouped()
            drop_name = any_by_group(np.concatenate([part.drop_name for part in partials]), ids, labels.count)
            planes = tuple(np.concatenate(plane) for plane in zip(*(part.planes for part in partials), strict=True))
        values, valid = self.figures(planes, ids, labels.count, reduction.cancelled)
        return Frame(labels, values, valid, drop_name).without_empty_series()

    @abstractmethod
    def planes(
        self, values: FloatMatrix, valid: BoolMatrix, ids: Ids, group_count: int, cancelled: CancelFlag
    ) -> Planes:
        """The figures of each group over rows whose group is ``ids[row]``."""

    @abstractmethod
    def figures(
        self, planes: Planes, ids: Ids | None, group_count: int, cancelled: CancelFlag
    ) -> tuple[FloatMatrix, BoolMatrix]:
        """Values and validity from planes; stacked ones are merged by ``ids`` before."""


class Sums(FigureAggregation):
    def planes(
        self, values: FloatMatrix, valid: BoolMatrix, ids: Ids, group_count: int, cancelled: CancelFlag
    ) -> Planes:
        sums = kernels.group_sums(values, valid, ids, group_count, cancelled)
        return sums.high, sums.low, sums.counts

    def figures(
        self, planes: Planes, ids: Ids | None, group_count: int, cancelled: CancelFlag
    ) -> tuple[FloatMatrix, BoolMatrix]:
        sums = SumPart(*planes)
        sums = sums if ids is None else kernels.merge_sums(sums, ids, group_count, cancelled)
        return sums.result(), sums.valid


class Means(FigureAggregation):
    def planes(
        self, values: FloatMatrix, valid: BoolMatrix, ids: Ids, group_count: int, cancelled: CancelFlag
    ) -> Planes:
        means = kernels.group_means(values, valid, ids, group_count, cancelled)
        return means.high, means.low, means.counts, means.incremental

    def figures(
        self, planes: Planes, ids: Ids | None, group_count: int, cancelled: CancelFlag
    ) -> tuple[FloatMatrix, BoolMatrix]:
        means = MeanPart(*planes)
        means = means if ids is None else kernels.merge_means(means, ids, group_count, cancelled)
        return means.result(), means.valid


class Variances(FigureAggregation):
    def __init__(self, *, root: bool) -> None:
        self._root = root

    def planes(
        self, values: FloatMatrix, valid: BoolMatrix, ids: Ids, group_count: int, cancelled: CancelFlag
    ) -> Planes:
        variances = kernels.group_variances(values, valid, ids, group_count, cancelled)
        squares = (variances.squares, variances.squares_low)
        return variances.counts, variances.mean, variances.mean_low, *squares

    def figures(
        self, planes: Planes, ids: Ids | None, group_count: int, cancelled: CancelFlag
    ) -> tuple[FloatMatrix, BoolMatrix]:
        parts = VariancePart(*planes)
        parts = parts if ids is None else kernels.merge_variances(parts, ids, group_count, cancelled)
        values = parts.deviation() if self._root else parts.variance()
        # An infinite sample makes the result NaN, even when it is the only one.
        return np.where(np.isfinite(parts.mean), values, np.nan), parts.valid


class Extremes(FigureAggregation):
    def __init__(self, *, is_max: bool) -> None:
        self._is_max = is_max

    def planes(
        self, values: FloatMatrix, valid: BoolMatrix, ids: Ids, group_count: int, cancelled: CancelFlag
    ) -> Planes:
        extremes = kernels.group_extremes(values, valid, ids, group_count, cancelled, is_max=self._is_max)
        return extremes.values, extremes.valid

    def figures(
        self, planes: Planes, ids: Ids | None, group_count: int, cancelled: CancelFlag
    ) -> tuple[FloatMatrix, BoolMatrix]:
        values, valid = planes
        if ids is None:
            return values, valid
        merged = kernels.group_extremes(values, valid, ids, group_count, cancelled, is_max=self._is_max)
        return merged.values, merged.valid


class Counts(FigureAggregation):
    """``of_presence``: 1 wherever there is anything to count."""

    def __init__(self, *, of_presence: bool = False) -> None:
        self._of_presence = of_presence

    def planes(
        self, values: FloatMatrix, valid: BoolMatrix, ids: Ids, group_count: int, cancelled: CancelFlag
    ) -> Planes:
        return (kernels.group_counts(valid, ids, group_count),)

    def figures(
        self, planes: Planes, ids: Ids | None, group_count: int, cancelled: CancelFlag
    ) -> tuple[FloatMatrix, BoolMatrix]:
        counts = planes[0]
        if ids is not None:
            counts = kernels.group_sums(counts, np.ones(counts.shape, np.bool_), ids, group_count, cancelled).high
        return (np.ones(counts.shape) if self._of_presence else counts), counts > 0
