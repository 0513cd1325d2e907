"""Any tree survives printing and parsing, and the wire; other parsers read the printed text alike.

The trees are made well typed, and with parentheses wherever the parser would otherwise group differently.
"""

import json
import subprocess
import sys

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from filoray.nodes.data.matching import LabelMatcher, MatchOp
from filoray.nodes.promql.ast import (
    Aggregate,
    AtPreprocessor,
    Binary,
    Call,
    Cardinality,
    DurationExpr,
    MatrixSelector,
    NumberLiteral,
    Paren,
    StringLiteral,
    Subquery,
    TimeModifier,
    Unary,
    ValueType,
    VectorMatching,
    VectorSelector,
)
from filoray.nodes.promql.codec import from_plain, to_plain
from filoray.nodes.promql.duration_resolution import durations_resolved
from filoray.nodes.promql.function_table import AGGREGATIONS, FUNCTIONS
from filoray.nodes.promql.json_tree import json_tree
from filoray.nodes.promql.operators import COMPARISONS, PRECEDENCE, SET_OPERATORS
from filoray.nodes.promql.parser import DEFAULT, EXPERIMENTAL, PromqlError, parse
from filoray.nodes.promql.pretty_printer import pretty
from filoray.nodes.promql.printer import matcher_text, to_text
from filoray.nodes.promql.types import value_type

relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
metric_names = st.sampled_from(["a", "http_requests_total", "job:rate:5m", "sum", "offset", "start", "and", "fill"])
plain_labels = st.sampled_from(["b", "c_d", "__meta", "instance"])
labels = plain_labels | st.sampled_from(["x.y", "näme", "with space", '"'])
label_lists = st.lists(labels, max_size=3, unique=True).map(tuple)
regexes = st.sampled_from(["a|b", "", ".*", ".+", "x[0-9]+", r"\d\.", "(?i)é"])
durations_ms = st.integers(1, 10**12) | st.sampled_from([1, 1000, 60_000, 300_000, 604_800_000])
numbers = st.floats(allow_nan=True, allow_infinity=True).map(NumberLiteral)


@st.composite
def matchers(draw):
    op = draw(st.sampled_from(MatchOp))
    value = draw(regexes if op in (MatchOp.REGEX, MatchOp.NOT_REGEX) else texts)
    return LabelMatcher(draw(labels), op, value)


def duration_literals():
    whole = durations_ms.map(lambda ms: NumberLiteral(ms / 1000, is_duration=True))
    return whole | st.integers(1, 10_000).map(lambda seconds: NumberLiteral(float(seconds)))


def duration_terms(inner):
    return (
        duration_literals()
        | st.sampled_from(["step", "range"]).map(lambda op: DurationExpr(op, None, None))
        | st.builds(DurationExpr, st.sampled_from(["min", "max"]), inner, inner)
        | st.builds(DurationExpr, st.sampled_from(list("+-*/%^")), inner, inner, st.just(True))
        | inner.map(
            lambda term: DurationExpr("()", None, term, wrapped=True) if isinstance(term, NumberLiteral) else term
        )
    )


terms = st.recursive(duration_literals(), duration_terms, max_leaves=4)
offset_exprs = terms.filter(lambda term: isinstance(term, DurationExpr))
signed_offset_exprs = offset_exprs | offset_exprs.map(lambda term: DurationExpr("-", None, term))
range_exprs = offset_exprs | st.builds(DurationExpr, st.sampled_from(list("+-*/%^")), terms, terms)


@st.composite
def times(draw):
    offset = draw(st.none() | st.integers(-(10**12), 10**12) | signed_offset_exprs)
    at = draw(st.none() | st.integers(-(10**14), 10**14) | st.sampled_from(AtPreprocessor))
    return TimeModifier(
        offset_ms=offset if isinstance(offset, int) else 0,
        offset_expr=offset if isinstance(offset, DurationExpr) else None,
        at_ms=at if isinstance(at, int) else None,
        at_edge=at if isinstance(at, AtPreprocessor) else None,
    )


@st.composite
def vector_selectors(draw, time=None):
    found = tuple(sorted(draw(st.lists(matchers(), max_size=3)), key=matcher_text))
    name = draw(metric_names | st.just(""))
    if name:
        found = (*found, LabelMatcher("__name__", MatchOp.EQUAL, name))
    else:
        found = tuple(sorted((*found, LabelMatcher("b", MatchOp.NOT_EQUAL, "")), key=matcher_text))
    extension = draw(st.sampled_from([(False, False), (False, False), (True, False), (False, True)]))
    return VectorSelector(
        name, found, draw(times() if time is None else time), anchored=extension[0], smoothed=extension[1]
    )


