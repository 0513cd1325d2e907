"""What is wrong with a query is said where and how Prometheus says it."""

import pytest

from filoray.cluster.errors import BadData
from filoray.nodes.promql.parser import DEFAULT, EXPERIMENTAL, PromqlError, parse
from filoray.nodes.promql.selectors import parse_metric_selector

OFFSET_WANTED = "number, duration, step(), or range()"
TOO_FEW = "wrong number of arguments for aggregate expression provided"
BINARY_TYPES = "binary expression must contain only scalar and instant vector types"
NOT_EMPTY = "vector selector must contain at least one non-empty matcher"
NEEDS_SELECTOR = "must be preceded by an instant vector selector or range vector selector or a subquery"

SYNTAX = [
    ("", "unknown position", "no expression found in input"),
    ("   ", "1:1", "no expression found in input"),
    ("# only a comment", "1:1", "no expression found in input"),
    ("foo bar", "1:5", 'unexpected identifier "bar"'),
    ("foo a:b", "1:5", 'unexpected metric identifier "a:b"'),
    ('foo "bar"', "1:5", r'unexpected string "\"bar\""'),
    ('foo "a long string"', "1:5", r'unexpected string "\"a long st"...'),
    ("foo 1", "1:5", 'unexpected number "1"'),
    ("foo 5m", "1:5", 'unexpected duration "5m"'),
    ("foo by", "1:5", "unexpected <by>"),
    ("foo sum", "1:5", "unexpected <aggr:sum>"),
    ("foo start", "1:5", 'unexpected "start"'),
    ("foo {", "1:6", "unexpected end of input inside braces"),
    ("1 +", "1:4", "unexpected end of input"),
    ("1 * * 2", "1:5", "unexpected <op:*>"),
    ("on", "1:1", "unexpected <on>"),
    ("foo = 1", "1:5", 'unexpected "="'),
    ("foo , 1", "1:5", 'unexpected ","'),
    ("()", "1:2", 'unexpected ")"'),
    ("(1", "1:3", "unclosed left parenthesis"),
    ("1)", "1:3", "unexpected right parenthesis ')'"),
    ("foo $", "1:5", "unexpected character: '$'"),
    ("foo +\n  bar $", "2:7", "unexpected character: '$'"),
    ('"é" $', "1:6", "unexpected character: '$'"),
    ("foo =~ bar", "1:5", "unexpected character after '=': '~'"),
    ("foo !~ bar", "1:5", "unexpected character after '!': '~'"),
    ("a:b(1)", "1:4", 'unexpected "("'),
    ("sum(1 + )", "1:9", 'unexpected ")" in aggregation'),
    ("sum some by (test)", "1:5", 'unexpected identifier "some"'),
    ("sum by (test) some", "1:15", 'unexpected identifier "some" in aggregation'),
    ("sum(a) by (b) by (c)", "1:15", "unexpected <by>"),
    ("sum by (==) (a)", "1:9", "unexpected <op:==> in grouping opts, expected label"),
    ("sum by (without) (a)", "1:9", "unexpected <without> in grouping opts, expected label"),
    ("sum by (a b) (a)", "1:11", 'unexpected identifier "b" in grouping opts, expected "," or ")"'),
    ("sum by (a,,b) (a)", "1:11", 'unexpected "," in grouping opts, expected label'),
    ("sum by a (b)", "1:8", 'unexpected identifier "a" in grouping opts, expected "("'),
    (r'sum by ("\xff") (a)', "1:9", r'invalid label name for grouping: "\xff"'),
    ('sum by ("") (a)', "1:9", 'invalid label name for grouping: ""'),
    ("a + on b", "1:8", 'unexpected identifier "b" in grouping opts, expected "("'),
    ("a + group_left b", "1:5", "unexpected <group_left>"),
    ("a + on(b) group_left", "1:21", 'unexpected end of input in grouping opts, expected "("'),
    ("a + on(b) group_left bool c", "1:22", 'unexpected <bool> in grouping opts, expected "("'),
    ("a + on(b) group_left group_right c", "1:22", 'unexpected <group_right> in grouping opts, expected "("'),
    ("a + on(b) group_right * c", "1:23", 'unexpected <op:*> in grouping opts, expected "("'),
    ("a + on(b) group_right [5m]", "1:23", 'unexpected "[" in grouping opts, expected "("'),
    ("a + on(b) group_right =~ c", "1:23", "unexpected character after '=': '~'"),
    ("sum(a,)", "1:6", "trailing commas not allowed in function call args"),
    ("abs(a b)", "1:7", 'unexpected identifier "b"'),
    ("nope(1)", "1:1", 'unknown function with name "nope"'),
    ("Rate(a[1m])", "1:1", 'unknown function with name "Rate"'),
]

