"""topk, bottomk, limitk, quantile and count_values against sorting each group at each step."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filoray.nodes.kernels.query.ranking import Pick, RowGroups, count_values, group_quantiles, pick_samples

cells = st.one_of(
    st.integers(0, 6).map(float), st.floats(-50, 50), st.sampled_from([math.nan, math.inf, -math.inf, 0.0, -0.0])
)


@st.composite
def frames(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    rows, steps, groups = draw(st.integers(0, 14)), draw(st.integers(1, 4)), draw(st.integers(1, 3))
    values = np.array([[draw(cells) for _ in range(steps)] for _ in range(rows)], np.float64).reshape(rows, steps)
    valid = np.array([[draw(st.integers(0, 4)) > 0 for _ in range(steps)] for _ in range(rows)], np.bool_)
    ids = np.array(draw(st.lists(st.integers(0, groups - 1), min_size=rows, max_size=rows)), np.int64)
    return values, valid.reshape(rows, steps), ids, groups


def members(frame: tuple, group: int, k: int) -> list[int]:
    _, valid, ids, _ = frame
    return [row for row in range(len(ids)) if ids[row] == group and valid[row, k]]


@pytest.mark.parametrize("pick", list(Pick))
@given(frame=frames(), data=st.data())
@settings(max_examples=200, deadline=None)
def test_the_picked_samples_are_the_first_in_prometheus_order(pick: Pick, frame: tuple, data: st.DataObject) -> None:
    values, valid, ids, groups = frame
    steps = values.shape[1]
    limits = data.draw(st.lists(st.sampled_from([-1, 0, 1, 2, 3, 5, 100, 2**62]), min_size=steps, max_size=steps))

    picked = pick_samples(values, valid, RowGroups.of(ids, groups), pick, np.array(limits, np.int64))

    sign = -1.0 if pick is Pick.TOP else 1.0
    for group in range(groups):
        for k in range(steps):
            rows = members(frame, group, k)
            if pick is not Pick.FIRST:
                rows.sort(
                    key=lambda row, k=k: (
                        math.isnan(values[row, k]),
                        sign * values[row, k] if not math.isnan(values[row, k]) else 0.0,
                        row,
                    )
                )
            expected = set(rows[: max(0, limits[k])])
            assert {row for row in members(frame, group, k) if picked[row, k]} == expected
    assert not (picked & ~valid).any()


def twin_quantile(column: list[float], quantile: float) -> float:
    if math.isnan(quantile):
        return math.nan
    if quantile < 0 or quantile > 1:
        return math.copysign(math.inf, quantile)
    ordered = sorted(column, key=lambda value: (not math.isnan(value), value))
    rank = quantile * (len(ordered) - 1)
    lower = math.floor(rank)
    upper = min(len(ordered) - 1, lower + 1)
    weight = rank - lower
    return ordered[lower] * (1 - weight) + ordered[upper] * weight


@given(frame=frames(), data=st.data())
@settings(max_examples=200, deadline=None)
def test_a_quantile_is_interpolated_between_the_sorted_samples(frame: tuple, data: st.DataObject) -> None:
    values, valid, ids, groups = frame
    steps = values.shape[1]
    wanted = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.5, 1.0, -0.1, 1.1, math.nan]))
    quantiles = data.draw(st.lists(wanted, min_size=steps, max_size=steps))

    got, got_valid = group_quantiles(values, valid, RowGroups.of(ids, groups), np.array(quantiles))

    for group in range(groups):
        for k in range(steps):
            column = [float(values[row, k]) for row in members(frame, group, k)]
            assert got_valid[group, k] == bool(column)
            if column:
                np.testing.assert_equal(got[group, k] + 0.0, twin_quantile(column, quantiles[k]) + 0.0)


@given(frame=frames())
@settings(max_examples=150, deadline=None)
def test_each_distinct_value_of_a_group_is_counted_at_each_step(frame: tuple) -> None:
    values, valid, ids, groups = frame
    counted = count_values(values, valid, ids)
    found: dict[tuple[int, str, int], float] = {}
    for group, value, counts in zip(counted.groups, counted.values, counted.counts, strict=True):
        for k, count in enumerate(counts):
            if count:
                key = (int(group), repr(float(value)), k)
                assert key not in found
                found[key] = count
    expected: dict[tuple[int, str, int], float] = {}
    for group in range(groups):
        for k in range(values.shape[1]):
            for row in members(frame, group, k):
                key = (group, repr(float(values[row, k])), k)
                expected[key] = expected.get(key, 0.0) + 1.0
    assert found == expected
