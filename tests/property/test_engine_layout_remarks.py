"""Warnings, infos, errors and order do not depend on how series are spread, nor do values of the newer functions."""

from __future__ import annotations

import math

import numpy as np
from dict_source import DictSource
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from filoray.cluster.errors import FilorayError
from filoray.nodes.data.cancel_token import CancelToken
from filoray.nodes.engine.evaluate.fragment_run import run_fragments
from filoray.nodes.engine.plan.finishing import finish
from filoray.nodes.engine.plan.planner import plan
from filoray.nodes.engine.query_params import NO_LIMITS, QueryParams
from filoray.nodes.promql.options import EXPERIMENTAL
from filoray.nodes.promql.parser import parse
from filoray.nodes.wire import fragment_codec as wire

START_MS = 1_700_000_000_000
numbers = st.integers(-3, 9).map(float) | st.sampled_from([math.nan, math.inf, -math.inf, 0.5])
samples = st.dictionaries(st.integers(0, 24).map(lambda i: START_MS + i * 15_000), numbers, min_size=1)
label_sets = st.builds(
    lambda name, job, instance, bound: tuple(
        (label, value)
        for label, value in (
            ("__name__", name),
            ("instance", instance),
            ("job", job),
            ("le", bound if name == "h_bucket" else ""),
            ("version", bound if name == "target_info" else ""),
        )
        if value
    ),
    st.sampled_from(["x", "y_total", "h_bucket", "h_bucket", "target_info"]),
    st.sampled_from(["a", "b"]),
    st.sampled_from(["", "1", "2"]),
    st.sampled_from(["0.1", "1", "+Inf", "odd"]),
)
datasets = st.dictionaries(label_sets, samples, min_size=1, max_size=12)

selectors = st.sampled_from(["x", "y_total", "h_bucket", '{__name__=~"x|y_total"}', 'h_bucket{job="a"}', "x @ end()"])
ranges = st.builds("{}[{}]{}".format, selectors.filter(lambda s: "@" not in s), st.sampled_from(["1m", "3m"]),
                   st.sampled_from(["", " offset 30s", " @ start()", " anchored", " smoothed"]))  # fmt: skip
groupings = st.sampled_from(["", "by (job) ", "without (instance, le) ", "by (job, le) "])
quantiles = st.sampled_from(["0.5", "2", "-1", "NaN", "time() % 3 - 1"])
ratios = st.sampled_from(["0.5", "-0.4", "1.5", "-2", "NaN"])


def _extend(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.builds("{}({})".format, st.sampled_from(["rate", "increase", "delta", "resets"]), ranges),
        st.builds("quantile_over_time({}, {})".format, quantiles, ranges),
        st.builds("quantile {}({}, {})".format, groupings, quantiles, inner),
        st.builds("{} {}({})".format, st.sampled_from(["stddev", "avg", "count"]), groupings, inner),
        st.builds("{} {}({}, {})".format, st.sampled_from(["topk", "limitk", "bottomk"]), groupings,
                  st.sampled_from(["1", "2", "NaN", "time() % 2"]), inner),
        st.builds("limit_ratio({}, {})".format, ratios, inner),
        st.builds('count_values {}("{}", {})'.format, groupings, st.sampled_from(["v", "job"]), inner),
        st.builds("histogram_quantile({}, {})".format, quantiles, inner),
        st.builds("histogram_fraction(0, {}, {})".format, st.sampled_from(["1", "NaN"]), inner),
        st.builds("{}({})".format, st.sampled_from(["info", "sort", "absent", "timestamp", "-"]), inner),
        st.builds("({}) {} {} ({})".format, inner, st.sampled_from(["+", ">", "== bool", "</"]),
                  st.sampled_from(["", "fill(1)", "fill_left(2)", "on(job) group_right fill_right(3)"]), inner),
        st.builds('label_replace({}, "instance", "", "job", "{}")'.format, inner, st.sampled_from(["a", "(.*)"])),
        st.builds("double_exponential_smoothing({}, {}, 0.5)".format, ranges, st.sampled_from(["0.5", "2"])),
    )  # fmt: skip


queries = st.recursive(selectors, _extend, max_leaves=3)


def answer(query: str, params: QueryParams, sources: list[DictSource], *, whole: bool = False):
    """(label sets in order, values, warnings and infos), or the error's text."""
    try:
        execution = plan(parse(query, EXPERIMENTAL), params, lambda selectors: whole, query=query)
        cancel = CancelToken()
        fragments = wire.decode_fragments(wire.encode_fragments(execution.fragments))
        answers = [
            wire.decode_answers(
                [bytes(part) for part in wire.encode_answers(run_fragments(fragments, source, NO_LIMITS, cancel))]
            )
            for source in sources
        ]
        result = finish(execution, answers, NO_LIMITS, cancel)
    except FilorayError as error:
        return str(error)
    assert result.frame is not None
    values = np.where(result.frame.valid, result.frame.values, 0.0)
    return result.frame.labels.label_sets(), result.frame.valid, values, result.annotations.render(query)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(datasets, queries, st.booleans())
def test_what_is_said_of_a_query_does_not_depend_on_the_layout(dataset, query, is_range):
    end_ms = START_MS + 240_007
    params = QueryParams.range(START_MS + 60_007, end_ms, 30_000) if is_range else QueryParams.instant(end_ms)
    source = DictSource(dataset)
    expected = answer(query, params, [source])
    for got in (
        answer(query, params, source.split(2)),
        answer(query, params, source.split(5)),
        answer(query, params, [source], whole=True),
    ):
        if isinstance(expected, str) or isinstance(got, str):
            assert got == expected, query
            continue
        assert got[0] == expected[0], query
        np.testing.assert_array_equal(got[1], expected[1], query)
        np.testing.assert_allclose(got[2], expected[2], 1e-12, 1e-12, err_msg=query)
        assert got[3] == expected[3], query
