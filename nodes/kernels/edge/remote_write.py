"""Compiled decoding of Prometheus's remote write 1.0: bytes of a WriteRequest to flat arrays, then to shards.

Three kernels, in the order in which ``filoray.http.remote.remote_write`` calls them:

- ``parse_write_request`` goes over the bytes once: a keyed hash of each series' labels, its sample count, and all
  timestamps and values in request order. It does not look into labels.
- ``build_part_keys`` reads the labels of series that nobody has seen, and writes their part keys (the format is
  ``filoray.nodes.data.part_key``'s).
- ``group_by_shard`` sorts the samples by shard (a stable counting sort over series), into the columns of one
  RecordContainer for each.

The message is described at https://prometheus.io/docs/specs/prw/remote_write_spec/. A field that the
description knows but that comes with another wire type is an error, as for Prometheus; unknown fields are skipped.
"""

from __future__ import annotations

import numpy as np
from numba import njit, types

from filoray.nodes.kernels.arrays import Bytes, Int32s, Ints, UInt64s
from filoray.nodes.kernels.edge.hashing import BYTES, load_u64, siphash13_128
from filoray.nodes.kernels.edge.protobuf import (
    ERROR_FIELD_TYPE,
    ERROR_FIXED_CUT,
    WIRE_BYTES,
    WIRE_FIXED64,
    WIRE_VARINT,
    read_length,
    read_tag,
    read_varint,
    skip_field,
)

NEEDS_ROOM = 100
"""Not an error of the message: one of the output arrays is too short for it."""

RESULT_FIELDS = 6
CODE, OFFSET, SERIES, SAMPLES, METADATA, HISTOGRAMS = range(RESULT_FIELDS)

LABELS_GOOD = 0
LABEL_NAME_EMPTY = 1
LABEL_NAME_DUPLICATE = 2
LABELS_WITHOUT_METRIC = 3
LABELS_TOO_MANY = 4
LABEL_NAME_TOO_LONG = 5
LABEL_VALUE_TOO_LONG = 6
LABEL_NOT_UTF8 = 7

_I32S = types.Array(types.int32, 1, "C")
_I64S = types.Array(types.int64, 1, "C")
_U64S = types.Array(types.uint64, 1, "C")
_U8S = BYTES


@njit(
    types.int64(BYTES, types.int64, types.int64, _I64S, _U64S, types.int64),
    cache=True,
    nogil=True,
)
def _read_sample(data: Bytes, position: int, end: int, timestamps: Ints, value_bits: UInt64s, index: int) -> int:
    """Fields of one Sample message into slot ``index``; 0, or -error with the offset left in ``timestamps[index]``."""
    timestamps[index] = 0
    value_bits[index] = types.uint64(0)
    while position < end:
        tag_at = position
        number, wire_type, position = read_tag(data, position, end)
        if position < 0:
            timestamps[index] = tag_at
            return position
        if number == 1:
            if wire_type != WIRE_FIXED64 or end - position < 8:
                timestamps[index] = tag_at
                return -ERROR_FIELD_TYPE if wire_type != WIRE_FIXED64 else -ERROR_FIXED_CUT
            value_bits[index] = load_u64(data, position)
            position += 8
        elif number == 2:
            if wire_type != WIRE_VARINT:
                timestamps[index] = tag_at
                return -ERROR_FIELD_TYPE
            value, position = read_varint(data, position, end)
            if position < 0:
                timestamps[index] = tag_at
                return position
            timestamps[index] = value
        else:
            position = skip_field(data, position, end, wire_type)
            if position < 0:
                timestamps[index] = tag_at
                return position
    return 0


