"""Functions over range vectors, absent() and timestamp(): those that look at selectors, not only at values."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from filoray.nodes.data.frame import BoolArray, Frame, TimeGrid
from filoray.nodes.data.label_table import LabelTable
from filoray.nodes.data.matching import METRIC_NAME, MatchOp
from filoray.nodes.engine.annotations import AnnotationKind
from filoray.nodes.engine.functions.evaluation import Evaluation, Handler, Value
from filoray.nodes.engine.functions.instant_functions import renamed
from filoray.nodes.engine.functions.range_functions import Param, RangeFunction
from filoray.nodes.engine.functions.range_kernels import PRESENCE, QUANTILE
from filoray.nodes.engine.sampled_frame import SampledFrame
from filoray.nodes.promql.ast import Call, Expr, MatrixSelector, Position, StepInvariant, Subquery, VectorSelector
from filoray.nodes.promql.number_format import format_float_g
from filoray.nodes.promql.tree_walk import unwrap_parens


def warn_of_quantiles(evaluation: Evaluation, values: NDArray[np.float64], position: Position) -> None:
    """One warning for each distinct value that is no quantile."""
    bad = values[~((values >= 0) & (values <= 1))]
    for value in dict.fromkeys(format_float_g(value) for value in bad.tolist()):
        evaluation.annotations.add(AnnotationKind.INVALID_QUANTILE, value, position=position)


def over_windows(function: RangeFunction) -> Handler:
    def handler(evaluation: Evaluation, call: Call, grid: TimeGrid) -> Value:
        sampled, _ = _applied(evaluation, function, call, grid)
        return sampled.frame

    return handler


def quantile_over_time(evaluation: Evaluation, call: Call, grid: TimeGrid) -> Value:
    """Warns of what is no quantile, where there was anything to take it of."""
    sampled, (quantiles,) = _applied(evaluation, QUANTILE, call, grid)
    warn_of_quantiles(evaluation, quantiles[sampled.samples_per_step > 0], call.args[0].position)
    return sampled.frame


def _applied(
    evaluation: Evaluation, function: RangeFunction, call: Call, grid: TimeGrid
) -> tuple[SampledFrame, list[Param]]:
    """And the scalar arguments."""
    argument: MatrixSelector | Subquery | None = None
    params: list[Param] = []
    for arg in call.args:
        inner = unwrap_parens(arg)
        if isinstance(inner, MatrixSelector | Subquery):
            argument = inner
        else:
            params.append(evaluation.scalar(arg, grid).values)
    assert argument is not None, call.function
    return evaluation.range_function(function, argument, params, grid), params


def timestamp(evaluation: Evaluation, call: Call, grid: TimeGrid) -> Value:
    """Of a selector the times of its samples, of anything else the evaluation time."""
    argument = call.args[0]
    if isinstance(argument, StepInvariant):
        argument = argument.expr
    argument = unwrap_parens(argument)
    if isinstance(argument, VectorSelector) and not argument.smoothed:
        frame = evaluation.sample_times(argument, grid)
        return renamed(frame, frame.values)
    frame = evaluation.vector(call.args[0], grid)
    return renamed(frame, np.broadcast_to(grid.times_ms() / 1000, frame.values.shape))


def start_timestamp(evaluation: Evaluation, call: Call, grid: TimeGrid) -> Value:
    """When each sample's counting began: 0, not known, as samples come without it."""
    frame = evaluation.vector(call.args[0], grid)
    return renamed(frame, np.zeros(frame.values.shape))


def absent(evaluation: Evaluation, call: Call, grid: TimeGrid) -> Value:
    frame = evaluation.vector(call.args[0], grid)
    return _absence(np.logical_or.reduce(frame.valid, axis=0), call.args[-1], grid)


def absent_over_time(evaluation: Evaluation, call: Call, grid: TimeGrid) -> Value:
    argument = unwrap_parens(call.args[0])
    if isinstance(argument, MatrixSelector | Subquery):
        frame = evaluation.range_function(PRESENCE, argument, (), grid).frame
    else:
        # The nodes have answered in which steps there is anything.
        frame = evaluation.vector(argument, grid)
    return _absence(np.logical_or.reduce(frame.valid, axis=0), call.args[-1], grid)


def _absence(found: BoolArray, argument: Expr, grid: TimeGrid) -> Frame:
    if found.all():
        return Frame.empty(grid.count)
    labels = LabelTable.from_label_sets([_labels_of_absence(argument)])
    return Frame(labels, np.ones((1, grid.count)), ~found[np.newaxis, :], np.zeros(1, np.bool_))


def _labels_of_absence(argument: Expr) -> dict[str, str]:
    """What the argument's matchers say the missing series would have been called.

    A label that several matchers name is left out (createLabelsForAbsentFunction in promql/functions.go).
    """
    inner = unwrap_parens(argument)
    if isinstance(inner, StepInvariant):
        inner = unwrap_parens(inner.expr)
    if isinstance(inner, MatrixSelector):
        inner = inner.selector
    if not isinstance(inner, VectorSelector):
        return {}
    labels: dict[str, str] = {}
    seen: set[str] = set()
    for matcher in inner.matchers:
        if matcher.name == METRIC_NAME:
            continue
        if matcher.op is MatchOp.EQUAL and matcher.name not in seen:
            labels[matcher.name] = matcher.value
            seen.add(matcher.name)
        else:
            labels.pop(matcher.name, None)
    return labels
