"""Duration expressions to numbers, once the query's step and range are known."""

from __future__ import annotations

import math
from dataclasses import replace

from filoray.nodes.promql.ast import (
    DurationExpr,
    Expr,
    MatrixSelector,
    NumberLiteral,
    Subquery,
    TimeModifier,
    VectorSelector,
)
from filoray.nodes.promql.deep_trees import Walk, walked
from filoray.nodes.promql.durations import duration_out_of_range
from filoray.nodes.promql.errors import PromqlError
from filoray.nodes.promql.tree_walk import map_children


def durations_resolved(expr: Expr, step_ms: int, range_ms: int, query: str = "") -> Expr:
    """``expr`` without any DurationExpr: ``step()`` is ``step_ms``, ``range()`` is ``range_ms`` (end - start).

    The same object where there is none. Raises PromqlError where a range or step is not positive, a divisor
    is zero or the result is out of range; ``query`` is the text that the error's place is in.
    """
    return _Resolver(step_ms / 1000, range_ms / 1000, query).resolved(expr)


class _Resolver:
    def __init__(self, step_s: float, range_s: float, query: str) -> None:
        self._step_s = step_s
        self._range_s = range_s
        self._query = query

    def resolved(self, expr: Expr) -> Expr:
        return walked(self._resolve(expr))

    def _resolve(self, expr: Expr) -> Walk[Expr]:
        if isinstance(expr, VectorSelector):
            time = self._time(expr.time)
            return expr if time is expr.time else replace(expr, time=time)
        expr = yield map_children(expr, self._resolve)
        match expr:
            case MatrixSelector() if expr.range_expr is not None:
                return replace(expr, range_ms=self._positive_ms(expr.range_ms, expr.range_expr), range_expr=None)
            case Subquery():
                return self._subquery(expr)
        return expr

    def _subquery(self, expr: Subquery) -> Subquery:
        time = self._time(expr.time)
        range_ms = self._positive_ms(expr.range_ms, expr.range_expr)
        step_ms = self._positive_ms(expr.step_ms, expr.step_expr)
        if (time, range_ms, step_ms) == (expr.time, expr.range_ms, expr.step_ms):
            return expr
        return replace(expr, time=time, range_ms=range_ms, step_ms=step_ms, range_expr=None, step_expr=None)

    def _time(self, time: TimeModifier) -> TimeModifier:
        if time.offset_expr is None:
            return time
        return replace(time, offset_ms=self._milliseconds(time.offset_expr), offset_expr=None)

    def _positive_ms(self, duration_ms: int, expr: DurationExpr | None) -> int:
        if expr is None:
            return duration_ms
        resolved_ms = self._milliseconds(expr)
        if resolved_ms <= 0:
            raise PromqlError(self._query, expr.position.start, "duration must be greater than 0")
        return resolved_ms

    def _milliseconds(self, expr: DurationExpr) -> int:
        seconds = walked(self._seconds(expr))
        if duration_out_of_range(seconds):
            raise PromqlError(self._query, expr.position.start, "duration is out of range")
        return int(seconds * 1000)

    def _seconds(self, expr: DurationExpr | NumberLiteral | None) -> Walk[float]:
        if expr is None:
            return 0.0
        if isinstance(expr, NumberLiteral):
            return expr.value
        match expr.op:
            case "step":
                return self._step_s
            case "range":
                return self._range_s
            case "()":
                inner: float = yield self._seconds(expr.right)
                return inner
        left: float = yield self._seconds(expr.left)
        right: float = yield self._seconds(expr.right)
        match expr.op:
            case "+":
                return left + right
            case "-":
                return left - right
            case "*":
                return left * right
            case "/" | "%":
                if right == 0:
                    reason = "division by zero" if expr.op == "/" else "modulo by zero"
                    raise PromqlError(self._query, expr.position.start, reason)
                return left / right if expr.op == "/" else math.fmod(left, right) if math.isfinite(left) else math.nan
            case "^":
                return _power(left, right)
            case "min":
                return min(left, right)
            case "max":
                return max(left, right)
        raise ValueError(f"unknown operator in a duration: {expr.op!r}")


def _power(base: float, exponent: float) -> float:
    """Go's math.Pow: no exceptions, NaN for a negative base with a fractional exponent."""
    try:
        result = base**exponent
    except (OverflowError, ZeroDivisionError):
        return math.inf
    return result if isinstance(result, float) else math.nan
