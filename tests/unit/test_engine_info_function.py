"""info(): which info series enrich which series, as of when, and when a series is left out."""

import pytest
from promql_samples import instant, load, ranged, shown

from filoray.nodes.data.cancel_token import CancelToken
from filoray.nodes.engine.evaluate.fragment_run import run_fragments
from filoray.nodes.engine.plan.finishing import finish
from filoray.nodes.engine.plan.planner import plan
from filoray.nodes.engine.query_params import NO_LIMITS, QueryParams
from filoray.nodes.promql.parser import EXPERIMENTAL, parse
from filoray.nodes.wire import fragment_codec as wire

SOURCE = load(
    60,
    """
    m{instance="a", job="x"} 0+1x20
    target_info{instance="a", job="x", v="1"} 1x4
    target_info{instance="a", job="x", v="2"} _ _ _ _ _ 1x15
    build_info{instance="a", job="x", b="4"} 1x20
    """,
)

OLD, NEW = ('{__name__="m", instance="a", job="x", v="1"}', '{__name__="m", instance="a", job="x", v="2"}')


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("info(m)", [f"{OLD} 0 _ _ _", f"{NEW} _ 5 10 15"]),
        ("info(m @ 60)", [f"{OLD} 1 1 1 1"]),
        ("info(m @ 360 offset 5m)", [f"{OLD} 1 1 1 1"]),
        ("info(m offset 5m)", [f"{OLD} _ 0 _ _", f"{NEW} _ _ 5 10"]),
        ("info(m offset 5m, {v=~'.+'} offset 1h)", [f"{OLD} _ 0 _ _", f"{NEW} _ _ 5 10"]),
        ("info(last_over_time(m[1m:1m] offset 5m))", [f"{OLD} _ 0 _ _", f"{NEW} _ _ 5 10"]),
        ("info(m @ 60 or m @ 360 offset 5m)", [f"{OLD} 1 1 1 1"]),
        ("info(m @ 60 or m @ 120)", [f"{OLD} 1 _ _ _", f"{NEW} _ 1 1 1"]),
        ("info(m @ 60 and on() vector(1))", [f"{OLD} 1 _ _ _", f"{NEW} _ 1 1 1"]),
        ("info(m unless scalar(m @ 60) * m)", []),
        ("info(m > scalar(m @ 240))", [f"{NEW} _ 5 10 15"]),
    ],
)
def test_info_series_are_those_of_the_samples_own_time(query, expected):
    assert shown(ranged(SOURCE, query, 0, 900, 300)) == expected


@pytest.mark.parametrize(
    ("matchers", "expected"),
    [
        ('{__name__!="target_info"}', ['{__name__="m", b="4", instance="a", job="x"} 10']),
        ('{__name__!~"build.*"}', ['{__name__="m", instance="a", job="x", v="2"} 10']),
        ('{__name__!~".+"}', ['{__name__="m", instance="a", job="x"} 10']),
        ('{__name__!~".+", v=~".+"}', []),
        ('{__name__=~".+_info", __name__!="target_info"}', ['{__name__="m", b="4", instance="a", job="x"} 10']),
        ('{__name__=~".+_info"}', ['{__name__="m", b="4", instance="a", job="x", v="2"} 10']),
        ('{instance="a"}', ['{__name__="m", instance="a", job="x"} 10']),
        ('{instance="b"}', []),
    ],
)
def test_names_of_info_metrics_may_be_excluded(matchers, expected):
    assert shown(instant(SOURCE, f"info(m, {matchers})", 600)) == expected


def test_series_with_one_identifying_label_are_enriched_beside_others():
    source = load(
        60,
        """
        m{instance="a", job="x"} 1
        m{job="y"} 1
        m{instance="c"} 1
        m{z="d"} 1
        target_info{instance="a", job="x", v="1"} 1
        target_info{job="y", v="2"} 1
        target_info{instance="c", v="3"} 1
        target_info{v="4"} 1
        """,
    )
    assert shown(instant(source, "info(m)")) == [
        '{__name__="m", instance="a", job="x", v="1"} 1',
        '{__name__="m", instance="c", v="3"} 1',
        '{__name__="m", job="y", v="2"} 1',
        '{__name__="m", z="d"} 1',
    ]
    assert shown(instant(source, 'info(m{z="d"}, {v=~".+"})')) == []


def test_a_name_that_goes_goes_through_info():
    assert shown(instant(SOURCE, "info(-m)", 600)) == ['{instance="a", job="x", v="2"} -10']


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("query", ["info(m)", "info(-m)", 'info(m, {v=~".+"})', "sum by (v) (info(m))"])
def test_info_can_be_sent_to_nodes_whole_or_in_parts(query, whole):
    execution = plan(parse(query, EXPERIMENTAL), QueryParams.instant(600_000), lambda selectors: whole)
    fragments = wire.decode_fragments(wire.encode_fragments(execution.fragments))
    assert fragments == list(execution.fragments)
    answers = run_fragments(fragments, SOURCE, NO_LIMITS, CancelToken())
    assert shown(finish(execution, [answers], NO_LIMITS, CancelToken())) == shown(instant(SOURCE, query, 600))
