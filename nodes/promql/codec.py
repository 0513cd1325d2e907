"""Trees as plain lists for the wire between gateway and nodes (msgpack-able), positions included.

A node is ``[tag, start, end, field, ...]``. Times are milliseconds. Text that is not UTF-8 (see ``quoting``)
travels as bytes. ``from_plain`` trusts its input: both ends are filoray of one version.
"""

from __future__ import annotations

from typing import Any

from filoray.nodes.promql.ast import (
    Aggregate,
    AtPreprocessor,
    Binary,
    Call,
    Cardinality,
    DurationExpr,
    Expr,
    FragmentRef,
    LabelMatcher,
    MatchOp,
    MatrixSelector,
    NumberLiteral,
    Paren,
    Position,
    StepInvariant,
    StringLiteral,
    Subquery,
    TimeModifier,
    Unary,
    ValueType,
    VectorMatching,
    VectorSelector,
)
from filoray.nodes.promql.quoting import is_valid_text

Plain = list[Any]


def to_plain(expr: Expr | DurationExpr) -> Plain:
    """Lists, numbers, text, bytes, booleans and None only."""
    head: Plain = [type(expr).__name__, expr.position.start, expr.position.end]
    match expr:
        case NumberLiteral():
            return [*head, expr.value, expr.is_duration]
        case StringLiteral():
            return [*head, _text_to_plain(expr.value)]
        case VectorSelector():
            time = _time_to_plain(expr.time)
            return [*head, expr.name, matchers_to_plain(expr.matchers), time, expr.anchored, expr.smoothed]
        case MatrixSelector():
            return [*head, to_plain(expr.selector), expr.range_ms, _optional_to_plain(expr.range_expr)]
        case Subquery():
            durations = [_optional_to_plain(expr.range_expr), _optional_to_plain(expr.step_expr)]
            return [*head, to_plain(expr.expr), expr.range_ms, expr.step_ms, *durations, _time_to_plain(expr.time)]
        case Call():
            return [*head, expr.function, *map(to_plain, expr.args)]
        case Aggregate():
            grouping = list(map(_text_to_plain, expr.grouping))
            return [*head, expr.op, to_plain(expr.expr), _optional_to_plain(expr.param), grouping, expr.without]
        case Binary():
            matching = None if expr.matching is None else _matching_to_plain(expr.matching)
            return [*head, expr.op, to_plain(expr.left), to_plain(expr.right), matching, expr.return_bool]
        case Unary():
            return [*head, expr.op, to_plain(expr.expr)]
        case Paren() | StepInvariant():
            return [*head, to_plain(expr.expr)]
        case FragmentRef():
            return [*head, expr.index, expr.type.value]
        case DurationExpr():
            return [*head, expr.op, _optional_to_plain(expr.left), _optional_to_plain(expr.right), expr.wrapped]
    raise TypeError(f"not a PromQL expression: {expr!r}")


def from_plain(plain: Plain) -> Any:
    """The tree that ``to_plain`` made ``plain`` from (an Expr; inside it, DurationExpr)."""
    tag, start, end, *fields = plain
    position = Position(start, end)
    match tag:
        case "NumberLiteral":
            return NumberLiteral(fields[0], position, fields[1])
        case "StringLiteral":
            return StringLiteral(_text_from_plain(fields[0]), position)
        case "VectorSelector":
            name, matchers, time, anchored, smoothed = fields
            return VectorSelector(
                name, matchers_from_plain(matchers), _time_from_plain(time), position, anchored, smoothed
            )
        case "MatrixSelector":
            selector, range_ms, range_expr = fields
            return MatrixSelector(from_plain(selector), range_ms, _optional_from_plain(range_expr), position)
        case "Subquery":
            expr, range_ms, step_ms, range_expr, step_expr, time = fields
            durations = _optional_from_plain(range_expr), _optional_from_plain(step_expr)
            return Subquery(from_plain(expr), range_ms, step_ms, *durations, _time_from_plain(time), position)
        case "Call":
            return Call(fields[0], tuple(map(from_plain, fields[1:])), position)
        case "Aggregate":
            op, expr, param, grouping, without = fields
            labels = tuple(map(_text_from_plain, grouping))
            return Aggregate(op, from_plain(expr), _optional_from_plain(param), labels, without, position)
        case "Binary":
            op, left, right, matching, return_bool = fields
            kept = None if matching is None else _matching_from_plain(matching)
            return Binary(op, from_plain(left), from_plain(right), kept, return_bool, position)
        case "Unary":
            return Unary(fields[0], from_plain(fields[1]), position)
        case "Paren":
            return Paren(from_plain(fields[0]), position)
        case "StepInvariant":
            return StepInvariant(from_plain(fields[0]), position)
        case "FragmentRef":
            return FragmentRef(fields[0], ValueType(fields[1]), position)
        case "DurationExpr":
            op, left, right, wrapped = fields
            return DurationExpr(op, _optional_from_plain(left), _optional_from_plain(right), wrapped, position)
    raise ValueError(f"not an encoded PromQL expression: {tag!r}")


def matchers_to_plain(matchers: tuple[LabelMatcher, ...]) -> Plain:
    """``[[name, op, value], ...]``."""
    return [[matcher.name, matcher.op.value, matcher.value] for matcher in matchers]


def matchers_from_plain(plain: Plain) -> tuple[LabelMatcher, ...]:
    return tuple([LabelMatcher(name, MatchOp(op), value) for name, op, value in plain])


def _optional_to_plain(expr: Expr | DurationExpr | None) -> Plain | None:
    return None if expr is None else to_plain(expr)


def _optional_from_plain(plain: Plain | None) -> Any:
    return None if plain is None else from_plain(plain)


def _text_to_plain(text: str) -> str | bytes:
    return text if is_valid_text(text) else text.encode("utf-8", "surrogateescape")


def _text_from_plain(plain: str | bytes) -> str:
    return plain if isinstance(plain, str) else plain.decode("utf-8", "surrogateescape")


def _time_to_plain(time: TimeModifier) -> Plain | None:
    if time == TimeModifier():
        return None
    edge = None if time.at_edge is None else time.at_edge.value
    return [time.offset_ms, _optional_to_plain(time.offset_expr), time.at_ms, edge]


def _time_from_plain(plain: Plain | None) -> TimeModifier:
    if plain is None:
        return TimeModifier()
    offset_ms, offset_expr, at_ms, edge = plain
    at_edge = None if edge is None else AtPreprocessor(edge)
    return TimeModifier(offset_ms, _optional_from_plain(offset_expr), at_ms, at_edge)


def _matching_to_plain(matching: VectorMatching) -> Plain:
    fills = [matching.fill_left, matching.fill_right]
    return [matching.cardinality.value, list(matching.labels), matching.on, list(matching.include), *fills]


def _matching_from_plain(plain: Plain) -> VectorMatching:
    cardinality, labels, on, include, fill_left, fill_right = plain
    return VectorMatching(Cardinality(cardinality), tuple(labels), on, tuple(include), fill_left, fill_right)
