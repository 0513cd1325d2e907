"""Going over a tree of PromQL: what is inside a node, and the node with other things inside.

Which children a kind of node has is told here and nowhere else; a pass over trees says only what it does with the kinds
that it is about. The arithmetic of durations (``[5m * 2]``) is no expression inside: see ``duration_resolution``.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import replace

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
    VectorSelector,
)
from filoray.nodes.promql.deep_trees import Walk


def children(expr: Expr) -> tuple[Expr, ...]:
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


def with_children(expr: Expr, new: Sequence[Expr]) -> Expr:
    """The node with other subexpressions, as many and in the order of ``children``; itself if they are the same."""
    inside = children(expr)
    if len(new) != len(inside):
        raise ValueError(f"a {type(expr).__name__} with {len(inside)} subexpressions cannot have {len(new)}")
    if all(map(operator.is_, new, inside)):
        return expr
    match expr:
        case Call():
            return replace(expr, args=tuple(new))
        case Aggregate():
            return replace(expr, expr=new[-1], param=None if expr.param is None else new[0])
        case Binary():
            return replace(expr, left=new[0], right=new[1])
        case MatrixSelector():
            (selector,) = new
            assert isinstance(selector, VectorSelector)
            return replace(expr, selector=selector)
        case Subquery() | Unary() | Paren() | StepInvariant():
            return replace(expr, expr=new[0])
    raise TypeError(f"nothing can be inside a {type(expr).__name__}")


def map_children(expr: Expr, walk: Callable[[Expr], Walk[Expr]]) -> Walk[Expr]:
    """The node with what the walk of each subexpression returns in its place.

    An aggregation's parameter is walked last: of two offences Prometheus tells the one inside.
    """
    inside = children(expr)
    if not inside:
        return expr
    if isinstance(expr, Aggregate) and expr.param is not None:
        inner = yield walk(expr.expr)
        return with_children(expr, ((yield walk(expr.param)), inner))
    new: list[Expr] = []
    for child in inside:  # not by ``all_of``: a walk more for each node
        new.append((yield walk(child)))  # noqa: PERF401
    return with_children(expr, new)


def subtrees(expr: Expr) -> list[Expr]:
    """The expression and all that is inside, each before what is inside it, in source order."""
    found: list[Expr] = []
    pending = [expr]
    while pending:
        one = pending.pop()
        found.append(one)
        pending += reversed(children(one))
    return found


def unwrap_parens(expr: Expr) -> Expr:
    """The expression without parentheses around it."""
    while isinstance(expr, Paren):
        expr = expr.expr
    return expr
