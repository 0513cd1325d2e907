"""Functions of range vectors: SeriesBatch in, a Frame of one value per window out.

One table, name -> kernel and how its arguments are put. Semantics are Prometheus's
(https://prometheus.io/docs/prometheus/latest/querying/functions/); the arithmetic is in ``filoray.nodes.kernels``.
Subqueries arrive here as a SeriesBatch, like selectors. absent_over_time() is the evaluator's, as its labels come
from the matchers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from filoray.cluster.errors import ExecutionError
from filoray.nodes.data.cancel_token import CancelFlag
from filoray.nodes.data.frame import TimeGrid
from filoray.nodes.data.series_batch import SeriesBatch, series_arrays
from filoray.nodes.engine.sampled_frame import SampledColumns, SampledFrame
from filoray.nodes.kernels.arrays import floats
from filoray.nodes.kernels.query import order_statistics, over_time, rates, regressions
from filoray.nodes.kernels.query.over_time import Edge
from filoray.nodes.kernels.query.windows import without_stale_markers

Param = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class RangeContext:
    """How a range selector was written.

    ``anchored``, ``smoothed``: extended range selectors; ``lookback_ms`` is how far they look beyond the window, and
    the batch must hold those samples. ``at_ms``: the ``@`` modifier, the windows end there (less the offset) at every
    step. ``cancelled`` uint8[1]: another thread sets it to stop the kernel; the result is void then.
    """

    anchored: bool = False
    smoothed: bool = False
    lookback_ms: int = 300_000
    at_ms: int | None = None
    cancelled: CancelFlag = field(default_factory=lambda: np.zeros(1, np.uint8))


@dataclass(frozen=True, slots=True)
class _Call:
    """All that an argument rule may need."""

    grid: TimeGrid
    range_ms: int
    params: Sequence[Param]
    context: RangeContext


@dataclass(frozen=True, slots=True)
class RangeFunction:
    """``kernel`` runs over (series, windows, ``arguments(call)``, results).

    ``extended_kernel`` takes its place for ``anchored`` and ``smoothed`` ranges; functions without one ignore those
    modifiers, as the parser refuses them there. ``keeps_name``: the metric name stays. ``depends_on_step``: the
    result of one and the same window differs by step.
    """

    name: str
    kernel: Callable[..., None]
    arguments: Callable[[_Call], tuple[Any, ...]]
    param_count: int = 0
    extended_kernel: Callable[..., None] | None = None
    extended_arguments: Callable[[_Call], tuple[Any, ...]] | None = None
    keeps_name: bool = False
    depends_on_step: bool = False


def range_seconds(range_ms: int) -> float:
    """A range in seconds, rounded as Go's Duration.Seconds() rounds."""
    seconds, rest_ms = divmod(range_ms, 1000)
    return seconds + rest_ms * 1_000_000 / 1e9


def _constant(*arguments: Any) -> Callable[[_Call], tuple[Any, ...]]:
    return lambda call: arguments


def _rate(name: str, *, is_counter: bool, is_rate: bool) -> RangeFunction:
    def divisor(call: _Call) -> float:
        return range_seconds(call.range_ms) if is_rate else 1.0

    return RangeFunction(
        name,
        rates.extrapolated_rate,
        lambda call: (divisor(call), is_counter),
        extended_kernel=rates.extended_rate,
        extended_arguments=lambda call: (
            call.context.lookback_ms,
            divisor(call),
            is_counter,
            call.context.smoothed,
        ),
    )


def _transitions(name: str, *, only_resets: bool) -> RangeFunction:
    return RangeFunction(
        name,
        over_time.transitions,
        _constant(0, False, only_resets),
        extended_kernel=over_time.transitions,
        extended_arguments=lambda call: (call.context.lookback_ms, call.context.anchored, only_resets),
    )


def _edge(name: str, edge: Edge, *, keeps_name: bool = False) -> RangeFunction:
    return RangeFunction(name, over_time.edge_over_time, _constant(int(edge)), keeps_name=keeps_name)


def _prediction(call: _Call) -> tuple[Any, ...]:
    return True, call.grid.start_ms, call.grid.step_ms, call.params[0]


def _no_prediction(call: _Call) -> tuple[Any, ...]:
    return False, 0, 0, np.empty(0)


