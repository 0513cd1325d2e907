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
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import msgpack
import numpy as np
from numpy.typing import NDArray

from filoray.cluster.errors import BadData
from filoray.nodes.data.part_key import NO_PART_KEYS, JoinedPartKeys, hash_part_keys
from filoray.nodes.kernels.arrays import int32s
from filoray.nodes.kernels.storage.column_bounds import total_count

VERSION = 1
_LENGTH = struct.Struct("<I")
_HEADER_BYTES_MAX = 64
_NO_SERIES = np.empty(0, np.int32)


class _Sizes(NamedTuple):
    """The header's numbers behind the version; each column is as long as one of them."""

    series: int
    samples: int
    keys: int
    key_bytes: int


class _Column(NamedTuple):
    dtype: np.dtype[Any]
    length: int
    """Which of the sizes it is."""


_SERIES, _SAMPLES, _KEYS, _KEY_BYTES = range(4)
_KEY_COLUMNS_FROM = 5
_COLUMNS = (
    _Column(np.dtype("<u8"), _SERIES),
    _Column(np.dtype("<u8"), _SERIES),
    _Column(np.dtype("<i4"), _SERIES),
    _Column(np.dtype("<i8"), _SAMPLES),
    _Column(np.dtype("<f8"), _SAMPLES),
    _Column(np.dtype("<i4"), _KEYS),
    _Column(np.dtype("<i8"), _KEYS),
    _Column(np.dtype("u1"), _KEY_BYTES),
)
"""Those of the module's table, in its order."""
_SAMPLE_COLUMNS = _COLUMNS[:_KEY_COLUMNS_FROM]


@dataclass(frozen=True, slots=True)
class RecordContainer:
    """Columns as in the module's table. Arrays that ``decode`` gives are read-only views of its input.

    ``keys``: the part keys of the series ``key_series``, in the same order.
    """

    hash_high: NDArray[np.uint64]
    hash_low: NDArray[np.uint64]
    counts: NDArray[np.int32]
    timestamps: NDArray[np.int64]
    values: NDArray[np.float64]
    key_series: NDArray[np.int32] = field(default_factory=lambda: _NO_SERIES)
    keys: JoinedPartKeys = NO_PART_KEYS

    @classmethod
    def complete(
        cls,
        part_keys: Sequence[bytes],
        counts: NDArray[np.int32],
        timestamps: NDArray[np.int64],
        values: NDArray[np.float64],
    ) -> RecordContainer:
        """Series of these part keys, which all are carried along."""
        high, low = hash_part_keys(part_keys)
        carried = np.arange(len(part_keys), dtype=np.int32)
        return cls(high, low, counts, timestamps, values, carried, JoinedPartKeys.of(part_keys))

    def with_part_keys(self, series: NDArray[np.int32], part_keys: Sequence[bytes]) -> RecordContainer:
        """The same samples; ``part_keys`` of exactly these series are carried along."""
        return replace(self, key_series=series, keys=JoinedPartKeys.of(part_keys))

    @property
    def series_count(self) -> int:
        return len(self.counts)

    @property
    def sample_count(self) -> int:
        return len(self.timestamps)

    def part_keys(self) -> dict[int, bytes]:
        """Series index to part key, for the series that carry it."""
        return dict(zip(self.key_series.tolist(), self.keys.to_list(), strict=True))

    def encode(self) -> bytes:
        columns: list[NDArray[Any]] = [self.hash_high, self.hash_low, self.counts, self.timestamps, self.values]
        if len(self.key_series):
            columns += [self.key_series, self.keys.ends, self.keys.data]
        header = msgpack.packb([VERSION, *self._sizes()])
        parts: list[bytes | memoryview] = [_LENGTH.pack(len(header)), header]
        position = _LENGTH.size + len(header)
        for column, (dtype, _) in zip(columns, _COLUMNS, strict=False):  # those of part keys may be left out
            padding = -position % 8
            data = np.ascontiguousarray(column, dtype)
            parts += [b"\0" * padding, data.data]
            position += padding + data.nbytes
        return b"".join(parts)

    def _sizes(self) -> _Sizes:
        return _Sizes(self.series_count, self.sample_count, len(self.key_series), len(self.keys.data))

    @classmethod
    def decode(cls, data: bytes | memoryview) -> RecordContainer:
        """Views into ``data``; raises BadData if it is not a whole container of a known version."""
        try:
            (header_length,) = _LENGTH.unpack_from(data)
            if header_length > _HEADER_BYTES_MAX:
                raise BadData(f"not a record container: a header of {header_length} bytes")
            header = msgpack.unpackb(bytes(data[_LENGTH.size : _LENGTH.size + header_length]))
            if type(header) is not list or not {int}.issuperset(map(type, header)):
                raise BadData("not a record container: its header is no array of whole numbers")
            version, series_count, sample_count, key_count, key_bytes_count = header
            sizes = _Sizes(series_count, sample_count, key_count, key_bytes_count)
            if version != VERSION:
                raise BadData(f"record container of version {version}; this filoray reads version {VERSION}")
            odd = [size for size in sizes if not 0 <= size <= len(data)]  # numpy reads -1 as "all that is left"
            if odd:
                raise BadData(f"not a record container: {odd[0]} entries of a column in {len(data)} bytes")
            position = _LENGTH.size + header_length
            columns: list[NDArray[Any]] = []
            for dtype, length in _COLUMNS if sizes.keys or sizes.key_bytes else _SAMPLE_COLUMNS:
                position += -position % 8
                columns.append(np.frombuffer(data, dtype, sizes[length], position))
                position += sizes[length] * dtype.itemsize
        except (struct.error, ValueError, TypeError, OverflowError, msgpack.UnpackException) as error:
            raise BadData(f"not a record container: {error}") from error
        high, low, counts, timestamps, values, *of_keys = columns
        if total_count(int32s(counts)) != sizes.samples:
            raise BadData(f"record container: counts of series do not add up to its {sizes.samples} samples")
        if not of_keys:
            return cls(high, low, counts, timestamps, values)
        if not sizes.keys:
            raise BadData("record container: bytes of part keys that no series has")
        key_series, key_ends, key_bytes = of_keys
        container = cls(high, low, counts, timestamps, values, key_series, JoinedPartKeys(key_ends, key_bytes))
        container._check_keys()
        return container

    def _check_keys(self) -> None:
        """Raises BadData unless each key belongs to one series of the container, and the keys fill their bytes."""
        series, ends = self.key_series, self.keys.ends
        if series.min() < 0 or series.max() >= self.series_count:
            raise BadData(f"record container: a part key of a series that is not among its {self.series_count}")
        if len(series) > self.series_count or (np.bincount(series) > 1).any():
            raise BadData("record container: two part keys of one series")
        if ends[0] < 0 or (np.diff(ends) < 0).any() or ends[-1] != len(self.keys.data):
            raise BadData(f"record container: its part keys do not fill their {len(self.keys.data)} bytes")
