"""Warnings and infos: texts, places, and that they come once however many nodes notice."""

import pytest
from promql_samples import instant, load, ranged

from filoray.nodes.engine.annotations import AnnotationKind, Annotations
from filoray.nodes.promql.ast import Position

SOURCE = load(
    60,
    """
    x 1 2 3 4 5
    h_bucket{le="0.1"} 5 5
    h_bucket{le="1"} 3 3
    h_bucket{le="+Inf"} 9 9
    bad_bucket{le="abc"} 1 1
    """,
)


@pytest.mark.parametrize(
    ("query", "warnings", "infos"),
    [
        (
            "rate(x[5m])",
            (),
            ('PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket: "x" (1:6)',),
        ),
        ("quantile(2, x)", ("PromQL warning: quantile value should be between 0 and 1, got 2 (1:10)",), ()),
        (
            "sum(quantile_over_time(-0.1, x[1m]))",
            ("PromQL warning: quantile value should be between 0 and 1, got -0.1 (1:24)",),
            (),
        ),
        (
            "histogram_quantile(0.5,\n  bad_bucket)",
            (
                'PromQL warning: bucket label "le" is missing or has a malformed value of "abc" for metric name '
                '"bad_bucket" (2:3)',
            ),
            (),
        ),
        (
            "histogram_quantile(0.5, h_bucket)",
            (),
            (
                "PromQL info: input to histogram_quantile needed to be fixed for monotonicity (see "
                "https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile) "
                'for metric name "h_bucket", from buckets 1 to 1, with a max diff of 2, over 1 samples from '
                "1970-01-01T00:01:00Z to 1970-01-01T00:01:00Z (1:25)",
            ),
        ),
        (
            "limit_ratio(1.5, x)",
            ("PromQL warning: ratio value should be between -1 and 1, got 1.5, capping to 1 (1:13)",),
            (),
        ),
        ("sort(x)", (), ()),
        (
            "x </ 1",
            (),
            ('PromQL info: incompatible sample types encountered for binary operator "</": float </ float (1:1)',),
        ),
    ],
)
def test_texts_are_prometheus_s(query, warnings, infos):
    assert instant(SOURCE, query, 60).annotations.render(query) == (warnings, infos)


def test_a_quantile_that_is_no_number_at_some_step_hides_others_but_infinite_ones():
    nan = "PromQL warning: quantile value should be between 0 and 1, got NaN (1:10)"
    above = "PromQL warning: quantile value should be between 0 and 1, got +Inf (1:10)"
    assert ranged(SOURCE, "quantile(scalar(x > 1), x)", 0, 60, 60).annotations.render("quantile(..") == ((nan,), ())
    query = "quantile(time() / 0, x)"
    assert ranged(SOURCE, query, 0, 60, 60).annotations.render(query) == ((above, nan), ())


def test_buckets_without_observations_are_not_said_to_fall():
    source = load(60, 'h_bucket{le="1"} 0\nh_bucket{le="2"} -1\nh_bucket{le="+Inf"} 0')
    assert instant(source, "histogram_quantile(0.5, h_bucket)").annotations.render("") == ((), ())


def test_sorting_a_range_query_warns():
    query = "sum(sort(x))"
    text = "PromQL warning: sort is ineffective for range queries since results are always ordered by labels (1:5)"
    assert ranged(SOURCE, query, 0, 60, 60).annotations.render(query) == ((text,), ())


def test_only_ten_of_a_kind_are_shown():
    annotations = Annotations()
    for number in range(13):
        annotations.add(AnnotationKind.POSSIBLE_NON_COUNTER, f"m{number:02}", position=Position(0, 1))
    warnings, infos = annotations.render("m")
    assert warnings == ()
    assert len(infos) == 11
    assert infos[-1] == "3 more info annotations omitted"


def test_plain_form_round_trips():
    annotations = Annotations()
    annotations.add(AnnotationKind.INVALID_QUANTILE, "2", position=Position(3, 5))
    annotations.add(AnnotationKind.STORAGE_WARNING, "chunk skipped")
    assert Annotations.from_plain(annotations.to_plain()) == annotations
