"""Parquet, one row for each series (or part of a long one): nothing of the data is lost, staleness markers included.

    metric       string                        __name__, "" for none
    labels       map<string, string>           the others, sorted by name
    timestamps   list<timestamp[ms, UTC]>      ascending
    values       list<double>                  to the bit

Needs the extra ``parquet`` (pyarrow).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from filoray.cluster.errors import BadData, ConfigError
from filoray.command.tsdb.series_blocks import pieces_of
from filoray.nodes.data.label_table import LabelTable
from filoray.nodes.data.matching import METRIC_NAME
from filoray.nodes.data.series_batch import SeriesBatch

_ROW_GROUP_SAMPLES = 1_000_000
_READ_ROWS = 1024
_COLUMNS = ("metric", "labels", "timestamps", "values")


def write_parquet(batches: Iterable[SeriesBatch], path: Path) -> int:
    """Returns the samples written. Raises ConfigError without pyarrow."""
    arrow, parquet = _libraries()
    schema = arrow.schema(
        [
            ("metric", arrow.string()),
            ("labels", arrow.map_(arrow.string(), arrow.string())),
            ("timestamps", arrow.list_(arrow.timestamp("ms", "UTC"))),
            ("values", arrow.list_(arrow.float64())),
        ]
    )
    written = 0
    with parquet.ParquetWriter(
        path,
        schema,
        compression="zstd",
        use_dictionary=["metric", "labels.key_value.key", "labels.key_value.value"],
        column_encoding={"timestamps.list.element": "DELTA_BINARY_PACKED"},
    ) as writer:
        for batch in batches:
            for piece in pieces_of(batch, _ROW_GROUP_SAMPLES):
                writer.write_table(_table(arrow, schema, piece))
                written += len(piece.timestamps)
    return written


def _table(arrow: Any, schema: Any, batch: SeriesBatch) -> Any:
    label_sets = batch.labels.label_sets()
    offsets = batch.offsets.astype(np.int32)
    times = arrow.array(batch.timestamps, arrow.int64()).cast(arrow.timestamp("ms", "UTC"))
    pairs = [[(name, labels[name]) for name in sorted(labels) if name != METRIC_NAME] for labels in label_sets]
    return arrow.Table.from_arrays(
        [
            arrow.array([labels.get(METRIC_NAME, "") for labels in label_sets], arrow.string()),
            arrow.array(pairs, schema.field("labels").type),
            arrow.ListArray.from_arrays(offsets, times),
            arrow.ListArray.from_arrays(offsets, arrow.array(batch.values)),
        ],
        schema=schema,
    )


def read_parquet(path: Path) -> Iterator[SeriesBatch]:
    """Raises BadData if the file has no such columns or its lists do not fit together."""
    arrow, parquet = _libraries()
    try:
        file = parquet.ParquetFile(path)
    except (arrow.ArrowInvalid, OSError) as error:
        raise BadData(f"{path}: {error}") from error
    with file:
        missing = [name for name in _COLUMNS if name not in file.schema_arrow.names]
        if missing:
            raise BadData(f"{path}: no column {', '.join(missing)}; {', '.join(_COLUMNS)} are needed")
        for rows in file.iter_batches(_READ_ROWS, columns=list(_COLUMNS)):
            yield _batch(arrow, path, rows)


def _batch(arrow: Any, path: Path, rows: Any) -> SeriesBatch:
    label_sets = [
        {METRIC_NAME: metric, **dict(labels or ())} if metric else dict(labels or ())
        for metric, labels in zip(rows["metric"].to_pylist(), rows["labels"].to_pylist(), strict=True)
    ]
    try:
        counts = rows["timestamps"].value_lengths().fill_null(0)
        if not counts.equals(rows["values"].value_lengths().fill_null(0)):
            raise BadData(f"{path}: a row has not as many values as timestamps")
        times = rows["timestamps"].flatten().cast(arrow.timestamp("ms", "UTC")).cast(arrow.int64())
        values = rows["values"].flatten().cast(arrow.float64())
        if times.null_count or values.null_count:
            raise BadData(f"{path}: a timestamp or value is null")
    except (arrow.ArrowInvalid, arrow.ArrowNotImplementedError, AttributeError) as error:
        raise BadData(f"{path}: columns of other types than expected: {error}") from error
    offsets = np.concatenate([[0], np.cumsum(counts.to_numpy(zero_copy_only=False))]).astype(np.int64)
    return SeriesBatch(
        LabelTable.from_label_sets(label_sets),
        offsets,
        times.to_numpy(zero_copy_only=False),
        values.to_numpy(zero_copy_only=False),
    )


def _libraries() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ConfigError("Parquet needs the extra 'parquet': pip install 'filoray[parquet]'") from error
    return pyarrow, pyarrow.parquet