SELECTORS = [
    ("{a}", "1:3", 'unexpected "}" in label matching, expected label matching operator'),
    ("{a=}", "1:4", 'unexpected "}" in label matching, expected string'),
    ("{a=b}", "1:4", 'unexpected identifier "b" in label matching, expected string'),
    ('{"a"=b}', "1:6", 'unexpected identifier "b" in label matching, expected string'),
    ("{,}", "1:2", 'unexpected "," in label matching, expected identifier or "}"'),
    ('{a="b",,}', "1:8", 'unexpected "," in label matching, expected identifier or "}"'),
    ('{a="b" c="d"}', "1:8", 'unexpected identifier "c" in label matching, expected "," or "}"'),
    ('{"a" "b"}', "1:6", r'unexpected string "\"b\"" in label matching, expected "," or "}"'),
    ('{a!"b"}', "1:3", "unexpected character after '!' inside braces: '\"'"),
    ("{1}", "1:2", "unexpected character inside braces: '1'"),
    ("{{}}", "1:2", "unexpected left brace '{'"),
    ("{}", "1:1", NOT_EMPTY),
    ('{a=~".*"}', "1:1", NOT_EMPTY),
    ('{a=""}', "1:1", NOT_EMPTY),
    ('{a!~".+"}', "1:1", NOT_EMPTY),
    ('a{__name__="b"}', "1:1", 'metric name must not be set twice: "a" or "b"'),
    ('a{b=~"("}', "1:3", "error parsing regexp: missing closing ): `(`"),
    ('a{b=~"[z-a]"}', "1:3", "error parsing regexp: invalid character class range: `z-a`"),
    ('a{b!~"*"}', "1:3", "error parsing regexp: missing argument to repetition operator: `*`"),
    ('a{b=~"a**"}', "1:3", "error parsing regexp: invalid nested repetition operator: `**`"),
    ('a{b=~"x{1001}"}', "1:3", "error parsing regexp: invalid repeat count: `{1001}`"),
    ('a{b=~"(?i"}', "1:3", "error parsing regexp: invalid or unsupported Perl syntax: `(?i`"),
]

