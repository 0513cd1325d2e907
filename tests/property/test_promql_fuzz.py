"""Whatever text comes in, either a tree comes out or a PromqlError with a place in the text.

How long texts are made of tokens, and from which seed, ``fuzzing`` says.
"""

import re

import pytest
from fuzzing import rounds
from hypothesis import given, settings
from hypothesis import strategies as st

from filoray.nodes.promql.codec import from_plain, to_plain
from filoray.nodes.promql.lexer import Lexer
from filoray.nodes.promql.parser import DEFAULT, EXPERIMENTAL, PromqlError, parse
from filoray.nodes.promql.pretty_printer import pretty
from filoray.nodes.promql.printer import to_text
from filoray.nodes.promql.selectors import parse_metric_selector
from filoray.nodes.promql.tokens import TokenKind

TOKENS = (
    *("sum", "by", "without", "topk", "limitk", "count_values", "rate", "abs", "time", "info", "start", "end", "step"),
    *(
        "range",
        "min_of",
        "max_of",
        "max",
        "and",
        "or",
        "unless",
        "atan2",
        "on",
        "ignoring",
        "group_left",
        "group_right",
    ),
    *("bool", "offset", "@", "anchored", "smoothed", "fill", "fill_left", "fill_right", "a", "b:c", "_d", "Inf", "NaN"),
    *(
        "(",
        ")",
        "{",
        "}",
        "[",
        "]",
        "(",
        ")",
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "=",
        "!=",
        "=~",
        "!~",
        "==",
        "<",
        ">=",
        "</",
    ),
    *("+", "-", "*", "/", "%", "^", "1", "0x1F", "1e3", ".5", "1e", "5m", "1h30m", "5hs", "0", "1_0", "#", "\n", " "),
    *(
        '"s"',
        "'t'",
        "`u`",
        '"',
        r'"\x"',
        r'"\xff"',
        '"é"',
        "é",
        "\ufffd",
        "\udc80",
        "$",
        '"a("',
        "sum(a)",
        "a[5m]",
        "a{b='c'}",
    ),
)
PLACE = re.compile(r"(\d+:\d+|unknown position): parse error: .", re.DOTALL)
EXAMPLES = 3_000


def outcome(parser, text, options):
    """What the parser gives, or the error, whose place is checked."""
    try:
        return parser(text, options)
    except PromqlError as error:
        refused = error
    assert PLACE.match(str(refused)), str(refused)
    return refused


def check(text):
    """The one promise: no other exception, and what parses prints and travels."""
    outcome(parse_metric_selector, text, DEFAULT)
    for options in (DEFAULT, EXPERIMENTAL):
        tree = outcome(parse, text, options)
        if isinstance(tree, PromqlError):
            continue
        printed = to_text(tree)
        assert to_text(parse(printed, EXPERIMENTAL)) == printed
        assert to_text(parse(pretty(tree), EXPERIMENTAL)) == printed
        assert repr(from_plain(to_plain(tree))) == repr(tree)


def test_any_sequence_of_tokens_is_parsed_or_refused():
    for source in rounds(EXAMPLES):
        separator = source.choice(["", " "])
        text = separator.join(source.choices(TOKENS, k=source.randint(1, 12)))
        try:
            check(text)
        except Exception as error:
            raise AssertionError(repr(text)) from error


@settings(deadline=None)
@given(st.text(st.characters(), max_size=40))
def test_any_text_is_parsed_or_refused(text):
    check(text)


@settings(deadline=None)
@given(
    st.sampled_from(
        [
            'sum by (a) (rate(b{c="d",e=~"f.*"}[5m] offset 1h)) / on (g) group_left (h) i > bool 1.5',
            "a[1h:step()*2] @ end()",
        ]
    ),
    st.data(),
)
def test_a_damaged_query_is_parsed_or_refused(query, data):
    start = data.draw(st.integers(0, len(query)))
    end = data.draw(st.integers(start, min(len(query), start + 5)))
    check(query[:start] + data.draw(st.text(st.sampled_from("(){}[],:=~!\"'`@#a1m-é \n\\"), max_size=3)) + query[end:])


@given(st.text(st.sampled_from("ab1 .5m:e+-_(){}[]\"'`\\n=~!<>@#é😀\n"), max_size=40))
def test_tokens_are_cut_from_the_text_in_order(text):
    lexer = Lexer(text)
    encoded = text.encode()
    end = 0
    while (token := lexer.next_token()).kind not in (TokenKind.EOF, TokenKind.ERROR):
        assert end <= token.start < token.end
        assert encoded[token.start : token.end].decode() == token.text
        end = token.end
    assert end <= token.start <= len(encoded)
    assert lexer.next_token() is token


@pytest.mark.parametrize(
    "query", ["a" * 100_000, "1" * 100_000, '"' + "\\n" * 50_000 + '"', "# " + "x" * 100_000, " " * 100_000]
)
def test_long_tokens_are_read(query):
    check(query)
