"""Query results as the JSON that Prometheus's API answers, in bulk.

Takes a QueryResult or a LabelTable and gives pieces of JSON text; envelopes, compression and sending are left to
``responses``. Numbers are printed as Prometheus's ``util/jsonutil`` does: the shortest decimal that reads back as the
same float64 (``filoray.nodes.promql.number_format``), scalars never with an exponent.

The bulk path lets orjson print a whole float64 array (its shortest decimals are the ones wanted); a kernel puts that
between times and labels and mends what is noted otherwise: a trailing ``.0``, exponents, NaN and infinities.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import orjson
from numpy.typing import NDArray

from filoray.nodes.data.frame import Frame, TimeGrid
from filoray.nodes.data.label_table import LabelTable
from filoray.nodes.data.series_batch import SeriesBatch
from filoray.nodes.engine.query_params import QueryResult
from filoray.nodes.kernels.edge.json_points import JoinedTexts, write_points
from filoray.nodes.promql.ast import ValueType
from filoray.nodes.promql.number_format import format_float_f, format_value

CHUNK_POINTS = 32_768
"""About how many points one piece of JSON holds: nearly a megabyte, some milliseconds of work."""

_ENCODED_SINGLY_MAX = 64
_ORJSON_FIXED_MIN = 1e-5
_ORJSON_FIXED_MAX = 1e16


# ---- numbers


def sample_texts(values: NDArray[np.float64]) -> list[bytes]:
    """``format_value`` of float64[n], in bulk."""
    if not len(values):
        return []
    texts = (_json_list(values)[1:-1] + b",").replace(b".0,", b",")[:-1].split(b",")
    for index, text in zip(*_odd_texts(values), strict=True):
        texts[index] = text
    return texts


def _json_list(values: NDArray[np.float64]) -> bytes:
    return orjson.dumps(np.ascontiguousarray(values, np.float64), option=orjson.OPT_SERIALIZE_NUMPY)


def _odd_texts(values: NDArray[np.float64]) -> tuple[NDArray[np.int64], list[bytes]]:
    """Which values orjson prints otherwise than Prometheus (apart from a trailing ``.0``), and their texts."""
    magnitudes = np.abs(values)
    as_wanted = (magnitudes >= _ORJSON_FIXED_MIN) & (magnitudes < _ORJSON_FIXED_MAX) | (magnitudes == 0)
    if as_wanted.all():
        return np.empty(0, np.int64), []
    odd = np.flatnonzero(~as_wanted)
    return odd, [format_value(value).encode() for value in values[odd].tolist()]


def timestamp_text(time_ms: int) -> str:
    """Unix seconds with three decimals where the time is not a whole second."""
    seconds, fraction = divmod(abs(time_ms), 1000)
    sign = "-" if time_ms < 0 else ""
    return f"{sign}{seconds}.{fraction:03d}" if fraction else f"{sign}{seconds}"


# ---- results


def result_json(result: QueryResult, *, is_range: bool) -> Iterator[bytes]:
    """Pieces of ``"resultType":…,"result":…``. A scalar of a range query is a matrix of one series without labels."""
    if result.type is ValueType.STRING:
        text = orjson.dumps(result.string or "").decode()
        yield f'"resultType":"string","result":[{_plain_time(result.grid.start_ms)},{text}]'.encode()
    elif result.type is ValueType.SCALAR:
        assert result.scalar is not None
        values = result.scalar.values
        if is_range:
            frame = Frame(
                LabelTable.empty_sets(1),
                values.reshape(1, -1),
                np.ones((1, len(values)), np.bool_),
                np.zeros(1, np.bool_),
            )
            yield from _list("matrix", _frame_matrix(frame, result.grid))
        else:
            time_text, value_text = _plain_time(result.grid.start_ms), format_float_f(float(values[0]))
            yield f'"resultType":"scalar","result":[{time_text},"{value_text}"]'.encode()
    elif result.type is ValueType.MATRIX:
        assert result.matrix is not None
        yield from _list("matrix", _batch_matrix(result.matrix))
    else:
        assert result.frame is not None
        if is_range:
            yield from _list("matrix", _frame_matrix(result.frame, result.grid))
        else:
            yield from _list("vector", _vector(result.frame, result.grid.start_ms))


def point_count(result: QueryResult) -> int:
    """How many points the JSON will have, at most."""
    if result.frame is not None:
        return result.frame.values.size
    if result.matrix is not None:
        return len(result.matrix.values)
    return 1 if result.scalar is None else len(result.scalar.values)


def label_sets_json(labels: LabelTable) -> Iterator[bytes]:
    """Pieces of a JSON list of label sets, in the table's order."""
    yield b"["
    separator = b""
    for start in range(0, labels.count, CHUNK_POINTS):
        rows = np.arange(start, min(start + CHUNK_POINTS, labels.count))
        yield separator + b",".join(_metric_texts(labels.take(rows)))
        separator = b","
    yield b"]"


def _list(result_type: str, items: Iterator[bytes]) -> Iterator[bytes]:
    """Items are already separated by commas within a piece; pieces are separated here."""
    yield f'"resultType":"{result_type}","result":['.encode()
    separator = b""
    for piece in items:
        yield separator + piece
        separator = b","
    yield b"]"


