"""No query, however deep or long, may exhaust the stack of the parser or of what walks its trees."""

import sys
import threading
from dataclasses import replace

import msgpack
import pytest
from promql_samples import load, shown

from filoray.http.server.deep_json import deep_json
from filoray.nodes.data.cancel_token import CancelToken
from filoray.nodes.engine.evaluate.fragment_run import run_fragments
from filoray.nodes.engine.plan.explain import explain
from filoray.nodes.engine.plan.finishing import finish
from filoray.nodes.engine.plan.planner import plan
from filoray.nodes.engine.query_params import NO_LIMITS, EvaluationOptions, QueryParams
from filoray.nodes.promql.ast import ValueType
from filoray.nodes.promql.codec import from_plain, to_plain
from filoray.nodes.promql.duration_resolution import durations_resolved
from filoray.nodes.promql.json_tree import json_tree
from filoray.nodes.promql.options import ParserOptions
from filoray.nodes.promql.parser import EXPERIMENTAL, PromqlError, parse
from filoray.nodes.promql.pretty_printer import pretty
from filoray.nodes.promql.printer import to_text
from filoray.nodes.promql.types import value_type
from filoray.nodes.wire import fragment_codec as wire

DEPTH = ParserOptions().max_depth
TOO_DEEP = f"query nests deeper than {DEPTH} levels"
SOURCE = load(60, "a 1")

NESTED = {
    "parentheses": lambda depth: "(" * (depth - 1) + "a" + ")" * (depth - 1),
    "signs": lambda depth: "-" * (depth - 1) + "a",
    "calls": lambda depth: "abs(" * (depth - 1) + "a" + ")" * (depth - 1),
    "aggregations": lambda depth: "sum by (b) (" * (depth - 1) + "a" + ")" * (depth - 1),
    "second arguments": lambda depth: "topk(1, " * (depth - 1) + "a" + ")" * (depth - 1),
    "label functions": lambda depth: "label_replace(" * (depth - 1) + "a" + ", 'b', 'c', 'd', 'e')" * (depth - 1),
    "right operands": lambda depth: "a - (" * (depth - 1) + "a" + ")" * (depth - 1),
    "subqueries": lambda depth: "max_over_time(" * (depth - 2) + "a[1m])" + "[1m:])" * (depth - 3),
    "durations in parentheses": lambda depth: f"a[{'(' * (depth - 2)}step(){')' * (depth - 2)}]",
    "chains in chains": lambda depth: "(1 + " * (depth - 1) + "1" + " * 2)" * (depth - 1),
}
CHAINS = {
    "sums": lambda count: "+".join(["a"] * count),
    "powers": lambda count: "^".join(["a"] * count),
    "numbers": lambda count: " + ".join(["1"] * count),
    "unions": lambda count: " or ".join(f"a{i}" for i in range(count)),
    "comparisons": lambda count: " > ".join(["a"] * count),
    "of all precedences": lambda count: ("a or b * 2 - c > 1 and d ^ e unless " * count)[: -len(" unless ")],
    "with a scalar": lambda count: "a" + " * 2" * count,
    "sums of sums": lambda count: "+".join(["sum(a)"] * count),
    "a sum of durations": lambda count: f"a[{'+'.join(['1'] * count)}]",
    "a power of durations": lambda count: f"a offset ({'^'.join(['1'] * count)})",
}
OUTSIZED = {
    **{name: shape(10_001) for name, shape in (NESTED | CHAINS).items()},
    "terms beyond number": "+".join(["1"] * 500_000),
    "open parentheses": "(" * 10_000,
    "open braces": "a{" * 10_000,
    "open brackets": "a[" * 10_000,
    "signed durations": "a[" + "-" * 10_000,
    "subqueries of subqueries": "a" + "[1m:]" * 100_000,
    "offsets": "a" + " offset 1m" * 10_000,
}


@pytest.mark.parametrize("name", OUTSIZED)
def test_an_outsized_query_is_refused_by_a_limit_that_is_named(name):
    with pytest.raises(PromqlError) as refused:
        parse(OUTSIZED[name], EXPERIMENTAL)
    if name not in ("open braces", "open brackets", "offsets"):  # which are wrong as well
        assert "(filoray.query.max-" in str(refused.value)


