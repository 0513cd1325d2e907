"""The metric name goes at the end of the query, not before."""

import pytest
from promql_samples import instant, load, ranged, shown

from filoray.cluster.errors import ExecutionError

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
def test_names_stay_until_the_end(query, expected):
    source = load(300, COUNTERS)
    assert shown(instant(source, query, 600)) == expected


def test_series_that_become_equal_are_refused():
    with pytest.raises(ExecutionError, match="vector cannot contain metrics with the same labelset"):
        instant(load(300, COUNTERS), 'sum by (__name__) (rate({env="1"}[10m]))', 600)


def test_any_marked_series_takes_its_group_s_name():
    source = load(60, 'metric_total{env="1"} 0+1x10\nmetric_total{env="2"} 0+3x10')
    for query in (
        'sum by (__name__) (metric_total{env="1"} or rate(metric_total{env="2"}[5m]))',
        'sum by (__name__) (rate(metric_total{env="2"}[5m]) or metric_total{env="1"})',
    ):
        assert shown(instant(source, query, 600)) == ["{} 10.05"]


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
