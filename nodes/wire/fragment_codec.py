"""Fragments and their answers as bytes: a msgpack header, then raw little-endian arrays that numpy reads in place.

    message    content
    fragments  msgpack of a list of [expr, grid, lookback_ms, map_phase, selectors, is_range, wants_stats,
               delayed_names]
    answers    buffer 0: msgpack of [results, annotations, stats]; buffers 1..: the arrays, in the order in which
               the results name them

    result     header                                                       arrays
    frame      ["F", labels, steps]                                         valid (bits), drop_name (bits), values
    samples    ["S", labels, warnings]                                      offsets, timestamps, values
    partial    ["P", labels, [plane type, ...], steps]                      drop_name (bits), planes
    labels     [count, [[name, [value, ...]], ...]]                         one code column per label

A Frame's values are float64[series x steps]; masks are packed, 8 cells a byte. Codes are int8, int16 or int32, the
smallest that hold the dictionary. Dictionaries hold only values that occur.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray

from filoray.cluster.errors import BadData, FilorayError
from filoray.nodes.data.frame import Frame, TimeGrid
from filoray.nodes.data.label_table import LabelColumn, LabelTable
from filoray.nodes.data.series_batch import SeriesBatch
from filoray.nodes.engine.annotations import Annotations
from filoray.nodes.engine.fragments import AggregatePartial, Fragment, FragmentAnswers, FragmentResult
from filoray.nodes.engine.query_params import EvaluationOptions
from filoray.nodes.engine.stage_stats import StageStats
from filoray.nodes.promql.ast import Aggregate
from filoray.nodes.promql.codec import from_plain, matchers_from_plain, matchers_to_plain, to_plain
from filoray.nodes.promql.tree_types import check_types
from filoray.nodes.wire.field_checks import INT64_MAX, whole_number

Buffer = bytes | memoryview
_CODE_TYPES = (np.dtype("<i1"), np.dtype("<i2"), np.dtype("<i4"))
_BITS, _FLOATS = "b", "f"
_INT32_MAX = (1 << 31) - 1


# ---- fragments


def encode_fragments(fragments: Sequence[Fragment]) -> bytes:
    """One message part."""
    return _packed([_fragment_to_plain(fragment) for fragment in fragments])


def decode_fragments(data: Buffer) -> list[Fragment]:
    """Raises BadData if these are no fragments, or hold something else than their fields' types somewhere."""
    try:
        fragments = [_fragment_from_plain(plain) for plain in _unpacked(data)]
    except FilorayError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"[:200]
        raise BadData(f"a malformed data-plane message: not encoded fragments: {reason}") from error
    for fragment in fragments:
        check_types(fragment, Fragment)
        grid = fragment.grid
        whole_number(grid.count, "a grid's count", 1, _INT32_MAX)
        whole_number(grid.step_ms, "a grid's step", 0, INT64_MAX)
        for time_ms in (grid.start_ms, grid.end_ms):
            whole_number(time_ms, "a grid's time", -INT64_MAX, INT64_MAX)
    return fragments


def _fragment_to_plain(fragment: Fragment) -> list[Any]:
    grid, options = fragment.grid, fragment.options
    return [
        to_plain(fragment.expr),
        [grid.start_ms, grid.step_ms, grid.count],
        options.lookback_ms,
        None if fragment.map_phase is None else to_plain(fragment.map_phase),
        [matchers_to_plain(matchers) for matchers in fragment.selectors],
        options.is_range,
        options.wants_stats,
        options.delayed_names,
    ]


def _fragment_from_plain(plain: list[Any]) -> Fragment:
    expr, grid, lookback_ms, map_phase, selectors, is_range, wants_stats, delayed_names = plain
    aggregate = None if map_phase is None else from_plain(map_phase)
    assert aggregate is None or isinstance(aggregate, Aggregate)
    return Fragment(
        from_plain(expr),
        TimeGrid(*grid),
        EvaluationOptions(lookback_ms, is_range, wants_stats, delayed_names),
        aggregate,
        tuple(matchers_from_plain(matchers) for matchers in selectors),
    )


# ---- answers


def encode_answers(answers: FragmentAnswers) -> list[Buffer]:
    """Buffer 0 is the header; the others are views of the answers' own arrays where these are contiguous."""
    arrays: list[NDArray[Any]] = []
    results = [_result_to_plain(result, arrays) for result in answers.results]
    stats = None if answers.stats is None else answers.stats.to_plain()
    header: Buffer = _packed([results, answers.annotations.to_plain(), stats])
    return [header, *(_buffer(array) for array in arrays)]


def decode_answers(buffers: Sequence[Buffer]) -> FragmentAnswers:
    """The arrays of the result are read-only views of the buffers. ValueError if these are no answers."""
    results, annotations, stats = _unpacked(buffers[0])
    rest = iter(buffers[1:])
    return FragmentAnswers(
        tuple(_result_from_plain(plain, rest) for plain in results),
        Annotations.from_plain(annotations),
        None if stats is None else StageStats.from_plain(stats),
    )