@njit(
    types.void(BYTES, types.uint64, types.uint64, _I64S, _I64S, _I32S, _U64S, _U64S, _I64S, _U64S, _I64S, _I64S, _I64S),
    cache=True,
    nogil=True,
)
def parse_write_request(
    data: Bytes,
    key_0: np.uint64,
    key_1: np.uint64,
    label_starts: Ints,
    label_ends: Ints,
    counts: Int32s,
    hash_first: UInt64s,
    hash_second: UInt64s,
    timestamps: Ints,
    value_bits: UInt64s,
    metadata_starts: Ints,
    metadata_ends: Ints,
    result: Ints,
) -> None:
    """One pass over a WriteRequest.

    data          uint8[n]; ``key_0``, ``key_1``: the secret key of the label hashes
    label_starts  int64[series], out: offset of each series' first label field; ``label_ends``: end of its last.
                  Other fields may lie between (they need not be neighbours), labels of no other series do
    counts        int32[series], out: samples of each
    hash_*        uint64[series], out: the two halves of the hash of each series' labels
    timestamps    int64[samples], ms, out; ``value_bits`` uint64[samples], out: the float64 values' bits
    metadata_*    int64[families], out: span of each MetricMetadata message
    result        int64[RESULT_FIELDS], out: CODE 0, NEEDS_ROOM or an error, OFFSET in ``data`` of an error, and
                  how many SERIES, SAMPLES, METADATA and (skipped) HISTOGRAMS there were
    """
    n = len(data)
    position = 0
    series = 0
    samples = 0
    families = 0
    histograms = 0
    code = 0
    offset = 0
    while position < n and code == 0:
        offset = position
        number, wire_type, position = read_tag(data, position, n)
        if position < 0:
            code = -position
            break
        if number != 1 and number != 3:
            position = skip_field(data, position, n, wire_type)
            if position < 0:
                code = -position
            continue
        if wire_type != WIRE_BYTES:
            code = ERROR_FIELD_TYPE
            break
        length = read_length(data, position, n)
        if length < 0:
            code = -length
            break
        position += length & 0xFF
        end = position + (length >> 8)
        if number == 3:
            if families >= len(metadata_starts):
                code = NEEDS_ROOM
                break
            metadata_starts[families] = position
            metadata_ends[families] = end
            families += 1
            position = end
            continue

        # One TimeSeries: a run of neighbouring labels is hashed as a whole, under the key that the run before gave.
        if series >= len(counts):
            code = NEEDS_ROOM
            break
        label_starts[series] = position
        label_ends[series] = position
        first_sample = samples
        run_start = -1
        run_end = -1
        first = key_0
        second = key_1
        while position < end:
            offset = position
            number, wire_type, position = read_tag(data, position, end)
            if position < 0:
                code = -position
                break
            if number != 1 and number != 2 and number != 4:
                position = skip_field(data, position, end, wire_type)
                if position < 0:
                    code = -position
                    break
                continue
            if wire_type != WIRE_BYTES:
                code = ERROR_FIELD_TYPE
                break
            length = read_length(data, position, end)
            if length < 0:
                code = -length
                break
            position += length & 0xFF
            field_end = position + (length >> 8)
            if number == 1:
                if offset != run_end:
                    if run_start < 0:
                        label_starts[series] = offset
                    else:
                        first, second = siphash13_128(data, run_start, run_end, first, second)
                    run_start = offset
                run_end = field_end
                label_ends[series] = field_end
            elif number == 2:
                if samples >= len(timestamps):
                    code = NEEDS_ROOM
                    break
                size = field_end - position
                if size == 16 and data[position] == 0x09 and data[position + 9] == 0x10 and data[position + 15] < 0x80:
                    # What every agent writes for times from 2004 to 3084: a value and a timestamp of six bytes.
                    bits = load_u64(data, field_end - 8) >> types.uint64(16)
                    high = types.uint64(0x80_80_80_80_80)
                    if bits & high == high:
                        value_bits[samples] = load_u64(data, position + 1)
                        timestamps[samples] = types.int64(
                            (bits & types.uint64(0x7F))
                            | (bits >> types.uint64(1)) & types.uint64(0x7F << 7)
                            | (bits >> types.uint64(2)) & types.uint64(0x7F << 14)
                            | (bits >> types.uint64(3)) & types.uint64(0x7F << 21)
                            | (bits >> types.uint64(4)) & types.uint64(0x7F << 28)
                            | (bits >> types.uint64(5)) & types.uint64(0x7F << 35)
                        )
                        samples += 1
                        position = field_end
                        continue
                error = _read_sample(data, position, field_end, timestamps, value_bits, samples)
                if error < 0:
                    code = -error
                    offset = timestamps[samples]
                    break
                samples += 1
            else:
                histograms += 1
            position = field_end
        if code != 0:
            break
        if run_start >= 0:
            first, second = siphash13_128(data, run_start, run_end, first, second)
        hash_first[series] = first
        hash_second[series] = second
        counts[series] = samples - first_sample
        series += 1
    result[CODE] = code
    result[OFFSET] = offset
    result[SERIES] = series
    result[SAMPLES] = samples
    result[METADATA] = families
    result[HISTOGRAMS] = histograms


