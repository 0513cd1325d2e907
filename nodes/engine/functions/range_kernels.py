"""The range functions that there are: which kernel each runs, and with what arguments of its own.

Semantics are Prometheus's (https://prometheus.io/docs/prometheus/latest/querying/functions/). What they are called is
``function_specs``'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from filoray.cluster.errors import ExecutionError
from filoray.nodes.engine.functions.range_functions import Arguments, ExtendedRange, Param, RangeCall, RangeFunction
from filoray.nodes.kernels.query import order_statistics, over_time, rates, regressions
from filoray.nodes.kernels.query.over_time import Edge


def range_seconds(range_ms: int) -> float:
    """A range in seconds, rounded as Go's Duration.Seconds() rounds."""
    seconds, rest_ms = divmod(range_ms, 1000)
    return seconds + rest_ms * 1_000_000 / 1e9


def extrapolated(*, is_counter: bool, per_second: bool) -> RangeFunction:
    """rate(), increase() and delta()."""

    def divisor(call: RangeCall) -> float:
        return range_seconds(call.range_ms) if per_second else 1.0

    def extended_arguments(call: RangeCall) -> tuple[Any, ...]:
        return call.context.lookback_ms, divisor(call), is_counter, call.context.smoothed

    return RangeFunction(
        rates.extrapolated_rate,
        lambda call: (divisor(call), is_counter),
        extended=ExtendedRange(rates.extended_rate, extended_arguments, can_smooth=True),
        expects_counters=is_counter,
    )


def last_difference(*, per_second: bool) -> RangeFunction:
    """irate() and idelta()."""
    return RangeFunction(rates.last_difference, _constant(per_second))


def transitions(*, only_resets: bool) -> RangeFunction:
    """changes() and resets()."""

    def extended_arguments(call: RangeCall) -> tuple[Any, ...]:
        return call.context.lookback_ms, call.context.anchored, only_resets

    return RangeFunction(
        over_time.transitions,
        _constant(0, False, only_resets),
        extended=ExtendedRange(over_time.transitions, extended_arguments, can_smooth=False),
    )


def sums(*, mean: bool) -> RangeFunction:
    return RangeFunction(over_time.sum_over_time, _constant(mean))


def variances(*, root: bool) -> RangeFunction:
    return RangeFunction(over_time.variance_over_time, _constant(root))


def extremes(*, is_max: bool, want_times: bool = False) -> RangeFunction:
    return RangeFunction(over_time.extreme_over_time, _constant(is_max, want_times))


def edge(edge: Edge, *, keeps_name: bool = False) -> RangeFunction:
    """What can be told from where a window begins and ends."""
    return RangeFunction(over_time.edge_over_time, _constant(int(edge)), keeps_name=keeps_name)


def _constant(*arguments: Any) -> Arguments:
    return lambda call: arguments


def _check_factors(params: Sequence[Param], samples_per_step: NDArray[np.int64]) -> None:
    """Prometheus fails on a bad factor, but only where there is something to smooth."""
    for factor, kind in zip(params, ("smoothing", "trend"), strict=True):
        bad = ((factor <= 0) | (factor >= 1)) & (samples_per_step > 0)
        if bad.any():
            value = factor[bad][0]
            raise ExecutionError(f"invalid {kind} factor. Expected: 0 < {kind[0]}f < 1, got: {value:f}")


PRESENCE = edge(Edge.PRESENT)
SLOPE = RangeFunction(regressions.linear_regression, _constant(False, 0, 0, np.empty(0)))
PREDICTION = RangeFunction(
    regressions.linear_regression,
    lambda call: (True, call.grid.start_ms, call.grid.step_ms, call.params[0]),
    param_count=1,
    depends_on_step=True,
)
DOUBLE_EXPONENTIAL_SMOOTHING = RangeFunction(
    regressions.double_exponential_smoothing,
    lambda call: (call.params[0], call.params[1]),
    param_count=2,
    depends_on_step=True,
    check=_check_factors,
)
QUANTILE = RangeFunction(
    order_statistics.quantile_over_time, lambda call: (False, call.params[0]), param_count=1, depends_on_step=True
)
MEDIAN_DEVIATION = RangeFunction(order_statistics.quantile_over_time, _constant(True, np.empty(0)))
