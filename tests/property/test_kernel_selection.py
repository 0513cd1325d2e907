"""Instant selectors against a plain search for the newest sample."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filoray.nodes.data.frame import TimeGrid
from filoray.nodes.data.label_table import LabelTable
from filoray.nodes.data.series_batch import STALE_NAN_BITS, SeriesBatch
from filoray.nodes.engine.evaluate.selection import select_samples
from filoray.nodes.kernels.query import records
from filoray.nodes.kernels.query.windows import without_stale_markers

STALE = float(np.array([STALE_NAN_BITS], np.int64).view(np.float64)[0])
Samples = list[tuple[int, float]]

values = st.one_of(st.floats(-10, 10), st.sampled_from([math.nan, math.inf, STALE, STALE]))
# Times are small numbers, so that samples often lie exactly on a step or a lookback away from it.
grids = st.builds(TimeGrid, st.integers(-10, 40), st.integers(1, 9), st.integers(1, 15))


@st.composite
def series(draw: st.DrawFn) -> Samples:
    times = sorted(draw(st.sets(st.integers(-20, 80), max_size=25)))
    return [(time, draw(values)) for time in times]


def is_stale(value: float) -> bool:
    return int(np.array([value]).view(np.int64)[0]) == STALE_NAN_BITS


def batch_of(all_series: list[Samples]) -> SeriesBatch:
    return SeriesBatch(
        LabelTable.empty_sets(len(all_series)),
        np.cumsum([0] + [len(samples) for samples in all_series]).astype(np.int64),
        np.array([time for samples in all_series for time, _ in samples], np.int64),
        np.array([value for samples in all_series for _, value in samples], np.float64),
    )


@given(
    all_series=st.lists(series(), max_size=4),
    grid=grids,
    lookback_ms=st.integers(1, 20),
    offset_ms=st.integers(-10, 10),
    at_ms=st.none() | st.integers(-20, 80),
)
@settings(max_examples=300, deadline=None)
def test_the_newest_sample_within_the_lookback_is_seen_unless_it_is_a_marker(
    all_series: list[Samples], grid: TimeGrid, lookback_ms: int, offset_ms: int, at_ms: int | None
) -> None:
    batch = batch_of(all_series)
    found = select_samples(batch, grid, lookback_ms, offset_ms, at_ms=at_ms)
    times = select_samples(batch, grid, lookback_ms, offset_ms, at_ms=at_ms, want_times=True)
    expected_samples = [0] * grid.count
    for row, samples in enumerate(all_series):
        for k, step_ms in enumerate(grid.times_ms().tolist()):
            end = (step_ms if at_ms is None else at_ms) - offset_ms
            newest = max(((t, v) for t, v in samples if end - lookback_ms < t <= end), default=None, key=lambda s: s[0])
            expected = newest is not None and not is_stale(newest[1])
            assert found.frame.valid[row, k] == times.frame.valid[row, k] == expected
            if newest is not None and expected:
                np.testing.assert_equal(found.frame.values[row, k], newest[1])
                assert times.frame.values[row, k] == newest[0] / 1000
                expected_samples[k] += 1
    assert found.samples_per_step.tolist() == times.samples_per_step.tolist() == expected_samples
    assert not found.frame.drop_name.any()


@given(all_series=st.lists(series(), max_size=4), grid=grids, lookback_ms=st.integers(1, 20))
@settings(max_examples=200, deadline=None)
def test_smoothed_selectors_interpolate_between_neighbours(
    all_series: list[Samples], grid: TimeGrid, lookback_ms: int
) -> None:
    frame = select_samples(batch_of(all_series), grid, lookback_ms, smoothed=True).frame
    for row, samples in enumerate(all_series):
        fresh = [sample for sample in samples if not is_stale(sample[1])]
        for k, time in enumerate(grid.times_ms().tolist()):
            before = [sample for sample in fresh if time - lookback_ms < sample[0] <= time][-1:]
            after = [sample for sample in fresh if time < sample[0] <= time + lookback_ms][:1]
            assert frame.valid[row, k] == bool(before)
            if before:
                (start, left) = before[0]
                expected = left
                if after and start < time:
                    end, right = after[0]
                    expected = left + (right - left) * (time - start) / (end - start)
                np.testing.assert_equal(frame.values[row, k], expected)


@given(all_series=st.lists(series(), max_size=4))
@settings(deadline=None)
def test_taking_out_markers_leaves_all_else_as_it_was(all_series: list[Samples]) -> None:
    batch = batch_of(all_series)
    offsets, timestamps, kept = without_stale_markers(records.Samples.of(batch.offsets, batch.timestamps, batch.values))
    for row, samples in enumerate(all_series):
        part = slice(offsets[row], offsets[row + 1])
        expected = [sample for sample in samples if not is_stale(sample[1])]
        assert timestamps[part].tolist() == [time for time, _ in expected]
        np.testing.assert_equal(kept[part], [value for _, value in expected])


def test_a_sample_exactly_a_lookback_old_is_not_seen() -> None:
    batch = batch_of([[(0, 1.0)]])
    assert select_samples(batch, TimeGrid(0, 299_999, 3), 300_000, 0).frame.valid.tolist() == [[True, True, False]]
    assert select_samples(batch, TimeGrid(300_000, 1, 1), 300_000, 0).frame.valid.tolist() == [[False]]
    assert select_samples(batch, TimeGrid(10, 1, 1), 300_000, 0, want_times=True).frame.values.tolist() == [[0.0]]


def test_read_only_and_unaligned_views_are_taken_as_they_come() -> None:
    raw = b"x" + np.array([5, 6], np.int64).tobytes()
    timestamps = np.frombuffer(raw, np.int64, offset=1)
    sample_values = np.array([1.0, 2.0])
    sample_values.flags.writeable = False
    batch = SeriesBatch(LabelTable.empty_sets(1), np.array([0, 2]), timestamps, sample_values)
    assert not timestamps.flags.aligned
    assert select_samples(batch, TimeGrid(5, 1, 2), 10, 0).frame.values.tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize("smoothed", [False, True])
def test_a_set_flag_stops_before_the_first_series(smoothed: bool) -> None:
    result = select_samples(
        batch_of([[(0, 1.0)]]), TimeGrid(0, 1, 2), 10, smoothed=smoothed, cancelled=np.ones(1, np.uint8)
    )
    assert result.samples == 0
