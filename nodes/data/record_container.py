"""The one form a batch of samples has inside: on the wire to a node, in a shard's log, in Kafka.

    +---------+----------------------------+-----------------------------------------------+
    | u32 LE  | msgpack header             | columns, little-endian, each 8-byte aligned    |
    | length  | [version, n, total, k, kb] | from the start of the container               |
    +---------+----------------------------+-----------------------------------------------+

    column         dtype          meaning
    hash_high      uint64[n]      upper half of the xxh3-128 of each series' part key
    hash_low       uint64[n]      lower half
    counts         int32[n]       samples of each series, in order; their sum is ``total``
    timestamps     int64[total]   ms since 1970
    values         float64[total]
    key_series     int32[k]       which series carry their part key along (the receiver may not know it)
    key_ends       int64[k]       end of each part key in ``key_bytes``
    key_bytes      uint8[kb]

A part key may be left out where its receiver is thought to know it; one that does not answers with
the series it misses and is sent the container with all keys. What is stored for long elsewhere
(Kafka) carries all keys.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray

from filoray.cluster.errors import BadData

VERSION = 1
_LENGTH = struct.Struct("<I")
_HEADER_BYTES_MAX = 64


@dataclass(frozen=True, slots=True)
class RecordContainer:
    """Columns as in the module's table. Arrays that ``decode`` gives are read-only views of its input."""

    hash_high: NDArray[np.uint64]
    hash_low: NDArray[np.uint64]
    counts: NDArray[np.int32]
    timestamps: NDArray[np.int64]
    values: NDArray[np.float64]
    key_series: NDArray[np.int32]
    key_ends: NDArray[np.int64]
    key_bytes: NDArray[np.uint8]

    @property
    def series_count(self) -> int:
        return len(self.counts)

    @property
    def sample_count(self) -> int:
        return len(self.timestamps)

    def part_keys(self) -> dict[int, bytes]:
        """Series index to part key, for the series that carry it."""
        blob = self.key_bytes.tobytes()
        ends = self.key_ends.tolist()
        starts = [0, *ends][: len(ends)]
        return {
            series: blob[start:end] for series, start, end in zip(self.key_series.tolist(), starts, ends, strict=True)
        }

    def encode(self) -> bytes:
        header = msgpack.packb(
            [VERSION, self.series_count, self.sample_count, len(self.key_series), len(self.key_bytes)]
        )
        parts = [_LENGTH.pack(len(header)), header]
        position = _LENGTH.size + len(header)
        for column, dtype in zip(self._columns(), _DTYPES, strict=True):
            padding = -position % 8
            data = np.ascontiguousarray(column, dtype).tobytes()
            parts += [b"\0" * padding, data]
            position += padding + len(data)
        return b"".join(parts)

    def _columns(self) -> list[NDArray[Any]]:
        return [
            self.hash_high,
            self.hash_low,
            self.counts,
            self.timestamps,
            self.values,
            self.key_series,
            self.key_ends,
            self.key_bytes,
        ]

    @classmethod
    def decode(cls, data: bytes | memoryview) -> RecordContainer:
        """Views into ``data``; raises BadData if it is not a whole container of a known version."""
        try:
            (header_length,) = _LENGTH.unpack_from(data)
            if header_length > _HEADER_BYTES_MAX:
                raise BadData(f"not a record container: a header of {header_length} bytes")
            header = msgpack.unpackb(bytes(data[_LENGTH.size : _LENGTH.size + header_length]))
            if type(header) is not list or any(type(number) is not int for number in header):
                raise BadData("not a record container: its header is no array of whole numbers")
            version, series_count, sample_count, key_count, key_bytes_count = header
            if version != VERSION:
                raise BadData(f"record container of version {version}; this filoray reads version {VERSION}")
            lengths = (
                series_count,
                series_count,
                series_count,
                sample_count,
                sample_count,
                key_count,
                key_count,
                key_bytes_count,
            )
            odd = [length for length in lengths if not 0 <= length <= len(data)]  # numpy reads -1 as "all that is left"
            if odd:
                raise BadData(f"not a record container: {odd[0]} entries of a column in {len(data)} bytes")
            position = _LENGTH.size + header_length
            columns = []
            for dtype, length in zip(_DTYPES, lengths, strict=True):
                position += -position % 8
                columns.append(np.frombuffer(data, dtype, length, position))
                position += length * dtype.itemsize
        except (struct.error, ValueError, TypeError, OverflowError, msgpack.UnpackException) as error:
            raise BadData(f"not a record container: {error}") from error
        container = cls(*columns)
        if int(container.counts.sum()) != sample_count or (container.counts < 0).any():
            raise BadData(f"record container: counts of series do not add up to its {sample_count} samples")
        if key_count:
            container._check_keys()
        elif key_bytes_count:
            raise BadData("record container: bytes of part keys that no series has")
        return container

    def _check_keys(self) -> None:
        """Raises BadData unless each key belongs to one series of the container, and the keys fill their bytes."""
        series, ends = self.key_series, self.key_ends
        if series.min() < 0 or series.max() >= self.series_count:
            raise BadData(f"record container: a part key of a series that is not among its {self.series_count}")
        if len(series) > self.series_count or (np.bincount(series) > 1).any():
            raise BadData("record container: two part keys of one series")
        if ends[0] < 0 or (np.diff(ends) < 0).any() or ends[-1] != len(self.key_bytes):
            raise BadData(f"record container: its part keys do not fill their {len(self.key_bytes)} bytes")


_DTYPES: list[np.dtype[Any]] = [
    np.dtype("<u8"), np.dtype("<u8"), np.dtype("<i4"), np.dtype("<i8"), np.dtype("<f8"),
    np.dtype("<i4"), np.dtype("<i8"), np.dtype("u1"),
]  # fmt: skip
