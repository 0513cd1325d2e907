"""Regular expressions as Go has them: what it takes, what it refuses and in which words, and how much they may cost."""

from dataclasses import replace

import pytest
from promql_samples import instant, load, shown

from filoray.cluster.errors import ExecutionError
from filoray.nodes.memstore import label_matching
from filoray.nodes.promql import regex
from filoray.nodes.promql.errors import PromqlError
from filoray.nodes.promql.options import DEFAULT
from filoray.nodes.promql.parser import parse
from filoray.nodes.promql.regex import RegexError, compile_regex, regex_bytes

VALUES = ("v", "é", "K", "line\nbreak", "ſ", "")
LARGE = r"\p{L}{1,1000}"
PODS = "|".join(f"checkout-service-deployment-{i:05d}-x7z" for i in range(4_000))


@pytest.mark.parametrize(
    ("pattern", "matching"),
    [
        (LARGE, "véKſ"), (r"[\p{L}\p{N}]{1,500}", "véKſ"), (r"\p{L}{1,1000}\p{L}{1,1000}", ""), (r"(?i)k", "K"),
        (r"(?i:É)", "é"), (r"(?i)S", "ſ"), (r"v|", "v|"), (r"line.break", "l"), (r"(?-s).*", "véKſ|"), (r"^v$", "v"),
        (r"(?P<n>v)", "v"), (r"(?<n>v)", "v"), (r"\pL", "véKſ"), (r"\P{L}", ""), (r"[[:alpha:]]", "vK"),
        (r"a{1000}", ""), (r"x{0}", "|"), (r"[^]v]", "éKſ"), (r"\Q{9999999999}\E", ""), (r"[{]9999999999}", ""),
        (r"[]v]", "v"), (r"(?P<1_n>v)(?<b>)[(?<ü>]*", "v"), (r"\Q(?<ü>\E|v", "v"), (r"\(\?<ü>|v", "v"),
    ],
)  # fmt: skip
def test_what_go_compiles_matches_what_go_matches(pattern, matching):
    """``matching``: the first letters of the values, ``|`` for the empty one."""
    compiled = compile_regex(pattern)
    assert [(value[:1] or "|") for value in VALUES if compiled.fullmatch(value)] == list(matching)


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("(", "missing closing ): `(`"), ("[a", "missing closing ]: `[a`"), ("*", "missing argument to repetition"),
        ("a**", "invalid nested repetition operator: `**`"), ("a{1001}", "invalid repeat count: `{1001}`"),
        ("x{99999999999}", "invalid repeat count: `{99999999999}`"),
        ("x{1,99999999999}", "invalid repeat count: `{1,99999999999}`"),
        (r"\C", r"invalid escape sequence: `\C`"), (r"a\\\C", r"invalid escape sequence: `\C`"),
        (r"\8", r"invalid escape sequence: `\8`"), ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
        ("(?i", "invalid or unsupported Perl syntax: `(?i`"), (r"\p{Foo}", r"invalid character class range: `\p{Foo}`"),
        ("(" * 1_001 + "a" + ")" * 1_001, "expression nests too deeply"), ("[\udcff]", "invalid UTF-8"),
        ("(a{1000}){2}", "invalid repeat count"), ("(" * 5_000, ""),
        ("(?P<ü>a)", "invalid named capture: `(?P<ü>`"), ("v(?<n m>a)", "invalid named capture: `(?<n m>`"),
        ("v(?<=a)", "invalid named capture: `(?<=a)`"), ("(?<!a)b>", "invalid named capture: `(?<!a)b>`"),
    ],
)  # fmt: skip
def test_what_go_refuses_is_refused_in_its_words(pattern, problem):
    with pytest.raises(RegexError) as refused:
        compile_regex(pattern)
    assert str(refused.value).startswith("error parsing regexp: ")
    assert problem in str(refused.value)


def test_large_ones_answer_in_queries_and_in_label_replace():
    source = load(60, 'x{a="v"} 1\nx{a="9"} 2\nx 3')
    escaped = LARGE.replace("\\", "\\\\")
    assert shown(instant(source, f'x{{a=~"{escaped}"}}')) == ['{__name__="x", a="v"} 1']
    assert shown(instant(source, f'x{{a!~"{escaped}"}}')) == ['{__name__="x"} 3', '{__name__="x", a="9"} 2']
    assert shown(instant(source, f'label_replace(x{{a!=""}}, "b", "$1", "a", "({escaped})")')) == [
        '{__name__="x", a="9"} 2',
        '{__name__="x", a="v", b="v"} 1',
    ]
    with pytest.raises(ExecutionError, match=r"invalid regular expression in label_replace\(\): \\C"):
        instant(source, r'label_replace(x, "b", "$1", "a", "\\C")')


def test_thousands_of_pod_names_are_one_query():
    assert len(PODS) > 150_000
    source = load(60, 'x{pod="checkout-service-deployment-03999-x7z"} 1\nx{pod="checkout-service-deployment-4"} 2')
    assert shown(instant(source, f'x{{pod=~"{PODS}"}}')) == [
        '{__name__="x", pod="checkout-service-deployment-03999-x7z"} 1'
    ]


def test_text_that_is_not_utf8_matches_nothing():
    source = load(60, 'x{a="v"} 1')
    assert shown(instant(source, r'x{a=~"\xff"}')) == []
    with pytest.raises(PromqlError, match="invalid UTF-8"):
        parse(r'x{a=~"[\xff]"}')


def test_one_query_s_expressions_may_take_only_so_much():
    few = replace(DEFAULT, max_regex_bytes=10 << 20)
    assert parse('x{a=~"a.*b", b=~"c.*"}', few)
    with pytest.raises(
        PromqlError, match=r"may take \d+ bytes of memory, more than 10485760 .filoray\.query\.max-regex"
    ):
        parse('x{a=~"' + LARGE.replace("\\", "\\\\") + '"}', few)
    with pytest.raises(PromqlError, match="max-regex-size"):
        parse(" or ".join(f'x{{a=~"a{i}.*b"}}' for i in range(11)), few)


def test_what_is_kept_is_counted_by_what_it_may_take():
    cache = regex._Cache(20 << 20)
    for i in range(50):
        assert cache.get(f"a{i}.*b")[0].fullmatch(f"a{i}b")
    assert (15 << 20) < cache.nbytes <= (20 << 20)
    assert cache.get(LARGE)[0].fullmatch("é")
    assert cache.nbytes == 0  # it alone is more
    assert regex_bytes("a.*b") < regex_bytes(PODS) < (16 << 20) < regex_bytes(LARGE)


def test_a_shard_counts_the_expressions_that_it_keeps(monkeypatch):
    monkeypatch.setattr(label_matching, "_CACHED_REGEX_BYTES_MAX", 4 << 20)
    seen = label_matching.RegexMatches()
    for i in range(20):
        assert seen.matching_codes(0, rf"({i})?v.*x?", ["v", "9", "vw"]).tolist() == [0, 2]
    assert (2 << 20) < seen._regex_bytes <= (4 << 20)
    assert seen.matching_codes(0, "(0)?v.*x?", ["v", "9", "vw", "vx"]).tolist() == [0, 2, 3]
    seen.clear()
    assert seen._regex_bytes == 0
