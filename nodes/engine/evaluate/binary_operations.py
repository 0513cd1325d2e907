"""Binary operators on scalars and on vectors with scalars; the arithmetic that vector matching uses too.

All as in Prometheus's vectorElemBinop: comparisons filter unless ``bool`` is said, arithmetic and ``bool``
mark the metric name for removal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from filoray.nodes.data.frame import Frame, ScalarSeries
from filoray.nodes.kernels.query import elementwise

Values = NDArray[np.float64]


def _modulo(left: Values, right: Values) -> Values:
    """Go's math.Mod: the sign of the dividend; NaN for an infinite dividend or a zero divisor."""
    return np.fmod(left, right)


ARITHMETIC: Mapping[str, Callable[[Values, Values], Values]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    "%": _modulo,
    "^": elementwise.power,
    "atan2": elementwise.arc_tangent_of_two,
}

COMPARISONS: Mapping[str, Callable[[Values, Values], NDArray[np.bool_]]] = {
    "==": np.equal,
    "!=": np.not_equal,
    ">": np.greater,
    "<": np.less,
    ">=": np.greater_equal,
    "<=": np.less_equal,
}

HISTOGRAM_OPERATORS = frozenset({"</", ">/"})
"""Trimming of native histograms; the evaluator deals with them, as filoray has floats only."""


def scalar_operation(op: str, left: ScalarSeries, right: ScalarSeries) -> ScalarSeries:
    """Comparisons of scalars give 0 or 1 (the parser insists on ``bool``)."""
    compare = COMPARISONS.get(op)
    if compare is not None:
        return ScalarSeries(compare(left.values, right.values).astype(np.float64))
    return ScalarSeries(ARITHMETIC[op](left.values, right.values))


def vector_scalar_operation(op: str, vector: Frame, scalar: ScalarSeries, *, swapped: bool, return_bool: bool) -> Frame:
    """``vector op scalar``, or ``scalar op vector`` if ``swapped``."""
    row = scalar.values[np.newaxis, :]
    left, right = (row, vector.values) if swapped else (vector.values, row)
    all_dropped = np.ones(vector.series_count, np.bool_)
    compare = COMPARISONS.get(op)
    if compare is None:
        return Frame(vector.labels, ARITHMETIC[op](left, right), vector.valid, all_dropped)
    keep = compare(left, right)
    if return_bool:
        return Frame(vector.labels, keep.astype(np.float64), vector.valid, all_dropped)
    return Frame(vector.labels, vector.values, vector.valid & keep, vector.drop_name).without_empty_series()
