"""Part keys as the column store keeps them: many in one compressed row.

    checksum (checked_bytes) | zstd of msgpack [series ids, key lengths, all keys joined]

Series ids (int64) and lengths (uint32) are pcodec columns. The part keys of one shard repeat nearly all of
their texts, so compression takes them from 150 bytes to about 10.
"""

from __future__ import annotations

from collections.abc import Sequence

import cramjam
import msgpack
import numpy as np
from numpy.typing import NDArray
from pcodec import ChunkConfig, standalone

from filoray.nodes.memstore.store.checked_bytes import seal, unseal

QUICK_LEVEL = 1
SMALL_LEVEL = 12


def encode_part_keys(series_ids: NDArray[np.int64], keys: Sequence[bytes], level: int) -> bytes:
    config = ChunkConfig()
    lengths = np.array([len(key) for key in keys], np.uint32)
    packed = msgpack.packb(
        [
            standalone.simple_compress(np.ascontiguousarray(series_ids, np.int64), config),
            standalone.simple_compress(lengths, config),
            b"".join(keys),
        ]
    )
    return seal(bytes(cramjam.zstd.compress(packed, level)))


def decode_part_keys(data: bytes, what: str) -> tuple[NDArray[np.int64], list[bytes]]:
    """Series ids and keys. Raises DamagedStore naming ``what``."""
    id_column, length_column, joined = msgpack.unpackb(bytes(cramjam.zstd.decompress(unseal(data, what))))
    series_ids = standalone.simple_decompress(id_column)
    lengths = standalone.simple_decompress(length_column)
    if series_ids is None or lengths is None:
        return np.empty(0, np.int64), []
    ends = np.cumsum(lengths, dtype=np.int64).tolist()
    return series_ids, [joined[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]
