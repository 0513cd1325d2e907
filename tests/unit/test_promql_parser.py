"""What a query means: precedence, names, literals, modifiers and where in the text each part stood."""

import math

import pytest

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
    Position,
    StringLiteral,
    TimeModifier,
    Unary,
    ValueType,
    VectorMatching,
    VectorSelector,
)
from filoray.nodes.promql.parser import EXPERIMENTAL, PromqlError, parse
from filoray.nodes.promql.printer import to_text
from filoray.nodes.promql.selectors import parse_metric_selector, selects_everything
from filoray.nodes.promql.types import value_type


def grouped(expr):
    """The text with each operation in parentheses of its own: shows what binds to what."""
    match expr:
        case Binary():
            return f"({grouped(expr.left)} {expr.op} {grouped(expr.right)})"
        case Unary():
            return f"({expr.op}{grouped(expr.expr)})"
        case Paren():
            return f"paren {grouped(expr.expr)}"
    return to_text(expr)


@pytest.mark.parametrize(
    ("query", "shape"),
    [
        ("1 + 2 * 3", "(1 + (2 * 3))"),
        ("1 - 2 - 3", "((1 - 2) - 3)"),
        ("a / b * c % d atan2 e", "((((a / b) * c) % d) atan2 e)"),
        ("2 ^ 3 ^ 2", "(2 ^ (3 ^ 2))"),
        ("-1 ^ 2", "(-(1 ^ 2))"),
        ("-a * b", "((-a) * b)"),
        ("2 ^ -a * 3", "((2 ^ (-a)) * 3)"),
        ("2 ^ -1 ^ 2", "(2 ^ (-(1 ^ 2)))"),
        ("- - a", "(-(-a))"),
        ("--1", "1"),
        ("-+5m", "-5m"),
        ("-(1)", "(-paren 1)"),
        ("a or b and c", "(a or (b and c))"),
        ("a unless b and c", "((a unless b) and c)"),
        ("a > b == c", "((a > b) == c)"),
        ("a and b > c + d", "(a and (b > (c + d)))"),
        ("a > 1 > 2 or b", "(((a > 1) > 2) or b)"),
        ("a </ 5 + b >/ 3", "((a </ 5) + (b >/ 3))"),
        ("a + b offset 5m * c", "(a + (b offset 5m * c))"),
        ("a + sum(b) by (c) * d", "(a + (sum by (c) (b) * d))"),
        ("and and and", "(and and and)"),
        ("a * sum", "(a * sum)"),
    ],
)
def test_operators_bind_as_in_prometheus(query, shape):
    assert grouped(parse(query)) == shape


def test_offset_takes_one_term_only():
    power = parse("a offset -2 ^ 2")
    assert isinstance(power, Binary)
    assert power.left.time.offset_ms == -2000
    assert grouped(parse("a offset step() * 2", EXPERIMENTAL)) == "(a offset step() * 2)"
    product = parse("a offset (1m + 1m) * 2", EXPERIMENTAL)
    assert isinstance(product, VectorSelector)
    assert product.time.offset_expr.op == "*"


def name_matcher(name):
    return LabelMatcher("__name__", MatchOp.EQUAL, name)


@pytest.mark.parametrize(
    "name",
    [
        *("sum", "SUM", "topk", "limitk", "by", "without", "offset", "and", "OR", "unless"),
        *("start", "end", "step", "range", "min_of", "anchored", "smoothed", "fill", "fill_left"),
        *("a:b", ":a", "_", "rate", "inf_", "x1", "by_"),
    ],
)
def test_reserved_words_may_be_metric_names(name):
    for query in (name, f"{name}{{}}", f"{name} # comment"):
        selector = parse(query)
        assert (selector.name, selector.matchers) == (name, (name_matcher(name),))


@pytest.mark.parametrize("word", ["bool", "on", "ignoring", "group_left", "group_right", "atan2"])
def test_words_that_prometheus_keeps_to_itself_are_no_metric_names(word):
    with pytest.raises(PromqlError, match="unexpected"):
        parse(word)


