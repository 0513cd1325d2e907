"""What planner and evaluator want to know of each subtree, found out once: a chain has as many as it has terms."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from filoray.nodes.data.matching import METRIC_NAME, LabelMatcher, MatchOp
from filoray.nodes.engine.functions.function_spec import AtNode
from filoray.nodes.engine.functions.function_specs import spec_of
from filoray.nodes.promql.ast import (
    Binary,
    Call,
    Expr,
    FragmentRef,
    MatrixSelector,
    Paren,
    StepInvariant,
    Subquery,
    Unary,
    ValueType,
    VectorSelector,
)
from filoray.nodes.promql.deep_trees import Walk, all_of, walked
from filoray.nodes.promql.operators import COMPARISONS
from filoray.nodes.promql.tree_walk import children, subtrees
from filoray.nodes.promql.types import type_over, value_type

Matchers = tuple[LabelMatcher, ...]


def selectors_of(expr: Expr) -> tuple[Matchers, ...]:
    """The matchers of every selector inside, in order, each once."""
    return tuple(dict.fromkeys(one.matchers for one in subtrees(expr) if isinstance(one, VectorSelector)))


class Names(Enum):
    """What the metric names of a pushable expression's series are, where they go at once."""

    ONE = "one"  # of one metric: without it, the series differ as they did before
    MANY = "many"  # of several metrics, still there
    GONE = "gone"  # of several metrics, removed: series of different nodes may have become equal


class Facts(NamedTuple):
    """``is_pure``: it needs no series, any process evaluates it alike. ``is_pushable``: each node can evaluate it over
    its own series, and the answer is the union of theirs."""

    type: ValueType
    is_pure: bool
    is_pushable: bool
    names: Names = Names.ONE


class TreeFacts:
    """Facts about the subtrees of one query; asking again costs nothing."""

    def __init__(self, *, delayed_names: bool) -> None:
        self._delayed_names = delayed_names
        # The tree beside its facts keeps it alive, and so its id its own.
        self._known: dict[int, tuple[Expr, Facts]] = {}

    def type_of(self, expr: Expr) -> ValueType:
        return self._facts(expr).type

    def is_pure(self, expr: Expr) -> bool:
        return self._facts(expr).is_pure

    def is_pushable(self, expr: Expr) -> bool:
        return self._facts(expr).is_pushable

    def may_collide(self, expr: Expr) -> bool:
        """Whether series of different nodes may have the same labels, as their names are gone."""
        return self._facts(expr).names is Names.GONE

    def _facts(self, expr: Expr) -> Facts:
        known = self._known.get(id(expr))
        return known[1] if known is not None else walked(self._find(expr))

    def _find(self, expr: Expr) -> Walk[Facts]:
        known = self._known.get(id(expr))
        if known is not None:
            return known[1]
        inner: list[Facts] = yield all_of(map(self._find, children(expr)))
        facts = self._combined(expr, inner)
        self._known[id(expr)] = expr, facts
        return facts

    def _combined(self, expr: Expr, inner: list[Facts]) -> Facts:
        type_ = type_over(expr, [facts.type for facts in inner])
        if isinstance(expr, VectorSelector):
            names = Names.ONE if self._delayed_names or _has_one_name(expr) else Names.MANY
            return Facts(type_, is_pure=False, is_pushable=True, names=names)
        with_series = [facts for facts in inner if not facts.is_pure]
        if not with_series:
            return Facts(type_, is_pure=not isinstance(expr, FragmentRef), is_pushable=False)
        names = with_series[0].names
        takes_names = not isinstance(expr, Paren | StepInvariant | MatrixSelector)
        if (
            len(with_series) > 1
            or not with_series[0].is_pushable
            or not _is_per_series(expr)
            or (takes_names and names is Names.GONE)
        ):
            return Facts(type_, is_pure=False, is_pushable=False)
        if takes_names:
            names = Names.GONE if names is Names.MANY and removes_names(expr) else names
        return Facts(type_, is_pure=False, is_pushable=True, names=names)


def _has_one_name(selector: VectorSelector) -> bool:
    return any(matcher.name == METRIC_NAME and matcher.op is MatchOp.EQUAL for matcher in selector.matchers)


def _is_per_series(expr: Expr) -> bool:
    """Whether it looks at each series of its one argument by itself."""
    match expr:
        case Subquery() | Unary() | Paren() | StepInvariant() | MatrixSelector():
            return True
        case Call():
            return spec_of(expr).at_node is AtNode.EACH_SERIES
        case Binary():
            return expr.matching is None
    return False


def removes_names(expr: Expr) -> bool:
    """Of a per-series operation: whether its results are another metric."""
    match expr:
        case Unary():
            return expr.op == "-"
        case Call():
            return not spec_of(expr).keeps_name
        case Binary():
            return expr.op not in COMPARISONS or expr.return_bool
    return False


def meets_over_all_steps(expr: Expr) -> bool:
    """Whether two series of the same labels are an error even if they never have a sample at the same step.

    So it is in Prometheus where whole series are computed one after the other, not all of them step by step.
    """
    while isinstance(expr, Paren | StepInvariant):
        expr = expr.expr
    match expr:
        case Unary():
            return True
        case Call():
            return any(value_type(arg) is ValueType.MATRIX for arg in expr.args)
    return False
