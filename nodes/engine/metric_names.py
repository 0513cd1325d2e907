"""The metric name and its companions: which labels are reserved, and their removal.

Functions that change what a series means only mark it (``Frame.drop_name``). The evaluator then removes the marked
names at once, as Prometheus does, or, where ``filoray.query.delayed-name-removal`` says so, they go at the end of the
query, so that ``label_replace`` and ``by (__name__)`` can still see them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from filoray.cluster.errors import ExecutionError
from filoray.nodes.data.frame import Frame
from filoray.nodes.data.label_table import LabelTable
from filoray.nodes.data.matching import METRIC_NAME

METADATA_LABELS = (METRIC_NAME, "__type__", "__unit__")
"""Labels that describe the metric: they are dropped together."""

SAME_LABELSET = "vector cannot contain metrics with the same labelset"


def names_of(table: LabelTable) -> list[str]:
    """Metric name of each row, ``""`` where there is none."""
    column = table.columns.get(METRIC_NAME)
    if column is None:
        return [""] * table.count
    values = (*column.values, "")
    return [values[code] for code in column.codes.tolist()]


def distinct_names(table: LabelTable, rows: NDArray[np.bool_] | None = None) -> list[str]:
    """The metric names that occur in the rows of the mask (all rows without one), sorted, without ``""``."""
    column = table.columns.get(METRIC_NAME)
    if column is None:
        return []
    codes = column.codes if rows is None else column.codes[rows]
    return sorted(column.values[code] for code in np.flatnonzero(np.bincount(codes[codes >= 0])).tolist())


def with_names_removed(frame: Frame, *, at_any_step: bool = False) -> Frame:
    """Marked names go, and what then has the same labels becomes one series.

    Raises ExecutionError where two such series have a sample at the same step, or (``at_any_step``) at all.
    """
    labels = frame.labels
    for label in METADATA_LABELS:
        labels = labels.clear_where(label, frame.drop_name)
    cleaned = Frame(labels, frame.values, frame.valid, np.zeros(frame.series_count, np.bool_))
    # Where all go and all were the same, series differ as they did before.
    if frame.drop_name.all() and all(_is_the_same(frame.labels, label) for label in METADATA_LABELS):
        return cleaned
    return merged_by_labels(cleaned, at_any_step=at_any_step)


def _is_the_same(table: LabelTable, name: str) -> bool:
    column = table.columns.get(name)
    return column is None or not table.count or bool((column.codes == column.codes[0]).all())


def merged_by_labels(frame: Frame, *, at_any_step: bool = False) -> Frame:
    """Rows of the same labels become one, where they never have a sample at the same step; else ExecutionError.

    ``at_any_step``: there must be no such rows. The row with the earliest sample decides on the removal of the name.
    """
    ids, group_count = frame.labels.row_ids()
    if group_count == frame.series_count:
        return frame
    if at_any_step:
        frame = frame.without_empty_series()
        ids, group_count = frame.labels.row_ids()
        if group_count == frame.series_count:
            return frame
        raise ExecutionError(SAME_LABELSET)
    sizes = np.bincount(ids, minlength=group_count)
    first_rows = np.full(group_count, -1, np.int64)
    values, valid, drop_name = frame.values.copy(), frame.valid.copy(), frame.drop_name.copy()
    first_step = np.where(valid.any(axis=1), valid.argmax(axis=1), valid.shape[1])
    for row, group in enumerate(ids.tolist()):
        first = first_rows[group]
        if first < 0:
            first_rows[group] = row
            continue
        if (valid[first] & frame.valid[row]).any():
            raise ExecutionError(SAME_LABELSET)
        if first_step[row] < first_step[first]:
            first_step[first] = first_step[row]
            drop_name[first] = drop_name[row]
        values[first] = np.where(frame.valid[row], frame.values[row], values[first])
        valid[first] |= frame.valid[row]
    assert sizes.sum() == frame.series_count
    return Frame(frame.labels, values, valid, drop_name).take(first_rows)
