"""The function table, experimental flags, and durations once the query's step is known."""

import pytest

from filoray.nodes.promql.ast import FragmentRef, StepInvariant, StringLiteral, ValueType
from filoray.nodes.promql.codec import from_plain, to_plain
from filoray.nodes.promql.duration_resolution import durations_resolved
from filoray.nodes.promql.function_table import AGGREGATIONS, FUNCTIONS
from filoray.nodes.promql.parser import DEFAULT, EXPERIMENTAL, PromqlError, parse
from filoray.nodes.promql.printer import to_text
from filoray.nodes.promql.types import value_type

EXAMPLE_ARGUMENTS = {
    ValueType.SCALAR: "1",
    ValueType.VECTOR: "a",
    ValueType.MATRIX: "a[5m]",
    ValueType.STRING: '"s"',
}


def example_call(name, arguments):
    types = FUNCTIONS[name].arg_types
    shown = [
        "{b='c'}" if name == "info" and i == 1 else EXAMPLE_ARGUMENTS[types[min(i, len(types) - 1)]]
        for i in range(arguments)
    ]
    return f"{name}({', '.join(shown)})"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_takes_what_its_signature_says(name):
    signature = FUNCTIONS[name]
    full = len(signature.arg_types)
    least = full if signature.variadic == 0 else full - 1
    most = full if signature.variadic == 0 else full + 3 if signature.variadic < 0 else least + signature.variadic
    for arguments in range(least, most + 1):
        assert value_type(parse(example_call(name, arguments), EXPERIMENTAL)) is signature.return_type
    if least > 0:
        with pytest.raises(PromqlError, match="argument"):
            parse(example_call(name, least - 1), EXPERIMENTAL)
    if signature.variadic >= 0 and full > 0:
        with pytest.raises(PromqlError, match="argument"):
            parse(example_call(name, most + 1), EXPERIMENTAL)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_experimental_functions_need_the_flag(name):
    query = example_call(name, len(FUNCTIONS[name].arg_types))
    if FUNCTIONS[name].experimental:
        with pytest.raises(PromqlError, match=f'function "{name}" is not enabled'):
            parse(query, DEFAULT)
    else:
        assert parse(query, DEFAULT)


@pytest.mark.parametrize("name", AGGREGATIONS)
def test_every_aggregation_takes_what_its_signature_says(name):
    signature = AGGREGATIONS[name]
    param = "" if signature.param_type is None else f"{EXAMPLE_ARGUMENTS[signature.param_type]}, "
    query = f"{name} by (b) ({param}a)"
    assert to_text(parse(query, EXPERIMENTAL)) == query
    if signature.experimental:
        with pytest.raises(PromqlError, match="is experimental"):
            parse(query, DEFAULT)


@pytest.mark.parametrize(
    ("query", "type_"),
    [
        ("1 + 2", ValueType.SCALAR),
        ("-(1)", ValueType.SCALAR),
        ("1 + a", ValueType.VECTOR),
        ("-(a)", ValueType.VECTOR),
        ("a[5m]", ValueType.MATRIX),
        ("(a[5m:])", ValueType.MATRIX),
        ("'a'", ValueType.STRING),
        ("time() > bool 1", ValueType.SCALAR),
        ("sum(a)", ValueType.VECTOR),
    ],
)
def test_the_type_of_an_expression(query, type_):
    assert value_type(parse(query)) is type_


@pytest.mark.parametrize(
    ("query", "resolved"),
    [
        ("a[step() * 2]", "a[2m]"),
        ("a[range() / 2 - 5]", "a[29m55s]"),
        ("a[max(step(), 5m):min(step(), 5m)]", "a[5m:1m]"),
        ("a[2 ^ 3 ^ 0]", "a[2s]"),
        ("a[(7 % 4)]", "a[3s]"),
        ("a[-5m + 6m]", "a[1m]"),
        ("a offset -step()", "a offset -1m"),
        ("a offset (range() - 1h)", "a"),
        ("sum by (b) (rate(a[step()] anchored @ 5 offset step())) > topk(1, -(a offset step()))",
         "sum by (b) (rate(a[1m] anchored @ 5.000 offset 1m)) > topk(1, -(a offset 1m))"),
    ],
)  # fmt: skip
def test_duration_expressions_become_numbers(query, resolved):
    assert to_text(durations_resolved(parse(query, EXPERIMENTAL), 60_000, 3_600_000)) == resolved


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("rate(a[step() - 60])", "1:8: parse error: duration must be greater than 0"),
        ("a[5m:step() - 2m]", "1:6: parse error: duration must be greater than 0"),
        ("a[5m / (step() - 60)]", "1:3: parse error: division by zero"),
        ("a[5m % (step() - 60)]", "1:3: parse error: modulo by zero"),
        ("a[10 ^ 10 ^ 10]", "1:3: parse error: duration is out of range"),
        ("a[(0 - 8) ^ 0.5]", "1:3: parse error: duration is out of range"),
    ],
)
def test_a_duration_expression_without_a_usable_value_is_refused(query, message):
    tree = parse(query, EXPERIMENTAL)
    with pytest.raises(PromqlError) as caught:
        durations_resolved(tree, 60_000, 3_600_000, query)
    assert str(caught.value) == message


def test_a_tree_without_duration_expressions_is_left_alone():
    tree = parse("sum(rate(a[5m] offset 1m)) + abs(max_over_time(b[5m:])) ^ -(c)", EXPERIMENTAL)
    assert durations_resolved(tree, 60_000, 3_600_000) is tree


def test_planner_nodes_and_odd_text_survive_the_codec():
    for tree in (
        StepInvariant(parse("a @ 5 offset 1h")),
        FragmentRef(3, ValueType.VECTOR),
        StringLiteral("a\udcffb"),
        parse("a[step():5m] @ start() offset -(1h)", EXPERIMENTAL),
    ):
        assert from_plain(to_plain(tree)) == tree
