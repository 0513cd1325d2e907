"""One walk for every pass over trees: it goes everywhere, changes nothing, and visits a node a few times only."""

from __future__ import annotations

import dataclasses
import sys
import typing
from collections.abc import Callable, Sequence

import pytest

from filoray.nodes.engine.plan.explain import explain
from filoray.nodes.engine.plan.planner import ExecPlan, plan
from filoray.nodes.engine.query_params import QueryParams
from filoray.nodes.promql import types
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
from filoray.nodes.promql.deep_trees import Walk, walked
from filoray.nodes.promql.options import EXPERIMENTAL
from filoray.nodes.promql.parser import parse
from filoray.nodes.promql.tree_walk import children, map_children, subtrees, with_children

A, B, C = VectorSelector("a", ()), VectorSelector("b", ()), VectorSelector("c", ())
NODES: list[tuple[Expr, tuple[Expr, ...]]] = [
    (NumberLiteral(1.0), ()),
    (StringLiteral("s"), ()),
    (A, ()),
    (FragmentRef(0, ValueType.VECTOR), ()),
    (MatrixSelector(A, 1), (A,)),
    (Subquery(A, 1), (A,)),
    (Call("f", (A, B, C)), (A, B, C)),
    (Call("f", ()), ()),
    (Aggregate("sum", A), (A,)),
    (Aggregate("topk", A, B), (B, A)),
    (Binary("+", A, B), (A, B)),
    (Unary("-", A), (A,)),
    (Paren(A), (A,)),
    (StepInvariant(A), (A,)),
]


def test_the_table_has_every_kind_of_node() -> None:
    assert {type(node) for node, _ in NODES} == set(typing.get_args(Expr))


@pytest.mark.parametrize(("node", "inside"), NODES)
def test_children_are_all_expressions_in_a_nodes_fields(node: Expr, inside: tuple[Expr, ...]) -> None:
    assert children(node) == inside
    values = [getattr(node, field.name) for field in dataclasses.fields(node)]
    held = [one for value in values for one in (value if isinstance(value, tuple) else (value,))]
    assert sorted(map(id, inside)) == sorted(id(one) for one in held if isinstance(one, typing.get_args(Expr)))


@pytest.mark.parametrize(("node", "inside"), NODES)
def test_a_node_with_the_same_inside_is_itself_and_with_another_differs_there_only(
    node: Expr, inside: tuple[Expr, ...]
) -> None:
    assert with_children(node, inside) is node
    other = tuple(dataclasses.replace(child, name=f"{child.name}2") for child in inside)
    changed = with_children(node, other)
    assert children(changed) == other
    assert with_children(changed, inside) == node


def test_an_aggregations_parameter_is_walked_last() -> None:
    walks: list[Expr] = []

    def walk(expr: Expr) -> Walk[Expr]:
        walks.append(expr)
        return expr
        yield

    aggregate = Aggregate("topk", A, B)
    assert walked(map_children(aggregate, walk)) is aggregate
    assert walks == [A, B]


def test_a_tree_is_listed_from_the_top_in_source_order() -> None:
    tree = parse("topk(1, rate(a[5m])) + -(b)")
    kinds = [Binary, Aggregate, NumberLiteral, Call, MatrixSelector, VectorSelector, Unary, Paren, VectorSelector]
    assert [type(one) for one in subtrees(tree)] == kinds


def whole(selectors: Sequence[object]) -> bool:
    return True


def apart(selectors: Sequence[object]) -> bool:
    return False


@pytest.mark.parametrize("colocated", [apart, whole])
@pytest.mark.parametrize(
    "term",
    [
        "a",
        "1",
        "scalar(a)",
        "sum(a)",
        "rate(a[5m])",
        "absent(a)",
        "info(a)",
        "(a @ 5)",
        "max_over_time(rate(a[5m])[5m:1m])",
        "quantile_over_time(scalar(a), a[5m])",
    ],
)
def test_planning_and_explaining_a_chain_takes_steps_as_its_length(
    monkeypatch: pytest.MonkeyPatch, term: str, colocated: Callable[..., bool]
) -> None:
    """Not as its square: no subtree is walked again from each of its ancestors."""
    visits = counted(monkeypatch)

    def visits_of(terms: int) -> int:
        tree = parse(" + ".join([term] * terms), EXPERIMENTAL)
        visits.clear()
        explained(plan(tree, QueryParams.range(0, 600_000, 60_000), colocated))
        return len(visits)

    assert visits_of(400) < 2.2 * visits_of(200)


def explained(execution: ExecPlan) -> list[str]:
    return explain(execution, {"node": [0]})


def counted(monkeypatch: pytest.MonkeyPatch) -> list[Expr]:
    """Of every node whose children or own type is asked for, by whomever."""
    visits: list[Expr] = []

    def counting(given: Callable[[Expr], object]) -> Callable[[Expr], object]:
        def count(expr: Expr) -> object:
            visits.append(expr)
            return given(expr)

        return count

    for module in [one for name, one in sys.modules.items() if name.startswith("filoray.nodes")]:
        if getattr(module, "children", None) is children:
            monkeypatch.setattr(module, "children", counting(children))
    monkeypatch.setattr(types, "_own_type", counting(types._own_type))
    return visits
