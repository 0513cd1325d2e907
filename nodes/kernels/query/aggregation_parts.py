"""What the kernels of aggregations take and fill in: rows in groups, and figures of groups that can be merged."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from filoray.nodes.kernels.arrays import Bools, Floats, Ints, bools, floats, ints
from filoray.nodes.kernels.query.signatures import (
    BOOL_MATRIX,
    FLOAT_MATRIX,
    INTS,
    OUT_BOOL_MATRIX,
    OUT_FLOAT_MATRIX,
)
from filoray.nodes.kernels.record_type import record_type


class GroupedRows(NamedTuple):
    """The rows of a Frame, each in a group.

    values     float64[n, steps]
    valid      bool[n, steps]
    group_ids  int64[n]
    """

    values: Floats
    valid: Bools
    group_ids: Ints

    @classmethod
    def of(cls, values: Floats, valid: Bools, group_ids: Ints) -> GroupedRows:
        """In the form that kernels take: what does not fit is copied."""
        return cls(floats(values), bools(valid), ints(group_ids))


GROUPED_ROWS = record_type(GroupedRows, FLOAT_MATRIX, BOOL_MATRIX, INTS)


class SumPart(NamedTuple):
    """Compensated sums: the value is ``high + low``. All float64[groups, steps]."""

    high: Floats
    low: Floats
    counts: Floats

    @classmethod
    def zeros(cls, group_count: int, steps: int) -> SumPart:
        """Of no samples, to be filled."""
        return cls(*[np.zeros((group_count, steps)) for _ in range(3)])

    @property
    def valid(self) -> Bools:
        return self.counts > 0

    def result(self) -> Floats:
        """The sums."""
        with np.errstate(invalid="ignore"):
            return np.where(np.isinf(self.high), self.high, self.high + self.low)


SUM_PART = record_type(SumPart, *[FLOAT_MATRIX] * 3)
OUT_SUM_PART = record_type(SumPart, *[OUT_FLOAT_MATRIX] * 3)


class MeanPart(NamedTuple):
    """Means: ``high + low`` is the sum, or the mean itself where the sum overflowed.

    high, low, counts  float64[groups, steps]
    incremental        bool[groups, steps]     it overflowed
    """

    high: Floats
    low: Floats
    counts: Floats
    incremental: Bools

    @classmethod
    def zeros(cls, group_count: int, steps: int) -> MeanPart:
        """Of no samples, to be filled."""
        return cls(*SumPart.zeros(group_count, steps), np.zeros((group_count, steps), np.bool_))

    @property
    def valid(self) -> Bools:
        return self.counts > 0

    def result(self) -> Floats:
        """The means."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(self.incremental, self.high + self.low, self.high / self.counts + self.low / self.counts)


MEAN_PART = record_type(MeanPart, *[FLOAT_MATRIX] * 3, BOOL_MATRIX)
OUT_MEAN_PART = record_type(MeanPart, *[OUT_FLOAT_MATRIX] * 3, OUT_BOOL_MATRIX)


class VariancePart(NamedTuple):
    """Counts, means and sums of squared distances from the mean, both compensated. All float64[groups, steps]."""

    counts: Floats
    mean: Floats
    mean_low: Floats
    squares: Floats
    squares_low: Floats

    @classmethod
    def zeros(cls, group_count: int, steps: int) -> VariancePart:
        """Of no samples, to be filled."""
        return cls(*[np.zeros((group_count, steps)) for _ in range(5)])

    @property
    def valid(self) -> Bools:
        return self.counts > 0

    def variance(self) -> Floats:
        """stdvar(); its square root is stddev()."""
        with np.errstate(invalid="ignore", divide="ignore"):
            squares = np.where(np.isinf(self.squares), self.squares, self.squares + self.squares_low)
            return squares / self.counts

    def deviation(self) -> Floats:
        with np.errstate(invalid="ignore"):
            return np.sqrt(self.variance())


VARIANCE_PART = record_type(VariancePart, *[FLOAT_MATRIX] * 5)
OUT_VARIANCE_PART = record_type(VariancePart, *[OUT_FLOAT_MATRIX] * 5)


class ExtremePart(NamedTuple):
    """``values`` float64[groups, steps] where ``valid`` bool[groups, steps]."""

    values: Floats
    valid: Bools


OUT_EXTREME_PART = record_type(ExtremePart, OUT_FLOAT_MATRIX, OUT_BOOL_MATRIX)
