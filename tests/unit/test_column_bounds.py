"""What a write's columns are looked over for, against numpy."""

from __future__ import annotations

import numpy as np
import pytest

from filoray.nodes.kernels.storage.column_bounds import LOG_BOUNDS, log_bounds, newest_of, total_count

LEAST = np.iinfo(np.int64).min


@pytest.mark.parametrize(
    ("counts", "total"),
    [([], 0), ([1], 1), ([0, 3, 2], 5), ([2**31 - 1] * 3, 3 * (2**31 - 1)), ([-1], -1), ([1, -2, 9], -1)],
)
def test_counts_are_added_up_unless_one_is_negative(counts: list[int], total: int) -> None:
    assert total_count(np.array(counts, np.int32)) == total


@pytest.mark.parametrize(
    ("partitions", "newest"),
    [([], LEAST), ([-1, -1], LEAST), ([0], 70), ([2, 0], 70), ([-1, 1], LEAST), ([1, 2], -5)],
)
def test_the_newest_of_partitions_passes_over_what_is_no_partition(partitions: list[int], newest: int) -> None:
    assert newest_of(np.array(partitions, np.int32), np.array([70, LEAST, -5])) == newest


@pytest.mark.parametrize("sizes", [(1, 1), (7, 7), (3, 9)])
def test_the_bounds_of_a_log_record_are_those_of_its_columns(sizes: tuple[int, int]) -> None:
    series, samples = sizes
    random = np.random.default_rng(samples)
    times, ids = random.integers(-(2**62), 2**62, samples), random.integers(0, 2**62, series)
    counts = np.full(series, samples // series, np.int32)
    bounds = np.empty(LOG_BOUNDS, np.int64)
    log_bounds(times, ids, counts, bounds)
    assert bounds.tolist() == [times.min(), times.max(), ids.min(), ids.max(), int(series == samples)]
