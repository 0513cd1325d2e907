"""Codes of a large table as codes of those that occur, by a table or by sorting, as numpy has them."""

from __future__ import annotations

import numpy as np
import pytest

from filoray.nodes.kernels.storage.dense_codes import compacted


@pytest.mark.parametrize("largest", [0, 3, 1_000, 2**31 - 2])
@pytest.mark.parametrize("count", [0, 1, 2, 50, 999])
@pytest.mark.parametrize("least", [-1, 0])
def test_codes_are_numbered_in_their_order_and_what_is_absent_stays_so(largest: int, count: int, least: int) -> None:
    codes = np.random.default_rng(count).integers(least, largest, count, dtype=np.int32, endpoint=True)
    used, dense = compacted(codes)
    expected = np.unique(codes[codes >= 0])
    assert used.tolist() == expected.tolist()
    assert dense.tolist() == np.where(codes < 0, -1, np.searchsorted(expected, codes)).tolist()
    assert dense.dtype == used.dtype == np.int32