RANGES = [
    ("a[", "1:3", "unexpected end of input in duration expression"),
    ("a[5m", "1:5", "unclosed left bracket"),
    ("a[]", "1:3", f'unexpected "]" in subquery or range selector, expected {OFFSET_WANTED}'),
    ("a[b]", "1:3", "unexpected character in duration expression: 'b'"),
    ("a[5m b]", "1:6", "unexpected character: 'b', expected ':'"),
    ("a[5m 3]", "1:6", 'unexpected number "3" in subquery or range, expected ":" or "]"'),
    ("a[:5m]", "1:4", "unexpected colon before duration in duration expression"),
    ("a[5m:1m:1m]", "1:8", "unexpected colon ':'"),
    ("a[5m:1m 1m]", "1:9", 'unexpected duration "1m" in subquery selector, expected "]"'),
    ("a[5m:)]", "1:7", "unexpected right parenthesis ')'"),
    ("(a[5m:)", "1:7", 'unexpected ")" in subquery selector, expected number, duration, step(), range(), or "]"'),
    ("a[0]", "1:3", "duration must be greater than 0"),
    ("a[-5m]", "1:3", "duration must be greater than 0"),
    ("a[5m:0s]", "1:6", "duration must be greater than 0"),
    ("a[NaN]", "1:3", "unexpected character in duration expression: 'N'"),
    ("a[1e300]", "1:3", "duration out of range"),
    ("a[5m][5m]", "1:6", "ranges only allowed for vector selectors"),
    ("sum(a)[5m]", "1:7", "ranges only allowed for vector selectors"),
    ("a offset 5m[5m]", "1:12", "no offset modifiers allowed before range"),
    ("a @ 5[5m]", "1:6", "no @ modifiers allowed before range"),
    ("a[5m][5m:]", "1:1", "subquery is only allowed on instant vector, got matrix instead"),
    ("1[5m:]", "1:1", "subquery is only allowed on instant vector, got scalar instead"),
    ('"a"[5m:]', "1:1", "subquery is only allowed on instant vector, got string instead"),
    ("a offset", "1:9", f"unexpected end of input in offset, expected {OFFSET_WANTED}"),
    ("rate(a[5m] offset)", "1:18", f'unexpected ")" in offset, expected {OFFSET_WANTED}'),
    ("a offset NaN", "1:10", "duration out of range"),
    ("a offset -Inf", "1:11", "duration out of range"),
    ("a offset 5m offset 1m", "1:1", "offset may not be set multiple times"),
    ("1 offset 5m", "1:1", f"offset modifier {NEEDS_SELECTOR}"),
    ("a @", "1:4", "unexpected end of input in @, expected timestamp"),
    ("a @ b", "1:5", 'unexpected identifier "b" in @, expected timestamp'),
    ("a @ start", "1:10", "unexpected end of input in @, expected timestamp"),
    ("a @ 1 @ 2", "1:1", "@ <timestamp> may not be set multiple times"),
    ("a @ start() @ 2", "1:1", "@ <timestamp> may not be set multiple times"),
    ("a @ Inf", "1:1", "timestamp out of bounds for @ modifier: +Inf"),
    ("a @ NaN", "1:1", "timestamp out of bounds for @ modifier: NaN"),
    ("sum(a) @ 1", "1:1", f"@ modifier {NEEDS_SELECTOR}"),
]

LITERALS = [
    ("1e", "1:1", 'bad number or duration syntax: "1e"'),
    ("1.2.3", "1:1", 'bad number or duration syntax: "1.2."'),
    ("1__0", "1:1", 'bad number or duration syntax: "1__"'),
    ("5mx", "1:1", 'bad number or duration syntax: "5mx"'),
    ("0xg", "1:1", 'bad number or duration syntax: "0x"'),
    ("(1e+)", "1:2", 'error parsing number: strconv.ParseFloat: parsing "1e+": invalid syntax'),
    ("1e309", "1:1", 'error parsing number: strconv.ParseFloat: parsing "1e309": value out of range'),
    ("30m1h", "1:1", 'not a valid duration string: "30m1h"'),
    ("a[5hs]", "1:3", 'unknown unit "hs" in duration "5hs"'),
    ("a[300y]", "1:3", "duration out of range"),
    ('"a', "1:1", "unterminated quoted string"),
    ('"a\nb"', "1:1", "unterminated quoted string"),
    ("`a", "1:1", "unterminated raw string"),
    (r'"\q"', "1:1", "unknown escape sequence U+0071 'q'"),
    (r"""'\"'""", "1:1", "unknown escape sequence U+0022 '\"'"),
    (r'"\x4"', "1:1", "illegal character U+0022 '\"' in escape sequence"),
    (r'"\400"', "1:1", "escape sequence is an invalid Unicode code point"),
    (r'"\ud800"', "1:1", "escape sequence is an invalid Unicode code point"),
    ('"a\\', "1:1", "escape sequence not terminated"),
    ('"\ufffd"', "1:1", "invalid UTF-8 rune"),
    ("`\udc80`", "1:1", "invalid UTF-8 rune"),
]

