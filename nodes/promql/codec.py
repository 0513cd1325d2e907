"""Trees as plain lists for the wire between gateway and nodes (msgpack-able), positions included.

    tree   [node, ...]: children before their parent, the root last
    node   [tag, start, end, number of children, field, ...]; nil for a child that there is not

Flat, because a chain of operators is a tree as high as it is long, and msgpack nests only so deep. Times are
milliseconds. Text that is not UTF-8 (see ``quoting``) travels as bytes. ``from_plain`` trusts its input: both ends are
filoray of one version.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from filoray.nodes.data.matching import LabelMatcher, MatchOp
from filoray.nodes.promql.ast import (
    Aggregate,
    AtPreprocessor,
    Binary,
    Call,
    Cardinality,
    DurationExpr,
    Expr,
    FragmentRef,
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
from filoray.nodes.promql.deep_trees import Walk, walked
from filoray.nodes.promql.quoting import is_valid_text

Plain = list[Any]
Node = Expr | DurationExpr
_NO_TIME = TimeModifier()


def to_plain(expr: Expr | DurationExpr) -> Plain:
    """Lists, numbers, text, bytes, booleans and None only."""
    nodes: Plain = []
    walked(_write(expr, nodes))
    return nodes


def _write(expr: Node | None, nodes: Plain) -> Walk[None]:
    if expr is None:
        nodes.append(None)
        return
    children, fields = _parts(expr)
    for child in children:
        yield _write(child, nodes)
    nodes.append([type(expr).__name__, expr.position.start, expr.position.end, len(children), *fields])


def _parts(expr: Node) -> tuple[Sequence[Node | None], Plain]:
    """The nodes below, and everything else."""
    match expr:
        case NumberLiteral():
            return (), [expr.value, expr.is_duration]
        case StringLiteral():
            return (), [_text_to_plain(expr.value)]
        case VectorSelector():
            offset, time = _time_to_plain(expr.time)
            return (offset,), [expr.name, matchers_to_plain(expr.matchers), time, expr.anchored, expr.smoothed]
        case MatrixSelector():
            return (expr.selector, expr.range_expr), [expr.range_ms]
        case Subquery():
            offset, time = _time_to_plain(expr.time)
            return (expr.expr, expr.range_expr, expr.step_expr, offset), [expr.range_ms, expr.step_ms, time]
        case Call():
            return expr.args, [expr.function]
        case Aggregate():
            return (expr.expr, expr.param), [expr.op, list(map(_text_to_plain, expr.grouping)), expr.without]
        case Binary():
            matching = None if expr.matching is None else _matching_to_plain(expr.matching)
            return (expr.left, expr.right), [expr.op, matching, expr.return_bool]
        case Unary():
            return (expr.expr,), [expr.op]
        case Paren() | StepInvariant():
            return (expr.expr,), []
        case FragmentRef():
            return (), [expr.index, expr.type.value]
        case DurationExpr():
            return (expr.left, expr.right), [expr.op, expr.wrapped]
    raise TypeError(f"not a PromQL expression: {type(expr).__name__}")


def from_plain(plain: Plain) -> Any:
    """The tree that ``to_plain`` made ``plain`` from (an Expr; inside it, DurationExpr)."""
    done: list[Any] = []
    for node in plain:
        if node is None:
            done.append(None)
            continue
        tag, start, end, child_count, *fields = node
        first = len(done) - child_count
        children = done[first:]
        del done[first:]
        done.append(_node(tag, Position(start, end), children, fields))
    (root,) = done
    return root


def _node(tag: str, position: Position, children: list[Any], fields: Plain) -> Node:
    match tag:
        case "NumberLiteral":
            return NumberLiteral(fields[0], position, fields[1])
        case "StringLiteral":
            return StringLiteral(_text_from_plain(fields[0]), position)
        case "VectorSelector":
            name, matchers, time, anchored, smoothed = fields
            modifier = _time_from_plain(time, children[0])
            return VectorSelector(name, matchers_from_plain(matchers), modifier, position, anchored, smoothed)
        case "MatrixSelector":
            selector, range_expr = children
            return MatrixSelector(selector, fields[0], range_expr, position)
        case "Subquery":
            expr, range_expr, step_expr, offset_expr = children
            range_ms, step_ms, time = fields
            modifier = _time_from_plain(time, offset_expr)
            return Subquery(expr, range_ms, step_ms, range_expr, step_expr, modifier, position)
        case "Call":
            return Call(fields[0], tuple(children), position)
        case "Aggregate":
            op, grouping, without = fields
            expr, param = children
            return Aggregate(op, expr, param, tuple(map(_text_from_plain, grouping)), without, position)
        case "Binary":
            op, matching, return_bool = fields
            kept = None if matching is None else _matching_from_plain(matching)
            left, right = children
            return Binary(op, left, right, kept, return_bool, position)
        case "Unary":
            return Unary(fields[0], children[0], position)
        case "Paren":
            return Paren(children[0], position)
        case "StepInvariant":
            return StepInvariant(children[0], position)
        case "FragmentRef":
            return FragmentRef(fields[0], ValueType(fields[1]), position)
        case "DurationExpr":
            left, right = children
            return DurationExpr(fields[0], left, right, fields[1], position)
    raise ValueError(f"not an encoded PromQL expression: {tag!r}")


def matchers_to_plain(matchers: tuple[LabelMatcher, ...]) -> Plain:
    """``[[name, op, value], ...]``."""
    return [[matcher.name, matcher.op.value, matcher.value] for matcher in matchers]


def matchers_from_plain(plain: Plain) -> tuple[LabelMatcher, ...]:
    return tuple([LabelMatcher(name, MatchOp(op), value) for name, op, value in plain])


def _text_to_plain(text: str) -> str | bytes:
    return text if is_valid_text(text) else text.encode("utf-8", "surrogateescape")


def _text_from_plain(plain: str | bytes) -> str:
    return plain if isinstance(plain, str) else plain.decode("utf-8", "surrogateescape")


def _time_to_plain(time: TimeModifier) -> tuple[DurationExpr | None, Plain | None]:
    """The offset's expression, which is a node of its own, and the rest."""
    if time == _NO_TIME:
        return None, None
    edge = None if time.at_edge is None else time.at_edge.value
    return time.offset_expr, [time.offset_ms, time.at_ms, edge]


def _time_from_plain(plain: Plain | None, offset_expr: DurationExpr | None) -> TimeModifier:
    if plain is None:
        return _NO_TIME
    offset_ms, at_ms, edge = plain
    return TimeModifier(offset_ms, offset_expr, at_ms, None if edge is None else AtPreprocessor(edge))


def _matching_to_plain(matching: VectorMatching) -> Plain:
    fills = [matching.fill_left, matching.fill_right]
    return [matching.cardinality.value, list(matching.labels), matching.on, list(matching.include), *fills]


def _matching_from_plain(plain: Plain) -> VectorMatching:
    cardinality, labels, on, include, fill_left, fill_right = plain
    return VectorMatching(Cardinality(cardinality), tuple(labels), on, tuple(include), fill_left, fill_right)
