"""Instant selectors: samples in, a Frame of the newest sample at each step out.

Shapes the arrays, calls the kernels of ``filoray.nodes.kernels.query.selection`` and leaves it to the evaluator to
look at the cancel token afterwards. Which series match is the storage's business.
"""

from __future__ import annotations

import numpy as np

from filoray.nodes.data.cancel_token import CancelFlag
from filoray.nodes.data.frame import Frame, TimeGrid
from filoray.nodes.data.series_batch import SeriesBatch
from filoray.nodes.engine.sampled_frame import SampledFrame, sampled
from filoray.nodes.kernels.query.records import Results, Samples, Windows
from filoray.nodes.kernels.query.selection import newest_samples, smoothed_samples
from filoray.nodes.kernels.query.windows import without_stale_markers

_NEVER: CancelFlag = np.zeros(1, np.uint8)


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
) -> SampledFrame:
    """The newest sample of each series in (t - offset - lookback, t - offset] at each step t.

    ``at_ms``: take it at this time at every step (the ``@`` modifier). ``smoothed``: interpolate between the samples
    around the time, up to a lookback away on either side. ``want_times``: sample times in seconds instead of values
    (not with ``smoothed``). ``drop_name`` is False. Void if ``cancelled`` (uint8[1]) was set meanwhile.
    """
    samples = Samples.of(batch.offsets, batch.timestamps, batch.values)
    windows = Windows((grid.start_ms if at_ms is None else at_ms) - offset_ms, grid.step_ms, lookback_ms)
    steps = grid.count if at_ms is None else min(grid.count, 1)
    count = batch.labels.count
    results = Results.empty(count, steps, _NEVER if cancelled is None else cancelled)
    if count and steps:
        if smoothed:
            smoothed_samples(without_stale_markers(samples), windows, results)
        else:
            newest_samples(samples, windows, want_times, results)
    return sampled(results, batch.labels, np.zeros(count, np.bool_), grid.count)


def select_instant(batch: SeriesBatch, grid: TimeGrid, lookback_ms: int, offset_ms: int) -> Frame:
    """The newest sample in (t - offset - lookback, t - offset] at each step; after a staleness marker there is none."""
    return select_samples(batch, grid, lookback_ms, offset_ms).frame
