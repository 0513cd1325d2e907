"""A tree as the JSON of ``/api/v1/parse_query``: Prometheus's shape (web/api/v1/translate_ast.go), ms for times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from filoray.nodes.data.matching import LabelMatcher
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
    VectorMatching,
    VectorSelector,
)
from filoray.nodes.promql.deep_trees import Walk, all_of, walked
from filoray.nodes.promql.function_table import FUNCTIONS
from filoray.nodes.promql.number_format import format_float_f
from filoray.nodes.promql.quoting import valid_text
from filoray.nodes.promql.types import api_name

JsonObject = dict[str, Any]


def json_tree(expr: Expr) -> JsonObject:
    """Dictionaries as deep as the tree is high: see ``deep_json`` for an encoder."""
    return walked(_tree(expr))


def _tree(expr: Expr) -> Walk[JsonObject]:
    match expr:
        case NumberLiteral():
            return {"type": "numberLiteral", "val": format_float_f(expr.value)}
        case StringLiteral():
            return {"type": "stringLiteral", "val": valid_text(expr.value)}
        case VectorSelector():
            return {"type": "vectorSelector", **_selector(expr)}
        case MatrixSelector():
            return {"type": "matrixSelector", "range": expr.range_ms, **_selector(expr.selector)}
        case Subquery():
            return {
                "type": "subquery",
                "expr": (yield _tree(expr.expr)),
                "range": expr.range_ms,
                "step": expr.step_ms,
                **_time(expr.time),
            }
        case Call():
            args: list[JsonObject] = yield all_of(map(_tree, expr.args))
            return {"type": "call", "func": _function(expr.function), "args": args}
        case Aggregate():
            return {
                "type": "aggregation",
                "op": expr.op,
                "expr": (yield _tree(expr.expr)),
                "param": None if expr.param is None else (yield _tree(expr.param)),
                "grouping": list(expr.grouping),
                "without": expr.without,
            }
        case Binary():
            return {
                "type": "binaryExpr",
                "op": expr.op,
                "lhs": (yield _tree(expr.left)),
                "rhs": (yield _tree(expr.right)),
                "matching": None if expr.matching is None else _matching(expr.matching),
                "bool": expr.return_bool,
            }
        case Unary():
            return {"type": "unaryExpr", "op": expr.op, "expr": (yield _tree(expr.expr))}
        case Paren():
            return {"type": "parenExpr", "expr": (yield _tree(expr.expr))}
        case StepInvariant():
            inner: JsonObject = yield _tree(expr.expr)
            return inner
    raise TypeError(f"not a parsed PromQL expression: {expr!r}")


def _selector(selector: VectorSelector) -> JsonObject:
    return {
        "name": selector.name,
        "matchers": _matchers(selector.matchers),
        "anchored": selector.anchored,
        "smoothed": selector.smoothed,
        **_time(selector.time),
    }


def _time(time: TimeModifier) -> JsonObject:
    edge = None if time.at_edge is None else time.at_edge.value
    return {"offset": time.offset_ms, "timestamp": time.at_ms, "startOrEnd": edge}


def _matchers(matchers: Sequence[LabelMatcher]) -> list[JsonObject]:
    return [{"name": matcher.name, "value": matcher.value, "type": matcher.op.value} for matcher in matchers]


def _matching(matching: VectorMatching) -> JsonObject:
    return {
        "card": matching.cardinality.value,
        "labels": list(matching.labels),
        "on": matching.on,
        "include": list(matching.include),
        "fillValues": {"lhs": matching.fill_left, "rhs": matching.fill_right},
    }


def _function(name: str) -> JsonObject:
    signature = FUNCTIONS[name]
    return {
        "name": name,
        "argTypes": [api_name(type_) for type_ in signature.arg_types],
        "variadic": signature.variadic,
        "returnType": api_name(signature.return_type),
    }
