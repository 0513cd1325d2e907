"""The metric name goes where the function or operation is; with delayed removal at the end of the query."""

import pytest
from promql_samples import instant, load, ranged, shown

from filoray.cluster.errors import ExecutionError
from filoray.nodes.data.cancel_token import CancelToken
from filoray.nodes.engine.evaluate.fragment_run import run_fragments
from filoray.nodes.engine.metric_names import SAME_LABELSET
from filoray.nodes.engine.plan.finishing import finish
from filoray.nodes.engine.plan.planner import plan
from filoray.nodes.engine.query_params import NO_LIMITS, EvaluationOptions, QueryParams
from filoray.nodes.promql.parser import parse

COUNTERS = """
    metric_total{env="1"} 0 60 120
    another_metric_total{env="1"} 60 120 180
"""


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("-metric_total", ['{env="1"} -120']),
        ("metric_total + another_metric_total", ['{env="1"} 300']),
        ("metric_total <= another_metric_total", ['{__name__="metric_total", env="1"} 120']),
        ("metric_total <= bool another_metric_total", ['{env="1"} 1']),
        ("metric_total * 2", ['{env="1"} 240']),
        ("metric_total > 2", ['{__name__="metric_total", env="1"} 120']),
        ("clamp(metric_total, 0, 100)", ['{env="1"} 100']),
        ("rate(metric_total[10m])", ['{env="1"} 0.2']),
        ("last_over_time(metric_total[10m])", ['{__name__="metric_total", env="1"} 120']),
        ("first_over_time(metric_total[10m])", ['{__name__="metric_total", env="1"} 60']),
        (
            'label_replace(rate({env="1"}[10m]), "my_name", "rate_$1", "__name__", "(.+)")',
            ['{env="1", my_name="rate_another_metric_total"} 0.2', '{env="1", my_name="rate_metric_total"} 0.2'],
        ),
        (
            'label_replace(rate({env="1"}[10m]), "__name__", "rate_$1", "__name__", "(.+)")',
            ['{__name__="rate_another_metric_total", env="1"} 0.2', '{__name__="rate_metric_total", env="1"} 0.2'],
        ),
        (
            'label_join(rate({env="1"}[10m]), "__name__", "_", "__name__", "env")',
            ['{__name__="another_metric_total_1", env="1"} 0.2', '{__name__="metric_total_1", env="1"} 0.2'],
        ),
        ("sum by (__name__, env) (metric_total)", ['{__name__="metric_total", env="1"} 120']),
        ('sum(rate({env="1"}[10m])) by (env)', ['{env="1"} 0.4']),
        ("topk(10, sum by (__name__, env) (metric_total))", ['{__name__="metric_total", env="1"} 120']),
        ("topk(10, sum by (__name__, env) (rate(metric_total[10m])))", ['{env="1"} 0.2']),
        ("last_over_time((-metric_total)[10m:5m])", ['{env="1"} -120']),
    ],
)
def test_names_stay_until_the_end_where_that_is_wanted(query, expected):
    source = load(300, COUNTERS)
    assert shown(instant(source, query, 600, delayed_names=True)) == expected


def test_series_that_become_equal_at_the_end_are_refused():
    with pytest.raises(ExecutionError, match=SAME_LABELSET):
        instant(load(300, COUNTERS), 'sum by (__name__) (rate({env="1"}[10m]))', 600, delayed_names=True)


def test_any_marked_series_takes_its_group_s_name():
    source = load(60, 'metric_total{env="1"} 0+1x10\nmetric_total{env="2"} 0+3x10')
    for query in (
        'sum by (__name__) (metric_total{env="1"} or rate(metric_total{env="2"}[5m]))',
        'sum by (__name__) (rate(metric_total{env="2"}[5m]) or metric_total{env="1"})',
    ):
        assert shown(instant(source, query, 600, delayed_names=True)) == ["{} 10.05"]


def test_series_that_never_meet_become_one():
    source = load(600, "metric_a 1 _\nmetric_b 3 4")
    assert shown(ranged(source, "-metric_a or -metric_b", 0, 1200, 600)) == ["{} -1 -4 _"]


def test_type_and_unit_go_with_the_name():
    source = load(300, 'a_total{__type__="counter", __unit__="s", job="x"} 6')
    assert shown(instant(source, "-a_total")) == ['{job="x"} -6']
    assert shown(instant(source, "a_total > 1")) == [
        '{__name__="a_total", __type__="counter", __unit__="s", job="x"} 6'
    ]


def test_the_points_of_a_subquery_have_the_names_that_its_inside_keeps():
    source = load(60, 'm{a="1"} 1 2 3')
    assert shown(instant(source, "(-m)[2m:1m]", 120)) == ['{a="1"} -2@60 -3@120']
    assert shown(instant(source, "m[2m:1m]", 120)) == ['{__name__="m", a="1"} 2@60 3@120']


TWO = load(60, 'a{g="1"} 1 1 1\nb{g="2"} 2 2 2\na{g="3"} 4')
EQUAL = load(60, 'a{g="1"} 1 _ _ _ _ _ _\nb{g="1"} _ _ _ _ _ _ 2')


def answered(source, query, params, parts, *, whole=False):
    execution = plan(parse(query), params, lambda selectors: whole)
    cancel = CancelToken()
    answers = [run_fragments(execution.fragments, part, NO_LIMITS, cancel) for part in source.split(parts)]
    return shown(finish(execution, answers, NO_LIMITS, cancel))


LAYOUTS = [(1, False), (2, False), (5, False), (1, True)]


