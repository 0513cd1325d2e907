"""Every function of the table is evaluated; functions of labels, histograms, info and time by example."""

import math

import pytest
import xxhash
from promql_samples import instant, load, ranged, shown

from filoray.cluster.errors import ExecutionError
from filoray.nodes.engine.functions.function_specs import FUNCTION_SPECS
from filoray.nodes.engine.functions.histogram_functions import parse_bound
from filoray.nodes.promql.ast import ValueType
from filoray.nodes.promql.function_table import FUNCTIONS

SAMPLES = load(
    60,
    """
    m_total{instance="a", job="x"} 0+10x10
    m_total{instance="b", job="x"} 0+20x10
    h_bucket{le="0.1"} 0+1x10
    h_bucket{le="1"} 0+4x10
    h_bucket{le="+Inf"} 0+5x10
    target_info{instance="a", job="x", version="2"} 1x10
    """,
)

_ARGUMENTS = {
    ValueType.VECTOR: "m_total",
    ValueType.MATRIX: "m_total[5m]",
    ValueType.SCALAR: "0.5",
    ValueType.STRING: '"label"',
}
_SPECIAL = {
    "label_replace": 'label_replace(m_total, "a", "$1", "instance", "(.*)")',
    "info": "info(m_total)",
    "double_exponential_smoothing": "double_exponential_smoothing(m_total[5m], 0.5, 0.5)",
}
_RANGE_CONSTANTS = {"start", "end", "step", "range"}


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_every_function_of_the_table_is_evaluated(name):
    signature = FUNCTIONS[name]
    arguments = ", ".join(_ARGUMENTS[one] for one in signature.arg_types)
    query = _SPECIAL.get(name, f"{name}({arguments})")
    assert (FUNCTION_SPECS[name].handler is None) == (name in _RANGE_CONSTANTS)
    result = ranged(SAMPLES, query, 60, 300, 60)
    assert result.frame is not None
    assert result.frame.step_count == 5
    assert (result.frame.series_count == 0) == name.startswith(
        ("absent", "histogram_avg", "histogram_count", "histogram_s", "histogram_quantile", "histogram_fraction")
    )


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("days_in_month(vector(1709164800))", "29"),
        ("day_of_month(vector(1709164800))", "29"),
        ("day_of_week(vector(1709164800))", "4"),
        ("day_of_year(vector(1709164800))", "60"),
        ("month(vector(1709164800))", "2"),
        ("year(vector(-1))", "1969"),
        ("year(vector(9e18))", "2.85198648531e+11"),
        ("month(vector(9e18))", "4"),
        ("year(vector(-9e18))", "-2.85198644592e+11"),
        ("sgn(vector(-0.0))", "-0"),
        ("hour(vector(-1))", "23"),
        ("minute(vector(59))", "0"),
        ("round(vector(-0.5))", "0"),
        ("round(vector(5.21), 0.1)", "5.2"),
        ("sgn(vector(-3))", "-1"),
        ("clamp(vector(7), 0, 5)", "5"),
        ("clamp(vector(7), 0, NaN)", "NaN"),
        ("deg(vector(pi()))", "180"),
        ("min_of(3, NaN)", "NaN"),
        ("max_of(3, 4)", "4"),
        ("7 % -4", "3"),
        ("-7 % 4", "-3"),
        ("2 ^ 3 ^ 2", "512"),
        ("1 / 0", "+Inf"),
        ("scalar(m_total)", "NaN"),
    ],
)
def test_functions_of_numbers(query, expected):
    assert shown(instant(SAMPLES, query, 60))[0].removeprefix("{} ") == expected


def test_timestamp_is_the_sample_s_time_only_for_selectors():
    source = load(60, "m 1")
    assert shown(ranged(source, "timestamp(m)", 0, 120, 60)) == ["{} 0 0 0"]
    assert shown(ranged(source, "timestamp(m + 0)", 0, 120, 60)) == ["{} 0 60 120"]
    assert shown(ranged(source, "timestamp(m @ 90)", 0, 120, 60)) == ["{} 0 0 0"]


