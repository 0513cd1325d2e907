"""Functions of one vector and scalars that look at each sample by itself, and functions of scalars.

Prometheus's promql/functions.go is the rule. All of them mark the metric name for removal. Dates and times are in
``date_functions``.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from filoray.nodes.data.frame import Frame, ScalarSeries, TimeGrid, scalar_frame
from filoray.nodes.engine.functions.evaluation import Evaluation, Handler, Value
from filoray.nodes.promql.ast import Call

Values = NDArray[np.float64]


def renamed(frame: Frame, values: Values) -> Frame:
    """New values for the same samples; the metric name goes."""
    return Frame(frame.labels, values, frame.valid, np.ones(frame.series_count, np.bool_))


def sample_by_sample(operation: Callable[[Values], Values]) -> Handler:
    """A numpy operation, or one of ours that is like them."""

    def handler(evaluation: Evaluation, call: Call, grid: TimeGrid) -> Value:
        frame = evaluation.vector(call.args[0], grid)
        return renamed(frame, operation(frame.values))

    return handler


def sign(values: Values) -> Values:
    """Zeros keep theirs."""
    return np.where(values == 0, values, np.sign(values))


def degrees(values: Values) -> Values:
    return values * 180 / np.pi


def radians(values: Values) -> Values:
    return values * np.pi / 180


def rounded(evaluation: Evaluation, call: Call, grid: TimeGrid) -> Value:
    frame = evaluation.vector(call.args[0], grid)
    nearest = evaluation.scalar(call.args[1], grid).values if len(call.args) > 1 else np.ones(grid.count)
    # Dividing by the inverse, as Prometheus does, keeps 0.1 and the like exact.
    inverse = 1.0 / nearest
    return renamed(frame, np.floor(frame.values * inverse + 0.5) / inverse)


def _minimum(left: Values, right: Values) -> Values:
    """Go's math.Min: minus infinity wins over NaN."""
    return np.where((left == -np.inf) | (right == -np.inf), -np.inf, np.minimum(left, right))


def _maximum(left: Values, right: Values) -> Values:
    """Go's math.Max: plus infinity wins over NaN."""
    return np.where((left == np.inf) | (right == np.inf), np.inf, np.maximum(left, right))


def clamped(evaluation: Evaluation, call: Call, grid: TimeGrid) -> Value:
    frame = evaluation.vector(call.args[0], grid)
    low, high = (evaluation.scalar(arg, grid).values for arg in call.args[1:])
    inside = renamed(frame, _maximum(low, _minimum(high, frame.values)))
    if not (high < low).any():
        return inside
    return Frame(inside.labels, inside.values, inside.valid & ~(high < low), inside.drop_name).without_empty_series()


def at_most(evaluation: Evaluation, call: Call, grid: TimeGrid) -> Value:
    frame = evaluation.vector(call.args[0], grid)
    return renamed(frame, _minimum(evaluation.scalar(call.args[1], grid).values, frame.values))


def at_least(evaluation: Evaluation, call: Call, grid: TimeGrid) -> Value:
    frame = evaluation.vector(call.args[0], grid)
    return renamed(frame, _maximum(evaluation.scalar(call.args[1], grid).values, frame.values))


def evaluation_time(evaluation: Evaluation, call: Call, grid: TimeGrid) -> Value:
    return ScalarSeries(grid.times_ms() / 1000)


def pi(evaluation: Evaluation, call: Call, grid: TimeGrid) -> Value:
    return ScalarSeries(np.full(grid.count, np.pi))


def smaller(evaluation: Evaluation, call: Call, grid: TimeGrid) -> Value:
    left, right = (evaluation.scalar(arg, grid).values for arg in call.args)
    return ScalarSeries(np.minimum(left, right))


def larger(evaluation: Evaluation, call: Call, grid: TimeGrid) -> Value:
    left, right = (evaluation.scalar(arg, grid).values for arg in call.args)
    return ScalarSeries(np.maximum(left, right))


def vector_of_scalar(evaluation: Evaluation, call: Call, grid: TimeGrid) -> Value:
    return scalar_frame(evaluation.scalar(call.args[0], grid).values)


def scalar_of_vector(evaluation: Evaluation, call: Call, grid: TimeGrid) -> Value:
    """The value of the only sample of a step; NaN where there is none or more than one."""
    frame = evaluation.vector(call.args[0], grid)
    if not frame.series_count:
        return ScalarSeries(np.full(grid.count, np.nan))
    only = frame.values[frame.valid.argmax(axis=0), np.arange(grid.count)]
    return ScalarSeries(np.where(frame.valid.sum(axis=0) == 1, only, np.nan))
