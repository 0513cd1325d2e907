"""What the engine knows of a function stands in one table, joined to the parser's, and nowhere else."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest
from promql_samples import load

from filoray.nodes.data.cancel_token import CancelToken
from filoray.nodes.data.frame import Frame, TimeGrid
from filoray.nodes.engine.evaluate.aggregation_specs import AGGREGATION_SPECS
from filoray.nodes.engine.evaluate.evaluator import Evaluator
from filoray.nodes.engine.functions.function_spec import AtNode
from filoray.nodes.engine.functions.function_specs import FUNCTION_SPECS
from filoray.nodes.engine.query_params import NO_LIMITS, EvaluationOptions
from filoray.nodes.promql.ast import ValueType
from filoray.nodes.promql.function_table import AGGREGATIONS, FUNCTIONS
from filoray.nodes.promql.options import EXPERIMENTAL
from filoray.nodes.promql.parser import parse

ROOT = Path(__file__).resolve().parents[2]
NAMES = set(FUNCTIONS) | set(AGGREGATIONS)
TABLES = (
    "nodes/promql/function_table.py",
    "nodes/engine/functions/function_specs.py",
    "nodes/engine/evaluate/aggregation_specs.py",
)
ROOMS = ("nodes/promql", "nodes/engine", "nodes/wire", "nodes/host", "nodes/memstore", "nodes/data", "http/fanout")

OTHER_MEANINGS = {
    "nodes/engine/annotations.py": ({"info"}, "a level of annotations"),
    "nodes/engine/plan/planner.py": ({"last_over_time", "timestamp", "group"}, "what the planner writes itself"),
    "nodes/promql/ast.py": ({"scalar", "start", "end"}, "a type's name; the edges of @"),
    "nodes/promql/duration_resolution.py": ({"step", "range", "min", "max"}, "operators of durations"),
    "nodes/promql/json_tree.py": ({"timestamp", "range", "step"}, "fields of the JSON"),
    "nodes/promql/operators.py": ({"step", "range", "min_of", "max_of", "min", "max"}, "operators of durations"),
    "nodes/promql/parser.py": ({"timestamp", "start", "end"}, "the modifier @ in messages, and its edges"),
    "nodes/promql/tokens.py": ({"start", "end", "step", "range", "min_of", "max_of"}, "keywords"),
    "nodes/promql/types.py": ({"scalar", "vector"}, "the API's names of types"),
    "nodes/wire/copy_bodies.py": ({"step"}, "a step of making a copy"),
}
"""Texts that are such a name, and why they stand there: all but the planner's mean something else."""


def test_every_function_of_the_parsers_table_has_a_row_and_no_other() -> None:
    assert set(FUNCTION_SPECS) == set(FUNCTIONS)
    assert all(spec.signature is FUNCTIONS[name] for name, spec in FUNCTION_SPECS.items())


def test_every_aggregation_of_the_parsers_table_has_a_row_and_no_other() -> None:
    assert set(AGGREGATION_SPECS) == set(AGGREGATIONS)
    for name, spec in AGGREGATION_SPECS.items():
        assert spec.signature is AGGREGATIONS[name]
        assert (spec.check is not None) == (spec.signature.param_type is ValueType.SCALAR)


@pytest.mark.parametrize("name", FUNCTION_SPECS)
def test_a_function_is_evaluated_or_a_constant_of_the_query(name: str) -> None:
    spec = FUNCTION_SPECS[name]
    assert (spec.handler is None) == (spec.constant is not None)
    has_series = {ValueType.VECTOR, ValueType.MATRIX} & set(spec.signature.arg_types)
    assert has_series or spec.at_node is not AtNode.EACH_SERIES


def test_no_other_module_names_functions_or_aggregations() -> None:
    found = {
        path: names
        for room in ROOMS
        for file in sorted((ROOT / room).rglob("*.py"))
        if (path := file.relative_to(ROOT).as_posix()) not in TABLES and (names := texts_of(file) & NAMES)
    }
    assert found == {path: names for path, (names, _) in OTHER_MEANINGS.items()}


def texts_of(file: Path) -> set[str]:
    return {
        node.value
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


SAMPLES = load(
    60,
    """
    h_bucket{le="0.1", instance="a", job="x"} 0+1x10
    h_bucket{le="+Inf", instance="a", job="x"} 0+5x10
    """,
)
ARGUMENTS = {
    ValueType.VECTOR: "h_bucket",
    ValueType.MATRIX: "h_bucket[5m]",
    ValueType.SCALAR: "0.5",
    ValueType.STRING: '"instance"',
}
OF_NAMED_SERIES = [
    name
    for name, spec in FUNCTION_SPECS.items()
    if spec.signature.return_type is ValueType.VECTOR
    and {ValueType.VECTOR, ValueType.MATRIX} & set(spec.signature.arg_types)
    and not name.startswith(("absent", "histogram_avg", "histogram_count", "histogram_s"))  # they give no series here
    and name != "info"  # takes its arguments as the planner writes them
]


@pytest.mark.parametrize("name", OF_NAMED_SERIES)
def test_a_function_keeps_the_metric_name_where_its_row_says_so(name: str) -> None:
    spec = FUNCTION_SPECS[name]
    call = parse(f"{name}({', '.join(ARGUMENTS[type_] for type_ in spec.signature.arg_types)})", EXPERIMENTAL)
    evaluator = Evaluator(SAMPLES, EvaluationOptions(delayed_names=True), NO_LIMITS, CancelToken())
    value = evaluator.evaluate(call, TimeGrid(600_000, 60_000, 1))
    assert isinstance(value, Frame)
    assert value.series_count
    assert np.array_equal(value.drop_name, np.full(value.series_count, not spec.keeps_name))
