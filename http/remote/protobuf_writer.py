"""Writes protobuf messages: the few shapes that remote read answers with and remote write requests consist of.

Samples, which come in bulk, are encoded by a kernel. https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from filoray.nodes.kernels.edge.protobuf import SAMPLE_BYTES_MAX, WIRE_BYTES, WIRE_VARINT, encode_samples

LABELS_FIELD = 1  # of TimeSeries and ChunkedSeries alike


def varint(value: int) -> bytes:
    """A number as varint; a negative one as its 64 bits, which is what int64 fields hold."""
    value &= (1 << 64) - 1
    data = bytearray()
    while value >= 0x80:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    data.append(value)
    return bytes(data)


def varint_field(number: int, value: int) -> bytes:
    return varint(number << 3 | WIRE_VARINT) + varint(value)


def bytes_field(number: int, payload: bytes) -> bytes:
    """A string, bytes or message field."""
    return varint(number << 3 | WIRE_BYTES) + varint(len(payload)) + payload


def label_fields(labels: Mapping[str, str]) -> bytes:
    """The label fields of a series message, sorted by name as Prometheus expects; empty values are left out."""
    return b"".join(
        bytes_field(LABELS_FIELD, bytes_field(1, name.encode()) + bytes_field(2, value.encode()))
        for name, value in sorted(labels.items())
        if value
    )


def sample_fields(timestamps: NDArray[np.int64], values: NDArray[np.float64]) -> bytes:
    """The sample fields of a TimeSeries message; NaNs keep their bits. Arrays of the same length, ms and float64."""
    timestamps = np.ascontiguousarray(timestamps, np.int64)
    bits = np.ascontiguousarray(values, np.float64).view(np.uint64)
    out = np.empty(len(timestamps) * SAMPLE_BYTES_MAX, np.uint8)
    length = encode_samples(timestamps, bits, 0, len(timestamps), out)
    return out[:length].tobytes()