@st.composite
def matrix_selectors(draw):
    range_ms = draw(durations_ms | range_exprs)
    selector = draw(vector_selectors())
    if isinstance(range_ms, DurationExpr):
        return MatrixSelector(selector, 0, range_ms)
    return MatrixSelector(selector, range_ms)


@st.composite
def subqueries(draw, vectors):
    range_, step = draw(durations_ms | range_exprs), draw(st.just(0) | durations_ms | range_exprs)
    return Subquery(
        draw(vectors.map(operand)),
        range_ms=range_ if isinstance(range_, int) else 0,
        step_ms=step if isinstance(step, int) else 0,
        range_expr=range_ if isinstance(range_, DurationExpr) else None,
        step_expr=step if isinstance(step, DurationExpr) else None,
        time=draw(times()),
    )


def operand(expr):
    """In parentheses, unless it stands for itself next to any operator, bracket or offset."""
    bare = isinstance(expr, Call | Aggregate | Paren | StringLiteral) or (
        isinstance(expr, VectorSelector) and expr.time == TimeModifier() and not expr.anchored and not expr.smoothed
    )
    return expr if bare else Paren(expr)


@st.composite
def vector_matchings(draw, op):
    on = draw(st.booleans())
    found = draw(label_lists)
    if op in SET_OPERATORS:
        return VectorMatching(Cardinality.MANY_TO_MANY, found, on)
    cardinality = draw(st.sampled_from([Cardinality.ONE_TO_ONE, Cardinality.MANY_TO_ONE, Cardinality.ONE_TO_MANY]))
    include = () if cardinality is Cardinality.ONE_TO_ONE else draw(label_lists)
    if on:
        include = tuple(label for label in include if label not in found)
    fill = st.none() | st.floats()
    return VectorMatching(cardinality, found, on, include, draw(fill), draw(fill))


@st.composite
def binaries(draw, scalars, vectors, scalar_result):
    op = draw(st.sampled_from(sorted(PRECEDENCE)))
    if scalar_result:
        op = "+" if op in SET_OPERATORS else op
        sides, matching = (scalars, scalars), None
    elif op in SET_OPERATORS or draw(st.booleans()):
        sides, matching = (vectors, vectors), draw(vector_matchings(op))
    else:
        sides, matching = draw(st.sampled_from([(scalars, vectors), (vectors, scalars)])), None
    return_bool = op in COMPARISONS and (scalar_result or draw(st.booleans()))
    left, right = draw(sides[0].map(operand)), draw(sides[1].map(operand))
    return Binary(op, left, right, matching, return_bool)


@st.composite
def calls(draw, scalars, vectors, return_type):
    names = sorted(name for name, found in FUNCTIONS.items() if found.return_type is return_type and name != "info")
    signature = FUNCTIONS[draw(st.sampled_from(names))]
    inputs = {
        ValueType.SCALAR: scalars,
        ValueType.VECTOR: vectors,
        ValueType.MATRIX: matrix_selectors() | subqueries(vectors),
        ValueType.STRING: texts.map(StringLiteral),
    }
    left_out = 1 if signature.variadic and draw(st.booleans()) else 0
    types = signature.arg_types[: len(signature.arg_types) - left_out]
    return Call(signature.name, tuple([draw(inputs[type_]) for type_ in types]))


@st.composite
def aggregates(draw, scalars, vectors):
    signature = AGGREGATIONS[draw(st.sampled_from(sorted(AGGREGATIONS)))]
    params = {None: st.none(), ValueType.SCALAR: scalars, ValueType.STRING: texts.map(StringLiteral)}
    param = draw(params[signature.param_type])
    return Aggregate(signature.name, draw(vectors), param, draw(label_lists), draw(st.booleans()))


def deeper_scalars(scalars):
    return (
        scalars.map(Paren)
        | scalars.map(lambda expr: Unary("-", Paren(expr)))
        | binaries(scalars, vector_selectors(), True)
        | calls(scalars, vector_selectors(), ValueType.SCALAR)
    )


scalars = st.recursive(
    numbers | durations_ms.map(lambda ms: NumberLiteral(ms / 1000, is_duration=True)), deeper_scalars, max_leaves=3
)


def deeper_vectors(vectors):
    return (
        vectors.map(Paren)
        | vectors.map(operand).map(lambda expr: Unary("+", expr))
        | aggregates(scalars, vectors)
        | calls(scalars, vectors, ValueType.VECTOR)
        | binaries(scalars, vectors, False)
    )


vectors = st.recursive(vector_selectors(), deeper_vectors, max_leaves=5)
trees = vectors | vectors | scalars | matrix_selectors() | subqueries(vectors) | texts.map(StringLiteral)