def _packed(plain: Any) -> bytes:
    # Text may hold bytes that are not UTF-8, as PromQL's string literals may.
    packed: bytes = msgpack.packb(plain, unicode_errors="surrogateescape")
    return packed


def _unpacked(data: Buffer) -> Any:
    return msgpack.unpackb(data, unicode_errors="surrogateescape")


def _buffer(array: NDArray[Any]) -> Buffer:
    # An empty array has no memory to view.
    return np.ascontiguousarray(array).data.cast("B") if array.size else b""


def _result_to_plain(result: FragmentResult, arrays: list[NDArray[Any]]) -> list[Any]:
    labels = labels_to_plain(result.labels, arrays)
    match result:
        case Frame():
            arrays += [np.packbits(result.valid), np.packbits(result.drop_name), result.values]
            return ["F", labels, result.step_count]
        case SeriesBatch():
            arrays += [result.offsets, result.timestamps, result.values]
            return ["S", labels, list(result.warnings)]
    arrays.append(np.packbits(result.drop_name))
    kinds = []
    for plane in result.planes:
        is_mask = plane.dtype == np.bool_
        kinds.append(_BITS if is_mask else _FLOATS)
        arrays.append(np.packbits(plane.view(np.bool_)) if is_mask else plane)
    return ["P", labels, kinds, result.planes[0].shape[1]]


def _result_from_plain(plain: list[Any], buffers: Iterator[Buffer]) -> FragmentResult:
    kind, labels_plain, *fields = plain
    labels = labels_from_plain(labels_plain, buffers)
    if kind == "F":
        steps = fields[0]
        valid = _mask(next(buffers), labels.count, steps)
        drop_name = _mask(next(buffers), labels.count, 1)[:, 0]
        return Frame(labels, _floats(next(buffers), labels.count, steps), valid, drop_name)
    if kind == "S":
        offsets, timestamps, values = (
            _aligned(next(buffers), np.dtype(kind)) for kind in (np.int64, np.int64, np.float64)
        )
        return SeriesBatch(labels, offsets, timestamps, values, tuple(fields[0]))
    if kind != "P":
        raise ValueError(f"unknown kind of fragment result {kind!r}")
    kinds, steps = fields
    drop_name = _mask(next(buffers), labels.count, 1)[:, 0]
    planes = tuple(
        _mask(next(buffers), labels.count, steps) if one == _BITS else _floats(next(buffers), labels.count, steps)
        for one in kinds
    )
    return AggregatePartial(labels, drop_name, planes)


def _floats(buffer: Buffer, rows: int, steps: int) -> NDArray[np.float64]:
    return _aligned(buffer, np.dtype(np.float64)).reshape(rows, steps)


def _aligned(buffer: Buffer, dtype: np.dtype[Any]) -> NDArray[Any]:
    """The buffer as an array; copied only where it does not start at a multiple of its item size."""
    return np.require(np.frombuffer(buffer, dtype), requirements="A")


def _mask(buffer: Buffer, rows: int, steps: int) -> NDArray[np.bool_]:
    bits = np.unpackbits(np.frombuffer(buffer, np.uint8), count=rows * steps)
    return bits.view(np.bool_).reshape(rows, steps)


# ---- label tables


def labels_to_plain(labels: LabelTable, arrays: list[NDArray[Any]]) -> list[Any]:
    """The table's dictionaries; its code columns are appended to ``arrays``."""
    columns = []
    for name, column in labels.columns.items():
        values, codes = _without_unused(column)
        if values:
            columns.append([name, values])
            arrays.append(codes)
    return [labels.count, columns]


def labels_from_plain(plain: list[Any], buffers: Iterator[Buffer]) -> LabelTable:
    """Takes the code columns off ``buffers``."""
    count, columns = plain
    table: dict[str, LabelColumn] = {}
    for name, values in columns:
        codes = np.frombuffer(next(buffers), _code_type(len(values)))
        table[name] = LabelColumn(tuple(values), codes.astype(np.int32, copy=False))
    return LabelTable(count, table)


def _code_type(value_count: int) -> np.dtype[Any]:
    for dtype in _CODE_TYPES:
        if value_count <= np.iinfo(dtype).max:
            return dtype
    raise ValueError(f"a label has {value_count} values")


def _without_unused(column: LabelColumn) -> tuple[list[str], NDArray[Any]]:
    """Distinct values that occur, and codes of the smallest type."""
    used = np.zeros(len(column.values) + 1, np.bool_)
    used[column.codes] = True
    used[-1] = False
    kept = np.flatnonzero(used)
    dtype = _code_type(len(kept))
    if len(kept) == len(column.values):
        return list(column.values), column.codes.astype(dtype, copy=False)
    new_codes = np.full(len(used), -1, dtype)
    new_codes[kept] = np.arange(len(kept))
    return [column.values[code] for code in kept.tolist()], new_codes[column.codes]
