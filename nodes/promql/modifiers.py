"""What may follow an expression: ``offset``, ``@``, ``anchored``, ``smoothed``: setting each on the selector.

These are pure functions of (expression, value, where the modifier ends); they raise ModifierError with
Prometheus's words when the expression cannot carry the modifier or has it already.
"""

from __future__ import annotations

import math
from dataclasses import replace

from filoray.nodes.promql.ast import (
    AtPreprocessor,
    DurationExpr,
    Expr,
    MatrixSelector,
    NumberLiteral,
    Position,
    Subquery,
    TimeModifier,
    VectorSelector,
)
from filoray.nodes.promql.durations import duration_ms_of_seconds

_TIMESTAMP_LIMIT = float((1 << 63) - 1)
_MIN_INT64 = -(1 << 63)
_CARRIERS = "an instant vector selector or range vector selector or a subquery"


class ModifierError(ValueError):
    """The message; the place is the start of the expression that was to be modified."""


def with_offset(expr: Expr, offset: NumberLiteral | DurationExpr, end: int) -> Expr:
    time = _time_of(expr, "offset modifier")
    if time.offset_ms or time.offset_expr is not None:
        raise ModifierError("offset may not be set multiple times")
    if isinstance(offset, DurationExpr):
        return _with_time(expr, replace(time, offset_expr=offset), end)
    return _with_time(expr, replace(time, offset_ms=duration_ms_of_seconds(offset.value)), end)


def with_timestamp(expr: Expr, timestamp_s: float, end: int) -> Expr:
    """``@ 1700000000.5``; stored in milliseconds, rounded half away from zero.

    Milliseconds that are no int64 become the lowest one, as Go makes of them on amd64.
    """
    if not -_TIMESTAMP_LIMIT < timestamp_s < _TIMESTAMP_LIMIT:
        shown = f"{timestamp_s:+f}".replace("inf", "Inf") if math.isinf(timestamp_s) else f"{timestamp_s:f}"
        raise ModifierError(f"timestamp out of bounds for @ modifier: {shown.replace('nan', 'NaN')}")
    time = _unpinned_time_of(expr)
    distance_ms = math.floor(abs(timestamp_s) * 1000 + 0.5)
    at_ms = distance_ms if timestamp_s >= 0 else -distance_ms
    return _with_time(expr, replace(time, at_ms=at_ms if abs(at_ms) < -_MIN_INT64 else _MIN_INT64), end)


def with_query_edge(expr: Expr, edge: AtPreprocessor, end: int) -> Expr:
    """``@ start()`` or ``@ end()``."""
    return _with_time(expr, replace(_unpinned_time_of(expr), at_edge=edge), end)


def with_extension(expr: Expr, word: str, end: int) -> Expr:
    """``anchored`` or ``smoothed`` (``word``), which change how range functions look past the window's edges."""
    match expr:
        case VectorSelector():
            return replace(_extended(expr, word), position=Position(expr.position.start, end))
        case MatrixSelector():
            position = Position(expr.position.start, end)
            return replace(expr, selector=_extended(expr.selector, word), position=position)
        case Subquery():
            raise ModifierError(f"{word} modifier is not supported for subqueries")
    raise ModifierError(f"{word} modifier not implemented")


def _extended(selector: VectorSelector, word: str) -> VectorSelector:
    anchored, smoothed = selector.anchored or word == "anchored", selector.smoothed or word == "smoothed"
    if anchored and smoothed:
        raise ModifierError("anchored and smoothed modifiers cannot be used together")
    return replace(selector, anchored=anchored, smoothed=smoothed)


def _unpinned_time_of(expr: Expr) -> TimeModifier:
    time = _time_of(expr, "@ modifier")
    if time.is_pinned:
        raise ModifierError("@ <timestamp> may not be set multiple times")
    return time


def _time_of(expr: Expr, modifier: str) -> TimeModifier:
    match expr:
        case VectorSelector() | Subquery():
            return expr.time
        case MatrixSelector():
            return expr.selector.time
    raise ModifierError(f"{modifier} must be preceded by {_CARRIERS}")


def _with_time(expr: Expr, time: TimeModifier, end: int) -> Expr:
    assert isinstance(expr, VectorSelector | MatrixSelector | Subquery)
    position = Position(expr.position.start, end)
    if isinstance(expr, MatrixSelector):
        return replace(expr, selector=replace(expr.selector, time=time), position=position)
    return replace(expr, time=time, position=position)
