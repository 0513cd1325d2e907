"""Trees, numbers and durations as text: Prometheus's and Go's spelling."""

import math
import re

import pytest

from filoray.nodes.promql.durations import duration_ms_of_seconds, format_duration, parse_duration_ms
from filoray.nodes.promql.json_tree import json_tree
from filoray.nodes.promql.number_format import format_float_e, format_float_f, format_float_g, format_value
from filoray.nodes.promql.parser import EXPERIMENTAL, parse
from filoray.nodes.promql.positions import line_and_column
from filoray.nodes.promql.pretty_printer import pretty
from filoray.nodes.promql.printer import to_text
from filoray.nodes.promql.quoting import quote, quote_character, valid_text


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("SUM(a)BY(b,c)", "sum by (b, c) (a)"),
        ("sum by () (a)", "sum(a)"),
        ("sum without () (a)", "sum without () (a)"),
        ("topk(5,a) by (b)", "topk by (b) (5, a)"),
        ("a{}", "a"),
        ("a{z='1',b!=\"2\",c=~`3`}", 'a{b!="2",c=~"3",z="1"}'),
        ('{__name__="a"}', '{__name__="a"}'),
        ('{"a.b","c d"="e"}', '{"c d"="e",__name__="a.b"}'),
        ('sum by ("a.b",c) (d)', 'sum by ("a.b", c) (d)'),
        ("a+b", "a + b"),
        ("a + ignoring() b", "a + b"),
        ("a + on() b", "a + on () b"),
        ("a>bool on(b)group_left b", "a > bool on (b) group_left () b"),
        ("a + ignoring() group_right(x) b", "a + ignoring () group_right (x) b"),
        ("a + fill(1e6) b", "a + fill (1e+06) b"),
        ("a + fill_right(1) fill_left(-Inf) b", "a + fill_left (-Inf) fill_right (1) b"),
        ("a[300]", "a[5m]"),
        ("a[90d]", "a[90d]"),
        ("a[7d]", "a[1w]"),
        ("a[1.5]", "a[1s500ms]"),
        ("a[5m:]", "a[5m:]"),
        ("a[1h:60] offset -3600 @ 1.5", "a[1h:1m] @ 1.500 offset -1h"),
        ("a @ -0.001", "a @ -0.001"),
        ("-(a)", "-(a)"),
        ("- 5", "-5"),
        ("-5m", "-5m"),
        ("1e21", "1000000000000000000000"),
        ("1e-7", "0.0000001"),
        ("-inf", "-Inf"),
        ("inf", "+Inf"),
        ("-inf ^ 2", "-Inf ^ 2"),
        ("'a\"\\n'", r'"a\"\n"'),
        (r'"\xc5é"', r'"\xc5é"'),
        (r'a{b="\xff"}', r'a{b="\ufffd"}'),
        ("rate(a[5m])", "rate(a[5m])"),
        ("time()", "time()"),
        ("round(a,5)", "round(a, 5)"),
    ],
)
def test_a_tree_is_printed_as_prometheus_prints_it(query, text):
    tree = parse(query, EXPERIMENTAL)
    assert to_text(tree) == text
    assert to_text(parse(text, EXPERIMENTAL)) == text


LONG = "x" * 60


def test_a_long_query_is_laid_out_over_lines():
    query = f'sum by (a, b) (rate({LONG}{{c="d"}}[5m] offset 1h)) / on (a) group_left (e) (count({LONG}) > bool 3)'
    assert pretty(parse(query)) == "\n".join(
        [
            "  sum by (a, b) (",
            f'    rate({LONG}{{c="d"}}[5m] offset 1h)',
            "  )",
            "/ on (a) group_left (e)",
            f"  (count({LONG}) > bool 3)",
        ]
    )