def test_reserved_words_may_be_labels():
    words = ("sum", "by", "on", "bool", "group_left", "offset", "start", "atan2", "and", "fill", "limitk", "a:b")
    assert parse(f"sum by ({', '.join(words)}) (a)").grouping == words
    assert parse(f"a + on ({', '.join(words)},) b").matching.labels == words
    assert parse('a{by="1",on="2",inf="3"}').matchers[2] == LabelMatcher("inf", MatchOp.EQUAL, "3")


def test_names_in_quotes_may_be_any_text():
    selector = parse("""{"metric.näme", "label.x"="v", 'y'=~`a.b`, z!="q", w!~"p",}""")
    assert selector.name == ""
    assert selector.matchers == (
        name_matcher("metric.näme"),
        LabelMatcher("label.x", MatchOp.EQUAL, "v"),
        LabelMatcher("y", MatchOp.REGEX, "a.b"),
        LabelMatcher("z", MatchOp.NOT_EQUAL, "q"),
        LabelMatcher("w", MatchOp.NOT_REGEX, "p"),
    )
    assert parse('sum without ("a.b", c) (d)').grouping == ("a.b", "c")
    assert parse('a * on ("a.b") group_left ("c d") b').matching.include == ("c d",)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1.0),
        ("0x1F", 31.0),
        ("0X_1f", 31.0),
        ("0755", 493.0),
        ("08", 8.0),
        ("1_000", 1000.0),
        ("1_000.5", 1000.5),
        (".5", 0.5),
        ("5.", 5.0),
        ("1e3", 1000.0),
        ("1E-3", 0.001),
        ("Inf", math.inf),
        ("iNF", math.inf),
        ("-Inf", -math.inf),
        ("9223372036854775808", 2.0**63),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("1y2w3d4h5m6s7ms", 33_019_506.007),
        ("0s", 0.0),
    ],
)
def test_numbers_in_all_their_forms(text, value):
    assert parse(text).value == value


def test_nan_is_a_number_in_any_case():
    assert all(math.isnan(parse(text).value) for text in ("NaN", "nan", "NAN"))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r'"a\n\t\\\"b"', 'a\n\t\\"b'),
        (r"'it\'s'", "it's"),
        (r'"\x41\101\u00e9\U0001F600"', "AAé😀"),
        (r'"\xc3\xa9"', "é"),
        (r'"\xc5z"', "\udcc5z"),
        ("`a\\n\nb`", "a\\n\nb"),
        ("'\"'", '"'),
        ('"# no comment"', "# no comment"),
    ],
)
def test_strings_in_all_their_forms(text, value):
    assert parse(text) == StringLiteral(value, Position(0, len(text.encode())))


def test_a_matcher_value_that_is_not_utf8_becomes_replacement_characters():
    assert parse(r'a{b="\xff"}').matchers[0].value == "\ufffd"


@pytest.mark.parametrize(
    ("query", "time"),
    [
        ("a offset 5m", TimeModifier(offset_ms=300_000)),
        ("a offset -5m", TimeModifier(offset_ms=-300_000)),
        ("a offset +60", TimeModifier(offset_ms=60_000)),
        ("a offset 1.5", TimeModifier(offset_ms=1_500)),
        ("a offset 0", TimeModifier()),
        ("a @ 1.5", TimeModifier(at_ms=1_500)),
        ("a @ -1.0005", TimeModifier(at_ms=-1_001)),
        ("a @ 5m", TimeModifier(at_ms=300_000)),
        ("a @ start()", TimeModifier(at_edge=AtPreprocessor.START)),
        ("a @ END ( )", TimeModifier(at_edge=AtPreprocessor.END)),
        ("a @ 1 offset 2", TimeModifier(offset_ms=2_000, at_ms=1_000)),
        ("a offset 2 @ 1", TimeModifier(offset_ms=2_000, at_ms=1_000)),
    ],
)
def test_time_modifiers_in_either_order(query, time):
    assert parse(query).time == time
    range_selector = parse(query.replace("a ", "a[300] ", 1))
    assert (range_selector.range_ms, range_selector.selector.time) == (300_000, time)
    subquery = parse(query.replace("a ", "a[1h:] ", 1))
    assert (subquery.range_ms, subquery.step_ms, subquery.time) == (3_600_000, 0, time)
    assert subquery.expr.time == TimeModifier()


