"""Guard rails, canceling, and the figures of a query's stages."""

import numpy as np
import pytest
from promql_samples import instant, load, ranged, shown

from filoray.cluster.errors import LimitExceeded, QueryCanceled, QueryTimeout
from filoray.nodes.data.cancel_token import CancelToken
from filoray.nodes.engine.evaluate import ranked_aggregations, value_aggregations
from filoray.nodes.engine.evaluate.fragment_run import run_fragments
from filoray.nodes.engine.plan.finishing import finish
from filoray.nodes.engine.plan.planner import plan
from filoray.nodes.engine.query_params import NO_LIMITS, EvalLimits, EvaluationOptions, QueryParams
from filoray.nodes.engine.stage_stats import StageStats
from filoray.nodes.kernels.query import aggregation, ranking
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


@pytest.mark.parametrize(
    "stage",
    [
        'label_replace({}, "a", "$1$1", "a", "(.*)")',
        'label_join({}, "a", "", "a", "a")',
        'label_join({}, "a", "' + "," * 5_000 + '", "a", "i")',
        'label_replace({}, "a", "$1' + "," * 5_000 + '", "a", "(.*)")',
    ],
)
@pytest.mark.parametrize("beginning", ["x", "vector(1)"])  # on a node, at the gateway
def test_label_values_that_grow_of_themselves_end_at_the_limit(stage, beginning):
    query = f'label_replace({beginning}, "a", "0123456789", "", "")'
    for _ in range(40):
        query = stage.replace("{}", query)
    with pytest.raises(LimitExceeded, match=r"label values of \d+ bytes, .* filoray.query.max-result-size = 150000"):
        instant(SOURCE, query, 300, EvalLimits(max_bytes=150_000))


def test_a_long_template_looks_whether_the_query_was_canceled(monkeypatch):
    looks = 0

    def look(self):
        nonlocal looks
        looks += 1

    monkeypatch.setattr(CancelToken, "check", look)
    instant(SOURCE, 'label_replace(x, "a", "$2", "i", "(.*)")', 300)
    before, looks = looks, 0
    instant(SOURCE, f'label_replace(x, "a", "{"$2" * 40_000}", "i", "(.*)")', 300)
    assert looks > before


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
    params = QueryParams.range(100_000, 120_000, 10_000, EvaluationOptions(wants_stats=True))
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


@pytest.mark.parametrize("stop", ["cancel", "expire"])
@pytest.mark.parametrize(
    ("query", "kernel"),
    [
        ("sum(x)", (aggregation, "group_sums")), ("avg(x)", (aggregation, "group_means")),
        ("stddev(x)", (aggregation, "group_variances")), ("max(x)", (aggregation, "group_extremes")),
        ("topk(1, x)", (ranked_aggregations, "pick_samples")),
        ("quantile(0.5, x)", (value_aggregations, "group_quantiles")),
        ('count_values("v", x)', (value_aggregations, "count_values")),
        ("sum(x)", (aggregation, "merge_sums")), ("avg(x)", (aggregation, "merge_means")),
        ("stdvar(x)", (aggregation, "merge_variances")),
    ],
)  # fmt: skip
def test_aggregations_stop_in_the_middle(monkeypatch, query, kernel, stop):
    token = CancelToken(timeout_ms=60_000)
    module, name = kernel
    original = getattr(module, name)

    def stopped_meanwhile(*args, **kwargs):
        assert any(argument is token.flag for argument in args), "the kernel does not know of the token"
        getattr(token, stop)()
        return original(*args, **kwargs)

    monkeypatch.setattr(module, name, stopped_meanwhile)
    execution = plan(parse(query), QueryParams.instant(300_000))
    with pytest.raises(QueryCanceled if stop == "cancel" else QueryTimeout):
        finish(
            execution,
            [run_fragments(execution.fragments, part, NO_LIMITS, token) for part in SOURCE.split(2)],
            NO_LIMITS,
            token,
        )


def test_values_are_counted_in_pieces_as_at_once(monkeypatch):
    source = load(10, 'x{i="1"} 0 1 2 NaN -1 0 1 2\nx{i="2"} 1 1 2 NaN 0 0\nx{i="3"} 2 _ 1 1 1 5 5')
    whole = shown(ranged(source, 'count_values("v", x)', 0, 70, 10))
    monkeypatch.setattr(ranking, "_COUNTED_CELLS", 6)
    assert shown(ranged(source, 'count_values("v", x)', 0, 70, 10)) == whole
    token = CancelToken()
    token.cancel()
    counts = ranking.count_values(np.ones((2, 9)), np.ones((2, 9), np.bool_), np.zeros(2, int), token.flag)
    assert len(counts.groups) == 0


@pytest.mark.parametrize(
    ("query", "instant_peak", "range_peak"),
    [
        ("x", 2, 6),
        ("nope", 0, 0),
        ("x[30s]", 6, None),
        ("rate(x[30s])", 2 * 3 + 2, 2 * 5 + 6),  # the samples of all windows, each once, and the results
        ("abs(x)", 4, 12),
        ("sum(x)", 3, 9),
        ("x + x", 6, 18),
        ("x + x + x", 6, 18),  # the first sum takes the place of its operands
        ("x * 2", 2 + 1 + 2, 6 + 3 + 6),
        ("abs(x) + abs(x)", 6, 18),
        ("max_over_time(x[30s:10s])", 6 + 6 + 2, 10 + 10 + 6),
    ],
)
def test_the_most_samples_held_at_once_are_counted(query, instant_peak, range_peak):
    for params, peak in (
        (QueryParams.instant(300_000, EvaluationOptions(wants_stats=True)), instant_peak),
        (QueryParams.range(100_000, 120_000, 10_000, EvaluationOptions(wants_stats=True)), range_peak),
    ):
        if peak is None:
            continue
        execution = plan(parse(query), params, lambda selectors: True)
        answers = run_fragments(execution.fragments, SOURCE, NO_LIMITS, CancelToken())
        assert answers.stats.peak_samples == peak, params
        assert StageStats.from_plain(answers.stats.to_plain()).peak_samples == peak
        assert finish(execution, [answers], NO_LIMITS, CancelToken()).stats.peak_samples >= 0
