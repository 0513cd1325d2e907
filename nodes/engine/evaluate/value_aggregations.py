"""Aggregations whose parts are values themselves: count_values counts them, quantile ships them all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from filoray.nodes.data.cancel_token import CancelFlag
from filoray.nodes.data.frame import Frame
from filoray.nodes.data.matching import METRIC_NAME
from filoray.nodes.engine.evaluate.aggregation import Parameter, Reduction, any_by_group, grouping_labels
from filoray.nodes.engine.fragments import FragmentResult
from filoray.nodes.kernels.query.aggregation import group_sums
from filoray.nodes.kernels.query.ranking import RowGroups, count_values, group_quantiles
from filoray.nodes.promql.ast import Aggregate
from filoray.nodes.promql.number_format import format_float_f


class ValueCounts:
    """How often each value occurs: one row for each group and value, which becomes a label."""

    def map_phase(self, expr: Aggregate, frame: Frame, parameter: Parameter, cancelled: CancelFlag) -> FragmentResult:
        assert isinstance(parameter, str)
        label = parameter
        if expr.without:
            base = frame.labels.without({*expr.grouping, METRIC_NAME, label})
            shows_value = label not in expr.grouping and label != METRIC_NAME
        else:
            base = frame.labels.keep(name for name in expr.grouping if name != label)
            shows_value = True
        ids, groups = base.grouped()
        pairs = count_values(frame.values, frame.valid, ids, cancelled)
        labels = groups.take(pairs.groups)
        if shows_value:
            labels = labels.with_values(label, [format_float_f(value) for value in pairs.values.tolist()])
        return Frame(labels, pairs.counts, pairs.counts > 0, np.zeros(len(pairs.groups), np.bool_))

    def reduce_phase(self, expr: Aggregate, parts: Sequence[FragmentResult], reduction: Reduction) -> Frame:
        """Rows of equal labels added up."""
        frame = Frame.concat(cast(list[Frame], parts))
        ids, labels = frame.labels.grouped()
        sums = group_sums(frame.values, frame.valid, ids, labels.count, reduction.cancelled)
        return Frame(labels, sums.high, sums.valid, any_by_group(frame.drop_name, ids, labels.count))


class Quantiles:
    def map_phase(self, expr: Aggregate, frame: Frame, parameter: Parameter, cancelled: CancelFlag) -> FragmentResult:
        """The parameter is for the reduce phase only."""
        return Frame(grouping_labels(expr, frame.labels), frame.values, frame.valid, frame.drop_name)

    def reduce_phase(self, expr: Aggregate, parts: Sequence[FragmentResult], reduction: Reduction) -> Frame:
        assert isinstance(reduction.parameter, np.ndarray)
        frame = Frame.concat(cast(list[Frame], parts))
        ids, labels = frame.labels.grouped()
        values, valid = group_quantiles(
            np.ascontiguousarray(frame.values),
            np.ascontiguousarray(frame.valid),
            RowGroups.of(ids, labels.count),
            np.ascontiguousarray(reduction.parameter),
            reduction.cancelled,
        )
        return Frame(labels, values, valid, any_by_group(frame.drop_name, ids, labels.count)).without_empty_series()
