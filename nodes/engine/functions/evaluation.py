"""What a function of PromQL may ask of the evaluation that it is called in, and what it gives back.

The evaluator is what there is of it; functions know no more of the evaluator than this.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from filoray.nodes.data.cancel_token import CancelToken
from filoray.nodes.data.frame import Frame, ScalarSeries, TimeGrid
from filoray.nodes.data.series_batch import SeriesBatch
from filoray.nodes.engine.annotations import Annotations
from filoray.nodes.engine.functions.range_functions import RangeFunction
from filoray.nodes.engine.query_params import EvalLimits
from filoray.nodes.engine.sampled_frame import SampledFrame
from filoray.nodes.promql.ast import Call, Expr, MatrixSelector, Subquery, VectorSelector

Value = Frame | ScalarSeries | SeriesBatch | str
"""Of an expression at every time of a grid."""


class Evaluation(Protocol):
    """``is_range``: of the query. ``delayed_names``: marked names are still there until the end of the query."""

    limits: EvalLimits
    cancel: CancelToken
    annotations: Annotations
    is_range: bool
    delayed_names: bool
    made_label_bytes: int
    """Of the label values that this evaluation made of others, all in all."""

    def evaluate(self, expr: Expr, grid: TimeGrid) -> Value: ...

    def vector(self, expr: Expr, grid: TimeGrid) -> Frame: ...

    def with_marked_names(self, expr: Expr, grid: TimeGrid) -> Frame:
        """A vector whose names are still there, whatever is configured."""
        ...

    def scalar(self, expr: Expr, grid: TimeGrid) -> ScalarSeries: ...

    def string(self, expr: Expr) -> str: ...

    def range_function(
        self,
        function: RangeFunction,
        argument: MatrixSelector | Subquery,
        params: Sequence[NDArray[np.float64]],
        grid: TimeGrid,
    ) -> SampledFrame:
        """A function over the windows of each step: the series with a result, and how many samples each step saw."""
        ...

    def sample_times(self, selector: VectorSelector, grid: TimeGrid) -> Frame:
        """In seconds, of the samples that the selector has at each step."""
        ...

    def hold(self, samples: int) -> None:
        """So many samples are held for a moment, beside those that wait to be used."""
        ...


Handler = Callable[[Evaluation, Call, TimeGrid], Value]
"""Evaluates a call at every time of the grid."""