@njit(
    types.boolean(BYTES, types.int64, types.int64, types.int64, types.int64),
    cache=True,
    nogil=True,
)
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


@njit(types.int64(BYTES, types.int64, types.int64, types.int64, _I64S), cache=True, nogil=True)
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


@njit(
    types.void(
        BYTES, _I64S, _I64S, _I64S, types.int64, types.int64, types.int64, _U8S, _I64S, _I64S, _I32S, _I64S, _I64S
    ),
    cache=True,
    nogil=True,
)
def build_part_keys(
    data: Bytes,
    series: Ints,
    label_starts: Ints,
    label_ends: Ints,
    label_count_max: int,
    name_bytes_max: int,
    value_bytes_max: int,
    key_bytes: Bytes,
    key_ends: Ints,
    shard_key_spans: Ints,
    verdicts: Int32s,
    spans: Ints,
    result: Ints,
) -> None:
    """Part keys of some series of a request that ``parse_write_request`` went over.

    data, label_starts, label_ends  as there; ``series`` int64[k]: which
    *_max            limits; the byte limits are 65,535 at most
    key_bytes        uint8[], out: the part keys in turn; room for the sum of the label spans
    key_ends         int64[k], out
    shard_key_spans  int64[6 * k], out: start and end in ``data`` of the values of _ws_, _ns_, __name__ (absent: equal)
    verdicts         int32[k], out: LABELS_GOOD or why the series is refused (its part key then is empty)
    spans            int64[4 * (label_count_max + 1)], scratch
    result           int64[RESULT_FIELDS], out: CODE and OFFSET of a malformed label
    """
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


@njit(
    types.void(
        _I32S,
        _I32S,
        _I64S,
        _U64S,
        _U64S,
        _U64S,
        _I32S,
        types.int64,
        _U64S,
        _U64S,
        _I32S,
        _I32S,
        _I64S,
        _U64S,
        _I64S,
        _I64S,
    ),
    cache=True,
    nogil=True,
)
def group_by_shard(
    ids: Int32s,
    counts: Int32s,
    timestamps: Ints,
    value_bits: UInt64s,
    table_hash_high: UInt64s,
    table_hash_low: UInt64s,
    table_shards: Int32s,
    num_shards: int,
    hash_high: UInt64s,
    hash_low: UInt64s,
    grouped_counts: Int32s,
    grouped_ids: Int32s,
    grouped_timestamps: Ints,
    grouped_value_bits: UInt64s,
    series_ends: Ints,
    sample_ends: Ints,
) -> None:
    """Samples in request order to samples by shard, in the order of the request within each.

    ids              int32[series]: row of each in the table; ``counts`` int32[series]: samples of each
    timestamps       int64[samples], ``value_bits`` uint64[samples], as ``parse_write_request`` gives them
    table_*          per row of the table: part key hash and shard; a negative shard: the series is refused
    hash_high ...    out, room for all series and all samples: the containers' columns, shard after shard
    series_ends      int64[num_shards], out; ``sample_ends`` likewise: where each shard's part ends

    Series without samples are left out.
    """
    for shard in range(num_shards):
        series_ends[shard] = 0
        sample_ends[shard] = 0
    for i in range(len(ids)):
        shard = table_shards[ids[i]]
        if shard >= 0 and counts[i] > 0:
            series_ends[shard] += 1
            sample_ends[shard] += counts[i]
    series_before = 0
    samples_before = 0
    for shard in range(num_shards):
        series_count = series_ends[shard]
        sample_count = sample_ends[shard]
        series_ends[shard] = series_before
        sample_ends[shard] = samples_before
        series_before += series_count
        samples_before += sample_count
    source = 0
    for i in range(len(ids)):
        count = counts[i]
        row = ids[i]
        shard = table_shards[row]
        if shard >= 0 and count > 0:
            place = series_ends[shard]
            series_ends[shard] = place + 1
            hash_high[place] = table_hash_high[row]
            hash_low[place] = table_hash_low[row]
            grouped_counts[place] = count
            grouped_ids[place] = row
            target = sample_ends[shard]
            sample_ends[shard] = target + count
            for k in range(count):
                grouped_timestamps[target + k] = timestamps[source + k]
                grouped_value_bits[target + k] = value_bits[source + k]
        source += count
