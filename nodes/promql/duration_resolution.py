"""Duration expressions to numbers, once the query's step and range are known."""

from __future__ import annotations

import math
from dataclasses import replace

from filoray.nodes.promql.ast import (
    Aggregate,
    Binary,
    Call,
    DurationExpr,
    Expr,
    MatrixSelector,
    NumberLiteral,
    Paren,
    StepInvariant,
    Subquery,
    TimeModifier,
    Unary,
    VectorSelector,
)
from filoray.nodes.promql.deep_trees import Walk, all_of, walked
from filoray.nodes.promql.durations import duration_out_of_range
from filoray.nodes.promql.errors import PromqlError


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
        match expr:
            case VectorSelector():
                return self._selector(expr)
            case MatrixSelector():
                selector = self._selector(expr.selector)
                range_ms = self._positive_ms(expr.range_ms, expr.range_expr)
                if selector is expr.selector and expr.range_expr is None:
                    return expr
                return replace(expr, selector=selector, range_ms=range_ms, range_expr=None)
            case Subquery():
                subquery: Expr = yield self._subquery(expr)
                return subquery
            case Call():
                args: list[Expr] = yield all_of(map(self._resolve, expr.args))
                same = all(new is old for new, old in zip(args, expr.args, strict=True))
                return expr if same else replace(expr, args=tuple(args))
            case Aggregate():
                inner = yield self._resolve(expr.expr)
                param = None if expr.param is None else (yield self._resolve(expr.param))
                same = inner is expr.expr and param is expr.param
                return expr if same else replace(expr, expr=inner, param=param)
            case Binary():
                left = yield self._resolve(expr.left)
                right = yield self._resolve(expr.right)
                same = left is expr.left and right is expr.right
                return expr if same else replace(expr, left=left, right=right)
            case Unary() | Paren() | StepInvariant():
                inner = yield self._resolve(expr.expr)
                return expr if inner is expr.expr else replace(expr, expr=inner)
        return expr

    def _selector(self, expr: VectorSelector) -> VectorSelector:
        time = self._time(expr.time)
        return expr if time is expr.time else replace(expr, time=time)

    def _subquery(self, expr: Subquery) -> Walk[Subquery]:
        inner = yield self._resolve(expr.expr)
        time = self._time(expr.time)
        range_ms = self._positive_ms(expr.range_ms, expr.range_expr)
        step_ms = self._positive_ms(expr.step_ms, expr.step_expr)
        if inner is expr.expr and (time, range_ms, step_ms) == (expr.time, expr.range_ms, expr.step_ms):
            return expr
        return replace(expr, expr=inner, time=time, range_ms=range_ms, step_ms=step_ms, range_expr=None, step_expr=None)

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