@pytest.mark.parametrize(("parts", "whole"), LAYOUTS)
@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ('sum by (__name__) (abs({__name__=~"a|b"}))', ["{} 7"]),
        ('sum by (__name__) ({__name__=~"a|b"})', ['{__name__="a"} 5', '{__name__="b"} 2']),
        ('sum by (__name__) ({__name__=~"a|b"} > 1)', ['{__name__="a"} 4', '{__name__="b"} 2']),
        ('sum by (__name__) ({__name__=~"a|b"} > bool 1)', ["{} 2"]),
        ('sum by (__name__) ({__name__=~"a|b"} * 1)', ["{} 7"]),
        ('sum by (__name__) (last_over_time({__name__=~"a|b"}[5m]))', ['{__name__="a"} 5', '{__name__="b"} 2']),
        ('sum by (__name__) (sum_over_time({__name__=~"a|b"}[5m]))', ["{} 7"]),
        ('label_replace(abs(b), "n", "$1", "__name__", "(.*)")', ['{g="2"} 2']),
        ('label_replace(b, "n", "$1", "__name__", "(.*)")', ['{__name__="b", g="2", n="b"} 2']),
        ('label_join(-b, "n", "-", "__name__", "g")', ['{g="2", n="-2"} 2'.replace("} 2", "} -2")]),
        ('label_replace(abs(b), "__name__", "c", "g", ".*")', ['{__name__="c", g="2"} 2']),
        ('count_values by (__name__) ("v", abs({__name__=~"a|b"}))', ['{v="1"} 1', '{v="2"} 1', '{v="4"} 1']),
        ('topk by (__name__) (1, abs({__name__=~"a|b"}))', ['{g="3"} 4']),
        ('quantile by (__name__) (1, -{__name__=~"a|b"})', ["{} -1"]),
        ('last_over_time(abs({__name__=~"a|b"})[1m:30s])', ['{g="1"} 1', '{g="2"} 2', '{g="3"} 4']),
        ('abs(b) or {__name__=~"a|b", g="2"}', ['{g="2"} 2']),
        ('abs(b) or {__name__=~"a|b"}', ['{__name__="a", g="1"} 1', '{__name__="a", g="3"} 4', '{g="2"} 2']),
        ('count by (__name__) (abs({__name__=~"a|b"}) > 1)', ["{} 2"]),
        ('absent(abs({__name__="c"}))', ["{} 1"]),
        ('sum(scalar(abs(b)) + {__name__=~"a|b"})', ["{} 13"]),
    ],
)
def test_names_go_where_the_function_is(query, expected, parts, whole):
    assert answered(TWO, query, QueryParams.instant(0), parts, whole=whole) == expected


@pytest.mark.parametrize(("parts", "whole"), LAYOUTS)
@pytest.mark.parametrize(
    "query",
    [
        'abs({__name__=~"x|y"})', 'abs({__name__=~"x|y"}) > 5', 'sum(abs({__name__=~"x|y"}))',
        '{__name__=~"x|y"} * 0', 'count({__name__=~"x|y"} > bool 0)', '-{__name__=~"x|y"}',
        'abs(abs({__name__=~"x|y"}))', 'rate({g="1"}[5m])', 'topk(1, timestamp({g="1"}))',
        'max_over_time(abs({g="1"})[5m:1m])', 'clamp({g!=""}, 1, 5) or vector(1)', 'absent(round({g="1"}))',
        'label_replace({g="1"}, "__name__", "z", "g", ".*")', 'label_join({g="1"}, "__name__", "", "g")',
        '{g="1"} + ignoring() group_left {__name__="x"}', 'scalar(abs({g="1"}))', 'vector(1) and on() abs({g="1"})',
    ],
)  # fmt: skip
def test_series_that_become_equal_are_refused_wherever_they_live(query, parts, whole):
    source = load(60, 'x{g="1"} 1 1 1 1 1 1\ny{g="1"} 2 2 2 2 2 2')
    for params in (QueryParams.instant(300_000), QueryParams.range(0, 300_000, 60_000)):
        with pytest.raises(ExecutionError, match=f"{SAME_LABELSET}|grouping labels must ensure unique matches"):
            answered(source, query, params, parts, whole=whole)


@pytest.mark.parametrize(("parts", "whole"), LAYOUTS)
def test_equal_series_that_never_meet_become_one_only_step_by_step(parts, whole):
    """Prometheus computes some operations series by series, and refuses equal ones whenever they are."""
    params = QueryParams.range(0, 360_000, 60_000, EvaluationOptions(lookback_ms=60_000))
    merged = ['{g="1"} 1 _ _ _ _ _ 2']
    assert answered(EQUAL, 'abs({g="1"})', params, parts, whole=whole) == merged
    assert answered(EQUAL, '{g="1"} * 1', params, parts, whole=whole) == merged
    for query in ('-{g="1"}', 'sum_over_time({g="1"}[1m])', 'label_replace({g="1"}, "__name__", "z", "g", ".*")'):
        with pytest.raises(ExecutionError, match=SAME_LABELSET):
            answered(EQUAL, query, params, parts, whole=whole)


def test_a_selector_of_one_metric_is_aggregated_where_its_series_live():
    for query, pushed in (
        ("sum(rate(a[5m]))", True),
        ('sum(rate({__name__="a"}[5m]))', True),
        ('sum({__name__=~"a|b"})', True),
        ('sum(last_over_time({__name__=~"a|b"}[5m]) > 1)', True),
        ('sum(rate({__name__=~"a|b"}[5m]))', False),
        ('sum(rate({job="a"}[5m]))', False),
    ):
        (fragment,) = plan(parse(query), QueryParams.instant(0)).fragments
        assert (fragment.map_phase is not None) is pushed, query
        (delayed,) = plan(parse(query), QueryParams.instant(0, EvaluationOptions(delayed_names=True))).fragments
        assert delayed.map_phase is not None