@pytest.mark.parametrize(
    ("query", "lines"),
    [
        (f"topk(5, {LONG}{LONG})", ["topk(", "  5,", f"  {LONG}{LONG}", ")"]),
        (f"round({LONG}{LONG}, 5)", ["round(", f"  {LONG}{LONG},", "  5", ")"]),
        (f"-({LONG} + {LONG})", ["-(", f"    {LONG}", "  +", f"    {LONG}", ")"]),
        (
            f"max_over_time(sum({LONG}{LONG})[5m:1m] offset 1h)",
            ["max_over_time(", "  sum(", f"    {LONG}{LONG}", "  )[5m:1m] offset 1h", ")"],
        ),
        (f"{LONG}{LONG}", [f"{LONG}{LONG}"]),
        ("1+1", ["1 + 1"]),
    ],
)
def test_what_is_too_long_for_a_line_is_split_at_its_structure(query, lines):
    assert pretty(parse(query)) == "\n".join(lines)


@pytest.mark.parametrize(
    ("value", "plain", "exponent", "short", "api"),
    [
        (0.0, "0", "0e+00", "0", "0"),
        (-0.0, "-0", "-0e+00", "-0", "-0"),
        (1.0, "1", "1e+00", "1", "1"),
        (-2.5, "-2.5", "-2.5e+00", "-2.5", "-2.5"),
        (0.1, "0.1", "1e-01", "0.1", "0.1"),
        (100000.0, "100000", "1e+05", "100000", "100000"),
        (1000000.0, "1000000", "1e+06", "1e+06", "1000000"),
        (123456789.125, "123456789.125", "1.23456789125e+08", "1.23456789125e+08", "123456789.125"),
        (0.0001, "0.0001", "1e-04", "0.0001", "0.0001"),
        (0.00001, "0.00001", "1e-05", "1e-05", "0.00001"),
        (1e-6, "0.000001", "1e-06", "1e-06", "0.000001"),
        (9.9e-7, "0.00000099", "9.9e-07", "9.9e-07", "9.9e-07"),
        (1e20, "100000000000000000000", "1e+20", "1e+20", "100000000000000000000"),
        (1e21, "1000000000000000000000", "1e+21", "1e+21", "1e+21"),
        (-1.5e300, "-15" + "0" * 299, "-1.5e+300", "-1.5e+300", "-1.5e+300"),
        (5e-324, "0." + "0" * 323 + "5", "5e-324", "5e-324", "5e-324"),
        (2.0**53, "9007199254740992", "9.007199254740992e+15", "9.007199254740992e+15", "9007199254740992"),
        (math.inf, "+Inf", "+Inf", "+Inf", "+Inf"),
        (-math.inf, "-Inf", "-Inf", "-Inf", "-Inf"),
        (math.nan, "NaN", "NaN", "NaN", "NaN"),
    ],
)
def test_floats_are_printed_as_go_prints_them(value, plain, exponent, short, api):
    printed = (format_float_f(value), format_float_e(value), format_float_g(value), format_value(value))
    assert printed == (plain, exponent, short, api)


