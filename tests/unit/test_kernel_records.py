"""Records (named tuples of arrays) as arguments of kernels."""

from __future__ import annotations

import numpy as np
import pytest

from filoray.nodes.kernels.storage.point_lookup import Points, find_wanted_runs
from filoray.nodes.kernels.storage.samples import CountedSamples, join_samples

TIMES = np.array([1, 5, 9])
ENDS = np.array([3])


def read_only(array: np.ndarray) -> np.ndarray:
    """As a view of received bytes is."""
    return np.frombuffer(array.tobytes(), array.dtype)


@pytest.mark.parametrize(
    "points",
    [
        Points(np.zeros(1, np.int64), ENDS, TIMES),
        Points(read_only(np.zeros(1, np.int64)), read_only(ENDS), read_only(TIMES)),
        Points(np.zeros(1, np.int64), read_only(ENDS), TIMES),
    ],
    ids=["writable", "read-only", "some of each"],
)
def test_a_record_to_read_may_have_read_only_and_writable_columns(points: Points) -> None:
    is_wanted = np.zeros(1, np.uint8)
    find_wanted_runs(np.array([4]), np.array([6]), points, is_wanted)
    assert is_wanted.tolist() == [1]


@pytest.mark.parametrize(
    "joined",
    [
        CountedSamples(np.array([2]), read_only(np.zeros(2, np.int64)), np.zeros(2)),
        CountedSamples(np.array([2]), np.zeros(2, np.int32), np.zeros(2)),
        CountedSamples(np.array([2]), np.zeros(4, np.int64)[::2], np.zeros(2)),
        Points(np.array([2]), np.zeros(2, np.int64), np.zeros(2, np.int64)),
        (np.array([2]), np.zeros(2, np.int64), np.zeros(2)),
    ],
    ids=["read-only where it is written", "another dtype", "strided", "another record", "a plain tuple"],
)
def test_what_a_kernel_was_not_compiled_for_is_refused(joined: object) -> None:
    one = CountedSamples(np.array([1]), np.array([7]), np.array([0.5]))
    with pytest.raises(TypeError, match="No matching definition"):
        join_samples(one, one, joined)
