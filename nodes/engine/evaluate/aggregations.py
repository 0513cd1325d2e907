"""Aggregations in two phases: what each node computes over its series, and how these parts become the result.

sum, avg, min, max, count, group, stddev and stdvar ship partial figures of each group. topk, bottomk, limitk
and limit_ratio ship the series that can still win, count_values counts, quantile the values themselves. All
series are taken in the order of their labels, so that the result does not depend on where they live.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from filoray.nodes.data.cancel_token import CancelFlag
from filoray.nodes.data.frame import BoolArray, BoolMatrix, Frame
from filoray.nodes.data.label_table import LabelTable
from filoray.nodes.data.matching import METRIC_NAME
from filoray.nodes.engine.evaluate.ranked_aggregations import (
    RANKED,
    Parameter,
    count_values_part,
    picked_samples,
    ranked_result,
)
from filoray.nodes.engine.fragments import AggregatePartial, FragmentResult
from filoray.nodes.kernels.query import aggregation as kernels
from filoray.nodes.kernels.query.ranking import RowGroups, group_quantiles
from filoray.nodes.promql.ast import Aggregate

Planes = tuple[Any, ...]
"""float64 and bool arrays [groups, steps]; see ``_planes`` for each operation's."""


def map_phase(expr: Aggregate, frame: Frame, parameter: Parameter, cancelled: CancelFlag) -> FragmentResult:
    """The part over some of the series. ``parameter`` is checked; quantile needs none here.

    ``cancelled`` uint8[1]: another thread sets it to stop the kernels; the result is void then.
    """
    if expr.op == "count_values":
        assert isinstance(parameter, str)
        return count_values_part(expr, frame, parameter, cancelled)
    if expr.op in RANKED:
        assert isinstance(parameter, np.ndarray)
        ordered = frame.take(frame.labels.sorted_rows())
        ids, groups = grouping_labels(expr, ordered.labels).grouped()
        return picked_samples(expr.op, ordered, ids, groups.count, parameter, cancelled)
    if expr.op == "quantile":
        labels = grouping_labels(expr, frame.labels)
        return Frame(labels, frame.values, frame.valid, frame.drop_name)
    ids, groups = grouping_labels(expr, frame.labels).grouped()
    planes = _planes(expr.op, frame, ids, groups.count, cancelled)
    return AggregatePartial(groups, _any_by_group(frame.drop_name, ids, groups.count), planes)


def reduce_phase(
    expr: Aggregate,
    parts: Sequence[FragmentResult],
    parameter: Parameter,
    step_count: int,
    *,
    is_range: bool,
    cancelled: CancelFlag,
) -> Frame:
    """The result from all parts; void if ``cancelled`` was set meanwhile."""
    parts = [part for part in parts if part.labels.count]
    if not parts:
        return Frame.empty(step_count)
    if expr.op in RANKED:
        assert isinstance(parameter, np.ndarray)
        stacked = Frame.concat(cast(list[Frame], parts))
        ordered = stacked.take(stacked.labels.sorted_rows())
        ids, groups = grouping_labels(expr, ordered.labels).grouped()
        chosen = ordered
        if len(parts) > 1:
            chosen = picked_samples(expr.op, ordered, ids, groups.count, parameter, cancelled)
        return chosen if is_range else ranked_result(expr.op, chosen, grouping_labels(expr, chosen.labels))
    if expr.op == "count_values":
        stacked = Frame.concat(cast(list[Frame], parts))
        return _summed(stacked, cancelled)
    if expr.op == "quantile":
        assert isinstance(parameter, np.ndarray)
        return _quantiles(Frame.concat(cast(list[Frame], parts)), parameter, cancelled)
    return _merged(expr.op, cast(list[AggregatePartial], parts), cancelled)


def grouping_labels(expr: Aggregate, labels: LabelTable) -> LabelTable:
    """The labels that tell groups apart, which are those of the result."""
    if expr.without:
        return labels.without({*expr.grouping, METRIC_NAME})
    return labels.keep(expr.grouping)


def _any_by_group(flags: BoolArray, ids: NDArray[np.int64], group_count: int) -> BoolArray:
    return np.bincount(ids[flags], minlength=group_count) > 0


