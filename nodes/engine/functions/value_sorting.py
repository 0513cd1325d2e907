"""sort() and sort_desc(): only instant queries have an order to change."""

from __future__ import annotations

import numpy as np

from filoray.nodes.data.frame import TimeGrid
from filoray.nodes.engine.annotations import AnnotationKind
from filoray.nodes.engine.functions.evaluation import Evaluation, Handler, Value
from filoray.nodes.promql.ast import Call


def warn_of_range_sort(evaluation: Evaluation, call: Call) -> None:
    evaluation.annotations.add(AnnotationKind.INEFFECTIVE_SORT, position=call.position)


def sort_by_value(*, descending: bool) -> Handler:
    def handler(evaluation: Evaluation, call: Call, grid: TimeGrid) -> Value:
        frame = evaluation.vector(call.args[0], grid)
        if evaluation.is_range:
            warn_of_range_sort(evaluation, call)
            return frame
        frame = frame.take(frame.labels.sorted_rows())
        values = frame.values[:, 0]
        is_nan = np.isnan(values)
        keys = np.where(is_nan, 0.0, -values if descending else values)
        return frame.take(np.lexsort((keys, is_nan)))

    return handler