def test_label_replace_expands_like_go():
    source = load(60, 'm{src="a-b"} 1')
    for template, value in (
        ("${2}_$1", "b_a"),
        ("$1x", ""),
        ("$$1", "$1"),
        ("${name}", "b"),
        ("$9", ""),
        ("$01${02}", ""),
        ("$0", "a-b"),
        ("$", "$"),
        ("${1", "${1"),
        ("$-$1", "$-a"),
        ("$1号>", ">"),
        ("$1é", ""),
        ("${1号}", ""),
        ("$1·$2", "a·b"),
        ("$1²", "a²"),
        ("$1٣", ""),
        ("$$$1", "$a"),
        ("$$$$", "$$"),
        ("$1$", "a$"),
        ("${}$1", "${}a"),
        ("${name", "${name"),
        ("${na-me}", "${na-me}"),
        ("${1}${2}", "ab"),
        ("$99999999999", ""),
    ):
        query = f'label_replace(m, "dst", "{template}", "src", "(.*)-(?P<name>.*)")'
        labels = instant(source, query).frame.labels
        assert labels.value(0, "dst") == value, template


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ('label_replace(m, "d", "", "s", "(.*")', "invalid regular expression in label_replace(): (.*"),
        ('label_join(m, "", "-", "s")', "invalid destination label name in label_join(): "),
        ('count_values("a\\xc5z", m)', 'invalid label name "a\\xc5z"'),
        ('label_replace(m, "src", "", "", "")', "vector cannot contain metrics with the same labelset"),
        ("topk(NaN, m)", "Parameter value is NaN"),
        ("topk(1e30, m)", "Scalar value 1e+30 overflows int64"),
        ("limit_ratio(NaN, m)", "Ratio value is NaN"),
        ("limit_ratio(NaN, topk(NaN, m))", "Parameter value is NaN"),
        ("topk(NaN, limit_ratio(NaN, m) + on() group_left m)", "Ratio value is NaN"),
    ],
)
def test_wrong_arguments_are_refused_in_prometheus_words(query, message):
    source = load(60, 'm{src="a"} 1\nm{src="b"} 2')
    with pytest.raises(ExecutionError) as caught:
        instant(source, query)
    assert str(caught.value) == message


def test_histogram_quantile_interpolates_and_keeps_other_labels():
    assert shown(instant(SAMPLES, "histogram_quantile(0.5, h_bucket)", 60)) == ["{} 0.55"]
    assert shown(instant(SAMPLES, 'histogram_quantiles(h_bucket, "q", 0.5, 1)', 60)) == [
        '{q="0.5"} 0.55',
        '{q="1.0"} 1',
    ]
    assert shown(instant(SAMPLES, "histogram_fraction(0, 0.1, h_bucket)", 60)) == ["{} 0.2"]


def test_quantiles_are_labels_with_a_point_or_an_exponent():
    for quantile, label in (("0", "0.0"), ("-0", "0.0"), ("1e-7", "1e-07"), ("Inf", "+Inf"), ("NaN", "NaN")):
        shown_ = shown(instant(SAMPLES, f'histogram_quantiles(h_bucket, "q", {quantile})', 60))
        assert shown_[0].startswith(f'{{q="{label}"}}'), quantile
    for query, message in (
        ('histogram_quantiles(h_bucket, "", 0.5)', "invalid label name in histogram_quantiles(): "),
        ('histogram_quantiles(h_bucket, "q", 0.5, 0.5)', "vector cannot contain metrics with the same labelset"),
    ):
        with pytest.raises(ExecutionError) as caught:
            instant(SAMPLES, query, 60)
        assert str(caught.value) == message


