"""The leaves of an evaluation: selectors and the range functions over them or over subqueries.

Reads a SeriesSource, enforces what a query may read, and counts what it did. The arithmetic is in
``functions.range_functions`` and ``selection``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from filoray.nodes.data.cancel_token import CancelToken
from filoray.nodes.data.frame import BoolArray, Frame, TimeGrid, scalar_frame
from filoray.nodes.data.label_table import LabelTable
from filoray.nodes.data.matching import LabelMatcher
from filoray.nodes.data.series_batch import SeriesBatch, SeriesSource
from filoray.nodes.engine.annotations import AnnotationKind, Annotations
from filoray.nodes.engine.evaluate.selection import select_samples
from filoray.nodes.engine.evaluation_times import pinned_grid, subquery_grid, window_span
from filoray.nodes.engine.functions.evaluation import Evaluation
from filoray.nodes.engine.functions.range_functions import RangeContext, RangeFunction, apply_range_function
from filoray.nodes.engine.metric_names import distinct_names, with_names_removed
from filoray.nodes.engine.query_params import EvalLimits
from filoray.nodes.engine.sampled_frame import SampledFrame
from filoray.nodes.kernels.query.records import Samples
from filoray.nodes.kernels.query.windows import without_stale_markers
from filoray.nodes.promql.ast import MatrixSelector, Position, Subquery, VectorSelector

COUNTER_SUFFIXES = ("_total", "_sum", "_count", "_bucket")
SUBQUERY_POSITION = Position(0, 0)
"""Annotations about a subquery's windows point to the start of the query, as Prometheus's do."""


@dataclass(frozen=True, slots=True)
class _Windows:
    """A range vector before a function is applied: samples and where the windows lie."""

    batch: SeriesBatch
    range_ms: int
    offset_ms: int
    at_ms: int | None
    drop_name: BoolArray | None
    position: Position
    anchored: bool = False
    smoothed: bool = False


class Leaves:
    """``queryable_samples`` counts what windows and instants contained, as Prometheus's totalQueryableSamples."""

    def __init__(
        self,
        source: SeriesSource,
        lookback_ms: int,
        limits: EvalLimits,
        cancel: CancelToken,
        annotations: Annotations,
    ) -> None:
        self.source = source
        self.lookback_ms = lookback_ms
        self.limits = limits
        self.cancel = cancel
        self.annotations = annotations
        self.queryable_samples = 0
        self.loaded_samples = 0

    def instant(self, selector: VectorSelector, grid: TimeGrid, *, want_times: bool = False) -> Frame:
        """The newest samples (or their times in seconds) of a selector at each step."""
        ahead_ms = self.lookback_ms if selector.smoothed else 0
        batch = self._select(selector, grid, self.lookback_ms, ahead_ms)
        self.limits.check_matrix(batch.labels.count, grid.count)
        result = select_samples(
            batch,
            grid,
            self.lookback_ms,
            selector.time.offset_ms,
            at_ms=selector.time.at_ms,
            smoothed=selector.smoothed,
            want_times=want_times,
            cancelled=self.cancel.flag,
        )
        self.cancel.check()
        self.queryable_samples += result.samples
        return result.frame.without_empty_series()

    def raw(self, selector: MatrixSelector, grid: TimeGrid) -> SeriesBatch:
        """All samples in the windows of a range vector, without staleness markers; no empty series."""
        result = non_empty(without_markers(self._select_windows(selector, grid)))
        self.queryable_samples += len(result.timestamps)
        return result

    def range_function(
        self,
        function: RangeFunction,
        argument: MatrixSelector | Subquery,
        params: Sequence[NDArray[np.float64]],
        grid: TimeGrid,
        evaluation: Evaluation,
    ) -> SampledFrame:
        """A function over the windows of each step: the series with a result, and how many samples each step saw."""
        windows = self._windows(argument, grid, evaluation)
        self.limits.check_matrix(windows.batch.labels.count, grid.count)
        context = RangeContext(
            windows.anchored, windows.smoothed, self.lookback_ms, windows.at_ms, cancelled=self.cancel.flag
        )
        result = apply_range_function(
            function, windows.batch, grid, windows.range_ms, windows.offset_ms, params, context
        )
        self.cancel.check()
        self.queryable_samples += result.samples
        evaluation.hold(len(windows.batch.timestamps) + result.frame.valid.size)
        frame = result.frame
        if windows.drop_name is not None:
            frame = Frame(frame.labels, frame.values, frame.valid, frame.drop_name | windows.drop_name)
        frame = frame.without_empty_series()
        if function.expects_counters:
            self._doubt_counters(frame.labels, windows.position)
        return SampledFrame(frame, result.samples_per_step)

    def _doubt_counters(self, labels: LabelTable, position: Position) -> None:
        for metric in distinct_names(labels):
            if not metric.endswith(COUNTER_SUFFIXES):
                self.annotations.add(AnnotationKind.POSSIBLE_NON_COUNTER, metric, position=position)

    def _windows(self, argument: MatrixSelector | Subquery, grid: TimeGrid, evaluation: Evaluation) -> _Windows:
        time = argument.time if isinstance(argument, Subquery) else argument.selector.time
        if isinstance(argument, Subquery):
            frame = self._subquery_frame(argument, grid, evaluation)
            batch = batch_of(frame, subquery_grid(argument, grid))
            return _Windows(batch, argument.range_ms, time.offset_ms, time.at_ms, frame.drop_name, SUBQUERY_POSITION)
        selector = argument.selector
        batch = self._select_windows(argument, grid)
        return _Windows(
            batch,
            argument.range_ms,
            time.offset_ms,
            time.at_ms,
            None,
            argument.position,
            selector.anchored,
            selector.smoothed,
        )

    def _subquery_frame(self, subquery: Subquery, grid: TimeGrid, evaluation: Evaluation) -> Frame:
        inner_grid = subquery_grid(subquery, grid)
        if inner_grid.count <= 0:
            return Frame.empty(0)
        self.limits.check_matrix(1, inner_grid.count)
        value = evaluation.evaluate(subquery.expr, inner_grid)
        if isinstance(value, Frame):
            return value
        assert not isinstance(value, SeriesBatch | str)
        return scalar_frame(value.values)

    def subquery_samples(self, subquery: Subquery, grid: TimeGrid, evaluation: Evaluation) -> SeriesBatch:
        """A subquery as an instant query's result: the points of its one window."""
        frame = self._subquery_frame(subquery, TimeGrid(grid.start_ms, grid.step_ms, 1), evaluation)
        return non_empty(batch_of(with_names_removed(frame), subquery_grid(subquery, grid)))

    def _select_windows(self, argument: MatrixSelector, grid: TimeGrid) -> SeriesBatch:
        selector = argument.selector
        start_ms, end_ms = window_span(argument, grid, self.lookback_ms)
        return self.select(selector.matchers, start_ms, end_ms)

    def _select(self, selector: VectorSelector, grid: TimeGrid, behind_ms: int, ahead_ms: int) -> SeriesBatch:
        times = pinned_grid(selector.time, grid)
        offset_ms = selector.time.offset_ms
        return self.select(
            selector.matchers, times.start_ms - offset_ms - behind_ms + 1, times.end_ms - offset_ms + ahead_ms
        )

    def select(self, matchers: Sequence[LabelMatcher], start_ms: int, end_ms: int) -> SeriesBatch:
        """Samples with ``start_ms <= t <= end_ms``, within the limits. Storage warnings become annotations."""
        batch = self.source.select(matchers, start_ms, end_ms)
        self.cancel.check()
        self.loaded_samples += len(batch.timestamps)
        self.limits.check_samples(self.loaded_samples)
        self.limits.check_series(batch.labels.count)
        for warning in batch.warnings:
            self.annotations.add(AnnotationKind.STORAGE_WARNING, warning)
        return batch


