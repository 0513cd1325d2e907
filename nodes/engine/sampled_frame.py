"""A Frame that was made of samples, with how many there were of them: what selectors and range functions give."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from filoray.nodes.data.frame import BoolArray, BoolMatrix, FloatMatrix, Frame
from filoray.nodes.data.label_table import LabelTable


@dataclass(frozen=True, slots=True)
class SampledFrame:
    """``samples_per_step`` int64[steps]: the samples that each step looked at, Prometheus's queryable samples."""

    frame: Frame
    samples_per_step: NDArray[np.int64]

    @property
    def samples(self) -> int:
        return int(self.samples_per_step.sum())


@dataclass(frozen=True, slots=True)
class SampledColumns:
    """Room for the results of a kernel: [series, steps], of one step if all steps are alike (``@``)."""

    values: FloatMatrix
    valid: BoolMatrix
    samples_per_step: NDArray[np.int64]

    @classmethod
    def empty(cls, series: int, steps: int) -> SampledColumns:
        return cls(np.empty((series, steps)), np.empty((series, steps), np.bool_), np.zeros(steps, np.int64))

    @property
    def step_count(self) -> int:
        return len(self.samples_per_step)

    def sampled(self, labels: LabelTable, drop_name: BoolArray, step_count: int) -> SampledFrame:
        """With the one step at each of ``step_count``, if there is one only. Series without a sample are kept."""
        values, valid, samples_per_step = self.values, self.valid, self.samples_per_step
        if self.step_count != step_count:
            values, valid = np.repeat(values, step_count, axis=1), np.repeat(valid, step_count, axis=1)
            samples_per_step = np.repeat(samples_per_step, step_count)
        return SampledFrame(Frame(labels, values, valid, drop_name), samples_per_step)