def test_a_ratio_is_taken_by_the_hash_of_labels_behind_their_lengths():
    source = load(60, "\n".join(f'm{{i="{i}"}} 1' for i in range(100)))
    source.add({"__name__": "m", "long": "x" * 300}, [(0, 1.0)])
    texts = [f"\x08__name__\x01m\x01i{chr(len(str(i)))}{i}".encode() for i in range(100)]
    texts.append(b"\x08__name__\x01m\x04long\xff\x2c\x01\x00" + b"x" * 300)
    below = sum(xxhash.xxh64_intdigest(text) / 2**64 < 0.4 for text in texts)
    assert 20 < below < 60
    assert instant(source, "limit_ratio(0.4, m)").frame.series_count == below
    assert instant(source, "limit_ratio(-0.6, m)").frame.series_count == 101 - below
    one = instant(source, "limit_ratio(0.4, m{long!=''})").frame.series_count
    assert one == (xxhash.xxh64_intdigest(texts[-1]) / 2**64 < 0.4)


def test_info_adds_data_labels_of_the_same_target():
    source = load(
        60,
        """
        m{instance="a", job="x", l="1"} 1 1
        m{instance="b", job="x", l="1"} 2 2
        target_info{instance="a", job="x", version="2", zone="z"} 1 1
        build_info{instance="a", job="x", commit="c"} 1 1
        """,
    )
    assert shown(instant(source, "info(m)")) == [
        '{__name__="m", instance="a", job="x", l="1", version="2", zone="z"} 1',
        '{__name__="m", instance="b", job="x", l="1"} 2',
    ]
    assert shown(instant(source, 'info(m, {version=~".+"})')) == [
        '{__name__="m", instance="a", job="x", l="1", version="2"} 1'
    ]
    assert shown(instant(source, 'info(m, {__name__="build_info"})'))[0] == (
        '{__name__="m", commit="c", instance="a", job="x", l="1"} 1'
    )


def test_sorting_is_natural_and_puts_nan_last():
    source = load(60, 'm{n="10"} 3\nm{n="9"} NaN\nm{n="x1"} 1')
    assert [line.split("} ")[1] for line in shown(instant(source, "sort(m)"))] == ["1", "3", "NaN"]
    assert [line.split("} ")[1] for line in shown(instant(source, "sort_desc(m)"))] == ["3", "1", "NaN"]
    assert [line.split("} ")[1] for line in shown(instant(source, 'sort_by_label(m, "n")'))] == ["NaN", "3", "1"]


def test_absence_is_named_by_the_matchers():
    assert shown(instant(SAMPLES, 'absent(nothing{a="1", b=~"x", c="2", c="3"})')) == ['{a="1"} 1']
    assert shown(ranged(SAMPLES, 'absent_over_time(m_total{instance="a"}[1m])', 600, 720, 60)) == [
        '{instance="a"} _ 1 1'
    ]


def test_count_values_writes_over_its_label():
    source = load(60, 'm{a="1", b="x"} 7\nm{a="2", b="x"} 7\nm{a="3", b="y"} 0.5')
    for query, expected in (
        ('count_values("a", m)', ['{a="0.5"} 1', '{a="7"} 2']),
        ('count_values by (a) ("a", m)', ['{a="0.5"} 1', '{a="7"} 2']),
        ('count_values without (a) ("a", m)', ['{b="x"} 2', '{b="y"} 1']),
        ('count_values without (b) ("a", m)', ['{a="0.5"} 1', '{a="7"} 2']),
        ('count_values("__name__", m)', ['{__name__="0.5"} 1', '{__name__="7"} 2']),
        ('count_values without (a) ("__name__", m)', ['{b="x"} 2', '{b="y"} 1']),
    ):
        assert shown(instant(source, query)) == expected, query


def test_samples_have_no_start_timestamps():
    source = load(60, 'm{a="1"} 7 8')
    assert shown(instant(source, "start_timestamp(m)", 60)) == ['{a="1"} 0']
    assert shown(ranged(source, "start_timestamp(m * 2)", 0, 60, 60)) == ['{a="1"} 0 0']


