"""Instant selectors: samples in, a Frame of the newest sample at each step out.

Shapes the arrays, calls the kernels of ``filoray.nodes.kernels.query.selection`` and leaves it to the evaluator to
look at the cancel token afterwards. Which series match is the storage's business.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from filoray.nodes.data.cancel_token import CancelFlag
from filoray.nodes.data.frame import Frame, TimeGrid
from filoray.nodes.data.series_batch import SeriesBatch
from filoray.nodes.kernels.arrays import floats, ints
from filoray.nodes.kernels.query.selection import newest_samples, smoothed_samples
from filoray.nodes.kernels.query.windows import without_stale_markers

_NEVER: CancelFlag = np.zeros(1, np.uint8)


@dataclass(frozen=True, slots=True)
class SelectResult:
    """``frame`` keeps all series, also those without any valid step.

    ``samples_per_step`` int64[steps]: what Prometheus counts as queryable samples.
    """

    frame: Frame
    samples_per_step: NDArray[np.int64]

    @property
    def samples(self) -> int:
        return int(self.samples_per_step.sum())


def series_arrays(batch: SeriesBatch) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Offsets, timestamps and values as kernels take them: contiguous and aligned, copied only where they are not."""
    return ints(batch.offsets), ints(batch.timestamps), floats(batch.values)


def select_samples(
    batch: SeriesBatch,
    grid: TimeGrid,
    lookback_ms: int,
    offset_ms: int = 0,
    *,
    at_ms: int | None = None,
    smoothed: bool = False,
    want_times: bool = False,
    cancelled: CancelFlag | None = None,
) -> SelectResult:
    """The newest sample of each series in (t - offset - lookback, t - offset] at each step t.

    ``at_ms``: take it at this time at every step (the ``@`` modifier). ``smoothed``: interpolate between the samples
    around the time, up to a lookback away on either side. ``want_times``: sample times in seconds instead of values
    (not with ``smoothed``). ``drop_name`` is False. Void if ``cancelled`` (uint8[1]) was set meanwhile.
    """
    offsets, timestamps, values = series_arrays(batch)
    first_end_ms = (grid.start_ms if at_ms is None else at_ms) - offset_ms
    computed_steps = grid.count if at_ms is None else min(grid.count, 1)
    count = batch.labels.count
    out_values = np.empty((count, computed_steps))
    out_valid = np.empty((count, computed_steps), np.bool_)
    samples_per_step = np.zeros(computed_steps, np.int64)
    flag = _NEVER if cancelled is None else cancelled
    if count and computed_steps:
        if smoothed:
            offsets, timestamps, values = without_stale_markers(offsets, timestamps, values)
            smoothed_samples(
                offsets,
                timestamps,
                values,
                first_end_ms,
                grid.step_ms,
                lookback_ms,
                out_values,
                out_valid,
                samples_per_step,
                flag,
            )
        else:
            newest_samples(
                offsets,
                timestamps,
                values.view(np.int64),
                first_end_ms,
                grid.step_ms,
                lookback_ms,
                want_times,
                out_values,
                out_valid,
                samples_per_step,
                flag,
            )
    if computed_steps != grid.count:
        out_values, out_valid = repeated(out_values, grid.count), repeated(out_valid, grid.count)
        samples_per_step = np.repeat(samples_per_step, grid.count)
    frame = Frame(batch.labels, out_values, out_valid, np.zeros(count, np.bool_))
    return SelectResult(frame, samples_per_step)


def repeated(column: NDArray[Any], steps: int) -> NDArray[Any]:
    """[n, 1] as a contiguous [n, steps]."""
    return np.repeat(column, steps, axis=1)