def without_positions(plain):
    """An encoded tree with all positions blanked."""
    if not isinstance(plain, list):
        return plain
    if len(plain) > 2 and isinstance(plain[0], str) and plain[0][:1].isupper() and isinstance(plain[1], int):
        return [plain[0], *map(without_positions, plain[3:])]
    return [without_positions(one) for one in plain]


def shape(expr):
    """Comparable even where a number is NaN."""
    return repr(without_positions(to_plain(expr)))


@relaxed
@given(trees)
def test_a_printed_tree_parses_to_the_same_tree(tree):
    text = to_text(tree)
    parsed = parse(text, EXPERIMENTAL)
    assert shape(parsed) == shape(tree), text
    assert to_text(parsed) == text
    assert parsed.position.end == len(text.encode())


@relaxed
@given(trees)
def test_a_tree_laid_out_over_lines_is_the_same_tree(tree):
    assert shape(parse(pretty(tree), EXPERIMENTAL)) == shape(tree)


@relaxed
@given(trees)
def test_a_tree_survives_the_wire_with_its_positions(tree):
    parsed = parse(to_text(tree), EXPERIMENTAL)
    received = from_plain(msgpack.unpackb(msgpack.packb(to_plain(parsed))))
    assert repr(received) == repr(parsed)
    assert value_type(received) is value_type(parsed)
    json.dumps(json_tree(received))


@relaxed
@given(trees)
def test_resolved_durations_leave_nothing_experimental_in_brackets(tree):
    try:
        resolved = durations_resolved(tree, 60_000, 3_600_000)
    except PromqlError:
        return  # a range of nothing, or a division by zero
    assert "DurationExpr" not in shape(resolved)
    assert durations_resolved(resolved, 1, 1) is resolved


@relaxed
@given(trees)
def test_without_the_flags_a_query_is_refused_or_means_the_same(tree):
    text = to_text(tree)
    try:
        parsed = parse(text, DEFAULT)
    except PromqlError as error:
        refusal = str(error)
    else:
        refusal = "not enabled" if shape(parsed) == shape(tree) else "it means something else"
    assert "not enabled" in refusal or "is experimental" in refusal


# The promql-parser package is another reader of PromQL. It crashes on some input, so it gets a process of its own.
OTHER_READER = """
import json, sys
import promql_parser as other
CHILDREN = {
    "BinaryExpr": ("lhs", "rhs"), "UnaryExpr": ("expr",), "ParenExpr": ("expr",), "SubqueryExpr": ("expr",),
    "AggregateExpr": ("param", "expr"), "MatrixSelector": (), "VectorSelector": (), "NumberLiteral": (),
    "StringLiteral": (),
}
def shape(node):
    kind = type(node).__name__
    if kind == "Call":
        return [node.func.name, *map(shape, node.args)]
    return [kind, *(shape(getattr(node, name)) for name in CHILDREN[kind] if getattr(node, name) is not None)]
for line in sys.stdin:
    try:
        found = shape(other.parse(json.loads(line)))
    except ValueError:
        found = None
    print(json.dumps(found), flush=True)
"""
OTHER_NAMES = {Binary: "BinaryExpr", Unary: "UnaryExpr", Paren: "ParenExpr", Subquery: "SubqueryExpr"}


def shape_for_the_other_reader(expr):
    match expr:
        case Call():
            return [expr.function, *map(shape_for_the_other_reader, expr.args)]
        case Binary():
            return ["BinaryExpr", shape_for_the_other_reader(expr.left), shape_for_the_other_reader(expr.right)]
        case Unary() if expr.op == "+":
            return shape_for_the_other_reader(expr.expr)  # it drops the sign
        case Unary() | Paren() | Subquery():
            return [OTHER_NAMES[type(expr)], shape_for_the_other_reader(expr.expr)]
        case Aggregate():
            param = [] if expr.param is None else [shape_for_the_other_reader(expr.param)]
            return ["AggregateExpr", *param, shape_for_the_other_reader(expr.expr)]
    return [type(expr).__name__]


UNKNOWN_TO_THE_OTHER_READER = (
    *(" anchored", " smoothed", "step()", "range()", "</", ">/", "min_of", "max_of", "start()", "end()"),
    *("näme", "x.y", "with space", '\\"', "(?i)", "[(", "offset (", "offset -("),
)


@pytest.fixture(scope="module")
def other_reader():
    with subprocess.Popen(
        [sys.executable, "-c", OTHER_READER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:

        def read(query):
            process.stdin.write(json.dumps(query) + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        yield read
        process.stdin.close()


@settings(relaxed, suppress_health_check=[*HealthCheck])
@given(tree=vectors)
def test_another_parser_reads_the_same_structure(other_reader, tree):
    text = to_text(tree)
    if not any(part in text for part in UNKNOWN_TO_THE_OTHER_READER) and "Duration" not in shape(tree):
        assert other_reader(text) == shape_for_the_other_reader(tree), text
