"""Request parameters: Prometheus's forms and its words for what is wrong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filoray.cluster.errors import BadData
from filoray.http.api.selector_parameters import read_selectors
from filoray.http.server.parameters import (
    MAX_TIME_MS,
    MIN_TIME_MS,
    Parameters,
    parse_duration_parameter_ms,
    parse_time_ms,
)
from filoray.nodes.data.matching import LabelMatcher, MatchOp
from filoray.nodes.promql.options import ParserOptions


@pytest.mark.parametrize(
    ("text", "time_ms"),
    [
        ("0", 0), ("1435781451.781", 1435781451781), ("1435781451.7819", 1435781451782), ("-1.5", -1500),
        ("-0.001", -1), (".5", 500), ("1e3", 1_000_000), ("+7", 7000), ("5.", 5000), ("1_0.5", 10500),
        ("0x10p0", 16000), ("0x1.8p3", 12000), ("-0X1P-1", -500), ("2015-07-01T20:10:51.781Z", 1435781451781),
        ("2015-07-01T20:10:51Z", 1435781451000), ("2015-07-01T22:10:51.7819+02:00", 1435781451781),
        ("2015-07-01T20:10:51.781999999999999Z", 1435781451781), ("2015-07-01T20:10:51,7Z", 1435781451700),
        ("1969-12-31T23:59:59.5Z", -500), ("1e30", MAX_TIME_MS), ("-9223309901257974", MIN_TIME_MS),
        ("-292273086-05-16T16:47:06Z", MIN_TIME_MS), ("292277025-08-18T07:12:54.999999999Z", MAX_TIME_MS),
    ],
)  # fmt: skip
def test_times(text, time_ms):
    assert parse_time_ms(text) == time_ms


@pytest.mark.parametrize(
    "text",
    ["", "x", "NaN", "inf", "1__0", "_1", "1_", "0x10", "0b1", "1e400", " 1", "1 ", "++1", "2015-07-01",
     "2015-13-01T00:00:00Z", "2015-07-01T20:10:51",
     "2015-07-01t20:10:51z", "2015-07-01T20:10:51+25:00", "٣"],
)  # fmt: skip
def test_what_is_no_time_is_quoted(text):
    with pytest.raises(ValueError, match=r"cannot parse .* to a valid timestamp"):
        parse_time_ms(text)


@given(st.integers(-(10**13), 10**13))
def test_every_millisecond_is_read_back(time_ms):
    sign, rest = ("-" if time_ms < 0 else ""), abs(time_ms)
    assert parse_time_ms(f"{sign}{rest // 1000}.{rest % 1000:03d}") == time_ms


@pytest.mark.parametrize(
    ("text", "duration_ms"),
    [
        ("15", 15000),
        ("0.25", 250),
        ("-1", -1000),
        ("1m", 60000),
        ("1h30m", 5400000),
        ("5ms", 5),
        ("0x10p0", 16000),
        ("1_0", 10000),
    ],
)
def test_durations(text, duration_ms):
    assert parse_duration_parameter_ms(text) == duration_ms


def test_durations_that_are_none():
    with pytest.raises(ValueError, match=r'^cannot parse "x" to a valid duration$'):
        parse_duration_parameter_ms("x")
    with pytest.raises(ValueError, match=r'^cannot parse "" to a valid duration$'):
        parse_duration_parameter_ms("")
    with pytest.raises(ValueError, match=r'^cannot parse "1e30" to a valid duration. It overflows int64$'):
        parse_duration_parameter_ms("1e30")


@pytest.mark.parametrize(
    ("text", "limit"), [("", 0), ("0", 0), ("+5", 5), ("9223372036854775807", 0), ("9007199254740991", 2**53 - 1)]
)
def test_a_limit_that_no_answer_reaches_is_none(text, limit):
    assert Parameters({"limit": [text]}).limit() == limit


@pytest.mark.parametrize(
    ("text", "problem"),
    [("9223372036854775808", "value out of range"), ("1e3", "invalid syntax"), (" 5", "invalid syntax")],
)
def test_what_is_no_limit_is_told_in_go_s_words(text, problem):
    with pytest.raises(BadData) as failure:
        Parameters({"limit": [text]}).limit()
    assert str(failure.value) == f'invalid parameter "limit": strconv.Atoi: parsing "{text}": {problem}'


@pytest.mark.parametrize("text", ["Inf", "-inf", "9.3e9"])
def test_durations_beyond_go_s_overflow(text):
    with pytest.raises(ValueError, match=r"to a valid duration\. It overflows int64$"):
        parse_duration_parameter_ms(text)


def test_nan_seconds_are_less_than_any_duration():
    assert parse_duration_parameter_ms("NaN") < 0


def test_parameters_name_themselves_when_they_are_wrong():
    parameters = Parameters({"start": ["x"], "limit": ["-1"], "spread": ["one"], "explainOnly": ["maybe"]})
    with pytest.raises(BadData, match=r'^invalid parameter "start": cannot parse "x" to a valid timestamp$'):
        parameters.time_ms("start")
    text = r'^invalid parameter "start": invalid time value for .start.: cannot parse "x" to a valid timestamp$'
    with pytest.raises(BadData, match=text):
        parameters.time_ms_or("start", 0)
    with pytest.raises(BadData, match=r'^invalid parameter "limit": limit must be non-negative$'):
        parameters.limit()
    with pytest.raises(BadData, match=r'^invalid parameter "spread": strconv.Atoi: parsing "one": invalid syntax$'):
        parameters.optional_integer("spread")
    with pytest.raises(BadData, match=r'^invalid parameter "explainOnly": "maybe" is not true or false$'):
        parameters.flag("explainOnly")


def selectors_of(*texts, needed=False):
    return read_selectors(Parameters({"match[]": list(texts)}), ParserOptions(), needed=needed)


def test_selectors_are_parsed():
    up = LabelMatcher("__name__", MatchOp.EQUAL, "up")
    job = LabelMatcher("job", MatchOp.REGEX, "a.+")
    assert [set(matchers) for matchers in selectors_of("up", 'up{job=~"a.+"}')] == [{up}, {up, job}]
    assert selectors_of() == []


@pytest.mark.parametrize("text", ["{}", '{job=""}', '{job=~".*"}', '{job!="x"}'])
def test_a_selector_that_matches_everything_is_refused(text):
    with pytest.raises(BadData, match="must contain at least one non-empty matcher"):
        selectors_of(text)


@pytest.mark.parametrize("text", ["1", "up{", "sum(up)", "up[5m]", "up offset 5m", "up or down"])
def test_what_is_no_selector_is_refused(text):
    with pytest.raises(BadData, match=r'^invalid parameter "match\[\]": 1:\d+: parse error: '):
        selectors_of(text)


def test_a_needed_selector():
    with pytest.raises(BadData, match=r"^no match\[\] parameter provided$"):
        selectors_of(needed=True)
