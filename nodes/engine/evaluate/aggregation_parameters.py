"""What is wrong with the parameter of an aggregation: checks and messages of Prometheus's rangeEvalAgg
(promql/engine.go).

Of scalars over all steps. Warnings are returned, what cannot be used raises ExecutionError.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from filoray.cluster.errors import ExecutionError
from filoray.nodes.engine.annotations import AnnotationKind
from filoray.nodes.promql.number_format import format_float_g
from filoray.nodes.promql.quoting import is_valid_label_name, quote

Warnings = list[tuple[AnnotationKind, tuple[str, ...]]]
_MAX_INT64 = 2.0**63


def checked_label(label: str) -> str:
    """count_values' label name; raises ExecutionError if it is none."""
    if not is_valid_label_name(label):
        raise ExecutionError(f"invalid label name {quote(label)}")
    return label


def check_quantiles(values: NDArray[np.float64]) -> Warnings:
    extremes = _Extremes.of(values)
    kind = AnnotationKind.INVALID_QUANTILE
    warnings: Warnings = []
    if extremes.has_nan:
        warnings.append((kind, ("NaN",)))
    if extremes.highest > 1:
        warnings.append((kind, (format_float_g(extremes.highest),)))
    if extremes.lowest < 0:
        warnings.append((kind, (format_float_g(extremes.lowest),)))
    return warnings


def check_ratios(values: NDArray[np.float64]) -> Warnings:
    extremes = _Extremes.of(values)
    if extremes.has_nan:
        raise ExecutionError("Ratio value is NaN")
    kind = AnnotationKind.INVALID_RATIO
    warnings: Warnings = []
    if extremes.highest > 1:
        warnings.append((kind, (format_float_g(extremes.highest), "1")))
    if extremes.lowest < -1:
        warnings.append((kind, (format_float_g(extremes.lowest), "-1")))
    return warnings


def check_counts(values: NDArray[np.float64]) -> Warnings:
    extremes = _Extremes.of(values)
    if extremes.has_nan:
        raise ExecutionError("Parameter value is NaN")
    if extremes.highest < 1:
        return []
    if extremes.lowest <= -_MAX_INT64:
        raise ExecutionError(f"Scalar value {format_float_g(extremes.lowest)} underflows int64")
    if extremes.highest >= _MAX_INT64:
        raise ExecutionError(f"Scalar value {format_float_g(extremes.highest)} overflows int64")
    return []


@dataclass(frozen=True, slots=True)
class _Extremes:
    has_nan: bool
    highest: float
    lowest: float

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> _Extremes:
        """Of at least one. Of steps that hold NaN there is no extreme, unless an infinity outdoes it (Go's math.Max
        and math.Min)."""
        highest = math.inf if (values == math.inf).any() else float(np.max(values))
        lowest = -math.inf if (values == -math.inf).any() else float(np.min(values))
        return cls(bool(np.isnan(values).any()), highest, lowest)
