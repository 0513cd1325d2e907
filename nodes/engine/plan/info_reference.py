"""When info() looks at info series: at the time that its first argument's samples are from.

``info(m @ 100)`` is about 100 s at every step, ``info(m offset 1h)`` about an hour before each. If the argument has
vectors of different times, no one time is right, and the evaluation time is taken. Expressions have absolute times.
"""

from __future__ import annotations

from filoray.nodes.promql.ast import (
    Aggregate,
    Binary,
    Call,
    Expr,
    MatrixSelector,
    NumberLiteral,
    Paren,
    StepInvariant,
    StringLiteral,
    Subquery,
    TimeModifier,
    Unary,
    ValueType,
    VectorSelector,
)
from filoray.nodes.promql.deep_trees import Walk, walked
from filoray.nodes.promql.function_table import FUNCTIONS

EVALUATION_TIME = TimeModifier()


def info_time(argument: Expr) -> TimeModifier:
    """The one time that all vectors inside are of, as an ``@`` or as an offset; else the evaluation time."""
    times = walked(_times(argument))
    return times.pop() if len(times) == 1 else EVALUATION_TIME


def _times(expr: Expr) -> Walk[set[TimeModifier]]:
    """Of every path that brings vectors into the expression; scalars bring none."""
    match expr:
        case VectorSelector():
            return {_reference(expr.time)}
        case MatrixSelector():
            return {_reference(expr.selector.time)}
        case Subquery():
            inside: set[TimeModifier] = yield _times(expr.expr)
            return {_behind(time, expr.time) for time in inside}
        case Paren() | Unary() | StepInvariant() | Aggregate():
            inside = yield _times(expr.expr)
            return inside
        case Binary():
            left: set[TimeModifier] = yield _times(expr.left)
            right: set[TimeModifier] = yield _times(expr.right)
            return left | right
        case Call() if FUNCTIONS[expr.function].return_type is not ValueType.VECTOR:
            return set()
        case Call():
            found: set[TimeModifier] = set()
            for arg in expr.args[: FUNCTIONS[expr.function].selector_argument]:
                found |= yield _times(arg)
            return found or {EVALUATION_TIME}
        case NumberLiteral() | StringLiteral():
            return set()
    return {EVALUATION_TIME}


def _reference(time: TimeModifier) -> TimeModifier:
    """``@ 180 offset 1m`` is ``@ 120``."""
    if time.at_ms is None:
        return TimeModifier(offset_ms=time.offset_ms)
    return TimeModifier(at_ms=time.at_ms - time.offset_ms)


def _behind(inner: TimeModifier, subquery: TimeModifier) -> TimeModifier:
    """A time inside a subquery, as seen from outside."""
    if inner.at_ms is not None:
        return inner
    return _reference(TimeModifier(inner.offset_ms + subquery.offset_ms, at_ms=subquery.at_ms))