TYPES = [
    ("rate(a)", "1:6", 'expected type range vector in call to function "rate", got instant vector'),
    ("abs(1)", "1:5", 'expected type instant vector in call to function "abs", got scalar'),
    ('abs("a")', "1:5", 'expected type instant vector in call to function "abs", got string'),
    ("rate(a[5m], 1)", "1:1", 'expected 1 argument(s) in call to "rate", got 2'),
    ("time(1)", "1:1", 'expected 0 argument(s) in call to "time", got 1'),
    ("round()", "1:1", 'expected at least 1 argument(s) in call to "round", got 0'),
    ("round(a, 1, 2)", "1:1", 'expected at most 2 argument(s) in call to "round", got 3'),
    ("label_join(a)", "1:1", 'expected at least 3 argument(s) in call to "label_join", got 1'),
    ('label_join(a, "b", "c", 1)', "1:25", 'expected type string in call to function "label_join", got scalar'),
    (
        "quantile_over_time(a[5m], 1)",
        "1:20",
        'expected type scalar in call to function "quantile_over_time", got range vector',
    ),
    ("sum(1)", "1:5", "expected type instant vector in aggregation expression, got scalar"),
    ("sum(a[5m])", "1:5", "expected type instant vector in aggregation expression, got range vector"),
    ('topk("a", b)', "1:6", "expected type scalar in aggregation parameter, got string"),
    ("count_values(1, b)", "1:14", "expected type string in aggregation parameter, got scalar"),
    ("sum()", "1:1", "no arguments for aggregate expression provided"),
    ("topk(a)", "1:1", f"{TOO_FEW}, expected 2, got 1"),
    ("1 + sum(a, b)", "1:5", f"{TOO_FEW}, expected 1, got 2"),
    ('-"a"', "1:1", 'unary expression only allowed on expressions of type scalar or instant vector, got "string"'),
    (
        "-a[5m]",
        "1:1",
        'unary expression only allowed on expressions of type scalar or instant vector, got "range vector"',
    ),
    ('1 + "a"', "1:5", BINARY_TYPES),
    ("a[5m] + 1", "1:1", BINARY_TYPES),
    ("1 > 2", "1:3", "comparisons between scalars must use BOOL modifier"),
    ("1\n  > 2", "2:3", "comparisons between scalars must use BOOL modifier"),
    ("a + bool b", "1:3", "bool modifier can only be used on comparison operators"),
    ("1 and a", "1:1", 'set operator "and" not allowed in binary scalar expression'),
    ("a unless 1", "1:1", 'set operator "unless" not allowed in binary scalar expression'),
    ("a + on (b) group_left (b) c", "1:3", 'label "b" must not occur in ON and GROUP clause at once'),
    ("a or on (b) group_left c", "1:1", 'no grouping allowed for "or" operation'),
    ("1 + on (b) c", "1:1", "vector matching only allowed between instant vectors"),
    ("a + ignoring (b) 1", "1:1", "vector matching only allowed between instant vectors"),
    ("sum(rate(a)) + sum(1)", "1:10", 'expected type range vector in call to function "rate", got instant vector'),
]

EXPERIMENTAL_OFF = [
    ("mad_over_time(a[5m])", "1:1", 'function "mad_over_time" is not enabled'),
    ("a + start()", "1:5", 'function "start" is not enabled'),
    (
        "1 + limitk(1, a)",
        "1:5",
        "limitk() is experimental and must be enabled with --enable-feature=promql-experimental-functions",
    ),
    ("1 + (a + fill(1) b)", "1:6", "binop fill modifiers are experimental and not enabled"),
    ("a[5m * 2]", "1:3", "experimental duration expression is not enabled"),
    ("a[step()]", "1:3", "experimental duration expression is not enabled"),
    ("a offset (5m)", "1:11", "experimental duration expression is not enabled"),
    ("rate(a[5m] anchored)", "1:6", "anchored modifier is experimental and not enabled"),
    ("a smoothed", "1:1", "smoothed modifier is experimental and not enabled"),
]

