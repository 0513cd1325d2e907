"""Aggregations by group against plain loops over the rows, and partial results against the whole."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filoray.nodes.kernels.query.aggregation import (
    group_counts,
    group_extremes,
    group_means,
    group_sums,
    group_variances,
    merge_means,
    merge_sums,
    merge_variances,
)
from filoray.nodes.kernels.query.aggregation_parts import MeanPart, SumPart, VariancePart

finite = st.one_of(st.integers(-5, 50).map(float), st.floats(-1000, 1000), st.sampled_from([0.1, 1e100, -1e100]))
odd = st.one_of(finite, st.sampled_from([math.nan, math.inf, -math.inf, 1.7e308, -1.7e308]))


@st.composite
def frames(draw: st.DrawFn, cells: st.SearchStrategy[float] | None = None) -> tuple:
    """values, valid, group_ids, group_count"""
    rows, steps, groups = draw(st.integers(0, 9)), draw(st.integers(1, 4)), draw(st.integers(1, 3))
    cells = draw(st.sampled_from([finite, odd])) if cells is None else cells
    values = np.array([[draw(cells) for _ in range(steps)] for _ in range(rows)], np.float64).reshape(rows, steps)
    valid = np.array([[draw(st.booleans()) for _ in range(steps)] for _ in range(rows)], np.bool_).reshape(rows, steps)
    ids = np.array(draw(st.lists(st.integers(0, groups - 1), min_size=rows, max_size=rows)), np.int64)
    return values, valid, ids, groups


def kahan(term: float, total: float, error: float) -> tuple[float, float]:
    new = total + term
    if math.isinf(new):
        return new, 0.0
    if abs(total) >= abs(term):
        return new, error + ((total - new) + term)
    return new, error + ((term - new) + total)


def twin_sum(column: list[float]) -> float:
    total = error = 0.0
    for value in column:
        total, error = kahan(value, total, error)
    return total if math.isinf(total) else total + error


def twin_mean(column: list[float]) -> float:
    total, error, mean, incremental, count = column[0], 0.0, 0.0, False, 1.0
    for i, value in enumerate(column[1:]):
        count = i + 2.0
        if not incremental:
            new_total, new_error = kahan(value, total, error)
            if not math.isinf(new_total):
                total, error = new_total, new_error
                continue
            incremental, mean, error = True, total / (count - 1), error / (count - 1)
        share = (count - 1) / count
        mean, error = kahan(value / count, share * mean, share * error)
    return mean + error if incremental else total / count + error / count


def exact_variance(column: list[float]) -> Fraction:
    numbers = list(map(Fraction, column))
    mean = sum(numbers) / len(numbers)
    return sum((number - mean) ** 2 for number in numbers) / len(numbers)


def twin_extreme(column: list[float], is_max: bool) -> float:
    numbers = [value for value in column if not math.isnan(value)]
    if not numbers:
        return math.nan
    return max(numbers) if is_max else min(numbers)


def check_against(frame: tuple, values: np.ndarray, valid: np.ndarray, twin: Callable[[list[float]], float]) -> None:
    cells, cells_valid, ids, groups = frame
    assert values.shape == valid.shape == (groups, cells.shape[1])
    for group in range(groups):
        for k in range(cells.shape[1]):
            column = [float(cells[row, k]) for row in range(len(ids)) if ids[row] == group and cells_valid[row, k]]
            assert valid[group, k] == bool(column)
            if column:
                np.testing.assert_equal(values[group, k], twin(column))


@given(frames())
@settings(max_examples=200, deadline=None)
def test_each_group_and_step_gives_what_prometheus_computes_row_by_row(frame: tuple) -> None:
    sums, means, variances = group_sums(*frame), group_means(*frame), group_variances(*frame)
    check_against(frame, sums.result(), sums.valid, twin_sum)
    check_against(frame, means.result(), means.valid, twin_mean)
    check_variances(frame, variances)
    for is_max in (False, True):
        extremes = group_extremes(*frame, is_max=is_max)
        check_against(frame, extremes.values, extremes.valid, lambda column, up=is_max: twin_extreme(column, up))
    counts = group_counts(*frame[1:])
    check_against(frame, counts, counts > 0, lambda column: float(len(column)))


def check_variances(frame: tuple, variances: VariancePart) -> None:
    """NaN of what is not finite; otherwise the exact variance but for the last places."""
    cells, cells_valid, ids, groups = frame
    found = variances.variance()
    for group in range(groups):
        for k in range(cells.shape[1]):
            column = cells[(ids == group) & cells_valid[:, k], k].tolist()
            assert variances.valid[group, k] == bool(column)
            if not all(map(math.isfinite, column)):
                assert math.isnan(found[group, k])
            elif column and max(map(abs, column)) < 1e100:
                exact, scale = float(exact_variance(column)), max(map(abs, column))
                assert found[group, k] == pytest.approx(exact, rel=1e-14, abs=scale**2 * 1e-30 + 1e-300)


def split(frame: tuple, cuts: list[int]) -> list[tuple]:
    """The rows in consecutive pieces, each aggregated by a node of its own."""
    values, valid, ids, groups = frame
    bounds = [0, *sorted(min(cut, len(ids)) for cut in cuts), len(ids)]
    return [(values[a:b], valid[a:b], ids[a:b], groups) for a, b in itertools.pairwise(bounds)]


def stacked(parts: list) -> tuple[list[np.ndarray], np.ndarray]:
    fields = list(type(parts[0])._fields)
    groups = len(getattr(parts[0], fields[0]))
    ids = np.tile(np.arange(groups), len(parts))
    return [np.concatenate([getattr(part, name) for part in parts]) for name in fields], ids


@given(frames(finite), st.lists(st.integers(0, 9), max_size=3))
@settings(max_examples=200, deadline=None)
def test_a_merged_sum_is_the_exact_sum_rounded_wherever_the_rows_were_cut(frame: tuple, cuts: list[int]) -> None:
    arrays, ids = stacked([group_sums(*piece) for piece in split(frame, cuts)])
    merged = merge_sums(SumPart(*arrays), ids, frame[3])
    arrays, ids = stacked([group_means(*piece) for piece in split(frame, cuts)])
    mean = merge_means(MeanPart(*arrays), ids, frame[3])
    values, valid, group_ids, groups = frame
    for group in range(groups):
        for k in range(values.shape[1]):
            column = [float(v) for v in values[(group_ids == group) & valid[:, k], k]]
            assert merged.counts[group, k] == mean.counts[group, k] == len(column)
            if not column:
                continue
            exact = sum(map(Fraction, column))
            # The compensation itself rounds: relative to the largest terms, at 2**-104 of them.
            noise = max(map(abs, column)) * 2.0**-100
            got = float(merged.result()[group, k])
            assert abs(Fraction(got) - exact) <= Fraction(math.ulp(float(exact))) * Fraction(101, 200) + Fraction(noise)
            got_mean = float(mean.result()[group, k])
            assert abs(got_mean - float(exact / len(column))) <= 3 * math.ulp(float(exact / len(column))) + noise


@given(frames(odd), st.lists(st.integers(0, 9), max_size=3))
@settings(max_examples=200, deadline=None)
def test_merging_keeps_infinities_and_nan(frame: tuple, cuts: list[int]) -> None:
    pieces = split(frame, cuts)
    arrays, ids = stacked([group_sums(*piece) for piece in pieces])
    sums = merge_sums(SumPart(*arrays), ids, frame[3]).result()
    arrays, ids = stacked([group_means(*piece) for piece in pieces])
    means = merge_means(MeanPart(*arrays), ids, frame[3]).result()
    values, valid, group_ids, groups = frame
    for group in range(groups):
        for k in range(values.shape[1]):
            column = values[(group_ids == group) & valid[:, k], k]
            if not len(column):
                continue
            special = column[~np.isfinite(column)]
            if len(special):
                with np.errstate(invalid="ignore"):
                    expected = special.sum()
                np.testing.assert_equal(means[group, k], expected)
                if (np.abs(column[np.isfinite(column)]) < 1e300).all():
                    np.testing.assert_equal(sums[group, k], expected)
            else:
                exact = sum(map(Fraction, column.tolist())) / len(column)
                assert means[group, k] == pytest.approx(float(exact), rel=1e-12, abs=1e-12 * np.abs(column).max())


@given(frames(st.floats(-1000, 1000)), st.lists(st.integers(0, 9), max_size=3))
@settings(max_examples=150, deadline=None)
def test_a_merged_variance_is_that_of_all_rows(frame: tuple, cuts: list[int]) -> None:
    arrays, ids = stacked([group_variances(*piece) for piece in split(frame, cuts)])
    merged = merge_variances(VariancePart(*arrays), ids, frame[3])
    whole = group_variances(*frame)
    np.testing.assert_array_equal(merged.counts, whole.counts)
    check_variances(frame, merged)
    check_variances(frame, whole)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.integers(0, 12))
@settings(max_examples=100, deadline=None)
def test_variances_of_large_numbers_do_not_depend_on_the_layout(fractions: list[float], cut: int) -> None:
    values = np.array(fractions)[:, np.newaxis] + 1.7e9
    frame = (values, np.ones(values.shape, np.bool_), np.zeros(len(values), np.int64), 1)
    arrays, ids = stacked([group_variances(*piece) for piece in split(frame, [cut])])
    expected = pytest.approx(float(exact_variance(values[:, 0].tolist())), rel=1e-13, abs=1e-24)
    assert merge_variances(VariancePart(*arrays), ids, 1).variance()[0, 0] == expected
    assert group_variances(*frame).variance()[0, 0] == expected


@given(frames(odd))
@settings(max_examples=100, deadline=None)
def test_a_single_part_merges_to_itself(frame: tuple) -> None:
    ids = np.arange(frame[3])
    np.testing.assert_equal(merge_sums(group_sums(*frame), ids, frame[3]).result(), group_sums(*frame).result())
    np.testing.assert_equal(merge_means(group_means(*frame), ids, frame[3]).result(), group_means(*frame).result())
    np.testing.assert_equal(
        merge_variances(group_variances(*frame), ids, frame[3]).variance(), group_variances(*frame).variance()
    )


def test_small_terms_survive_between_large_ones() -> None:
    values = np.array([[1.0], [1e100], [1.0], [-1e100]])
    valid = np.ones((4, 1), np.bool_)
    assert group_sums(values, valid, np.zeros(4, np.int64), 1).result().tolist() == [[2.0]]


def test_a_set_flag_stops_an_aggregation() -> None:
    values, valid = np.ones((3, 2)), np.ones((3, 2), np.bool_)
    part = group_sums(values, valid, np.zeros(3, np.int64), 1, np.ones(1, np.uint8))
    assert part.counts.tolist() == [[0.0, 0.0]]
