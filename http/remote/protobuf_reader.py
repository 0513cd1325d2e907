"""Reads protobuf messages field by field where there are few of them: metadata, remote read requests.

What comes in bulk (remote write's labels and samples) is read by kernels (``filoray.nodes.kernels.edge``). Both take
the same messages for malformed. Messages of four types do not pay for generated code, and the official package would
be parsing what must not be trusted with a native parser whose limits we do not set.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from filoray.cluster.errors import BadData
from filoray.nodes.kernels.edge.protobuf import (
    ERROR_FIELD_TYPE,
    ERROR_FIELD_ZERO,
    ERROR_FIXED_CUT,
    ERROR_GROUP,
    ERROR_LENGTH,
    ERROR_TEXTS,
    ERROR_VARINT_CUT,
    ERROR_VARINT_LONG,
    ERROR_WIRE_TYPE,
    WIRE_BYTES,
    WIRE_FIXED32,
    WIRE_FIXED64,
    WIRE_GROUP_END,
    WIRE_GROUP_START,
    WIRE_VARINT,
)

_FIELD_NUMBER_MAX = (1 << 29) - 1


def malformed(message: str, code: int, offset: int) -> BadData:
    """The error for a message of type ``message`` that cannot be read at byte ``offset`` of the decompressed body."""
    return BadData(f"malformed {message}: {ERROR_TEXTS[code]} (byte {offset} of the decompressed body)")


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a message: ``start:end`` is its payload, ``value`` its bits as an int >= 0 unless it is bytes."""

    message: str
    data: bytes
    number: int
    wire_type: int
    tag_offset: int
    start: int
    end: int
    value: int

    def as_int64(self) -> int:
        """A varint as int64. Raises BadData for another wire type, like the methods below."""
        self._expect(WIRE_VARINT)
        return self.value - (1 << 64) if self.value >> 63 else self.value

    def as_bytes(self) -> bytes:
        self._expect(WIRE_BYTES)
        return self.data[self.start : self.end]

    def as_text(self) -> str:
        """Raises BadData if it is not UTF-8."""
        try:
            return self.as_bytes().decode()
        except UnicodeDecodeError as error:
            raise BadData(
                f"malformed {self.message}: field {self.number} is not valid UTF-8 "
                f"(byte {self.start + error.start} of the decompressed body)"
            ) from error

    def as_int64s(self) -> list[int]:
        """A repeated varint, packed or not."""
        if self.wire_type != WIRE_BYTES:
            return [self.as_int64()]
        values = []
        position = self.start
        while position < self.end:
            value, position = _varint(self.data, position, self.end, self.message)
            values.append(value - (1 << 64) if value >> 63 else value)
        return values

    def message_fields(self, message: str) -> Iterator[Field]:
        """The fields of this field's payload, which is a message of that type."""
        self._expect(WIRE_BYTES)
        return fields(self.data, message, self.start, self.end)

    def _expect(self, wire_type: int) -> None:
        if self.wire_type != wire_type:
            raise malformed(self.message, ERROR_FIELD_TYPE, self.tag_offset)


def fields(data: bytes, message: str, start: int = 0, end: int | None = None) -> Iterator[Field]:
    """Fields of ``data[start:end]``, in order; groups, which no known message uses, are skipped.

    Raises BadData, while iterating, that names ``message`` (the type, for the reader) and the offset.
    """
    end = len(data) if end is None else end
    position = start
    depth = 0
    while position < end:
        tag_offset = position
        tag, position = _varint(data, position, end, message)
        number, wire_type = tag >> 3, tag & 7
        if not 0 < number <= _FIELD_NUMBER_MAX:
            raise malformed(message, ERROR_FIELD_ZERO, tag_offset)
        value = 0
        payload = position
        if wire_type == WIRE_VARINT:
            value, position = _varint(data, position, end, message)
        elif wire_type in (WIRE_FIXED64, WIRE_FIXED32):
            position += 8 if wire_type == WIRE_FIXED64 else 4
            if position > end:
                raise malformed(message, ERROR_FIXED_CUT, tag_offset)
            value = int.from_bytes(data[payload:position], "little")
        elif wire_type == WIRE_BYTES:
            length, payload = _varint(data, position, end, message)
            position = payload + length
            if position > end:
                raise malformed(message, ERROR_LENGTH, tag_offset)
        elif wire_type == WIRE_GROUP_START:
            depth += 1
        elif wire_type == WIRE_GROUP_END:
            depth -= 1
            if depth < 0:
                raise malformed(message, ERROR_GROUP, tag_offset)
            continue
        else:
            raise malformed(message, ERROR_WIRE_TYPE, tag_offset)
        if depth == 0:
            yield Field(message, data, number, wire_type, tag_offset, payload, position, value)
    if depth:
        raise malformed(message, ERROR_GROUP, end)


def _varint(data: bytes, position: int, end: int, message: str) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= end:
            raise malformed(message, ERROR_VARINT_CUT, position)
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & ((1 << 64) - 1), position
    raise malformed(message, ERROR_VARINT_LONG, position)