def _planes(op: str, frame: Frame, ids: NDArray[np.int64], group_count: int, cancelled: CancelFlag) -> Planes:
    values, valid = np.ascontiguousarray(frame.values), np.ascontiguousarray(frame.valid)
    match op:
        case "sum":
            sums = kernels.group_sums(values, valid, ids, group_count, cancelled)
            return sums.high, sums.low, sums.count
        case "avg":
            means = kernels.group_means(values, valid, ids, group_count, cancelled)
            return means.high, means.low, means.count, means.incremental
        case "stddev" | "stdvar":
            variances = kernels.group_variances(values, valid, ids, group_count, cancelled)
            squares = (variances.squares, variances.squares_low)
            return variances.count, variances.mean, variances.mean_low, *squares
        case "min" | "max":
            extremes = kernels.group_extremes(values, valid, ids, group_count, cancelled, is_max=op == "max")
            return extremes.values, extremes.valid
        case "count" | "group":
            return (kernels.group_counts(valid, ids, group_count),)
    raise AssertionError(op)


def _merged(op: str, parts: list[AggregatePartial], cancelled: CancelFlag) -> Frame:
    if len(parts) == 1:
        labels, drop_name, planes = parts[0].labels, parts[0].drop_name, parts[0].planes
        ids = None
    else:
        ids, labels = LabelTable.concat([part.labels for part in parts]).grouped()
        drop_name = _any_by_group(np.concatenate([part.drop_name for part in parts]), ids, labels.count)
        planes = tuple(np.concatenate(plane) for plane in zip(*(part.planes for part in parts), strict=True))
    values, valid = _figures(op, planes, ids, labels.count, cancelled)
    return Frame(labels, values, valid, drop_name).without_empty_series()


def _figures(
    op: str, planes: Planes, ids: NDArray[np.int64] | None, group_count: int, cancelled: CancelFlag
) -> tuple[NDArray[np.float64], BoolMatrix]:
    """Values and validity from planes; stacked ones are merged by ``ids`` before."""
    match op:
        case "sum":
            sums = kernels.SumPart(*planes)
            sums = sums if ids is None else kernels.merge_sums(sums, ids, group_count, cancelled)
            return sums.result(), sums.valid
        case "avg":
            means = kernels.MeanPart(*planes)
            means = means if ids is None else kernels.merge_means(means, ids, group_count, cancelled)
            return means.result(), means.valid
        case "stddev" | "stdvar":
            parts = kernels.VariancePart(*planes)
            parts = parts if ids is None else kernels.merge_variances(parts, ids, group_count, cancelled)
            values = parts.deviation() if op == "stddev" else parts.variance()
            # An infinite sample makes the result NaN, even when it is the only one.
            return np.where(np.isfinite(parts.mean), values, np.nan), parts.valid
        case "min" | "max":
            values, valid = planes
            if ids is not None:
                merged = kernels.group_extremes(values, valid, ids, group_count, cancelled, is_max=op == "max")
                values, valid = merged.values, merged.valid
            return values, valid
    counts = planes[0]
    if ids is not None:
        counts = kernels.group_sums(counts, np.ones(counts.shape, np.bool_), ids, group_count, cancelled).high
    present = counts > 0
    return (np.ones(counts.shape) if op == "group" else counts), present


def _summed(frame: Frame, cancelled: CancelFlag) -> Frame:
    """Rows of equal labels added up: count_values' counts."""
    ids, labels = frame.labels.grouped()
    sums = kernels.group_sums(frame.values, frame.valid, ids, labels.count, cancelled)
    return Frame(labels, sums.high, sums.valid, _any_by_group(frame.drop_name, ids, labels.count))


def _quantiles(frame: Frame, quantiles: NDArray[np.float64], cancelled: CancelFlag) -> Frame:
    ids, labels = frame.labels.grouped()
    values, valid = group_quantiles(
        np.ascontiguousarray(frame.values),
        np.ascontiguousarray(frame.valid),
        RowGroups.of(ids, labels.count),
        np.ascontiguousarray(quantiles),
        cancelled,
    )
    return Frame(labels, values, valid, _any_by_group(frame.drop_name, ids, labels.count)).without_empty_series()
