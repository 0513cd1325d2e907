"""What kernels accept, and how they stop."""

from __future__ import annotations

import numpy as np
import pytest
from range_functions import RANGE_FUNCTIONS

from filoray.cluster.errors import ExecutionError
from filoray.nodes.data.frame import TimeGrid
from filoray.nodes.data.label_table import LabelTable
from filoray.nodes.data.series_batch import SeriesBatch
from filoray.nodes.engine.functions.range_functions import RangeContext, apply_range_function
from filoray.nodes.kernels.query.aggregation import group_means, group_sums
from filoray.nodes.kernels.query.histograms import BucketRows, histogram_quantiles
from filoray.nodes.kernels.query.ranking import Pick, RowGroups, group_quantiles, pick_samples

GRID = TimeGrid(60_000, 60_000, 3)


def batch_of(values: list[float], step_ms: int = 15_000) -> SeriesBatch:
    labels = LabelTable.from_label_sets([{"__name__": "requests_total"}])
    times = np.arange(len(values), dtype=np.int64) * step_ms
    return SeriesBatch(labels, np.array([0, len(values)]), times, np.array(values))


def params_of(name: str, value: float = 0.5) -> list[np.ndarray]:
    return [np.full(GRID.count, value)] * RANGE_FUNCTIONS[name].param_count


@pytest.mark.parametrize("name", sorted(RANGE_FUNCTIONS))
def test_a_set_flag_stops_every_range_function(name: str) -> None:
    context = RangeContext(cancelled=np.ones(1, np.uint8))
    assert (
        apply_range_function(
            RANGE_FUNCTIONS[name], batch_of([1.0] * 9), GRID, 60_000, 0, params_of(name), context
        ).samples
        == 0
    )


@pytest.mark.parametrize("name", sorted(RANGE_FUNCTIONS))
def test_no_series_give_an_empty_frame(name: str) -> None:
    batch = SeriesBatch(LabelTable.empty_sets(0), np.zeros(1, np.int64), np.empty(0, np.int64), np.empty(0))
    result = apply_range_function(RANGE_FUNCTIONS[name], batch, GRID, 60_000, 0, params_of(name))
    assert result.frame.values.shape == (0, GRID.count)
    assert result.samples == 0


def test_a_wrong_number_of_arguments_is_a_programming_error() -> None:
    with pytest.raises(ValueError, match="takes 1 scalar arguments, got 0"):
        apply_range_function(RANGE_FUNCTIONS["predict_linear"], batch_of([1.0]), GRID, 60_000, 0)


@pytest.mark.parametrize(("factor", "fails"), [(0.0, True), (1.0, True), (-2.0, True), (0.5, False), (np.nan, False)])
def test_a_smoothing_factor_outside_of_0_and_1_fails_where_there_are_samples(factor: float, fails: bool) -> None:
    name = "double_exponential_smoothing"
    params = [np.full(GRID.count, factor), np.full(GRID.count, 0.5)]
    assert apply_range_function(RANGE_FUNCTIONS[name], batch_of([]), GRID, 60_000, 0, params).samples == 0
    if fails:
        with pytest.raises(ExecutionError, match=r"invalid smoothing factor. Expected: 0 < sf < 1, got: -?\d\.\d{6}"):
            apply_range_function(RANGE_FUNCTIONS[name], batch_of([1.0, 2.0, 3.0]), GRID, 60_000, 0, params)
    else:
        assert (
            apply_range_function(RANGE_FUNCTIONS[name], batch_of([1.0, 2.0, 3.0]), GRID, 60_000, 0, params).samples > 0
        )


def test_a_prediction_at_a_fixed_window_still_moves_with_the_evaluation_time() -> None:
    batch = batch_of([0.0, 15.0, 30.0, 45.0, 60.0])
    context = RangeContext(at_ms=60_000)
    frame = apply_range_function(
        RANGE_FUNCTIONS["predict_linear"], batch, GRID, 60_000, 0, [np.zeros(3)], context
    ).frame
    assert frame.values[0].tolist() == pytest.approx([60.0, 120.0, 180.0])


def test_a_fixed_window_gives_the_same_at_every_step() -> None:
    frame = apply_range_function(
        RANGE_FUNCTIONS["sum_over_time"], batch_of([1.0, 2.0, 3.0]), GRID, 60_000, 0, (), RangeContext(at_ms=15_000)
    ).frame
    assert frame.values.tolist() == [[3.0, 3.0, 3.0]]
    assert frame.values.flags.c_contiguous


def received(array: np.ndarray) -> np.ndarray:
    """As it comes out of a message: read-only and at an odd address."""
    raw = b"x" + array.tobytes()
    return np.frombuffer(raw, array.dtype, offset=1).reshape(array.shape)


def test_received_and_transposed_matrices_are_taken_as_they_come() -> None:
    values = np.arange(12.0).reshape(4, 3)
    valid = np.ones((4, 3), np.bool_)
    ids = np.array([0, 1, 0, 1])
    expected = group_sums(values, valid, ids, 2).result().tolist()
    assert expected == [[6.0, 8.0, 10.0], [12.0, 14.0, 16.0]]
    for odd in (received(values), np.asfortranarray(values)):
        assert group_sums(odd, received(valid), received(ids), 2).result().tolist() == expected
        assert group_means(odd, valid, ids, 2).result().tolist() == [[3.0, 4.0, 5.0], [6.0, 7.0, 8.0]]
        assert group_quantiles(odd, valid, RowGroups.of(ids, 2), np.ones(3))[0].tolist() == values[2:].tolist()
        picked = pick_samples(odd, valid, RowGroups.of(ids, 2), Pick.BOTTOM, np.ones(3, np.int32))
        assert picked.tolist() == [[True] * 3, [True] * 3, [False] * 3, [False] * 3]
        buckets = BucketRows.of(ids, np.array([1.0, 1.0, np.inf, np.inf]), 2)
        assert histogram_quantiles(odd, valid, buckets, np.ones(3)).values.tolist() == [[1.0] * 3] * 2