EXPERIMENTAL_ON = [
    ("a[5m / 0]", "1:6", "division by zero"),
    ("a[5m % 0]", "1:6", "modulo by zero"),
    ("a[5m +]", "1:7", f'unexpected "]" in subquery or range selector, expected {OFFSET_WANTED}'),
    ("a[(5m]", "1:6", f'unexpected "]" in subquery or range selector, expected {OFFSET_WANTED}'),
    ("a anchored smoothed", "1:1", "anchored and smoothed modifiers cannot be used together"),
    ("a[5m] smoothed anchored", "1:1", "anchored and smoothed modifiers cannot be used together"),
    ("a[5m:] anchored", "1:1", "anchored modifier is not supported for subqueries"),
    ("sum(a) smoothed", "1:1", "smoothed modifier not implemented"),
    ("1 + fill(1) a", "1:1", "filling in missing series only allowed between instant vectors"),
    ("a or fill(1) b", "1:1", "filling in missing series not allowed for set operators"),
    ("a + fill(b) c", "1:10", 'unexpected identifier "b"'),
    ("a + fill_left(1) fill_left(2) c", "1:18", "unexpected <fill_left>"),
    ("info(a, 1)", "1:1", 'expected type instant vector in call to function "info", got scalar'),
    ("info(a, b)", "1:9", "expected label selectors only, got vector selector instead"),
    ("info(a, sum(b))", "1:9", "expected label selectors only"),
    ("a offset step() offset 5m", "1:1", "offset may not be set multiple times"),
]


def message_of(query, options):
    with pytest.raises(PromqlError) as caught:
        parse(query, options)
    return str(caught.value)


@pytest.mark.parametrize(
    ("query", "place", "reason"), SYNTAX + SELECTORS + RANGES + LITERALS + TYPES + EXPERIMENTAL_OFF
)
def test_a_bad_query_is_refused_in_the_words_of_prometheus(query, place, reason):
    assert message_of(query, DEFAULT) == f"{place}: parse error: {reason}"


@pytest.mark.parametrize(("query", "place", "reason"), EXPERIMENTAL_ON)
def test_misused_experimental_syntax_is_refused_in_the_words_of_prometheus(query, place, reason):
    assert message_of(query, EXPERIMENTAL) == f"{place}: parse error: {reason}"


@pytest.mark.parametrize(("query", "place", "reason"), SYNTAX + SELECTORS + RANGES + LITERALS + TYPES)
def test_the_experimental_flags_change_no_other_error(query, place, reason):
    assert message_of(query, EXPERIMENTAL) == f"{place}: parse error: {reason}"


def test_a_parse_error_is_bad_data_with_its_byte_offset():
    with pytest.raises(BadData) as caught:
        parse('"é" $')
    assert isinstance(caught.value, PromqlError)
    assert (caught.value.http_status, caught.value.error_type) == (400, "bad_data")
    assert (caught.value.offset, caught.value.reason) == (5, "unexpected character: '$'")


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        ("", "unknown position: parse error: unexpected end of input"),
        ("1", '1:1: parse error: unexpected number "1"'),
        ("a[5m]", '1:2: parse error: unexpected "["'),
        ("rate(a[5m])", '1:5: parse error: unexpected "("'),
        ("a offset 5m", "1:3: parse error: unexpected <offset>"),
        ("{a=}", '1:4: parse error: unexpected "}" in label matching, expected string'),
        ("{a", "1:3: parse error: unexpected end of input inside braces"),
    ],
)
def test_a_bad_series_selector_is_refused_in_the_words_of_prometheus(selector, message):
    with pytest.raises(PromqlError) as caught:
        parse_metric_selector(selector)
    assert str(caught.value) == message
