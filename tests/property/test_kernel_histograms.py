"""Classic histograms against plain twins over the buckets of one histogram at one step."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from filoray.nodes.kernels.query.histograms import BucketRows, histogram_fractions, histogram_quantiles

Buckets = list[tuple[float, float]]
TOLERANCE = 1e-12


def divide(a: float, b: float) -> float:
    with np.errstate(all="ignore"):
        return float(np.float64(a) / np.float64(b))


def gathered(buckets: Buckets) -> Buckets:
    merged: dict[float, float] = {}
    for bound, count in sorted(buckets, key=lambda bucket: bucket[0]):
        merged[bound] = merged[bound] + count if bound in merged else count
    return list(merged.items())


def almost_equal(a: float, b: float) -> bool:
    if a == b or (math.isnan(a) and math.isnan(b)):
        return True
    total, difference = abs(a) + abs(b), abs(a - b)
    if a == 0 or b == 0:
        return difference < TOLERANCE * 2.2250738585072014e-308
    return difference / total < TOLERANCE


def twin_quantile(quantile: float, buckets: Buckets) -> tuple[float, bool]:
    if math.isnan(quantile):
        return math.nan, False
    if not 0 <= quantile <= 1:
        return math.copysign(math.inf, quantile), False
    buckets = gathered(buckets)
    if buckets[-1][0] != math.inf:
        return math.nan, False
    forced = False
    previous = buckets[0][1]
    for i, (bound, count) in enumerate(buckets):
        if almost_equal(previous, count):
            buckets[i] = (bound, previous)
        elif count < previous:
            buckets[i] = (bound, previous)
            forced = True
        else:
            previous = count
    total = buckets[-1][1]
    if len(buckets) < 2 or total == 0:
        return math.nan, forced
    rank = quantile * total
    at = next((i for i, (_, count) in enumerate(buckets[:-1]) if count >= rank), len(buckets) - 1)
    if at == len(buckets) - 1:
        return buckets[-2][0], forced
    if at == 0:
        bound, count = buckets[0]
        return (bound, forced) if bound <= 0 else (0.0 + (bound - 0.0) * divide(rank, count), forced)
    (start, below), (bound, count) = buckets[at - 1], buckets[at]
    return start + (bound - start) * divide(rank - below, count - below), forced


def rank_of(value: float, buckets: Buckets) -> float:
    rank, lower = 0.0, -math.inf if buckets[0][0] <= 0 else 0.0
    for bound, count in buckets:
        if lower >= value:
            return rank
        if bound > value:
            return count if lower == -math.inf else rank + (count - rank) * (value - lower) / (bound - lower)
        rank, lower = count, bound
    return rank


def twin_fraction(lower: float, upper: float, buckets: Buckets) -> float:
    buckets = gathered(buckets)
    total = buckets[-1][1]
    if buckets[-1][0] != math.inf or total == 0 or math.isnan(lower) or math.isnan(upper):
        return math.nan
    if lower >= upper:
        return 0.0
    return (min(rank_of(upper, buckets), total) - min(rank_of(lower, buckets), total)) / total


@st.composite
def histograms(draw: st.DrawFn) -> tuple:
    """values, valid, group_ids, bounds, group_count: rows in any order, bounds may repeat, counts may fall."""
    groups, steps = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    ids: list[int] = []
    bounds: list[float] = []
    rows: list[list[float]] = []
    for group in range(groups):
        finite_bounds = st.one_of(st.integers(-3, 8).map(float), st.floats(-5, 50))
        own = draw(st.lists(finite_bounds, max_size=5)) + draw(st.sampled_from([[math.inf], [math.inf], []]))
        own.sort()
        counts = np.array(
            [sorted(draw(st.lists(st.integers(0, 9), min_size=len(own), max_size=len(own)))) for _ in range(steps)],
            np.float64,
        ).reshape(steps, len(own))
        if draw(st.booleans()):
            counts = counts[:, ::-1]
        if draw(st.booleans()):
            noise = draw(st.lists(st.integers(-3, 3), min_size=counts.size, max_size=counts.size))
            counts = counts * (1 + 1e-14 * np.array(noise, np.float64).reshape(counts.shape))
        for i, bound in enumerate(own):
            ids.append(group)
            bounds.append(bound)
            rows.append(counts[:, i].tolist())
    order = draw(st.permutations(range(len(ids))))
    values = np.array([rows[i] for i in order], np.float64).reshape(len(ids), steps)
    valid = np.array([[draw(st.integers(0, 5)) > 0 for _ in range(steps)] for _ in ids], np.bool_)
    return (
        values,
        valid.reshape(len(ids), steps),
        np.array([ids[i] for i in order], np.int64),
        np.array([bounds[i] for i in order], np.float64),
        groups,
    )


def buckets_at(histogram: tuple, group: int, k: int) -> Buckets:
    values, valid, ids, bounds, _ = histogram
    return [(float(bounds[i]), float(values[i, k])) for i in range(len(ids)) if ids[i] == group and valid[i, k]]


def same(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))


@given(histogram=histograms(), data=st.data())
@settings(max_examples=400, deadline=None)
def test_a_quantile_is_interpolated_in_its_bucket(histogram: tuple, data: st.DataObject) -> None:
    values, valid, ids, bounds, groups = histogram
    steps = values.shape[1]
    wanted = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.5, 0.9, 1.0, -0.5, 1.5, math.nan]))
    quantiles = data.draw(st.lists(wanted, min_size=steps, max_size=steps))

    result = histogram_quantiles(values, valid, BucketRows.of(ids, bounds, groups), np.array(quantiles))

    for group in range(groups):
        for k in range(steps):
            buckets = buckets_at(histogram, group, k)
            assert result.valid[group, k] == bool(buckets)
            if buckets:
                expected, forced = twin_quantile(quantiles[k], buckets)
                assert same(float(result.values[group, k]), expected), (buckets, quantiles[k])
                assert result.forced_monotonic[group, k] == forced
        some_forced = bool(result.forced_monotonic[group].any())
        assert (result.largest_fall[group] > 0) == some_forced
        assert (result.lowest_forced_bound[group] <= result.highest_forced_bound[group]) == some_forced


@given(histogram=histograms(), data=st.data())
@settings(max_examples=300, deadline=None)
def test_a_fraction_is_the_share_between_two_bounds(histogram: tuple, data: st.DataObject) -> None:
    values, valid, ids, bounds, groups = histogram
    steps = values.shape[1]
    edge = st.one_of(
        st.floats(-10, 60), st.integers(-4, 9).map(float), st.sampled_from([math.inf, -math.inf, math.nan])
    )
    lowers = data.draw(st.lists(edge, min_size=steps, max_size=steps))
    uppers = data.draw(st.lists(edge, min_size=steps, max_size=steps))

    got, got_valid = histogram_fractions(
        values, valid, BucketRows.of(ids, bounds, groups), np.array(lowers), np.array(uppers)
    )

    for group in range(groups):
        for k in range(steps):
            buckets = buckets_at(histogram, group, k)
            assert got_valid[group, k] == bool(buckets)
            if buckets:
                assert same(float(got[group, k]), twin_fraction(lowers[k], uppers[k], buckets)), buckets


def test_rows_that_are_no_buckets_are_left_out() -> None:
    rows = BucketRows.of(np.array([-1, 0, 0]), np.array([math.nan, math.inf, 1.0]), 1)
    values, valid = np.array([[99.0], [4.0], [2.0]]), np.ones((3, 1), np.bool_)
    assert histogram_quantiles(values, valid, rows, np.array([0.25])).values.tolist() == [[0.5]]
