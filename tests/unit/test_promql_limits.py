"""No query, however deep or long, may exhaust the stack of the parser or of what walks its trees."""

import sys
import time
from dataclasses import replace

import pytest

from filoray.nodes.promql.codec import from_plain, to_plain
from filoray.nodes.promql.duration_resolution import durations_resolved
from filoray.nodes.promql.json_tree import json_tree
from filoray.nodes.promql.options import ParserOptions
from filoray.nodes.promql.parser import EXPERIMENTAL, PromqlError, parse
from filoray.nodes.promql.pretty_printer import pretty
from filoray.nodes.promql.printer import to_text
from filoray.nodes.promql.types import value_type

DEPTH = ParserOptions().max_depth
TOO_DEEP = f"query nests deeper than {DEPTH} levels"

SHAPES = {
    "a chain": lambda count: "+".join(["a"] * count),
    "a chain to the right": lambda count: "^".join(["a"] * count),
    "parentheses": lambda count: "(" * (count - 1) + "a" + ")" * (count - 1),
    "signs": lambda count: "-" * (count - 1) + "a",
    "calls": lambda count: "abs(" * (count - 1) + "a" + ")" * (count - 1),
    "aggregations": lambda count: "sum by (b) (" * (count - 1) + "a" + ")" * (count - 1),
    "second arguments": lambda count: "topk(1, " * (count - 1) + "a" + ")" * (count - 1),
    "a sum of durations": lambda count: f"a[{'+'.join(['1'] * (count - 1))}]",
    "durations in parentheses": lambda count: f"a[{'(' * (count - 2)}step(){')' * (count - 2)}]",
    "chains in chains": lambda count: "+".join(["(a*b)"] * (count - 2)),
}
OUTSIZED = {
    **{name: shape(10_000) for name, shape in SHAPES.items()},
    "five thousand terms": "+".join(["1"] * 5_000),
    "open parentheses": "(" * 10_000,
    "open braces": "a{" * 10_000,
    "open brackets": "a[" * 10_000,
    "signed durations": "a[" + "-" * 10_000,
    "subqueries": "a" + "[1m:]" * 10_000,
    "offsets": "a" + " offset 1m" * 10_000,
}


@pytest.mark.parametrize("name", OUTSIZED)
def test_an_outsized_query_is_refused_early(name):
    started = time.process_time()
    with pytest.raises(PromqlError):
        parse(OUTSIZED[name], EXPERIMENTAL)
    assert (
        time.process_time() - started < 1.0
    )  # it takes about 2 ms; reading it all would take far longer than deep trees


@pytest.mark.parametrize("name", SHAPES)
def test_the_tree_may_be_as_high_as_the_limit_and_no_higher(name):
    shape = SHAPES[name]
    assert parse(shape(DEPTH), EXPERIMENTAL)
    with pytest.raises(PromqlError, match=TOO_DEEP):
        parse(shape(DEPTH + 1), EXPERIMENTAL)


def deep_in_the_stack(frames, action):
    return action() if frames == 0 else deep_in_the_stack(frames - 1, action)


def frames_here():
    frame, count = sys._getframe(), 0
    while frame is not None:
        frame, count = frame.f_back, count + 1
    return count


@pytest.mark.parametrize("name", SHAPES)
def test_the_highest_tree_can_be_walked_with_a_quarter_of_the_stack_in_use(name):
    query = SHAPES[name](DEPTH)

    def walk():
        tree = parse(query, EXPERIMENTAL)
        assert to_text(parse(to_text(tree), EXPERIMENTAL)) == to_text(tree)
        assert from_plain(to_plain(tree)) == tree
        assert pretty(tree)
        assert json_tree(tree)
        assert value_type(tree)
        assert durations_resolved(tree, 60_000, 3_600_000)

    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(1_000)
    try:
        deep_in_the_stack(max(0, 250 - frames_here()), walk)
    finally:
        sys.setrecursionlimit(limit)


def test_a_query_may_have_only_so_many_terms_and_bytes():
    few = replace(EXPERIMENTAL, max_terms=10)
    assert parse("label_join(a, 'b', 'c', 'd', 'e', 'f')", few)
    with pytest.raises(PromqlError, match="query has more than 10 terms"):
        parse("label_join(a, 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k')", few)
    with pytest.raises(PromqlError, match="query has more than 10 terms"):
        parse("a{" + ",".join(["b='c'"] * 10) + "}", few)
    short = replace(EXPERIMENTAL, max_query_bytes=10)
    assert parse("'12345678'", short)
    with pytest.raises(PromqlError, match="query has 11 bytes, more than the limit of 10"):
        parse("'1234567é'", short)