def test_start_and_end_are_the_query_s():
    assert shown(ranged(SAMPLES, "start() + end() / 1000", 0, 100, 60)) == ["{} 0.1 0.1"]
    assert shown(ranged(SAMPLES, "range() - step()", 0, 100, 60)) == ["{} 40 40"]
    assert math.isnan(instant(SAMPLES, "scalar(nothing)").scalar.values[0])


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("clamp_max(vector(NaN), -Inf)", "-Inf"),
        ("clamp_min(vector(NaN), Inf)", "+Inf"),
        ("clamp(vector(7), 0.5, NaN)", "NaN"),
        ("clamp(vector(-Inf), 0.5, NaN)", "0.5"),
        ("year(vector(NaN))", "2.92277026596e+11"),
        ("month(vector(Inf))", "12"),
        ("day_of_month(vector(-Inf))", "4"),
        ("day_of_week(vector(1e300))", "0"),
        ("day_of_year(vector(NaN))", "339"),
        ("days_in_month(vector(NaN))", "31"),
        ("hour(vector(NaN))", "15"),
        ("minute(vector(NaN))", "30"),
        ("year(vector(-1))", "1969"),
        ("year(vector(9e18))", "2.85198648531e+11"),
        ("month(vector(9e18))", "4"),
        ("year(vector(-9e18))", "-2.85198644592e+11"),
        ("sgn(vector(-0.0))", "-0"),
    ],
)
def test_values_that_are_no_numbers_give_what_go_makes_of_them(query, expected):
    assert shown(instant(SAMPLES, query)) == [f"{{}} {expected}"]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (
            "sum(deriv(m_total[5m] anchored))",
            "anchored modifier can only be used with: changes, delta, increase, rate, resets - not with deriv",
        ),
        (
            "resets(m_total[5m] smoothed)",
            "smoothed modifier can only be used with: delta, increase, rate - not with resets",
        ),
        ("absent_over_time((nothing[5m] smoothed))", "not with absent_over_time"),
        ("quantile_over_time(0.5, m_total[5m] anchored)", "not with quantile_over_time"),
    ],
)  # fmt: skip
def test_extended_ranges_are_refused_by_functions_that_cannot_use_them(query, message):
    with pytest.raises(ExecutionError, match=message):
        instant(SAMPLES, query, 300)


@pytest.mark.parametrize(
    ("bound", "value"),
    [("1e400", None), ("0x1p5000", None), ("0x1p-2", 0.25), ("1_0", 10.0), ("+Inf", math.inf), ("infinity", math.inf),
     (" 1", None), ("", None), ("1e0", 1.0), ("1.", 1.0), (".5", 0.5)],
)  # fmt: skip
def test_bucket_bounds_are_read_as_go_reads_floats(bound, value):
    assert parse_bound(bound) == value


@pytest.mark.parametrize(
    ("samples", "expected"),
    [("1 2 3 4 NaN", "1"), ("NaN 1 2 3 4", "1"), ("1 2 NaN 4", "NaN"), ("NaN", "NaN"), ("NaN NaN 1", "NaN"),
     ("1 NaN 3 3 9", "0"), ("1 Inf 2", "NaN"), ("Inf Inf 1", "NaN"), ("5", "0"), ("1 2 3 4", "1")],
)  # fmt: skip
def test_not_a_number_comes_first_among_samples_and_distances(samples, expected):
    source = load(10, f"x {samples}")
    assert shown(instant(source, "mad_over_time(x[5m])", 60)) == [f"{{}} {expected}"]


def test_labels_of_very_many_digits_are_sorted_as_numbers():
    long = "9" * 5_000  # more digits than Python makes a number of
    source = load(10, f'm{{n="{long}1"}} 3\nm{{n="{long}"}} 2\nm{{n="007"}} 1\nm{{n="{"0" * 5_000}6"}} 0')
    assert [line.split("} ")[1] for line in shown(instant(source, 'sort_by_label(m, "n")'))] == ["0", "1", "2", "3"]
