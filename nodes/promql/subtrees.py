"""What is inside an expression."""

from __future__ import annotations

from filoray.nodes.promql.ast import (
    Aggregate,
    Binary,
    Call,
    Expr,
    MatrixSelector,
    Paren,
    StepInvariant,
    Subquery,
    Unary,
)


def children_of(expr: Expr) -> tuple[Expr, ...]:
    """The direct subexpressions, in source order."""
    match expr:
        case Call():
            return expr.args
        case Aggregate():
            return (expr.expr,) if expr.param is None else (expr.param, expr.expr)
        case Binary():
            return (expr.left, expr.right)
        case MatrixSelector():
            return (expr.selector,)
        case Subquery() | Unary() | Paren() | StepInvariant():
            return (expr.expr,)
    return ()


def subtrees_of(expr: Expr) -> list[Expr]:
    """The expression and all that is inside, each before what is inside it, in source order."""
    found: list[Expr] = []
    pending = [expr]
    while pending:
        one = pending.pop()
        found.append(one)
        pending += reversed(children_of(one))
    return found


def unwrap_parens(expr: Expr) -> Expr:
    """The expression without parentheses around it."""
    while isinstance(expr, Paren):
        expr = expr.expr
    return expr
