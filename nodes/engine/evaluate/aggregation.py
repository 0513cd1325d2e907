"""What an aggregation is: what each node computes over its series, and how these parts become the result.

The kinds of them are in ``figure_aggregations``, ``ranked_aggregations`` and ``value_aggregations``; which PromQL name
is which, in ``aggregation_specs``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from filoray.nodes.data.cancel_token import CancelFlag
from filoray.nodes.data.frame import BoolArray, Frame
from filoray.nodes.data.label_table import LabelTable
from filoray.nodes.data.matching import METRIC_NAME
from filoray.nodes.engine.fragments import FragmentResult
from filoray.nodes.promql.ast import Aggregate

Parameter = NDArray[np.float64] | str | None
"""A scalar at each step, count_values' label name, or None."""


@dataclass(frozen=True, slots=True)
class Reduction:
    """What the reduce phase is told beside the parts. ``is_range``: of the query, which has no order of series then."""

    parameter: Parameter
    is_range: bool
    cancelled: CancelFlag


class Aggregation(Protocol):
    """``cancelled`` uint8[1]: another thread sets it to stop the kernels; the result is void then."""

    def map_phase(self, expr: Aggregate, frame: Frame, parameter: Parameter, cancelled: CancelFlag) -> FragmentResult:
        """The part over some of the series. ``parameter`` is checked."""
        ...

    def reduce_phase(self, expr: Aggregate, parts: Sequence[FragmentResult], reduction: Reduction) -> Frame:
        """The result from all parts: at least one, none without series."""
        ...


def grouping_labels(expr: Aggregate, labels: LabelTable) -> LabelTable:
    """The labels that tell groups apart, which are those of the result."""
    if expr.without:
        return labels.without({*expr.grouping, METRIC_NAME})
    return labels.keep(expr.grouping)


def any_by_group(flags: BoolArray, ids: NDArray[np.int64], group_count: int) -> BoolArray:
    return np.bincount(ids[flags], minlength=group_count) > 0
