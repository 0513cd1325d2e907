"""Guard rails, canceling, and the figures of a query's stages."""

import pytest
from promql_samples import instant, load

from filoray.cluster.errors import LimitExceeded, QueryCanceled, QueryTimeout
from filoray.nodes.engine.finishing import finish
from filoray.nodes.engine.fragments import run_fragments
from filoray.nodes.engine.planner import plan
from filoray.nodes.engine.query_params import NO_LIMITS, CancelToken, EvalLimits, QueryParams
from filoray.nodes.engine.stage_stats import StageStats
from filoray.nodes.promql.parser import parse

SOURCE = load(10, 'x{i="1"} 0+1x30\nx{i="2"} 0+1x30')


@pytest.mark.parametrize(
    ("limits", "named"),
    [
        (EvalLimits(max_samples=40, max_series=0, max_bytes=0), ("62 samples", "filoray.query.max-samples = 40")),
        (EvalLimits(max_samples=0, max_series=1, max_bytes=0), ("2 series", "filoray.query.max-series = 1")),
        (EvalLimits(max_samples=0, max_series=0, max_bytes=17), ("18 bytes", "filoray.query.max-result-size = 17")),
    ],
)
def test_limits_name_the_value_and_the_key(limits, named):
    with pytest.raises(LimitExceeded) as caught:
        instant(SOURCE, "rate(x[10m])", 300, limits)
    assert all(text in str(caught.value) for text in named)


def test_samples_are_counted_over_all_fragments():
    expr = parse("sum(rate(x[10m])) + sum(x)")
    fragments = plan(expr, QueryParams.instant(300_000)).fragments
    with pytest.raises(LimitExceeded):
        run_fragments(fragments, SOURCE, EvalLimits(max_samples=100), CancelToken())


def test_a_canceled_query_stops():
    token = CancelToken()
    token.cancel("client went away")
    token.cancel("later")
    assert token.flag[0] == 1
    with pytest.raises(QueryCanceled, match="client went away"):
        run_fragments(plan(parse("x"), QueryParams.instant(0)).fragments, SOURCE, NO_LIMITS, token)


def test_a_query_past_its_deadline_stops():
    token = CancelToken(timeout_ms=0)
    with pytest.raises(QueryTimeout, match="timed out after 0 ms"):
        run_fragments(plan(parse("x"), QueryParams.instant(0)).fragments, SOURCE, NO_LIMITS, token)


def test_stats_count_samples_as_prometheus_does():
    params = QueryParams.range(100_000, 120_000, 10_000, wants_stats=True)
    execution = plan(parse("sum(rate(x[30s])) + sum(x)"), params)
    answers = run_fragments(execution.fragments, SOURCE, NO_LIMITS, CancelToken())
    stats = answers.stats
    assert stats is not None
    # Two series, three steps: three samples in each window, one in each instant.
    assert stats.total_samples == 2 * 3 * 3 + 2 * 3
    assert StageStats.from_plain(stats.to_plain()) == stats
    assert [child.name for child in stats.children] == ["rate", "VectorSelector"]
    own = finish(execution, [answers], NO_LIMITS, CancelToken()).stats
    assert own is not None
    assert own.total_samples == 0
    assert own.to_json()["stage"] == "gateway"


def test_no_stats_unless_asked_for():
    assert instant(SOURCE, "x").stats is None
