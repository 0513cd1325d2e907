"""Part keys of series that nobody has seen, from their labels as they came in a WriteRequest.

The format is ``filoray.nodes.data.part_key``'s. Labels are checked here, and those that are refused get a verdict;
the hash and the shard of a part key are its caller's affair.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit, types

from filoray.nodes.kernels.array_types import I32, I64, U8
from filoray.nodes.kernels.arrays import Bytes, Int32s, Ints
from filoray.nodes.kernels.edge.hashing import BYTES, load_u64
from filoray.nodes.kernels.edge.protobuf import ERROR_FIELD_TYPE, WIRE_BYTES, read_length, read_tag, skip_field
from filoray.nodes.kernels.edge.remote_write import REQUEST_COLUMNS, RequestColumns
from filoray.nodes.kernels.record_type import record_type

LABELS_GOOD = 0
LABEL_NAME_EMPTY = 1
LABEL_NAME_DUPLICATE = 2
LABELS_WITHOUT_METRIC = 3
LABELS_TOO_MANY = 4
LABEL_NAME_TOO_LONG = 5
LABEL_VALUE_TOO_LONG = 6
LABEL_NOT_UTF8 = 7

RESULT_FIELDS = 2
CODE, OFFSET = range(RESULT_FIELDS)
"""Places in the ``result`` of ``build_part_keys``."""


class LabelBounds(NamedTuple):
    """Limits, int64 each; those of bytes are 65,535 at most."""

    label_count_max: int
    name_bytes_max: int
    value_bytes_max: int


LABEL_BOUNDS = record_type(LabelBounds, types.int64, types.int64, types.int64)


class PartKeyColumns(NamedTuple):
    """Part keys of k series.

    key_bytes        uint8[]       the part keys in turn
    key_ends         int64[k]      where each ends
    shard_key_spans  int64[6 * k]  start and end in the request of the values of _ws_, _ns_, __name__ (absent: equal)
    verdicts         int32[k]      LABELS_GOOD or why the series is refused (its part key then is empty)
    """

    key_bytes: Bytes
    key_ends: Ints
    shard_key_spans: Ints
    verdicts: Int32s

    @classmethod
    def room_for(cls, series: int, key_bytes: int) -> PartKeyColumns:
        """So many, to be filled."""
        return cls(
            np.empty(key_bytes, np.uint8),
            np.empty(series, np.int64),
            np.empty(6 * series, np.int64),
            np.empty(series, np.int32),
        )


PART_KEY_COLUMNS = record_type(PartKeyColumns, U8, I64, I64, I32)


@njit(types.boolean(BYTES, types.int64, types.int64, types.int64, types.int64), cache=True, nogil=True)
def _is_less(data: Bytes, left_start: int, left_end: int, right_start: int, right_end: int) -> bool:
    """Bytewise order of two spans."""
    for i in range(min(left_end - left_start, right_end - right_start)):
        left = data[left_start + i]
        right = data[right_start + i]
        if left != right:
            return left < right
    return left_end - left_start < right_end - right_start


@njit(types.boolean(BYTES, types.int64, types.int64), cache=True, nogil=True)
def is_utf8(data: Bytes, start: int, end: int) -> bool:
    """Whether a span is well-formed UTF-8 (RFC 3629: shortest forms only, no surrogates, nothing over U+10FFFF)."""
    position = start
    while position < end:
        lead = data[position]
        position += 1
        if lead < 0x80:
            continue
        low = 0x80
        high = 0xBF
        if 0xC2 <= lead <= 0xDF:
            more = 1
        elif 0xE0 <= lead <= 0xEF:
            more = 2
            if lead == 0xE0:
                low = 0xA0
            elif lead == 0xED:
                high = 0x9F
        elif 0xF0 <= lead <= 0xF4:
            more = 3
            if lead == 0xF0:
                low = 0x90
            elif lead == 0xF4:
                high = 0x8F
        else:
            return False
        if end - position < more or data[position] < low or data[position] > high:
            return False
        for k in range(1, more):
            if data[position + k] < 0x80 or data[position + k] > 0xBF:
                return False
        position += more
    return True


@njit(types.int64(BYTES, types.int64, types.int64, types.int64, I64), cache=True, nogil=True)
def _read_label(data: Bytes, position: int, end: int, at: int, spans: Ints) -> int:
    """Name and value spans of one Label message into ``spans[at:at + 4]``.

    Gives 0, or -error with the offset in ``spans[at]``.
    """
    for k in range(4):
        spans[at + k] = position
    while position < end:
        tag_at = position
        number, wire_type, position = read_tag(data, position, end)
        if position < 0:
            spans[at] = tag_at
            return position
        if number > 2:
            position = skip_field(data, position, end, wire_type)
            if position < 0:
                spans[at] = tag_at
                return position
            continue
        if wire_type != WIRE_BYTES:
            spans[at] = tag_at
            return -ERROR_FIELD_TYPE
        length = read_length(data, position, end)
        if length < 0:
            spans[at] = tag_at
            return length
        position += length & 0xFF
        spans[at + 2 * (number - 1)] = position
        position += length >> 8
        spans[at + 2 * (number - 1) + 1] = position
    return 0


@njit(types.int64(BYTES, types.int64, types.int64), cache=True, nogil=True)
def _shard_key_slot(data: Bytes, start: int, end: int) -> int:
    """0, 1, 2 for the names ``_ws_``, ``_ns_``, ``__name__``; else -1."""
    size = end - start
    if size == 4 and data[start] == 95 and data[start + 2] == 115 and data[start + 3] == 95:
        if data[start + 1] == 119:
            return 0
        if data[start + 1] == 110:
            return 1
    # "__name__" as a little-endian number
    if size == 8 and load_u64(data, start) == types.uint64(0x5F5F656D616E5F5F):
        return 2
    return -1


@njit(types.void(BYTES, I64, REQUEST_COLUMNS, LABEL_BOUNDS, PART_KEY_COLUMNS, I64, I64), cache=True, nogil=True)
def build_part_keys(
    data: Bytes,
    series: Ints,
    request: RequestColumns,
    bounds: LabelBounds,
    made: PartKeyColumns,
    spans: Ints,
    result: Ints,
) -> None:
    """Part keys of some series of a request that ``parse_write_request`` went over.

    data    uint8[n], ``request``: as there; ``series`` int64[k]: which
    made    out; ``key_bytes`` has room for the sum of the label spans
    spans   int64[4 * (label_count_max + 1)], scratch
    result  int64[RESULT_FIELDS], out: CODE and OFFSET of a malformed label
    """
    label_starts, label_ends = request.label_starts, request.label_ends
    label_count_max, name_bytes_max, value_bytes_max = bounds
    key_bytes, key_ends, shard_key_spans, verdicts = made
    at = 0
    result[CODE] = 0
    result[OFFSET] = 0
    for row in range(len(series)):
        position = label_starts[series[row]]
        end = label_ends[series[row]]
        verdict = LABELS_GOOD
        count = 0
        for k in range(6):
            shard_key_spans[6 * row + k] = 0
        while position < end:
            number, wire_type, position = read_tag(data, position, end)
            if number != 1:
                position = skip_field(data, position, end, wire_type)
                continue
            length = read_length(data, position, end)
            position += length & 0xFF
            field_end = position + (length >> 8)
            error = _read_label(data, position, field_end, 4 * count, spans)
            position = field_end
            if error < 0:
                result[CODE] = -error
                result[OFFSET] = spans[4 * count]
                return
            name_start = spans[4 * count]
            name_end = spans[4 * count + 1]
            value_start = spans[4 * count + 2]
            value_end = spans[4 * count + 3]
            if value_start == value_end or verdict != LABELS_GOOD:
                continue
            if name_start == name_end:
                verdict = LABEL_NAME_EMPTY
            elif count >= label_count_max:
                verdict = LABELS_TOO_MANY
            elif name_end - name_start > name_bytes_max:
                verdict = LABEL_NAME_TOO_LONG
            elif value_end - value_start > value_bytes_max:
                verdict = LABEL_VALUE_TOO_LONG
            elif not is_utf8(data, name_start, name_end) or not is_utf8(data, value_start, value_end):
                verdict = LABEL_NOT_UTF8
            else:
                # Insertion into the sorted labels: agents send them sorted, so it mostly stays where it is.
                slot = count
                while slot > 0 and _is_less(data, name_start, name_end, spans[4 * slot - 4], spans[4 * slot - 3]):
                    for k in range(4):
                        spans[4 * slot + k] = spans[4 * slot - 4 + k]
                    slot -= 1
                if slot > 0 and not _is_less(data, spans[4 * slot - 4], spans[4 * slot - 3], name_start, name_end):
                    verdict = LABEL_NAME_DUPLICATE
                spans[4 * slot] = name_start
                spans[4 * slot + 1] = name_end
                spans[4 * slot + 2] = value_start
                spans[4 * slot + 3] = value_end
                count += 1
                which = _shard_key_slot(data, name_start, name_end)
                if which >= 0:
                    shard_key_spans[6 * row + 2 * which] = value_start
                    shard_key_spans[6 * row + 2 * which + 1] = value_end
        if verdict == LABELS_GOOD and shard_key_spans[6 * row + 4] == shard_key_spans[6 * row + 5]:
            verdict = LABELS_WITHOUT_METRIC
        verdicts[row] = verdict
        if verdict == LABELS_GOOD:
            for label in range(count):
                for part in range(2):
                    start = spans[4 * label + 2 * part]
                    size = spans[4 * label + 2 * part + 1] - start
                    key_bytes[at] = types.uint8(size & 0xFF)
                    key_bytes[at + 1] = types.uint8(size >> 8)
                    at += 2
                    for k in range(size):
                        key_bytes[at + k] = data[start + k]
                    at += size
        key_ends[row] = at
