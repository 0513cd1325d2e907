"""A tree back to PromQL text, as Prometheus's ``String()`` writes it: one line, one spelling for each meaning.

Parsing the text gives the same tree again (positions aside), for every tree that came from the parser.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from filoray.nodes.data.matching import METRIC_NAME, LabelMatcher, MatchOp
from filoray.nodes.promql.ast import (
    Aggregate,
    Binary,
    Call,
    Cardinality,
    DurationExpr,
    Expr,
    FragmentRef,
    MatrixSelector,
    NumberLiteral,
    Paren,
    StepInvariant,
    StringLiteral,
    Subquery,
    TimeModifier,
    Unary,
    VectorMatching,
    VectorSelector,
)
from filoray.nodes.promql.deep_trees import Walk, walked
from filoray.nodes.promql.durations import format_duration
from filoray.nodes.promql.number_format import format_float_f, format_float_g
from filoray.nodes.promql.operators import DURATION_CHOICES, DURATION_CONSTANTS, WRAPPED_DURATION
from filoray.nodes.promql.quoting import label_name_text, quote


def to_text(expr: Expr) -> str:
    """The query text of a tree."""
    pieces: list[str] = []
    walked(_write(expr, pieces.append))
    return "".join(pieces)


def short_text(expr: Expr, bytes_max: int) -> str | None:
    """The text if it is no longer than that; looks no further into the tree than it must."""
    if _spine_bytes(expr, bytes_max) > bytes_max:
        return None
    pieces: list[str] = []
    left = bytes_max

    def add(piece: str) -> None:
        nonlocal left
        left -= len(piece.encode("utf-8", "surrogatepass"))
        if left < 0:
            raise _TooLongError
        pieces.append(piece)

    try:
        walked(_write(expr, add))
    except _TooLongError:
        return None
    return "".join(pieces)


def _spine_bytes(expr: Expr, bytes_max: int) -> int:
    """At least so many bytes has a chain of operators; counted until there are more than ``bytes_max``.

    Its first term is at its foot: without this look it would be walked down to there from each of its terms.
    """
    size_bytes = 1
    while isinstance(expr, Binary) and size_bytes <= bytes_max:
        size_bytes += len("+1")
        expr = expr.left
    return size_bytes


class _TooLongError(Exception):
    """Ends a walk."""


def _write(expr: Expr, add: Callable[[str], None]) -> Walk[None]:
    match expr:
        case NumberLiteral():
            add(number_text(expr))
        case StringLiteral():
            add(quote(expr.value))
        case VectorSelector():
            add(f"{_selector_text(expr)}{_at_text(expr.time)}{_extension_text(expr)}{_offset_text(expr.time)}")
        case MatrixSelector():
            selector = expr.selector
            range_ = duration_text(expr.range_ms, expr.range_expr)
            suffix = f"{_extension_text(selector)}{_at_text(selector.time)}{_offset_text(selector.time)}"
            add(f"{_selector_text(selector)}[{range_}]{suffix}")
        case Subquery():
            yield _write(expr.expr, add)
            add(subquery_suffix(expr))
        case Call():
            add(f"{expr.function}(")
            for index, arg in enumerate(expr.args):
                if index:
                    add(", ")
                yield _write(arg, add)
            add(")")
        case Aggregate():
            add(f"{aggregate_head(expr)}(")
            if expr.param is not None:
                yield _write(expr.param, add)
                add(", ")
            yield _write(expr.expr, add)
            add(")")
        case Binary():
            if expr.op == "^" and isinstance(expr.left, NumberLiteral):
                # Of +Inf: the sign would take the whole power as its operand.
                add(number_text(expr.left).removeprefix("+"))
            else:
                yield _write(expr.left, add)
            add(f" {binary_head(expr)} ")
            yield _write(expr.right, add)
        case Unary():
            add(expr.op)
            yield _write(expr.expr, add)
        case Paren():
            add("(")
            yield _write(expr.expr, add)
            add(")")
        case StepInvariant():
            yield _write(expr.expr, add)
        case FragmentRef():
            add(f"fragment_{expr.index}")
        case _:
            raise TypeError(f"not a PromQL expression: {type(expr).__name__}")


def number_text(literal: NumberLiteral) -> str:
    if literal.is_duration:
        return format_duration(round(literal.value * 1000))
    return format_float_f(literal.value)


def matcher_text(matcher: LabelMatcher) -> str:
    return f"{label_name_text(matcher.name)}{matcher.op.value}{quote(matcher.value)}"


def matchers_text(matchers: Sequence[LabelMatcher]) -> str:
    """``{a="b",c!="d"}``, sorted; nothing for none."""
    return "{" + ",".join(sorted(map(matcher_text, matchers))) + "}" if matchers else ""


def aggregate_head(expr: Aggregate) -> str:
    """``sum by (a, b) ``: what stands before the arguments."""
    if not expr.without and not expr.grouping:
        return expr.op
    return f"{expr.op} {'without' if expr.without else 'by'} ({_labels_text(expr.grouping)}) "


def binary_head(expr: Binary) -> str:
    """``> bool on (a) group_left (b)``: the operator with its modifiers."""
    return_bool = " bool" if expr.return_bool else ""
    matching = "" if expr.matching is None else _matching_text(expr.matching)
    return f"{expr.op}{return_bool}{matching}"


def subquery_suffix(expr: Subquery) -> str:
    step = duration_text(expr.step_ms, expr.step_expr) if expr.step_ms or expr.step_expr else ""
    range_ = duration_text(expr.range_ms, expr.range_expr)
    return f"[{range_}:{step}]{_at_text(expr.time)}{_offset_text(expr.time)}"


def duration_text(duration_ms: int, expr: DurationExpr | None) -> str:
    return format_duration(duration_ms) if expr is None else _duration_expr_text(expr)


def _labels_text(labels: Sequence[str]) -> str:
    return ", ".join(map(label_name_text, labels))


def _matching_text(matching: VectorMatching) -> str:
    grouped = matching.cardinality in (Cardinality.MANY_TO_ONE, Cardinality.ONE_TO_MANY)
    text = ""
    if matching.labels or matching.on or grouped:
        text += f" {'on' if matching.on else 'ignoring'} ({_labels_text(matching.labels)})"
    if grouped:
        side = "left" if matching.cardinality is Cardinality.MANY_TO_ONE else "right"
        text += f" group_{side} ({_labels_text(matching.include)})"
    left, right = matching.fill_left, matching.fill_right
    if left is not None and right is not None and repr(left) == repr(right):
        return f"{text} fill ({format_float_g(left)})"
    if left is not None:
        text += f" fill_left ({format_float_g(left)})"
    if right is not None:
        text += f" fill_right ({format_float_g(right)})"
    return text


def _selector_text(selector: VectorSelector) -> str:
    """Name and matchers; the matcher that the name stands for is not repeated."""
    named = LabelMatcher(METRIC_NAME, MatchOp.EQUAL, selector.name)
    others = [matcher for matcher in selector.matchers if not selector.name or matcher != named]
    return f"{selector.name}{matchers_text(others)}" or "{}"


def _at_text(time: TimeModifier) -> str:
    if time.at_ms is not None:
        return f" @ {time.at_ms / 1000:.3f}"
    return f" @ {time.at_edge.value}()" if time.at_edge is not None else ""


def _offset_text(time: TimeModifier) -> str:
    if time.offset_expr is not None:
        return f" offset {_duration_expr_text(time.offset_expr)}"
    return f" offset {format_duration(time.offset_ms)}" if time.offset_ms else ""


def _extension_text(selector: VectorSelector) -> str:
    return " anchored" if selector.anchored else " smoothed" if selector.smoothed else ""


def _duration_expr_text(expr: DurationExpr) -> str:
    pieces: list[str] = []
    walked(_write_duration(expr, pieces.append))
    return "".join(pieces)


def _write_duration(expr: DurationExpr | NumberLiteral | None, add: Callable[[str], None]) -> Walk[None]:
    if expr is None:
        return
    if isinstance(expr, NumberLiteral):
        add(number_text(expr))
        return
    if expr.wrapped:
        add("(")
    if expr.op in DURATION_CONSTANTS:
        add(f"{expr.op}()")
    elif expr.op in DURATION_CHOICES:
        add(f"{expr.op}_of(")
        yield _write_duration(expr.left, add)
        add(", ")
        yield _write_duration(expr.right, add)
        add(")")
    elif expr.op == WRAPPED_DURATION:
        yield _write_duration(expr.right, add)
    elif expr.left is None:
        add(expr.op)
        yield _write_duration(expr.right, add)
    else:
        yield _write_duration(expr.left, add)
        add(f" {expr.op} ")
        yield _write_duration(expr.right, add)
    if expr.wrapped:
        add(")")