@pytest.mark.parametrize(
    ("text", "milliseconds", "printed"),
    [
        ("0", 0, "0s"),
        ("0s", 0, "0s"),
        ("1ms", 1, "1ms"),
        ("90s", 90_000, "1m30s"),
        ("1h30m", 5_400_000, "1h30m"),
        ("24h", 86_400_000, "1d"),
        ("8d", 691_200_000, "8d"),
        ("2w", 1_209_600_000, "2w"),
        ("1y", 31_536_000_000, "1y"),
        ("1y1d", 31_622_400_000, "366d"),
        ("1d1ms", 86_400_001, "1d1ms"),
    ],
)
def test_durations_to_milliseconds_and_back(text, milliseconds, printed):
    assert parse_duration_ms(text) == milliseconds
    assert format_duration(milliseconds) == printed
    assert format_duration(-milliseconds) == (f"-{printed}" if milliseconds else "0s")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty duration string"),
        ("5", 'not a valid duration string: "5"'),
        ("m", 'not a valid duration string: "m"'),
        ("1m1h", 'not a valid duration string: "1m1h"'),
        ("1m1m", 'not a valid duration string: "1m1m"'),
        ("-1m", 'not a valid duration string: "-1m"'),
        ("1.5h", 'unknown unit "." in duration "1.5h"'),
        ("1é", 'not a valid duration string: "1é"'),
        ("300y", "duration out of range"),
        ("9" * 30 + "s", f'not a valid duration string: "{"9" * 30}s"'),
    ],
)
def test_what_is_no_duration_is_refused(text, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        parse_duration_ms(text)


def test_seconds_are_cut_to_milliseconds_but_float_noise_is_not():
    assert duration_ms_of_seconds(1.0009999999) == 1001
    assert duration_ms_of_seconds(1.0009) == 1000
    assert duration_ms_of_seconds(-1.0009) == -1000
    assert duration_ms_of_seconds(999_999_999.997) == 999_999_999_997


def test_text_is_quoted_as_go_quotes_it():
    assert quote('a"\\\n\t\x00\x7fé\u200b\udc80') == '"a\\"\\\\\\n\\t\\x00\\x7fé\\u200b\\x80"'
    assert quote_character("'") == r"'\''"
    assert quote_character("") == "'\ufffd'"
    assert valid_text("a\udc80b") == "a\ufffdb"


def test_places_count_lines_and_bytes():
    assert line_and_column("é\nab", 0) == "1:1"
    assert line_and_column("é\nab", 2) == "1:3"
    assert line_and_column("é\nab", 4) == "2:2"
    assert line_and_column("ab", 3) == "invalid position"


def selector_json(kind, **fields):
    name = {"name": "__name__", "value": "a", "type": "="}
    start = {"type": kind, "name": "a", "matchers": [name], "offset": 0, "timestamp": None, "startOrEnd": None}
    return {**start, "anchored": False, "smoothed": False, **fields}


A = selector_json("vectorSelector")


@pytest.mark.parametrize(
    ("query", "tree"),
    [
        ("a", A),
        ("a offset -5m @ end()", {**A, "offset": -300_000, "startOrEnd": "end"}),
        ("a[5m] @ 1.5", selector_json("matrixSelector", range=300_000, timestamp=1_500)),
        ("1e3", {"type": "numberLiteral", "val": "1000"}),
        ("'b'", {"type": "stringLiteral", "val": "b"}),
        ("(a)", {"type": "parenExpr", "expr": A}),
        ("-a", {"type": "unaryExpr", "op": "-", "expr": A}),
        (
            "a[5m:1m] offset 1s",
            {
                "type": "subquery",
                "expr": A,
                "range": 300_000,
                "step": 60_000,
                "offset": 1_000,
                "timestamp": None,
                "startOrEnd": None,
            },
        ),
        (
            "round(a)",
            {
                "type": "call",
                "func": {
                    "name": "round",
                    "argTypes": ["vector", "scalar"],
                    "variadic": 1,
                    "returnType": "vector",
                },
                "args": [A],
            },
        ),
        (
            "topk by (b) (1, a)",
            {
                "type": "aggregation",
                "op": "topk",
                "expr": A,
                "grouping": ["b"],
                "without": False,
                "param": {"type": "numberLiteral", "val": "1"},
            },
        ),
        (
            "a > bool on (b) group_left (c) fill_left (2) a",
            {
                "type": "binaryExpr",
                "op": ">",
                "lhs": A,
                "rhs": A,
                "bool": True,
                "matching": {
                    "card": "many-to-one",
                    "labels": ["b"],
                    "on": True,
                    "include": ["c"],
                    "fillValues": {"lhs": 2.0, "rhs": None},
                },
            },
        ),
        (
            "a + 1",
            {
                "type": "binaryExpr",
                "op": "+",
                "lhs": A,
                "rhs": {"type": "numberLiteral", "val": "1"},
                "matching": None,
                "bool": False,
            },
        ),
    ],
)
def test_the_tree_for_parse_query_has_the_shape_of_prometheus(query, tree):
    assert json_tree(parse(query, EXPERIMENTAL)) == tree