@pytest.mark.parametrize("name", NESTED)
def test_a_query_may_nest_as_deep_as_the_limit_and_no_deeper(name):
    shape = NESTED[name]
    assert parse(shape(DEPTH), EXPERIMENTAL)
    with pytest.raises(PromqlError, match=TOO_DEEP):
        parse(shape(DEPTH + 1), EXPERIMENTAL)


@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_is_not_depth(name):
    assert parse(CHAINS[name](300), replace(EXPERIMENTAL, max_depth=3))


def deep_in_the_stack(frames, action):
    return action() if frames == 0 else deep_in_the_stack(frames - 1, action)


WALKED = {
    **{name: shape(DEPTH) for name, shape in NESTED.items()},
    **{name: shape(30 if "all" in name else 300) for name, shape in CHAINS.items()},
}


@pytest.mark.parametrize("name", WALKED)
def test_trees_of_any_height_can_be_walked_from_deep_in_the_stack(name):
    query = WALKED[name]
    params = QueryParams.range(0, 60_000, 60_000, EvaluationOptions(wants_stats=True))

    def walk():
        tree = parse(query, EXPERIMENTAL)
        assert to_text(parse(to_text(tree), EXPERIMENTAL)) == to_text(tree)
        plain = msgpack.unpackb(msgpack.packb(to_plain(tree)))
        assert to_text(from_plain(plain)) == to_text(tree)
        assert to_plain(from_plain(plain)) == plain
        assert to_text(parse(pretty(tree), EXPERIMENTAL)) == to_text(tree)
        assert deep_json(json_tree(tree)).count(b'"type"') >= min(query.count("a"), 2)
        assert value_type(tree)
        durations_resolved(tree, 60_000, 3_600_000)
        if value_type(tree) is ValueType.MATRIX:
            return
        for whole in (False, True):
            execution = plan(tree, params, lambda selectors, whole=whole: whole)
            fragments = wire.decode_fragments(wire.encode_fragments(execution.fragments))
            assert explain(execution, {"node": (0,)})
            cancel = CancelToken()
            answers = run_fragments(fragments, SOURCE, NO_LIMITS, cancel)
            answers = wire.decode_answers([bytes(part) for part in wire.encode_answers(answers)])
            assert answers.stats is None or deep_json(answers.stats.to_json())
            result = finish(execution, [answers], NO_LIMITS, cancel)
            assert result.frame is not None
            assert deep_json(result.stats.to_json())

    def in_a_thread():
        problems = []

        def run():
            try:
                deep_in_the_stack(500, walk)
            except BaseException as problem:
                problems.append(problem)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        assert not problems

    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(1_000)
    try:
        deep_in_the_stack(500, walk)
        sys.setrecursionlimit(1_000)
        in_a_thread()
    finally:
        sys.setrecursionlimit(limit)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (" + ".join(["1"] * 1_000), ["1000"]),
        (" + ".join(["a"] * 400), ["{} 400"]),
        ("2 ^ " * 1_000 + "1", ["+Inf"]),
        (" or ".join(f"m{i} or a" for i in range(200)), ['{__name__="a"} 1']),
        (" - ".join(["1"] * 1_000), ["-998"]),
        (CHAINS["with a scalar"](900), ["{} 8.452712498170644e+270"]),
        ("abs(" * 198 + "a" + ")" * 198, ["{} 1"]),
        ("sum(" * 196 + "a" + ")" * 196, ["{} 1"]),
        (NESTED["label functions"](196), ['{__name__="a"} 1']),
    ],
)
def test_long_chains_and_deep_nests_have_their_values(query, expected):
    for parts in (SOURCE.split(1), SOURCE.split(3)):
        execution = plan(parse(query), QueryParams.instant(0))
        cancel = CancelToken()
        answers = [run_fragments(execution.fragments, part, NO_LIMITS, cancel) for part in parts]
        got = shown(finish(execution, answers, NO_LIMITS, cancel))
        assert got == expected


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