def test_each_modifier_belongs_to_what_stands_before_it():
    subquery = parse("max_over_time(rate(a[1m] offset 2m)[1h:30s] @ end() offset 3m)").args[0]
    assert (subquery.range_ms, subquery.step_ms) == (3_600_000, 30_000)
    assert subquery.time == TimeModifier(offset_ms=180_000, at_edge=AtPreprocessor.END)
    assert subquery.expr.args[0].selector.time == TimeModifier(offset_ms=120_000)


@pytest.mark.parametrize(
    ("query", "matching", "return_bool"),
    [
        ("a + b", VectorMatching(), False),
        ("a + on () b", VectorMatching(on=True), False),
        ("a > bool ignoring (x, y) b", VectorMatching(labels=("x", "y")), True),
        ("a + on (x) group_left b", VectorMatching(Cardinality.MANY_TO_ONE, ("x",), True), False),
        ("a + on (x) group_left (b) c", VectorMatching(Cardinality.MANY_TO_ONE, ("x",), True, ("b",)), False),
        ("a + ignoring (x) group_right (x) c", VectorMatching(Cardinality.ONE_TO_MANY, ("x",), False, ("x",)), False),
        ("a and on (x) b", VectorMatching(Cardinality.MANY_TO_MANY, ("x",), True), False),
        ("a + 1", None, False),
        ("1 > bool 2", None, True),
        ("a + fill (-1) b", VectorMatching(fill_left=-1.0, fill_right=-1.0), False),
        ("a + on (x) fill_right(2) b", VectorMatching(labels=("x",), on=True, fill_right=2.0), False),
        ("a + fill_right(2) fill_left(Inf) b", VectorMatching(fill_left=math.inf, fill_right=2.0), False),
        (
            "a + on (x) group_left (y) fill(5m) fill",
            VectorMatching(Cardinality.MANY_TO_ONE, ("x",), True, ("y",), 300.0, 300.0),
            False,
        ),
    ],
)
def test_how_two_sides_are_matched(query, matching, return_bool):
    binary = parse(query, EXPERIMENTAL)
    assert (binary.matching, binary.return_bool) == (matching, return_bool)


@pytest.mark.parametrize(
    "query", ["sum by (a, b) (c)", "sum(c) by (a, b)", "SUM BY (a,b,) (c)", "sum # x\n (c)\n by\n(a\n,b)"]
)
def test_the_grouping_may_stand_on_either_side(query):
    aggregate = parse(query)
    assert isinstance(aggregate, Aggregate)
    assert (aggregate.op, aggregate.grouping, aggregate.without) == ("sum", ("a", "b"), False)
    assert aggregate.expr.name == "c"


def test_an_aggregation_with_a_parameter():
    aggregate = parse("topk without () (2 + 3, a)")
    assert (aggregate.op, aggregate.grouping, aggregate.without) == ("topk", (), True)
    assert to_text(aggregate.param) == "2 + 3"
    assert parse("limit_ratio(-0.5, a)", EXPERIMENTAL).param.value == -0.5
    assert parse('count_values(("v"), a)').param == Paren(StringLiteral("v", Position(14, 17)), Position(13, 18))


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("a[5m * 2]", "a[5m * 2]"),
        ("a[1h - 5m + 2]", "a[1h - 5m + 2]"),
        ("a[-1 ^ 2 + 5m]", "a[-1 ^ 2 + 5m]"),
        ("a[(5m)]", "a[(5m)]"),
        ("a[((5m + 1))]", "a[((5m + 1))]"),
        ("a[ STEP() + range() ]", "a[step() + range()]"),
        ("a[max(step(), 5s):min_of(1m, range())]", "a[max_of(step(), 5s):min_of(1m, range())]"),
        ("a[step():5m]", "a[step():5m]"),
        ("a offset (1h + step())", "a offset (1h + step())"),
        ("a offset -min(step(), 5s)", "a offset -min_of(step(), 5s)"),
        ("a offset -(1h)", "a offset -(1h)"),
        ("a[5m] anchored @ 5 offset step()", "a[5m] anchored @ 5.000 offset step()"),
        ("a offset 5m smoothed", "a smoothed offset 5m"),
    ],
)
def test_duration_expressions_and_extended_ranges(query, text):
    assert to_text(parse(query, EXPERIMENTAL)) == text


