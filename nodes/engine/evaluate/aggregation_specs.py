"""What the engine does with each aggregation of PromQL: one row for each of the parser's table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from filoray.nodes.engine.evaluate.aggregation import Aggregation
from filoray.nodes.engine.evaluate.aggregation_parameters import Warnings, check_counts, check_quantiles, check_ratios
from filoray.nodes.engine.evaluate.figure_aggregations import Counts, Extremes, Means, Sums, Variances
from filoray.nodes.engine.evaluate.ranked_aggregations import BestSamples, FirstSamples, SampledSeries
from filoray.nodes.engine.evaluate.value_aggregations import Quantiles, ValueCounts
from filoray.nodes.promql.ast import Aggregate
from filoray.nodes.promql.function_table import AGGREGATIONS, AggregationSignature


@dataclass(frozen=True, slots=True)
class AggregationSpec:
    """``check``: of a scalar parameter over all steps, of which there is at least one.

    ``parameter_at_node``: whether the map phase needs the parameter. ``orders_series``: an instant query's rows come in
    an order that means something.
    """

    signature: AggregationSignature
    aggregation: Aggregation
    check: Callable[[NDArray[np.float64]], Warnings] | None = None
    parameter_at_node: bool = True
    orders_series: bool = False


def _of_figures(**aggregations: Aggregation) -> list[AggregationSpec]:
    return [AggregationSpec(AGGREGATIONS[name], aggregation) for name, aggregation in aggregations.items()]


_SPECS = (
    *_of_figures(
        sum=Sums(),
        avg=Means(),
        count=Counts(),
        group=Counts(of_presence=True),
        min=Extremes(is_max=False),
        max=Extremes(is_max=True),
        stddev=Variances(root=True),
        stdvar=Variances(root=False),
    ),
    AggregationSpec(AGGREGATIONS["topk"], BestSamples(is_top=True), check_counts, orders_series=True),
    AggregationSpec(AGGREGATIONS["bottomk"], BestSamples(is_top=False), check_counts, orders_series=True),
    AggregationSpec(AGGREGATIONS["limitk"], FirstSamples(), check_counts),
    AggregationSpec(AGGREGATIONS["limit_ratio"], SampledSeries(), check_ratios),
    AggregationSpec(AGGREGATIONS["count_values"], ValueCounts()),
    AggregationSpec(AGGREGATIONS["quantile"], Quantiles(), check_quantiles, parameter_at_node=False),
)

AGGREGATION_SPECS: Mapping[str, AggregationSpec] = MappingProxyType({spec.signature.name: spec for spec in _SPECS})
"""By PromQL name."""


def aggregation_of(expr: Aggregate) -> AggregationSpec:
    return AGGREGATION_SPECS[expr.op]
