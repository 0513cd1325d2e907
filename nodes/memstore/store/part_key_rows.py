"""Part keys as the column store keeps them, many in one compressed row, and the rewriting of such rows.

    checksum (checked_bytes) | zstd of msgpack [series ids, key lengths, all keys joined]

Series ids (int64) and lengths (uint32) are pcodec columns. The part keys of one shard repeat nearly all of
their texts, so compression takes them from 150 bytes to about 10. What a part key itself is: ``data.part_key``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import cramjam
import msgpack
import numpy as np
from numpy.typing import NDArray
from pcodec import ChunkConfig, standalone

from filoray.nodes.data.part_key import JoinedPartKeys
from filoray.nodes.memstore.store.checked_bytes import seal, unseal
from filoray.nodes.memstore.store.column_store import ColumnStore, PartKeyRow
from filoray.nodes.memstore.store.store_errors import DamagedStore

QUICK_LEVEL = 1
SMALL_LEVEL = 12
KEYS_PER_ROW = 16_384
SMALL_ROW_BYTES = 48 << 10

Rewrite = tuple[list[int], list[bytes]]
"""Rows to drop, and the rows that take their place."""


def encode_part_key_row(series_ids: NDArray[np.int64], keys: Sequence[bytes], level: int) -> bytes:
    config = ChunkConfig()
    joined = JoinedPartKeys.of(keys)
    packed = msgpack.packb(
        [
            standalone.simple_compress(np.ascontiguousarray(series_ids, np.int64), config),
            standalone.simple_compress(joined.lengths.astype(np.uint32), config),
            joined.data.tobytes(),
        ]
    )
    return seal(bytes(cramjam.zstd.compress(packed, level)))


def decode_part_key_row(data: bytes, what: str) -> tuple[NDArray[np.int64], list[bytes]]:
    """Series ids and keys. Raises DamagedStore naming ``what``."""
    id_column, length_column, joined = msgpack.unpackb(bytes(cramjam.zstd.decompress(unseal(data, what))))
    series_ids = standalone.simple_decompress(id_column)
    lengths = standalone.simple_decompress(length_column)
    if series_ids is None or lengths is None:
        return np.empty(0, np.int64), []
    return series_ids, JoinedPartKeys(np.cumsum(lengths, dtype=np.int64), np.frombuffer(joined, np.uint8)).to_list()


def merge_small_rows(store: ColumnStore, shard_name: str) -> Rewrite:
    """Small rows into larger ones; nothing if there are less than two."""
    small = [row for row in store.part_keys() if len(row.data) < SMALL_ROW_BYTES]
    return _rewrite(small, np.empty(0, np.int64), shard_name) if len(small) > 1 else ([], [])


def without_series(store: ColumnStore, dead_ids: NDArray[np.int64], shard_name: str) -> Rewrite:
    """The rows that have series of these ids (ascending), without them; the other rows stay as they are."""
    return _rewrite(store.part_keys(), dead_ids, shard_name)


def _rewrite(rows: Iterable[PartKeyRow], dead_ids: NDArray[np.int64], shard_name: str) -> Rewrite:
    dropped: list[int] = []
    ids: list[int] = []
    keys: list[bytes] = []
    for row in rows:
        try:
            series_ids, row_keys = decode_part_key_row(row.data, f"{shard_name}: part keys of row {row.row_id}")
        except DamagedStore:
            continue  # stays as it is, for whoever can mend it
        dead = np.isin(series_ids, dead_ids)
        if len(dead_ids) and not dead.any():
            continue
        dropped.append(row.row_id)
        for series_id, key, is_dead in zip(series_ids.tolist(), row_keys, dead.tolist(), strict=True):
            if not is_dead:
                ids.append(series_id)
                keys.append(key)
    order = sorted(range(len(ids)), key=ids.__getitem__)
    pieces = [order[start : start + KEYS_PER_ROW] for start in range(0, len(order), KEYS_PER_ROW)]
    return dropped, [
        encode_part_key_row(np.array([ids[i] for i in piece], np.int64), [keys[i] for i in piece], SMALL_LEVEL)
        for piece in pieces
    ]
