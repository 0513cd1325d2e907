"""Range functions against plain twins that look at each window by itself, sample by sample, as Prometheus does."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from range_functions import RANGE_FUNCTIONS

from filoray.nodes.data.frame import TimeGrid
from filoray.nodes.data.label_table import LabelTable
from filoray.nodes.data.series_batch import STALE_NAN_BITS, SeriesBatch
from filoray.nodes.engine.functions.range_functions import RangeContext, apply_range_function
from filoray.nodes.engine.functions.range_kernels import range_seconds

STALE = float(np.array([STALE_NAN_BITS], np.int64).view(np.float64)[0])
Sample = tuple[int, float]
Window = list[Sample]


def divide(a: float, b: float) -> float:
    with np.errstate(all="ignore"):
        return float(np.float64(a) / np.float64(b))


def is_stale(value: float) -> bool:
    return int(np.array([value]).view(np.int64)[0]) == STALE_NAN_BITS


# ---- twins


def kahan(term: float, total: float, error: float) -> tuple[float, float]:
    new = total + term
    if math.isinf(new):
        return new, 0.0
    if abs(total) >= abs(term):
        return new, error + ((total - new) + term)
    return new, error + ((term - new) + total)


def twin_sum(window: Window) -> float:
    total = error = 0.0
    for _, value in window:
        total, error = kahan(value, total, error)
    return total if math.isinf(total) else total + error


def twin_avg(window: Window) -> float:
    total, error, mean, incremental, count = window[0][1], 0.0, 0.0, False, 1.0
    for i, (_, value) in enumerate(window[1:]):
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


def twin_variance(window: Window) -> float:
    count = mean = mean_error = squares = squares_error = 0.0
    for _, value in window:
        count += 1
        delta = value - (mean + mean_error)
        mean, mean_error = kahan(delta / count, mean, mean_error)
        squares, squares_error = kahan(delta * (value - (mean + mean_error)), squares, squares_error)
    return (squares + squares_error) / count


def twin_deviation(window: Window) -> float:
    variance = twin_variance(window)
    return math.nan if math.isnan(variance) or variance < 0 else math.sqrt(variance)


def extreme(window: Window, better: Callable[[float, float], bool]) -> Sample:
    best = window[0]
    for sample in window:
        if better(sample[1], best[1]) or math.isnan(best[1]):
            best = sample
    return best


def twin_quantile(values: Sequence[float], quantile: float) -> float:
    if math.isnan(quantile):
        return math.nan
    if quantile < 0:
        return -math.inf
    if quantile > 1:
        return math.inf
    ordered = sorted(values, key=lambda value: (not math.isnan(value), value))
    rank = quantile * (len(ordered) - 1)
    lower = max(0, math.floor(rank))
    upper = min(len(ordered) - 1, lower + 1)
    weight = rank - math.floor(rank)
    return ordered[lower] * (1 - weight) + ordered[upper] * weight


def twin_mad(window: Window) -> float:
    values = [value for _, value in window]
    if len(values) % 2 == 0 and any(math.isnan(value) for value in values):
        return math.nan
    median = twin_quantile(values, 0.5)
    return twin_quantile([abs(value - median) for value in values], 0.5)


def twin_transitions(window: Window, differs: Callable[[float, float], bool]) -> float:
    return float(sum(differs(a, b) for (_, a), (_, b) in itertools.pairwise(window)))


def changed(a: float, b: float) -> bool:
    return a != b and not (math.isnan(a) and math.isnan(b))


def twin_rate(window: Window, start: int, end: int, is_counter: bool, divisor: float) -> float | None:
    if len(window) < 2:
        return None
    first_value = window[0][1]
    increase = window[-1][1] - first_value
    if is_counter:
        for (_, previous), (_, current) in itertools.pairwise(window):
            if current < previous:
                increase += previous
    to_start = (window[0][0] - start) / 1000
    to_end = (end - window[-1][0]) / 1000
    sampled = (window[-1][0] - window[0][0]) / 1000
    interval = sampled / (len(window) - 1)
    if to_start >= interval * 1.1:
        to_start = interval / 2
    if is_counter and increase > 0 and first_value >= 0:
        to_start = min(to_start, sampled * (first_value / increase))
    if to_end >= interval * 1.1:
        to_end = interval / 2
    return increase * (((sampled + to_start + to_end) / sampled) / divisor)


def twin_last_difference(window: Window, is_rate: bool) -> float | None:
    if len(window) < 2:
        return None
    (before_ms, before), (last_ms, last) = window[-2:]
    result = last if is_rate and last < before else last - before
    return result / ((last_ms - before_ms) / 1000) if is_rate else result


def twin_line(window: Window, origin_ms: int) -> tuple[float, float]:
    sums = [(0.0, 0.0)] * 4
    for time, y in window:
        x = (time - origin_ms) / 1e3
        sums = [kahan(term, *pair) for term, pair in zip((x, y, x * y, x * x), sums, strict=True)]
    first = window[0][1]
    if all(value == first for _, value in window[1:]):
        return (math.nan, math.nan) if math.isinf(first) else (0.0, first)
    n = float(len(window))
    x, y, xy, xx = (total + error for total, error in sums)
    slope = divide(xy - x * y / n, xx - x * x / n)
    return slope, y / n - slope * x / n


def twin_smoothing(window: Window, sf: float, tf: float) -> float | None:
    if len(window) < 2:
        return None
    before, level, trend = 0.0, window[0][1], window[1][1] - window[0][1]
    for i in range(1, len(window)):
        if i > 1:
            trend = tf * (level - before) + (1 - tf) * trend
        before, level = level, sf * window[i][1] + (1 - sf) * (level + trend)
    return level


def twin(name: str, window: Window, start: int, end: int, eval_ms: int, params: Sequence[float]) -> float | None:
    """The value of one window, None for no sample."""
    seconds = range_seconds(end - start)
    needs_two = {
        "rate": lambda: twin_rate(window, start, end, True, seconds),
        "increase": lambda: twin_rate(window, start, end, True, 1.0),
        "delta": lambda: twin_rate(window, start, end, False, 1.0),
        "irate": lambda: twin_last_difference(window, True),
        "idelta": lambda: twin_last_difference(window, False),
        "deriv": lambda: twin_line(window, window[0][0])[0] if len(window) > 1 else None,
        "double_exponential_smoothing": lambda: twin_smoothing(window, *params),
    }
    if name in needs_two:
        return needs_two[name]()
    if name == "predict_linear":
        if len(window) < 2:
            return None
        slope, intercept = twin_line(window, eval_ms)
        return slope * params[0] + intercept
    if not window:
        return None
    return {
        "changes": lambda: twin_transitions(window, changed),
        "resets": lambda: twin_transitions(window, lambda a, b: b < a),
        "sum_over_time": lambda: twin_sum(window),
        "avg_over_time": lambda: twin_avg(window),
        "stddev_over_time": lambda: twin_deviation(window),
        "stdvar_over_time": lambda: twin_variance(window),
        "min_over_time": lambda: extreme(window, lambda a, b: a < b)[1],
        "max_over_time": lambda: extreme(window, lambda a, b: a > b)[1],
        "ts_of_min_over_time": lambda: extreme(window, lambda a, b: a <= b)[0] / 1000,
        "ts_of_max_over_time": lambda: extreme(window, lambda a, b: a >= b)[0] / 1000,
        "count_over_time": lambda: float(len(window)),
        "present_over_time": lambda: 1.0,
        "first_over_time": lambda: window[0][1],
        "last_over_time": lambda: window[-1][1],
        "ts_of_first_over_time": lambda: window[0][0] / 1000,
        "ts_of_last_over_time": lambda: window[-1][0] / 1000,
        "quantile_over_time": lambda: twin_quantile([value for _, value in window], params[0]),
        "mad_over_time": lambda: twin_mad(window),
    }[name]()


def interpolate(left: Sample, right: Sample, time: int, is_counter: bool) -> float:
    y = 0.0 if is_counter and right[1] < left[1] else left[1]
    return y + (right[1] - y) * (time - left[0]) / (right[0] - left[0])


def twin_extended(
    samples: Window, start: int, end: int, lookback: int, smoothed: bool, is_counter: bool, divisor: float
) -> float | None:
    """rate, increase, delta of an anchored or smoothed range."""
    limit = end + lookback if smoothed else end
    seen = [sample for sample in samples if start - lookback < sample[0] <= limit]
    if not any(start < time for time, _ in seen):
        return None
    before = [sample for sample in seen if sample[0] <= start]
    inside = [sample for sample in seen if start < sample[0] < end]
    behind = [sample for sample in seen if sample[0] >= end]
    after_start = [sample for sample in seen if sample[0] > start]
    if smoothed and not before and after_start[0][0] > end:
        return None
    left = (before or after_start)[-1 if before else 0][1]
    if smoothed and before and before[-1][0] < start:
        left = interpolate(before[-1], after_start[0], start, is_counter)
    right = (behind or seen)[0 if behind else -1][1]
    if smoothed and behind and behind[0][0] > end:
        at = seen.index(behind[0])
        if at > 0:
            right = interpolate(seen[at - 1], behind[0], end, is_counter)
    result = right - left
    if is_counter:
        previous, correction = left, 0.0
        for _, value in inside:
            if value < previous:
                correction += previous
            previous = value
        if right < previous:
            correction += previous
        result += correction
    return divide(result, divisor)


# ---- data: times on a lattice of 500 ms, so that samples often lie exactly on the borders of windows

LATTICE_MS = 500
PLAIN = (0.0, 1.0, 2.0, 3.0, 7.25, 0.1, 1e-3, 1e6, -4.5)
ODD = (math.nan, math.nan, math.inf, -math.inf, STALE, STALE, 1.7e308, -1.7e308, 1e100, -1e100, 5e-324, -0.0)


def series_of(seed: int) -> Window:
    """A series by seed: short or long, dense or with gaps, tame or odd, rising or not."""
    generator = np.random.default_rng(seed)
    length = int(generator.choice([0, 1, 2, 12, 40, 70, 100]))
    oddness = generator.choice([0.0, 0.1, 0.3, 0.5])
    rising = generator.random() < 0.4
    time = int(generator.integers(-40, 20)) * LATTICE_MS
    samples: Window = []
    for _ in range(length):
        time += LATTICE_MS * int(generator.choice([1, 1, 1, 1, 1, 1, 2, 2, 3, 15])) + int(
            generator.choice([0, 0, 0, 0, 1])
        )
        value = float(generator.normal(0, 30)) if generator.random() < 0.5 else float(generator.choice(PLAIN))
        if rising:
            value = (samples[-1][1] if samples and generator.random() < 0.9 else 0.0) + abs(value)
        samples.append((time, float(generator.choice(ODD)) if generator.random() < oddness else value))
    return samples


def on_lattice(low: int, high: int) -> st.SearchStrategy[int]:
    return st.integers(low, high).map(lambda units: units * LATTICE_MS) | st.integers(
        low * LATTICE_MS, high * LATTICE_MS
    )


batches = st.lists(st.integers(0, 2**32).map(series_of), max_size=3)
grids = st.builds(TimeGrid, on_lattice(-40, 40), st.just(LATTICE_MS) | on_lattice(1, 8), st.integers(1, 25))
ranges = on_lattice(1, 40)


def batch_of(all_series: list[Window]) -> SeriesBatch:
    return SeriesBatch(
        LabelTable.empty_sets(len(all_series)),
        np.cumsum([0] + [len(samples) for samples in all_series]).astype(np.int64),
        np.array([time for samples in all_series for time, _ in samples], np.int64),
        np.array([value for samples in all_series for _, value in samples], np.float64),
    )


def same(expected: float | None, value: float, valid: bool) -> bool:
    if expected is None or not valid:
        return expected is None and not valid
    return value == expected or (math.isnan(value) and math.isnan(expected))


@pytest.mark.parametrize("name", sorted(RANGE_FUNCTIONS))
@given(data=st.data())
@settings(max_examples=80, deadline=None)
def test_each_window_gives_what_it_would_give_alone(name: str, data: st.DataObject) -> None:
    all_series, grid = data.draw(batches), data.draw(grids)
    range_ms, offset_ms = data.draw(ranges), data.draw(on_lattice(-8, 8))
    at_ms = data.draw(st.none() | on_lattice(-20, 60))
    factors = st.floats(0.01, 0.99) if name == "double_exponential_smoothing" else st.floats(-0.2, 1.2)
    count = RANGE_FUNCTIONS[name].param_count
    params = [data.draw(st.lists(factors, min_size=grid.count, max_size=grid.count)) for _ in range(count)]

    arrays = [np.array(param, np.float64) for param in params]
    result = apply_range_function(
        RANGE_FUNCTIONS[name], batch_of(all_series), grid, range_ms, offset_ms, arrays, RangeContext(at_ms=at_ms)
    )

    samples_per_step = [0] * grid.count
    for row, samples in enumerate(all_series):
        for k in range(grid.count):
            eval_ms = grid.start_ms + k * grid.step_ms
            end = (eval_ms if at_ms is None else at_ms) - offset_ms
            window = [(t, v) for t, v in samples if end - range_ms < t <= end and not is_stale(v)]
            samples_per_step[k] += len(window)
            expected = twin(name, window, end - range_ms, end, eval_ms, [param[k] for param in params])
            value, valid = float(result.frame.values[row, k]), bool(result.frame.valid[row, k])
            assert same(expected, value, valid), (row, k, window, expected, value, valid)
    assert result.samples_per_step.tolist() == samples_per_step
    assert (result.frame.drop_name != (name in ("first_over_time", "last_over_time"))).all()


@pytest.mark.parametrize("name", ["rate", "increase", "delta"])
@pytest.mark.parametrize("smoothed", [False, True])
@given(all_series=batches, grid=grids, range_ms=ranges, lookback_ms=ranges)
@settings(max_examples=150, deadline=None)
def test_extended_ranges_anchor_or_interpolate_at_their_borders(
    name: str, smoothed: bool, all_series: list[Window], grid: TimeGrid, range_ms: int, lookback_ms: int
) -> None:
    context = RangeContext(anchored=not smoothed, smoothed=smoothed, lookback_ms=lookback_ms)
    frame = apply_range_function(RANGE_FUNCTIONS[name], batch_of(all_series), grid, range_ms, 0, (), context).frame
    divisor = range_seconds(range_ms) if name == "rate" else 1.0
    for row, samples in enumerate(all_series):
        fresh = [sample for sample in samples if not is_stale(sample[1])]
        for k, end in enumerate(grid.times_ms().tolist()):
            expected = twin_extended(fresh, end - range_ms, end, lookback_ms, smoothed, name != "delta", divisor)
            assert same(expected, float(frame.values[row, k]), bool(frame.valid[row, k])), (row, k, expected)


@pytest.mark.parametrize("name", ["changes", "resets"])
@given(all_series=batches, grid=grids, range_ms=ranges, lookback_ms=ranges)
@settings(max_examples=100, deadline=None)
def test_anchored_transitions_start_from_the_sample_before_the_window(
    name: str, all_series: list[Window], grid: TimeGrid, range_ms: int, lookback_ms: int
) -> None:
    context = RangeContext(anchored=True, lookback_ms=lookback_ms)
    frame = apply_range_function(RANGE_FUNCTIONS[name], batch_of(all_series), grid, range_ms, 0, (), context).frame
    for row, samples in enumerate(all_series):
        fresh = [sample for sample in samples if not is_stale(sample[1])]
        for k, end in enumerate(grid.times_ms().tolist()):
            start = end - range_ms
            window = [sample for sample in fresh if start < sample[0] <= end]
            before = [sample for sample in fresh if start - lookback_ms < sample[0] <= start]
            expected = twin(name, before[-1:] + window, start, end, end, ()) if window else None
            assert same(expected, float(frame.values[row, k]), bool(frame.valid[row, k])), (row, k, expected)


@pytest.mark.parametrize("oddities", [(), (math.nan,), (math.nan, math.inf, 1.7e308), (STALE, math.nan)])
def test_a_result_does_not_depend_on_the_grid_it_was_asked_on(oddities: tuple[float, ...]) -> None:
    generator = np.random.default_rng(7)
    values = generator.normal(1e6, 1.0, 200)
    for oddity in oddities:
        values[generator.random(200) < 0.06] = oddity
    batch = batch_of([[(1000 * i, float(value)) for i, value in enumerate(values)]])
    grid = TimeGrid(10_000, 700, 290)
    for name, function in RANGE_FUNCTIONS.items():
        params = [np.full(grid.count, 0.3)] * function.param_count
        whole = apply_range_function(function, batch, grid, 15_000, 0, params).frame
        for k in range(0, grid.count, 7):
            alone_grid = TimeGrid(grid.start_ms + k * grid.step_ms, 1, 1)
            alone = apply_range_function(function, batch, alone_grid, 15_000, 0, [param[:1] for param in params]).frame
            np.testing.assert_equal(alone.values[0, 0], whole.values[0, k], name)
            assert alone.valid[0, 0] == whole.valid[0, k], name
