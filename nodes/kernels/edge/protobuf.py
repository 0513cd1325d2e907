"""Compiled steps over protobuf's wire format, and the encoder of Prometheus samples.

Every step takes a position and the end of the message it is in, never reads at or past that end, and
gives the next position, or a negative error code (``-ERROR_...``). The format is described at
https://protobuf.dev/programming-guides/encoding/. Which fields mean what is its callers' affair.
"""

from __future__ import annotations

from numba import njit, types

from filoray.nodes.kernels.arrays import Bytes, Ints, UInt64s
from filoray.nodes.kernels.edge.hashing import BYTES

ERROR_VARINT_CUT = 1
ERROR_VARINT_LONG = 2
ERROR_FIELD_ZERO = 3
ERROR_LENGTH = 4
ERROR_FIXED_CUT = 5
ERROR_WIRE_TYPE = 6
ERROR_GROUP = 7
ERROR_FIELD_TYPE = 8

ERROR_TEXTS = {
    ERROR_VARINT_CUT: "the message ends within a varint",
    ERROR_VARINT_LONG: "a varint is longer than 10 bytes",
    ERROR_FIELD_ZERO: "a field has number 0 or one over 536870911",
    ERROR_LENGTH: "a field's length reaches past the end of its message",
    ERROR_FIXED_CUT: "the message ends within a fixed-size field",
    ERROR_WIRE_TYPE: "a field has a wire type that protobuf does not know",
    ERROR_GROUP: "a group is not closed, or closed without being open",
    ERROR_FIELD_TYPE: "a known field has another wire type than its definition",
}

WIRE_VARINT = 0
WIRE_FIXED64 = 1
WIRE_BYTES = 2
WIRE_GROUP_START = 3
WIRE_GROUP_END = 4
WIRE_FIXED32 = 5

SAMPLE_BYTES_MAX = 22  # tag, length, tag, 8 bytes of value, tag, 10 bytes of timestamp

_FIELD_NUMBER_MAX = (1 << 29) - 1


_TWO_INTS = types.UniTuple(types.int64, 2)  # type: ignore[no-untyped-call]  # numba's own
_THREE_INTS = types.UniTuple(types.int64, 3)  # type: ignore[no-untyped-call]  # numba's own


@njit(_TWO_INTS(BYTES, types.int64, types.int64), cache=True, nogil=True)
def read_varint(data: Bytes, position: int, end: int) -> tuple[int, int]:
    """(value as int64 bits, next position or -error)."""
    value = 0
    shift = 0
    while position < end:
        byte = types.int64(data[position])
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift >= 70:
            return 0, -ERROR_VARINT_LONG
    return 0, -ERROR_VARINT_CUT


@njit(_THREE_INTS(BYTES, types.int64, types.int64), cache=True, nogil=True)
def read_tag(data: Bytes, position: int, end: int) -> tuple[int, int, int]:
    """(field number, wire type, next position or -error)."""
    if position < end and 8 <= data[position] < 0x80:
        return types.int64(data[position]) >> 3, types.int64(data[position]) & 7, position + 1
    tag, position = read_varint(data, position, end)
    if position < 0:
        return 0, 0, position
    number = tag >> 3
    if number <= 0 or number > _FIELD_NUMBER_MAX:
        return 0, 0, -ERROR_FIELD_ZERO
    return number, tag & 7, position


@njit(types.int64(BYTES, types.int64, types.int64), cache=True, nogil=True)
def read_length(data: Bytes, position: int, end: int) -> int:
    """For a length-delimited field: length << 8 | bytes of the length's varint, or -error.

    A length that is given fits before ``end``.
    """
    if position < end and data[position] < 0x80:
        length = types.int64(data[position])
        start = position + 1
    else:
        length, start = read_varint(data, position, end)
        if start < 0:
            return start
    if length < 0 or length > end - start:
        return -ERROR_LENGTH
    return length << 8 | (start - position)


@njit(types.int64(BYTES, types.int64, types.int64, types.int64), cache=True, nogil=True)
def skip_field(data: Bytes, position: int, end: int, wire_type: int) -> int:
    """Position after a field's payload, groups with all that is in them; or -error."""
    depth = 0
    while True:
        if wire_type == WIRE_VARINT:
            _, position = read_varint(data, position, end)
            if position < 0:
                return position
        elif wire_type in (WIRE_FIXED64, WIRE_FIXED32):
            size = 8 if wire_type == WIRE_FIXED64 else 4
            if end - position < size:
                return -ERROR_FIXED_CUT
            position += size
        elif wire_type == WIRE_BYTES:
            length = read_length(data, position, end)
            if length < 0:
                return length
            position += (length & 0xFF) + (length >> 8)
        elif wire_type == WIRE_GROUP_START:
            depth += 1
        elif wire_type == WIRE_GROUP_END:
            depth -= 1
            if depth < 0:
                return -ERROR_GROUP
        else:
            return -ERROR_WIRE_TYPE
        if depth == 0:
            return position
        if position >= end:
            return -ERROR_GROUP
        _, wire_type, position = read_tag(data, position, end)
        if position < 0:
            return position


@njit(
    types.int64(
        types.Array(types.int64, 1, "C", readonly=True),
        types.Array(types.uint64, 1, "C", readonly=True),
        types.int64,
        types.int64,
        BYTES,
    ),
    cache=True,
    nogil=True,
)
def encode_samples(timestamps: Ints, value_bits: UInt64s, start: int, end: int, out: Bytes) -> int:
    """Write the samples ``start:end`` as field 2 of Prometheus's TimeSeries into ``out``; the bytes written.

    ``out`` has room for ``SAMPLE_BYTES_MAX`` a sample.
    """
    at = 0
    for i in range(start, end):
        out[at] = 0x12
        length_at = at + 1
        out[at + 2] = 0x09
        bits = value_bits[i]
        for k in range(8):
            out[at + 3 + k] = types.uint8(bits & types.uint64(0xFF))
            bits >>= types.uint64(8)
        out[at + 11] = 0x10
        at += 12
        rest = types.uint64(timestamps[i])
        while rest >= types.uint64(0x80):
            out[at] = types.uint8(rest | types.uint64(0x80))
            rest >>= types.uint64(7)
            at += 1
        out[at] = types.uint8(rest)
        at += 1
        out[length_at] = types.uint8(at - length_at - 1)
    return at
