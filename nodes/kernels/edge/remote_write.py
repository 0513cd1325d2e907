"""Compiled decoding of Prometheus's remote write 1.0: bytes of a WriteRequest to flat arrays.

``parse_write_request`` goes over the bytes once: a keyed hash of each series' labels, its sample count, and all
timestamps and values in request order. It does not look into labels: ``part_keys`` does, of series that nobody has
seen. ``shard_groups`` then has the samples by shard.

The message is described at https://prometheus.io/docs/specs/prw/remote_write_spec/. A field that the
description knows but that comes with another wire type is an error, as for Prometheus; unknown fields are skipped.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit, types

from filoray.nodes.kernels.array_types import I32, I64, U64
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
from filoray.nodes.kernels.record_type import record_type

NEEDS_ROOM = 100
"""Not an error of the message: one of the output arrays is too short for it."""

RESULT_FIELDS = 6
CODE, OFFSET, SERIES, SAMPLES, METADATA, HISTOGRAMS = range(RESULT_FIELDS)
"""Places in the ``result`` of ``parse_write_request``."""


class RequestColumns(NamedTuple):
    """What is in a WriteRequest, in its order.

    label_starts, label_ends        int64[series]    offset of each series' first label field, end of its last. Other
                                                     fields may lie between, labels of no other series do
    counts                          int32[series]    samples of each
    hash_first, hash_second         uint64[series]   halves of the hash of each series' labels
    timestamps                      int64[samples]   ms since 1970
    value_bits                      uint64[samples]  the float64 values' bits
    metadata_starts, metadata_ends  int64[families]  span of each MetricMetadata message
    """

    label_starts: Ints
    label_ends: Ints
    counts: Int32s
    hash_first: UInt64s
    hash_second: UInt64s
    timestamps: Ints
    value_bits: UInt64s
    metadata_starts: Ints
    metadata_ends: Ints

    @classmethod
    def room_for(cls, series: int, samples: int, families: int) -> RequestColumns:
        """So many of each, to be filled."""
        return cls(
            label_starts=np.empty(series, np.int64),
            label_ends=np.empty(series, np.int64),
            counts=np.empty(series, np.int32),
            hash_first=np.empty(series, np.uint64),
            hash_second=np.empty(series, np.uint64),
            timestamps=np.empty(samples, np.int64),
            value_bits=np.empty(samples, np.uint64),
            metadata_starts=np.empty(families, np.int64),
            metadata_ends=np.empty(families, np.int64),
        )

    def cut(self, series: int, samples: int, families: int) -> RequestColumns:
        """The first ones."""
        return RequestColumns(
            label_starts=self.label_starts[:series],
            label_ends=self.label_ends[:series],
            counts=self.counts[:series],
            hash_first=self.hash_first[:series],
            hash_second=self.hash_second[:series],
            timestamps=self.timestamps[:samples],
            value_bits=self.value_bits[:samples],
            metadata_starts=self.metadata_starts[:families],
            metadata_ends=self.metadata_ends[:families],
        )


REQUEST_COLUMNS = record_type(RequestColumns, I64, I64, I32, U64, U64, I64, U64, I64, I64)


@njit(types.int64(BYTES, types.int64, types.int64, I64, U64, types.int64), cache=True, nogil=True)
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


@njit(types.void(BYTES, types.uint64, types.uint64, REQUEST_COLUMNS, I64), cache=True, nogil=True)
def parse_write_request(data: Bytes, key_0: np.uint64, key_1: np.uint64, columns: RequestColumns, result: Ints) -> None:
    """One pass over a WriteRequest.

    data          uint8[n]; ``key_0``, ``key_1``: the secret key of the label hashes
    columns       out, as long as there is room for
    result        int64[RESULT_FIELDS], out: CODE 0, NEEDS_ROOM or an error, OFFSET in ``data`` of an error, and
                  how many SERIES, SAMPLES, METADATA and (skipped) HISTOGRAMS there were
    """
    label_starts, label_ends, counts = columns.label_starts, columns.label_ends, columns.counts
    hash_first, hash_second = columns.hash_first, columns.hash_second
    timestamps, value_bits = columns.timestamps, columns.value_bits
    metadata_starts, metadata_ends = columns.metadata_starts, columns.metadata_ends
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
