"""Functions of histograms. filoray stores floats only, so these work on classic histograms: series by ``le``.

Functions of native histograms have nothing to work on and give empty results, as in Prometheus over floats.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from filoray.cluster.errors import ExecutionError
from filoray.nodes.data.frame import Frame, TimeGrid
from filoray.nodes.data.label_table import LabelTable
from filoray.nodes.data.matching import METRIC_NAME
from filoray.nodes.engine.annotations import AnnotationKind
from filoray.nodes.engine.functions.evaluation import Evaluation, Value
from filoray.nodes.engine.functions.range_vector_functions import warn_of_quantiles
from filoray.nodes.kernels.query import histograms as kernels
from filoray.nodes.kernels.query.histograms import BucketRows, HistogramQuantiles
from filoray.nodes.promql.ast import Call, Expr, Position
from filoray.nodes.promql.go_numbers import parse_float
from filoray.nodes.promql.number_format import format_float_g
from filoray.nodes.promql.quoting import is_valid_label_name

BUCKET_LABEL = "le"
_NO_BUCKET = -1


@dataclass(frozen=True, slots=True)
class _Histograms:
    """The classic histograms in a vector: their buckets, and their labels without ``le``."""

    values: NDArray[np.float64]
    valid: NDArray[np.bool_]
    buckets: BucketRows
    labels: LabelTable

    def frame(self, values: NDArray[np.float64], valid: NDArray[np.bool_], labels: LabelTable | None = None) -> Frame:
        names_go = np.ones(self.labels.count, np.bool_)
        return Frame(labels or self.labels, values, valid, names_go).without_empty_series()


def parse_bound(text: str) -> float | None:
    """Go's strconv.ParseFloat of a bucket label; None for what is no number."""
    try:
        return parse_float(text)
    except ValueError:
        return None


def _histograms(evaluation: Evaluation, frame: Frame, position: Position) -> _Histograms:
    column = frame.labels.columns.get(BUCKET_LABEL)
    values = (*column.values, "") if column else ("",)
    codes = column.codes if column else np.full(frame.series_count, -1)
    parsed = [parse_bound(value) for value in values]
    bounds = np.array([np.nan if bound is None else bound for bound in parsed])[codes]
    malformed = np.array([bound is None for bound in parsed])[codes]
    ids, labels = frame.labels.without((BUCKET_LABEL,)).grouped()
    if malformed.any():
        for row in np.flatnonzero(malformed & frame.valid.any(axis=1)).tolist():
            name = frame.labels.value(row, METRIC_NAME)
            text = frame.labels.value(row, BUCKET_LABEL)
            evaluation.annotations.add(AnnotationKind.BAD_BUCKET_LABEL, text, _for_metric(name), position=position)
        ids = np.where(malformed, _NO_BUCKET, ids)
    buckets = BucketRows.of(ids, bounds, labels.count)
    return _Histograms(np.ascontiguousarray(frame.values), np.ascontiguousarray(frame.valid), buckets, labels)


def _for_metric(name: str) -> str:
    return f' for metric name "{name}"' if name else ""