def _plain_time(time_ms: int) -> str:
    """Scalars and strings print their time as a plain JSON number, without trailing zeros."""
    text = timestamp_text(time_ms)
    return text.rstrip("0") if "." in text else text


def _metric_texts(labels: LabelTable) -> list[bytes]:
    """Each label set as a JSON object, names sorted. In large tables every distinct label is encoded once."""
    if labels.count <= _ENCODED_SINGLY_MAX:
        return [orjson.dumps(label_set) for label_set in labels.label_sets()]
    columns: list[list[bytes]] = []
    all_present = True
    for name, column in sorted(labels.columns.items()):
        codes, which = np.unique(column.codes, return_inverse=True)
        prefix = orjson.dumps(name) + b":"
        texts = [prefix + orjson.dumps(column.values[code]) if code >= 0 else b"" for code in codes.tolist()]
        all_present = all_present and b"" not in texts
        columns.append([texts[index] for index in which.tolist()])
    if not columns:
        return [b"{}"] * labels.count
    rows = zip(*columns, strict=True)
    if all_present:
        return [b"{" + b",".join(row) + b"}" for row in rows]
    return [b"{" + b",".join(filter(None, row)) + b"}" for row in rows]


def _vector(frame: Frame, time_ms: int) -> Iterator[bytes]:
    if not frame.valid.all():
        frame = frame.without_empty_series()
    time_text = timestamp_text(time_ms).encode()
    for start in range(0, frame.series_count, CHUNK_POINTS):
        rows = np.arange(start, min(start + CHUNK_POINTS, frame.series_count))
        metrics = _metric_texts(frame.labels.take(rows))
        values = sample_texts(frame.values[rows, 0])
        middle, end = b',"value":[' + time_text + b',"', b'"]}'
        yield b",".join(
            [b'{"metric":' + metric + middle + value + end for metric, value in zip(metrics, values, strict=True)]
        )


def _frame_matrix(frame: Frame, grid: TimeGrid) -> Iterator[bytes]:
    if not frame.valid.any(axis=1).all():
        frame = frame.without_empty_series()
    prefixes = [_point_prefix(time_ms) for time_ms in grid.times_ms().tolist()]
    steps = np.arange(grid.count)
    rows_per_chunk = max(1, CHUNK_POINTS // max(1, frame.step_count))
    for start in range(0, frame.series_count, rows_per_chunk):
        rows = np.arange(start, min(start + rows_per_chunk, frame.series_count))
        values, valid = frame.values[rows], frame.valid[rows]
        metrics = _metric_texts(frame.labels.take(rows))
        if valid.all():
            counts = np.full(len(rows), grid.count)
            yield _series_text(metrics, counts, prefixes, np.tile(steps, len(rows)), values.ravel())
        else:
            yield _series_text(metrics, valid.sum(axis=1), prefixes, np.nonzero(valid)[1], values[valid])


def _batch_matrix(batch: SeriesBatch) -> Iterator[bytes]:
    rows = np.flatnonzero(np.diff(batch.offsets) > 0)
    ends = batch.offsets[1:]
    start = 0
    while start < len(rows):
        # As many series as fit a piece, but one at least.
        limit = batch.offsets[rows[start]] + CHUNK_POINTS
        stop = max(start + 1, int(np.searchsorted(ends[rows], limit, side="right")))
        chosen = rows[start:stop]
        points = slice(int(batch.offsets[chosen[0]]), int(ends[chosen[-1]]))
        times, which = np.unique(batch.timestamps[points], return_inverse=True)
        prefixes = [_point_prefix(time_ms) for time_ms in times.tolist()]
        counts = ends[chosen] - batch.offsets[chosen]
        yield _series_text(_metric_texts(batch.labels.take(chosen)), counts, prefixes, which, batch.values[points])
        start = stop


def _point_prefix(time_ms: int) -> bytes:
    """What ends the point before and begins the one at this time."""
    return f'"],[{timestamp_text(time_ms)},"'.encode()


def _series_text(
    metrics: Sequence[bytes],
    counts: NDArray[np.int64],
    prefixes: Sequence[bytes],
    which: NDArray[np.int64],
    values: NDArray[np.float64],
) -> bytes:
    """Series separated by commas. ``which`` and ``values`` are each point's prefix and value, series after series.

    ``counts[i]`` > 0 points belong to series i.
    """
    heads = [b'"]]},{"metric":' + metric + b',"values":[' for metric in metrics]
    heads[0] = heads[0][len(b'"]]},') :]
    numbers = np.frombuffer(_json_list(values), np.uint8)
    odd_points, odd_texts = _odd_texts(values)
    odd, before, between = _joined(odd_texts), _joined(heads), _joined(prefixes)
    longest = max(map(len, prefixes))
    out = np.empty(len(numbers) + len(odd.data) + len(before.data) + longest * len(values), np.uint8)
    counts, which = counts.astype(np.int64), which.astype(np.int64)
    length = write_points(numbers, odd_points, odd, before, counts, which, between, out)
    return out[:length].tobytes() + b'"]]}'


def _joined(texts: Sequence[bytes]) -> JoinedTexts:
    ends = np.cumsum([len(text) for text in texts], dtype=np.int64)
    return JoinedTexts(np.frombuffer(b"".join(texts), np.uint8), ends)