def test_a_duration_expression_keeps_its_tree():
    selector = parse("a[step() * -2]", EXPERIMENTAL)
    assert isinstance(selector, MatrixSelector)
    assert selector.range_ms == 0
    step = DurationExpr("step", None, None, position=Position(2, 8))
    two = NumberLiteral(-2.0, Position(11, 13))
    assert selector.range_expr == DurationExpr("*", step, two, position=Position(2, 13))


@pytest.mark.parametrize("name", ["start", "end", "step", "range", "min_of", "max_of"])
def test_the_query_functions_can_be_called_and_still_be_names(name):
    args = "1, 2" if name.endswith("_of") else ""
    call = parse(f"{name.upper()} ({args})", EXPERIMENTAL)
    assert isinstance(call, Call)
    assert (call.function, value_type(call)) == (name, ValueType.SCALAR)
    assert isinstance(parse(f"{name} + {name}{{a='b'}}"), Binary)


def test_info_takes_matchers_that_may_match_everything():
    assert parse("info(a, {})", EXPERIMENTAL).args[1].matchers == ()
    assert to_text(parse('info(a, {b=~".*"})', EXPERIMENTAL)) == 'info(a, {b=~".*"})'


@pytest.mark.parametrize(
    ("query", "part", "covers"),
    [
        (" a + b ", lambda tree: tree, "a + b"),
        ("a{b='c'}[5m] offset 1m", lambda tree: tree, "a{b='c'}[5m] offset 1m"),
        ("a{b='c'}[5m] offset 1m", lambda tree: tree.selector, "a{b='c'}"),
        ("(a[5m:1m] @ start() )", lambda tree: tree.expr, "a[5m:1m] @ start()"),
        ("rate(foo[5m]) / 2", lambda tree: tree.left, "rate(foo[5m])"),
        ("rate(foo[5m]) / 2", lambda tree: tree.left.args[0], "foo[5m]"),
        ("sum(a) by (b) + c", lambda tree: tree.left, "sum(a) by (b)"),
        ("(sum(a) )", lambda tree: tree.expr, "sum(a)"),
        ("sum((a)) ", lambda tree: tree, "sum((a))"),
        ('a{b="é"} > - c', lambda tree: tree.right, "- c"),
        ('a{b="é"} > -1', lambda tree: tree.right, "-1"),
        ('label_replace(a, "é", "x", "y", "z")', lambda tree: tree.args[2], '"x"'),
    ],
)
def test_positions_are_byte_ranges_of_the_text(query, part, covers):
    position = part(parse(query)).position
    assert query.encode()[position.start : position.end].decode() == covers


def test_a_series_selector_gives_its_matchers():
    assert parse_metric_selector('up{job=~"a|b"}') == (
        LabelMatcher("job", MatchOp.REGEX, "a|b"),
        name_matcher("up"),
    )
    assert parse_metric_selector("sum") == (name_matcher("sum"),)
    assert selects_everything(parse_metric_selector('{a=~".*",b!="c"}'))
    assert not selects_everything(parse_metric_selector('{a=~".*",b=~".+"}'))


def test_a_query_that_is_asked_again_is_not_parsed_again_but_flags_still_count():
    query = "mad_over_time(a[5m])"
    assert parse(query, EXPERIMENTAL) is parse(query, EXPERIMENTAL)
    with pytest.raises(PromqlError, match="not enabled"):
        parse(query)
