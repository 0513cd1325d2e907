"""A Frame that was made of samples, with how many there were of them: what selectors and range functions give."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from filoray.nodes.data.frame import BoolArray, Frame
from filoray.nodes.data.label_table import LabelTable
from filoray.nodes.kernels.query.records import Results


@dataclass(frozen=True, slots=True)
class SampledFrame:
    """``samples_per_step`` int64[steps]: the samples that each step looked at, Prometheus's queryable samples."""

    frame: Frame
    samples_per_step: NDArray[np.int64]

    @property
    def samples(self) -> int:
        return int(self.samples_per_step.sum())


def sampled(results: Results, labels: LabelTable, drop_name: BoolArray, step_count: int) -> SampledFrame:
    """What a kernel filled in, of one step if all steps are alike (``@``): with that one at each of ``step_count``.

    Series without a sample are kept.
    """
    values, valid, samples_per_step = results.values, results.valid, results.samples_per_step
    if len(samples_per_step) != step_count:
        values, valid = np.repeat(values, step_count, axis=1), np.repeat(valid, step_count, axis=1)
        samples_per_step = np.repeat(samples_per_step, step_count)
    return SampledFrame(Frame(labels, values, valid, drop_name), samples_per_step)
