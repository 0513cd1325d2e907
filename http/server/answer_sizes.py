"""About how many bytes an answer takes in memory while its client takes it."""

from __future__ import annotations

from filoray.nodes.data.label_table import LabelTable
from filoray.nodes.data.series_batch import SeriesBatch
from filoray.nodes.engine.query_params import QueryResult

_STRING_BYTES = 56  # of a Python string beside its characters, and of its place in a tuple


def labels_bytes(labels: LabelTable) -> int:
    return sum(
        column.codes.nbytes + _STRING_BYTES * len(column.values) + sum(map(len, column.values))
        for column in labels.columns.values()
    )


def batch_bytes(batch: SeriesBatch) -> int:
    return batch.timestamps.nbytes + batch.values.nbytes + batch.offsets.nbytes + labels_bytes(batch.labels)


def result_bytes(result: QueryResult) -> int:
    size_bytes = 0
    if result.frame is not None:
        size_bytes += result.frame.values.nbytes + result.frame.valid.nbytes + labels_bytes(result.frame.labels)
    if result.matrix is not None:
        size_bytes += batch_bytes(result.matrix)
    if result.scalar is not None:
        size_bytes += result.scalar.values.nbytes
    return size_bytes
