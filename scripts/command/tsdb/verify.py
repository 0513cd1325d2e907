"""Checks every checksum of a shard file at rest and names what is damaged; nothing is changed."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from filoray.command.tsdb.shard_files import ShardFile
from filoray.command.tsdb.stored_shard import StoredShard
from filoray.nodes.memstore.chunks.chunk_batch import BatchMeta, decode_batch_meta
from filoray.nodes.memstore.chunks.chunk_codec import checksum_of
from filoray.nodes.memstore.store.part_key_rows import decode_part_key_row
from filoray.nodes.memstore.store.store_errors import DamagedStore
from filoray.nodes.streams.log_stream import LogStream

_POLL_MS = 1000


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What one shard file's check found; ``problems`` is empty for a sound file. Counts are of what was checked."""

    file: ShardFile
    series: int
    chunks: int
    log_rows: int
    problems: tuple[str, ...]


def verify_shard_file(file: ShardFile, on_bytes: Callable[[int], None] = lambda count: None) -> VerifyReport:
    """SQLite's pages, then part keys, chunks and log rows with their checksums; ``on_bytes`` gets the bytes checked."""
    checker = _Checker(on_bytes)
    try:
        with StoredShard(file) as shard:
            checker.check(shard)
    except (DamagedStore, sqlite3.Error) as error:
        checker.problems.append(str(error))
    return VerifyReport(file, checker.series, checker.chunks, checker.log_rows, tuple(dict.fromkeys(checker.problems)))


class _Checker:
    def __init__(self, on_bytes: Callable[[int], None]) -> None:
        self._on_bytes = on_bytes
        self.problems: list[str] = []
        self.series = 0
        self.chunks = 0
        self.log_rows = 0

    def check(self, shard: StoredShard) -> None:
        self.problems += shard.integrity_problems()
        known = np.sort(np.concatenate([np.empty(0, np.int64), *self._series_ids(shard)]))
        self.series = len(known)
        if len(np.unique(known)) != len(known):
            self.problems.append("part keys: a series id is given twice")
        for batch_id in shard.batch_ids():
            self._check_batch(shard, batch_id, known)
        log = LogStream(shard, f"{shard.file.dataset} shard {shard.file.shard}", None)
        while not log.ended:
            for batch in log.poll(_POLL_MS):
                self.log_rows += 1
                self._on_bytes(len(batch.container))
        self.problems += [str(problem) for problem in log.problems.examples if "part keys" not in problem.reason]

    def _series_ids(self, shard: StoredShard) -> Iterator[NDArray[np.int64]]:
        for row in shard.part_keys():
            self._on_bytes(len(row.data))
            try:
                yield decode_part_key_row(row.data, f"part keys of row {row.row_id}")[0]
            except DamagedStore as error:
                self.problems.append(error.message)

    def _check_batch(self, shard: StoredShard, batch_id: int, known: NDArray[np.int64]) -> None:
        name = f"chunk batch {batch_id}"
        found = shard.batch(batch_id)
        if found is None:
            return  # dropped meanwhile
        packed_meta, data = found
        self._on_bytes(len(data))
        try:
            meta = decode_batch_meta(packed_meta, f"{name}: meta")
        except DamagedStore as error:
            self.problems.append(error.message)
            return
        self.chunks += len(meta.series_ids)
        if meta.data_bytes() != len(data):
            self.problems.append(f"{name}: {len(data)} bytes where its meta tells of {meta.data_bytes()}")
            return
        self._check_pieces(name, meta, memoryview(data))
        unknown = int((~np.isin(meta.series_ids, known)).sum())
        if unknown:
            self.problems.append(f"{name}: {unknown} chunks of series without part key")

    def _check_pieces(self, name: str, meta: BatchMeta, data: memoryview) -> None:
        column_places, chunk_places = meta.places()
        for what, places, lengths, checksums in (
            ("time column", column_places, meta.lengths, meta.checksums),
            ("chunk", chunk_places, meta.chunk_lengths, meta.chunk_checksums),
        ):
            rows = zip(places.tolist(), lengths.tolist(), checksums.tolist(), strict=True)
            for number, (place, length, checksum) in enumerate(rows):
                if checksum_of(data[place : place + length]) != checksum:
                    owner = f" of series {int(meta.series_ids[number])}" if what == "chunk" else ""
                    self.problems.append(f"{name}: {what} {number}{owner}: checksum does not match")
