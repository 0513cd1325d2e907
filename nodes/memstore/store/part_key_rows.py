"""Rewriting the rows in which part keys are stored: fewer and better compressed, or without series that are gone."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from filoray.nodes.memstore.store.column_store import ColumnStore, PartKeyRow
from filoray.nodes.memstore.store.part_key_codec import SMALL_LEVEL, decode_part_keys, encode_part_keys
from filoray.nodes.memstore.store.store_errors import DamagedStore

KEYS_PER_ROW = 16_384
SMALL_ROW_BYTES = 48 << 10

Rewrite = tuple[list[int], list[bytes]]
"""Rows to drop, and the rows that take their place."""


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
            series_ids, row_keys = decode_part_keys(row.data, f"{shard_name}: part keys of row {row.row_id}")
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
        encode_part_keys(np.array([ids[i] for i in piece], np.int64), [keys[i] for i in piece], SMALL_LEVEL)
        for piece in pieces
    ]