def batch_of(frame: Frame, grid: TimeGrid) -> SeriesBatch:
    """The samples of a Frame with their times, as range functions take them."""
    offsets = np.zeros(frame.series_count + 1, np.int64)
    np.cumsum(frame.valid.sum(axis=1), out=offsets[1:])
    times = np.broadcast_to(grid.times_ms(), frame.valid.shape) if frame.series_count else np.empty((0, 0), np.int64)
    if not frame.series_count:
        return SeriesBatch(frame.labels, offsets, np.empty(0, np.int64), np.empty(0))
    return SeriesBatch(frame.labels, offsets, times[frame.valid], frame.values[frame.valid])


def without_markers(batch: SeriesBatch) -> SeriesBatch:
    samples = Samples.of(batch.offsets, batch.timestamps, batch.values)
    fresh = without_stale_markers(samples)
    return batch if fresh is samples else SeriesBatch(batch.labels, *fresh, batch.warnings)


def non_empty(batch: SeriesBatch) -> SeriesBatch:
    """The batch without series that have no samples."""
    kept = np.diff(batch.offsets) > 0
    if kept.all():
        return batch
    offsets = np.r_[0, np.cumsum(np.diff(batch.offsets)[kept])].astype(np.int64)
    return SeriesBatch(batch.labels.take(kept), offsets, batch.timestamps, batch.values, batch.warnings)
