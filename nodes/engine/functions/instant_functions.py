"""Functions of one vector and scalars that look at each sample by itself, and functions of scalars.

A table from name to numpy operation; Prometheus's promql/functions.go is the rule. All of them mark the metric
name for removal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from filoray.nodes.data.frame import Frame, ScalarSeries, TimeGrid, scalar_frame
from filoray.nodes.engine.functions.evaluation import Evaluation, Handler, Value
from filoray.nodes.kernels.query import elementwise
from filoray.nodes.promql.ast import Call

Values = NDArray[np.float64]

ELEMENTWISE: Mapping[str, Callable[[Values], Values]] = {
    "abs": np.abs,
    "ceil": np.ceil,
    "exp": elementwise.exponential,
    "floor": np.floor,
    "ln": elementwise.natural_logarithm,
    "log10": elementwise.decimal_logarithm,
    "log2": elementwise.binary_logarithm,
    "sgn": lambda values: np.where(values == 0, values, np.sign(values)),
    "sqrt": np.sqrt,
    "acos": elementwise.arc_cosine,
    "acosh": elementwise.hyperbolic_arc_cosine,
    "asin": elementwise.arc_sine,
    "asinh": elementwise.hyperbolic_arc_sine,
    "atan": elementwise.arc_tangent,
    "atanh": elementwise.hyperbolic_arc_tangent,
    "cos": elementwise.cosine,
    "cosh": elementwise.hyperbolic_cosine,
    "sin": elementwise.sine,
    "sinh": elementwise.hyperbolic_sine,
    "tan": elementwise.tangent,
    "tanh": elementwise.hyperbolic_tangent,
    "deg": lambda values: values * 180 / np.pi,
    "rad": lambda values: values * np.pi / 180,
}


def _dates(values: Values) -> NDArray[np.datetime64]:
    seconds = np.where(_fits_int64(values), values, 0.0)
    return np.trunc(seconds).astype(np.int64).astype("datetime64[s]")


def _fits_int64(values: Values) -> NDArray[np.bool_]:
    return np.abs(values) < 2.0**63


def _days_in_month(dates: NDArray[np.datetime64]) -> NDArray[np.int64]:
    months = dates.astype("datetime64[M]")
    days = (months + 1).astype("datetime64[D]") - months.astype("datetime64[D]")
    return np.asarray(days, np.int64)


def _since(dates: NDArray[np.datetime64], unit: str, start_unit: str) -> NDArray[np.int64]:
    """Whole units since the start of the larger unit."""
    return np.asarray(dates.astype(f"datetime64[{unit}]") - dates.astype(f"datetime64[{start_unit}]"), np.int64)


DATE_PARTS: Mapping[str, Callable[[NDArray[np.datetime64]], NDArray[np.int64]]] = {
    "days_in_month": _days_in_month,
    "day_of_month": lambda dates: _since(dates, "D", "M") + 1,
    # 1970-01-01 was a Thursday; Sunday is 0.
    "day_of_week": lambda dates: (dates.astype("datetime64[D]").astype(np.int64) + 4) % 7,
    "day_of_year": lambda dates: _since(dates, "D", "Y") + 1,
    "hour": lambda dates: _since(dates, "h", "D"),
    "minute": lambda dates: _since(dates, "m", "h"),
    "month": lambda dates: _since(dates, "M", "Y") + 1,
    "year": lambda dates: dates.astype("datetime64[Y]").astype(np.int64) + 1970,
}

OF_THE_LOWEST_INT64: Mapping[str, float] = {
    "days_in_month": 31,
    "day_of_month": 4,
    "day_of_week": 0,
    "day_of_year": 339,
    "hour": 15,
    "minute": 30,
    "month": 12,
    "year": 292277026596,
}
"""NaN, infinities and what is beyond int64 become the lowest int64 in Go (on amd64), which is this time."""


def renamed(frame: Frame, values: Values) -> Frame:
    """New values for the same samples; the metric name goes."""
    return Frame(frame.labels, values, frame.valid, np.ones(frame.series_count, np.bool_))


def _elementwise(evaluation: Evaluation, call: Call, grid: TimeGrid) -> Value:
    frame = evaluation.vector(call.args[0], grid)
    return renamed(frame, ELEMENTWISE[call.function](frame.values))


def _date_part(evaluation: Evaluation, call: Call, grid: TimeGrid) -> Value:
    if not call.args:
        return scalar_frame(DATE_PARTS[call.function](_dates(grid.times_ms() / 1000)).astype(np.float64))
    frame = evaluation.vector(call.args[0], grid)
    parts = DATE_PARTS[call.function](_dates(frame.values)).astype(np.float64)
    return renamed(frame, np.where(_fits_int64(frame.values), parts, OF_THE_LOWEST_INT64[call.function]))


def _round(evaluation: Evaluation, call: Call, grid: TimeGrid) -> Value:
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


def _clamp(evaluation: Evaluation, call: Call, grid: TimeGrid) -> Value:
    frame = evaluation.vector(call.args[0], grid)
    low, high = (evaluation.scalar(arg, grid).values for arg in call.args[1:])
    clamped = renamed(frame, _maximum(low, _minimum(high, frame.values)))
    if not (high < low).any():
        return clamped
    return Frame(
        clamped.labels, clamped.values, clamped.valid & ~(high < low), clamped.drop_name
    ).without_empty_series()


def _clamp_max(evaluation: Evaluation, call: Call, grid: TimeGrid) -> Value:
    frame = evaluation.vector(call.args[0], grid)
    return renamed(frame, _minimum(evaluation.scalar(call.args[1], grid).values, frame.values))


def _clamp_min(evaluation: Evaluation, call: Call, grid: TimeGrid) -> Value:
    frame = evaluation.vector(call.args[0], grid)
    return renamed(frame, _maximum(evaluation.scalar(call.args[1], grid).values, frame.values))


def _time(evaluation: Evaluation, call: Call, grid: TimeGrid) -> Value:
    return ScalarSeries(grid.times_ms() / 1000)


def _pi(evaluation: Evaluation, call: Call, grid: TimeGrid) -> Value:
    return ScalarSeries(np.full(grid.count, np.pi))


def _min_of(evaluation: Evaluation, call: Call, grid: TimeGrid) -> Value:
    left, right = (evaluation.scalar(arg, grid).values for arg in call.args)
    return ScalarSeries(np.minimum(left, right))


def _max_of(evaluation: Evaluation, call: Call, grid: TimeGrid) -> Value:
    left, right = (evaluation.scalar(arg, grid).values for arg in call.args)
    return ScalarSeries(np.maximum(left, right))


def _vector(evaluation: Evaluation, call: Call, grid: TimeGrid) -> Value:
    return scalar_frame(evaluation.scalar(call.args[0], grid).values)


def _scalar(evaluation: Evaluation, call: Call, grid: TimeGrid) -> Value:
    """The value of the only sample of a step; NaN where there is none or more than one."""
    frame = evaluation.vector(call.args[0], grid)
    if not frame.series_count:
        return ScalarSeries(np.full(grid.count, np.nan))
    only = frame.values[frame.valid.argmax(axis=0), np.arange(grid.count)]
    return ScalarSeries(np.where(frame.valid.sum(axis=0) == 1, only, np.nan))


INSTANT_HANDLERS: Mapping[str, Handler] = {
    **dict.fromkeys(ELEMENTWISE, _elementwise),
    **dict.fromkeys(DATE_PARTS, _date_part),
    "round": _round,
    "clamp": _clamp,
    "clamp_max": _clamp_max,
    "clamp_min": _clamp_min,
    "time": _time,
    "pi": _pi,
    "min_of": _min_of,
    "max_of": _max_of,
    "vector": _vector,
    "scalar": _scalar,
}