def _quantile_frame(
    evaluation: Evaluation,
    histograms: _Histograms,
    quantiles: NDArray[np.float64],
    grid: TimeGrid,
    position: Position,
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    result = kernels.histogram_quantiles(
        histograms.values, histograms.valid, histograms.buckets, np.ascontiguousarray(quantiles), evaluation.cancel.flag
    )
    evaluation.cancel.check()
    _tell_of_forced_monotonicity(evaluation, histograms, result, grid, position)
    return result.values, result.valid


def _tell_of_forced_monotonicity(
    evaluation: Evaluation, histograms: _Histograms, result: HistogramQuantiles, grid: TimeGrid, position: Position
) -> None:
    """One info for each metric whose bucket counts fell: where, how much, how often and when."""
    forced = np.flatnonzero(result.forced_monotonic.any(axis=1))
    if not len(forced):
        return
    names = np.array([histograms.labels.value(row, METRIC_NAME) for row in forced.tolist()])
    for name in dict.fromkeys(names.tolist()):
        rows = forced[names == name]
        cells = result.forced_monotonic[rows]
        times_ms = grid.times_ms()[cells.any(axis=0)]
        details = (
            f"from buckets {format_float_g(float(result.lowest_forced_bound[rows].min()))} to "
            f"{format_float_g(float(result.highest_forced_bound[rows].max()))}, with a max diff of "
            f"{result.largest_fall[rows].max():.2g}, over {int(cells.sum())} samples from "
            f"{_utc(int(times_ms[0]))} to {_utc(int(times_ms[-1]))}"
        )
        evaluation.annotations.add(AnnotationKind.FORCED_MONOTONICITY, _for_metric(name), details, position=position)


def _utc(time_ms: int) -> str:
    return f"{np.datetime64(time_ms // 1000, 's')}Z"


def histogram_quantile(evaluation: Evaluation, call: Call, grid: TimeGrid) -> Value:
    quantiles = evaluation.scalar(call.args[0], grid).values
    warn_of_quantiles(evaluation, quantiles, call.args[0].position)
    frame = evaluation.vector(call.args[1], grid)
    histograms = _histograms(evaluation, frame, call.args[1].position)
    return histograms.frame(*_quantile_frame(evaluation, histograms, quantiles, grid, call.args[1].position))


def histogram_quantiles(evaluation: Evaluation, call: Call, grid: TimeGrid) -> Value:
    """One series for each histogram and quantile; the quantile is a label."""
    label = evaluation.string(call.args[1])
    if not is_valid_label_name(label):
        raise ExecutionError(f"invalid label name in histogram_quantiles(): {label}")
    frame = evaluation.vector(call.args[0], grid)
    position = call.args[0].position
    histograms = _histograms(evaluation, frame, position)
    parts = [_labelled(evaluation, histograms, label, arg, grid, position) for arg in call.args[2:]]
    return Frame.concat([part for several in parts for part in several] or [Frame.empty(grid.count)])


def _labelled(
    evaluation: Evaluation, histograms: _Histograms, label: str, arg: Expr, grid: TimeGrid, position: Position
) -> list[Frame]:
    quantiles = evaluation.scalar(arg, grid).values
    warn_of_quantiles(evaluation, quantiles, arg.position)
    values, valid = _quantile_frame(evaluation, histograms, quantiles, grid, position)
    frames = []
    texts = [open_metrics_float(quantile) for quantile in quantiles.tolist()]
    for text in dict.fromkeys(texts):
        steps = np.array([other == text for other in texts])
        labels = histograms.labels.with_values(label, [text] * histograms.labels.count)
        frames.append(histograms.frame(values, valid & steps, labels))
    return frames


def open_metrics_float(value: float) -> str:
    """Prometheus's FormatOpenMetricsFloat: always with a point or an exponent."""
    text = format_float_g(value + 0.0)  # no negative zero
    return text if any(mark in text for mark in "e.IN") else f"{text}.0"


def histogram_fraction(evaluation: Evaluation, call: Call, grid: TimeGrid) -> Value:
    lower, upper = (np.ascontiguousarray(evaluation.scalar(arg, grid).values) for arg in call.args[:2])
    frame = evaluation.vector(call.args[2], grid)
    histograms = _histograms(evaluation, frame, call.args[2].position)
    values, valid = kernels.histogram_fractions(
        histograms.values, histograms.valid, histograms.buckets, lower, upper, evaluation.cancel.flag
    )
    evaluation.cancel.check()
    return histograms.frame(values, valid)


def of_native_histograms(evaluation: Evaluation, call: Call, grid: TimeGrid) -> Value:
    evaluation.vector(call.args[0], grid)
    return Frame.empty(grid.count)
