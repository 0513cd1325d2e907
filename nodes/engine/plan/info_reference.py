"""When info() looks at info series: at the time that its first argument's samples are from.

``info(m @ 100)`` is about 100 s at every step, ``info(m offset 1h)`` about an hour before each. If the argument has
vectors of different times, no one time is right, and the evaluation time is taken. Expressions have absolute times.
"""

from __future__ import annotations

from filoray.nodes.promql.ast import Aggregate, Call, Expr, Subquery, TimeModifier, ValueType, VectorSelector
from filoray.nodes.promql.deep_trees import Walk, walked
from filoray.nodes.promql.function_table import FUNCTIONS
from filoray.nodes.promql.tree_walk import children

EVALUATION_TIME = TimeModifier()


def info_time(argument: Expr) -> TimeModifier:
    """The one time that all vectors inside are of, as an ``@`` or as an offset; else the evaluation time."""
    times = walked(_times(argument))
    return times.pop() if len(times) == 1 else EVALUATION_TIME


def _times(expr: Expr) -> Walk[set[TimeModifier]]:
    """Of every path that brings vectors into the expression; scalars bring none."""
    if isinstance(expr, VectorSelector):
        return {_reference(expr.time)}
    found: set[TimeModifier] = set()
    for child in _vector_children(expr):
        found |= yield _times(child)
    match expr:
        case Subquery():
            return {_behind(time, expr.time) for time in found}
        case Call() if FUNCTIONS[expr.function].return_type is ValueType.VECTOR:
            return found or {EVALUATION_TIME}
    return found


def _vector_children(expr: Expr) -> tuple[Expr, ...]:
    match expr:
        case Aggregate():
            return (expr.expr,)
        case Call():
            signature = FUNCTIONS[expr.function]
            return expr.args[: signature.selector_argument] if signature.return_type is ValueType.VECTOR else ()
    return children(expr)


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
