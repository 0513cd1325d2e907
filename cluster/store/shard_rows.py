"""How the MetaStore writes one shard of a shard map down: the text of a row, and back."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from filoray.cluster.config.dataset import DatasetConfig
from filoray.cluster.control.copy_set import ONE_COPY, CopySet
from filoray.cluster.control.shard_map import ShardEntry, ShardMap
from filoray.cluster.control.shard_status import OWNED, ShardStatus, StatusKind, parse_status

IN_ROWS = "each shard has a row of its own"
"""In place of a whole map: earlier releases, which wrote one, stop at this rather than begin with none."""


def text_of(entry: ShardEntry) -> str:
    """Where a shard has copies, they stand at the row's end."""
    row: list[object] = [str(entry.status), entry.status.reason, entry.node, entry.epoch]
    copies = entry.copies
    return json.dumps(row if copies == ONE_COPY else [*row, [copies.version, copies.followers, copies.in_sync]])


def map_of(
    config: DatasetConfig,
    whole: str | None,
    texts: Mapping[int, str],
    epochs: Mapping[tuple[str, int], int],
    members: Mapping[str, int],
) -> ShardMap:
    """The map as it was, but an owner that certainly died leaves its shards Down. Versions are the manager's.

    ``whole``: IN_ROWS where ``texts`` has each shard's; else what a release wrote that wrote maps whole, be it before
    or after there were rows. None of a map that was never written.
    """
    initial = ShardMap.initial(config.name, config.num_shards)
    if whole is None:
        rows = [[str(entry.status), "", None, 0] for entry in initial.shards]
    elif whole == IN_ROWS:
        rows = [json.loads(texts[shard]) for shard in range(config.num_shards)]
    else:
        rows = json.loads(whole)
    return ShardMap(config.name, initial.version, tuple(_entries(config.name, rows, epochs, members)))


def _entries(
    name: str, rows: list[list[Any]], epochs: Mapping[tuple[str, int], int], members: Mapping[str, int]
) -> Iterator[ShardEntry]:
    for shard, (status_text, reason, node, epoch, *copies) in enumerate(rows):
        status = ShardStatus(parse_status(status_text).kind, reason=reason)
        if status.kind in OWNED and node not in members:
            status, node = ShardStatus(StatusKind.DOWN), None
        last_epoch = max(epoch, epochs.get((name, shard), 0))
        yield ShardEntry(shard, status, node, last_epoch, _copies(*copies))


def _copies(copies: tuple[int, list[str], list[str]] | None = None) -> CopySet:
    if copies is None:
        return ONE_COPY
    version, followers, in_sync = copies
    return CopySet(version, tuple(followers), tuple(in_sync))
