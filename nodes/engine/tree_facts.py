"""What the planner wants to know of each subtree, found out once: a chain has as many as it has terms."""

from __future__ import annotations

from dataclasses import dataclass

from filoray.nodes.promql.ast import (
    Aggregate,
    Binary,
    Call,
    Expr,
    FragmentRef,
    LabelMatcher,
    MatrixSelector,
    Paren,
    StepInvariant,
    Subquery,
    Unary,
    VectorSelector,
)
from filoray.nodes.promql.deep_trees import Walk, all_of, walked

Matchers = tuple[LabelMatcher, ...]

GLOBAL_FUNCTIONS = frozenset(
    {
        "absent", "absent_over_time", "histogram_fraction", "histogram_quantile", "histogram_quantiles", "info",
        "label_join", "label_replace", "scalar", "sort", "sort_by_label", "sort_by_label_desc", "sort_desc", "vector",
    }
)  # fmt: skip
"""Functions that must see all series at once (``vector`` has none: it is not a fragment)."""


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


def selectors_of(expr: Expr) -> tuple[Matchers, ...]:
    """The matchers of every selector inside, in order, each once."""
    return tuple(dict.fromkeys(one.matchers for one in subtrees_of(expr) if isinstance(one, VectorSelector)))


@dataclass(frozen=True, slots=True)
class Facts:
    """``is_pure``: it needs no series, any process evaluates it alike. ``is_pushable``: each node can evaluate it over
    its own series, and the answer is the union of theirs."""

    is_pure: bool
    is_pushable: bool


class TreeFacts:
    """Facts about the subtrees of one query; asking again costs nothing."""

    def __init__(self) -> None:
        # The tree beside its facts keeps it alive, and so its id its own.
        self._known: dict[int, tuple[Expr, Facts]] = {}

    def is_pure(self, expr: Expr) -> bool:
        return self._facts(expr).is_pure

    def is_pushable(self, expr: Expr) -> bool:
        return self._facts(expr).is_pushable

    def _facts(self, expr: Expr) -> Facts:
        known = self._known.get(id(expr))
        return known[1] if known is not None else walked(self._find(expr))

    def _find(self, expr: Expr) -> Walk[Facts]:
        known = self._known.get(id(expr))
        if known is not None:
            return known[1]
        inner: list[Facts] = yield all_of(map(self._find, children_of(expr)))
        facts = Facts(_is_pure(expr, inner), _is_pushable(expr, inner))
        self._known[id(expr)] = expr, facts
        return facts


def _is_pure(expr: Expr, inner: list[Facts]) -> bool:
    if isinstance(expr, VectorSelector | MatrixSelector | FragmentRef):
        return False
    return all(facts.is_pure for facts in inner)


def _is_pushable(expr: Expr, inner: list[Facts]) -> bool:
    match expr:
        case VectorSelector() | MatrixSelector():
            return True
        case Subquery() | Unary() | Paren() | StepInvariant():
            return inner[0].is_pushable
        case Call() if expr.function in GLOBAL_FUNCTIONS:
            return False
        case Call():
            pass
        case Binary() if expr.matching is None:
            pass
        case _:
            return False
    with_series = [facts for facts in inner if not facts.is_pure]
    return len(with_series) == 1 and with_series[0].is_pushable