_FUNCTIONS = (
    _rate("rate", is_counter=True, is_rate=True),
    _rate("increase", is_counter=True, is_rate=False),
    _rate("delta", is_counter=False, is_rate=False),
    RangeFunction("irate", rates.last_difference, _constant(True)),
    RangeFunction("idelta", rates.last_difference, _constant(False)),
    _transitions("changes", only_resets=False),
    _transitions("resets", only_resets=True),
    RangeFunction("deriv", regressions.linear_regression, _no_prediction),
    RangeFunction("predict_linear", regressions.linear_regression, _prediction, param_count=1, depends_on_step=True),
    RangeFunction(
        "double_exponential_smoothing",
        regressions.double_exponential_smoothing,
        lambda call: (call.params[0], call.params[1]),
        param_count=2,
        depends_on_step=True,
    ),
    RangeFunction("sum_over_time", over_time.sum_over_time, _constant(False)),
    RangeFunction("avg_over_time", over_time.sum_over_time, _constant(True)),
    RangeFunction("stddev_over_time", over_time.variance_over_time, _constant(True)),
    RangeFunction("stdvar_over_time", over_time.variance_over_time, _constant(False)),
    RangeFunction("min_over_time", over_time.extreme_over_time, _constant(False, False)),
    RangeFunction("max_over_time", over_time.extreme_over_time, _constant(True, False)),
    RangeFunction("ts_of_min_over_time", over_time.extreme_over_time, _constant(False, True)),
    RangeFunction("ts_of_max_over_time", over_time.extreme_over_time, _constant(True, True)),
    _edge("count_over_time", Edge.COUNT),
    _edge("present_over_time", Edge.PRESENT),
    _edge("first_over_time", Edge.FIRST, keeps_name=True),
    _edge("last_over_time", Edge.LAST, keeps_name=True),
    _edge("ts_of_first_over_time", Edge.FIRST_TIME),
    _edge("ts_of_last_over_time", Edge.LAST_TIME),
    RangeFunction(
        "quantile_over_time",
        order_statistics.quantile_over_time,
        lambda call: (False, call.params[0]),
        param_count=1,
        depends_on_step=True,
    ),
    RangeFunction("mad_over_time", order_statistics.quantile_over_time, _constant(True, np.empty(0))),
)

RANGE_FUNCTIONS: Mapping[str, RangeFunction] = MappingProxyType({function.name: function for function in _FUNCTIONS})
"""All functions of one range vector, by PromQL name."""


def apply_range_function(
    name: str,
    batch: SeriesBatch,
    grid: TimeGrid,
    range_ms: int,
    offset_ms: int,
    params: Sequence[Param] = (),
    context: RangeContext | None = None,
) -> SampledFrame:
    """One value per series and step t from the samples in (t - offset - range, t - offset].

    ``params``: the scalar arguments in PromQL's order, each float64[steps]. Staleness markers are no samples.
    ``drop_name`` is True but for first_over_time and last_over_time. Raises KeyError for an unknown name and
    ExecutionError for smoothing factors outside of (0, 1).
    """
    function = RANGE_FUNCTIONS[name]
    if len(params) != function.param_count:
        raise ValueError(f"{name} takes {function.param_count} scalar arguments, got {len(params)}")
    context = context or RangeContext()
    params = [floats(param) for param in params]
    call = _Call(grid, range_ms, params, context)
    offsets, timestamps, values = without_stale_markers(*series_arrays(batch))
    count = batch.labels.count
    at_once = context.at_ms is not None and not function.depends_on_step
    steps = min(grid.count, 1) if at_once else grid.count
    first_end_ms = (grid.start_ms if context.at_ms is None else context.at_ms) - offset_ms
    step_ms = grid.step_ms if context.at_ms is None else 0
    columns = SampledColumns.empty(count, steps)
    if count and steps:
        kernel, arguments = function.kernel, function.arguments
        extended = context.anchored or context.smoothed
        if extended and function.extended_kernel is not None and function.extended_arguments is not None:
            kernel, arguments = function.extended_kernel, function.extended_arguments
        kernel(
            offsets,
            timestamps,
            values,
            first_end_ms,
            step_ms,
            range_ms,
            *arguments(call),
            columns.values,
            columns.valid,
            columns.samples_per_step,
            context.cancelled,
        )
    if name == "double_exponential_smoothing":
        _check_factors(params, columns.samples_per_step)
    return columns.sampled(batch.labels, np.full(count, not function.keeps_name), grid.count)


def _check_factors(params: Sequence[Param], samples_per_step: NDArray[np.int64]) -> None:
    """Prometheus fails on a bad factor, but only where there is something to smooth."""
    for factor, kind in zip(params, ("smoothing", "trend"), strict=True):
        bad = ((factor <= 0) | (factor >= 1)) & (samples_per_step > 0)
        if bad.any():
            value = factor[bad][0]
            raise ExecutionError(f"invalid {kind} factor. Expected: 0 < {kind[0]}f < 1, got: {value:f}")
