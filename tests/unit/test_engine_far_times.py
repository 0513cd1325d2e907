"""Times as far off as text can say give empty answers, the same on nodes as at gateways, and no overflow."""

import json

import pytest
from dict_source import DictSource
from promql_samples import instant, load, ranged, shown

from filoray.nodes.engine.plan.planner import plan
from filoray.nodes.engine.query_params import QueryParams
from filoray.nodes.promql.json_tree import json_tree
from filoray.nodes.promql.options import EXPERIMENTAL
from filoray.nodes.promql.parser import parse
from filoray.nodes.promql.printer import to_text
from filoray.nodes.wire import fragment_codec as wire

X = load(60, "x 1 2 3 4 5 6")
FAR = (
    "1700000500000000000", "-1e17", "9.2e15", "-9.2e15", "9.223372036854775e18", "-9.223372036854775e18",
    "9223372036854775.807", "-9223372036854775.808", "2305843009213694",
)  # fmt: skip
OFFSETS = ("", " offset 1y", " offset -1y", " offset 292y", " offset -292y")


@pytest.mark.parametrize("far", FAR)
@pytest.mark.parametrize("offset", OFFSETS)
def test_far_from_all_samples_there_are_none(far, offset):
    for query in (
        f"x @ {far}{offset}",
        f"rate(x[292y] @ {far}{offset})",
        f"last_over_time(x[1m:1s] @ {far}{offset})",
        f"timestamp(x @ {far}{offset})",
        f"sum(x @ {far}{offset})",
        f"max_over_time(max_over_time(x[292y:100y] offset -292y)[292y:100y] @ {far}{offset})",
        f"info(x @ {far}{offset})",
    ):
        assert shown(instant(X, query, 300)) == [], query
        assert shown(ranged(X, query, 0, 300, 60)) == [], query
    assert shown(instant(X, f"absent(x @ {far}{offset})", 300)) == ["{} 1"]
    assert shown(instant(X, f"x[5m] @ {far}{offset}", 300)) == []


def test_what_there_always_is_is_there_at_far_times_too():
    assert shown(instant(X, "last_over_time(vector(time())[1m:1s] @ 9.2e15)", 0)) == ["{} 9.2e+15"]
    assert shown(instant(X, "last_over_time(vector(time())[1m:1s] @ -9e15)", 0)) == ["{} -9e+15"]


@pytest.mark.parametrize("time_ms", [-(2**61) + 1, 2**61 - 2])
def test_the_edges_of_a_query_s_own_time(time_ms):
    for query in ("x", "x offset -292y", "rate(x[292y] offset 292y)", "x @ start()", "hour() + 0 * time()"):
        instant(X, query, time_ms / 1000)
    assert shown(instant(DictSource(), "vector(1)", time_ms / 1000)) == ["{} 1"]


@pytest.mark.parametrize("far", FAR)
def test_far_times_can_be_sent_and_shown(far):
    expr = parse(f"x @ {far} offset -1y", EXPERIMENTAL)
    fragments = plan(expr, QueryParams.instant(0)).fragments
    assert wire.decode_fragments(wire.encode_fragments(fragments)) == list(fragments)
    timestamp_ms = json_tree(expr)["timestamp"]
    assert -(2**63) <= timestamp_ms < 2**63
    assert json.dumps(timestamp_ms)
    assert parse(to_text(expr), EXPERIMENTAL).time.at_ms == pytest.approx(timestamp_ms, rel=1e-15)


def test_milliseconds_that_no_int64_holds_become_the_lowest_one():
    for far in ("1700000500000000000", "-1e17", "9223372036854775.807"):
        assert to_text(parse(f"x @ {far}")) == "x @ -9223372036854776.000"
    assert to_text(parse("x @ 9.2e15")) == "x @ 9200000000000000.000"
