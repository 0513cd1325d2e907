"""Functions of range vectors: SeriesBatch in, a Frame of one value per window out.

What one of them is: a kernel and how its arguments are put. Which there are is in ``range_kernels``, what they are
called in ``function_specs``; the arithmetic is in ``filoray.nodes.kernels``. Subqueries arrive here as a SeriesBatch,
like selectors. absent_over_time() is no such function, as its labels come from the matchers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from filoray.nodes.data.cancel_token import CancelFlag
from filoray.nodes.data.frame import TimeGrid
from filoray.nodes.data.series_batch import SeriesBatch
from filoray.nodes.engine.sampled_frame import SampledFrame, sampled
from filoray.nodes.kernels.arrays import floats
from filoray.nodes.kernels.query.records import Results, Samples, Windows
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
class RangeCall:
    """All that an argument rule may need."""

    grid: TimeGrid
    range_ms: int
    params: Sequence[Param]
    context: RangeContext


Arguments = Callable[[RangeCall], tuple[Any, ...]]
"""A kernel's own arguments, between Windows and Results."""


@dataclass(frozen=True, slots=True)
class ExtendedRange:
    """What takes a kernel's place for ``anchored`` ranges, and where it ``can_smooth`` for ``smoothed`` ones."""

    kernel: Callable[..., None]
    arguments: Arguments
    can_smooth: bool


@dataclass(frozen=True, slots=True)
class RangeFunction:
    """``kernel`` runs over (Samples, Windows, ``arguments(call)``, Results).

    ``extended``: None if it knows nothing of samples from beyond the window; the planner refuses such modifiers there.
    ``keeps_name``: the metric name stays. ``depends_on_step``: the result of one and the same window differs by step.
    ``expects_counters``: whoever applies it to what is not called like a counter is told so. ``check``: of the
    parameters and how many samples each step saw; raises ExecutionError.
    """

    kernel: Callable[..., None]
    arguments: Arguments
    param_count: int = 0
    extended: ExtendedRange | None = None
    keeps_name: bool = False
    depends_on_step: bool = False
    expects_counters: bool = False
    check: Callable[[Sequence[Param], NDArray[np.int64]], None] | None = None


def apply_range_function(
    function: RangeFunction,
    batch: SeriesBatch,
    grid: TimeGrid,
    range_ms: int,
    offset_ms: int,
    params: Sequence[Param] = (),
    context: RangeContext | None = None,
) -> SampledFrame:
    """One value per series and step t from the samples in (t - offset - range, t - offset].

    ``params``: the scalar arguments in PromQL's order, each float64[steps]. Staleness markers are no samples.
    ``drop_name`` is True unless the function keeps names. Raises ExecutionError as the function's ``check`` does.
    """
    if len(params) != function.param_count:
        raise ValueError(f"the function takes {function.param_count} scalar arguments, got {len(params)}")
    context = context or RangeContext()
    params = [floats(param) for param in params]
    call = RangeCall(grid, range_ms, params, context)
    samples = without_stale_markers(Samples.of(batch.offsets, batch.timestamps, batch.values))
    count = batch.labels.count
    at_once = context.at_ms is not None and not function.depends_on_step
    steps = min(grid.count, 1) if at_once else grid.count
    first_end_ms = (grid.start_ms if context.at_ms is None else context.at_ms) - offset_ms
    windows = Windows(first_end_ms, grid.step_ms if context.at_ms is None else 0, range_ms)
    results = Results.empty(count, steps, context.cancelled)
    if count and steps:
        kernel, arguments = function.kernel, function.arguments
        if function.extended is not None and (context.anchored or context.smoothed):
            kernel, arguments = function.extended.kernel, function.extended.arguments
        kernel(samples, windows, *arguments(call), results)
    if function.check is not None:
        function.check(params, results.samples_per_step)
    return sampled(results, batch.labels, np.full(count, not function.keeps_name), grid.count)
