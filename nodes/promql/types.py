"""The type of an expression, read off its shape (Prometheus's ``Expr.Type()``); nothing is checked here."""

from __future__ import annotations

from collections.abc import Sequence

from filoray.nodes.promql.ast import (
    Aggregate,
    Binary,
    Call,
    Expr,
    FragmentRef,
    MatrixSelector,
    NumberLiteral,
    Paren,
    StepInvariant,
    StringLiteral,
    Subquery,
    Unary,
    ValueType,
    VectorSelector,
)
from filoray.nodes.promql.function_table import FUNCTIONS

_PROMETHEUS_NAMES = {
    ValueType.SCALAR: "scalar",
    ValueType.VECTOR: "vector",
    ValueType.MATRIX: "matrix",
    ValueType.STRING: "string",
}


def value_type(expr: Expr) -> ValueType:
    """What ``expr`` evaluates to. Of operations it looks at operands until one is a vector."""
    operands = [expr]
    while operands:
        expr = operands.pop()
        if isinstance(expr, Paren | Unary | StepInvariant):
            operands.append(expr.expr)
        elif isinstance(expr, Binary):
            if expr.matching is not None:
                return ValueType.VECTOR
            operands += (expr.right, expr.left)
        else:
            type_ = _own_type(expr)
            if type_ is not ValueType.SCALAR:
                return type_
    return ValueType.SCALAR


def type_over(expr: Expr, inner: Sequence[ValueType]) -> ValueType:
    """What ``expr`` evaluates to, if its children (``tree_walk.children``) evaluate to this; no tree is walked."""
    match expr:
        case Paren() | Unary() | StepInvariant():
            return inner[0]
        case Binary(matching=None):
            return next((type_ for type_ in inner if type_ is not ValueType.SCALAR), ValueType.SCALAR)
        case Binary():
            return ValueType.VECTOR
    return _own_type(expr)


def _own_type(expr: Expr) -> ValueType:
    match expr:
        case VectorSelector() | Aggregate():
            return ValueType.VECTOR
        case MatrixSelector() | Subquery():
            return ValueType.MATRIX
        case NumberLiteral():
            return ValueType.SCALAR
        case StringLiteral():
            return ValueType.STRING
        case Call():
            return FUNCTIONS[expr.function].return_type
        case FragmentRef():
            return expr.type
    raise TypeError(f"not a PromQL expression: {expr!r}")


def api_name(type_: ValueType) -> str:
    """``vector`` for instant vectors, ``matrix`` for range vectors: the names of the HTTP API's resultType."""
    return _PROMETHEUS_NAMES[type_]
