"""What flows through the engine: results over a step axis.

A Frame is an instant vector at every step: label sets, a float64 [series x steps] matrix and a validity
mask ("no sample" is not NaN). A ScalarSeries is a scalar at every step. Everything in the engine maps
these to these; nothing here knows where samples come from or how answers are printed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from filoray.nodes.data.label_table import LabelTable

FloatMatrix = NDArray[np.float64]
BoolMatrix = NDArray[np.bool_]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class TimeGrid:
    """Evaluation times ``start_ms + i * step_ms`` for i in 0..count-1; ``step_ms`` > 0. An instant query has one."""

    start_ms: int
    step_ms: int
    count: int

    @property
    def end_ms(self) -> int:
        """The last evaluation time."""
        return self.start_ms + self.step_ms * (self.count - 1)

    def times_ms(self) -> NDArray[np.int64]:
        return self.start_ms + self.step_ms * np.arange(self.count, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Frame:
    """Series over a step axis.

    ``values`` float64[n, steps] and ``valid`` bool[n, steps]: what is not valid is no sample, whatever
    its value says. ``drop_name`` bool[n]: the metric name is to be removed, at once or at the end
    of the query (see ``metric_names``); until then it can still be seen.
    Row order is the vector's order.
    """

    labels: LabelTable
    values: FloatMatrix
    valid: BoolMatrix
    drop_name: BoolArray

    @property
    def series_count(self) -> int:
        return self.labels.count

    @property
    def step_count(self) -> int:
        return int(self.values.shape[1])

    @classmethod
    def empty(cls, step_count: int) -> Frame:
        return cls(
            LabelTable.empty_sets(0),
            np.empty((0, step_count)),
            np.empty((0, step_count), np.bool_),
            np.empty(0, np.bool_),
        )

    def take(self, rows: NDArray[np.integer] | BoolArray) -> Frame:
        """The rows of an index array or a mask."""
        return Frame(self.labels.take(rows), self.values[rows], self.valid[rows], self.drop_name[rows])

    def without_empty_series(self) -> Frame:
        """The series that have a sample at any step."""
        rows: BoolArray = np.logical_or.reduce(self.valid, axis=1)
        return self if rows.all() else self.take(rows)

    @classmethod
    def concat(cls, frames: list[Frame]) -> Frame:
        """Series of several frames of one step axis, stacked. At least one frame."""
        if len(frames) == 1:
            return frames[0]
        return cls(
            LabelTable.concat([frame.labels for frame in frames]),
            np.concatenate([frame.values for frame in frames]),
            np.concatenate([frame.valid for frame in frames]),
            np.concatenate([frame.drop_name for frame in frames]),
        )


@dataclass(frozen=True, slots=True)
class ScalarSeries:
    """A scalar at every step: float64[steps]."""

    values: NDArray[np.float64]


def scalar_frame(values: NDArray[np.float64]) -> Frame:
    """One series without labels."""
    shape = (1, len(values))
    return Frame(LabelTable.empty_sets(1), values.reshape(shape), np.ones(shape, np.bool_), np.zeros(1, np.bool_))
