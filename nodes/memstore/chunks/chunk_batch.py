"""A stored chunk batch: compressed columns side by side, and the meta that finds them again.

    data   time columns, then chunks, without gaps
    meta   checksum (checked_bytes) | msgpack [version, one pcodec column for each of
           series ids i64, time column of chunk u32, length u32, checksum u32 of the chunks;
           samples u32, first ms i64, last ms i64, length u32, checksum u32 of the time columns]

Meta takes about 6 bytes a chunk, of which 4 are the checksum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgpack
import numpy as np
from numpy.typing import NDArray
from pcodec import ChunkConfig, standalone

from filoray.nodes.memstore.store.checked_bytes import seal, unseal
from filoray.nodes.memstore.store.store_errors import DamagedStore

VERSION = 1
_DTYPES = (np.int64, np.uint32, np.uint32, np.uint32, np.uint32, np.int64, np.int64, np.uint32, np.uint32)


@dataclass(frozen=True, slots=True)
class BatchMeta:
    """``series_ids`` and ``chunk_*`` have an entry per chunk, the rest one per time column."""

    series_ids: NDArray[np.int64]
    chunk_columns: NDArray[np.uint32]
    chunk_lengths: NDArray[np.uint32]
    chunk_checksums: NDArray[np.uint32]
    samples: NDArray[np.uint32]
    first_ms: NDArray[np.int64]
    last_ms: NDArray[np.int64]
    lengths: NDArray[np.uint32]
    checksums: NDArray[np.uint32]

    def places(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Byte offsets of the time columns and of the chunks in the batch's data."""
        ends = np.cumsum(np.concatenate([self.lengths, self.chunk_lengths]), dtype=np.int64)
        starts = np.concatenate([[0], ends[:-1]]).astype(np.int64)
        return starts[: len(self.lengths)], starts[len(self.lengths) :]

    def data_bytes(self) -> int:
        return int(self.lengths.sum(dtype=np.int64) + self.chunk_lengths.sum(dtype=np.int64))


def encode_batch_meta(meta: BatchMeta) -> bytes:
    config = ChunkConfig()
    columns: Sequence[NDArray[np.generic]] = [getattr(meta, name) for name in BatchMeta.__slots__]
    packed = [
        standalone.simple_compress(np.ascontiguousarray(column, dtype), config)
        for column, dtype in zip(columns, _DTYPES, strict=True)
    ]
    return seal(msgpack.packb([VERSION, *packed]))


def decode_batch_meta(data: bytes, what: str) -> BatchMeta:
    """Raises DamagedStore naming ``what``."""
    version, *columns = msgpack.unpackb(unseal(data, what))
    if version != VERSION:
        raise DamagedStore(f"{what}: written in version {version}; this filoray reads version {VERSION}")
    decoded = [standalone.simple_decompress(column) for column in columns]
    return BatchMeta(
        *[np.empty(0, dtype) if column is None else column for column, dtype in zip(decoded, _DTYPES, strict=True)]
    )
