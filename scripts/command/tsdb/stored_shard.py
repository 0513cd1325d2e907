"""A shard file as it lies on disk, read without taking it over: the tools' view of the column store's tables.

May be used beside a running cluster: each question sees what was committed when it was asked.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from filoray.command.tsdb.shard_files import ShardFile
from filoray.nodes.memstore.store.column_store import LogRow, PartKeyRow
from filoray.nodes.memstore.store.sqlite_tables import FORMAT
from filoray.nodes.memstore.store.store_errors import DamagedStore

_INTEGRITY_PROBLEMS_MAX = 100


@dataclass(frozen=True, slots=True)
class StoredState:
    """``checkpoints``: per flush group, the last offset whose samples are all in chunks."""

    epoch: int
    group_count: int
    next_offset: int
    checkpoints: Mapping[int, int]

    @property
    def offsets(self) -> list[int]:
        """The checkpoint of each flush group; -1: it has none."""
        return [self.checkpoints.get(group, -1) for group in range(self.group_count)]


class StoredShard:
    """Use as a context manager. Raises DamagedStore for what SQLite cannot read."""

    def __init__(self, file: ShardFile) -> None:
        self.file = file
        # Read-write, or SQLite could not open a file whose writer was killed and left a log; nothing is changed.
        self._database = sqlite3.connect(f"{file.path.resolve().as_uri()}?mode=rw", uri=True, timeout=10)
        self._database.execute("PRAGMA query_only = ON")

    def __enter__(self) -> StoredShard:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    @property
    def state(self) -> StoredState:
        for version, epoch, groups, next_offset in self._rows(
            "SELECT format, epoch, group_count, next_offset FROM meta"
        ):
            if version != FORMAT:
                raise DamagedStore(f"{self.file.path}: written in format {version}; this filoray reads {FORMAT}")
            checkpoints = dict(self._rows('SELECT flush_group, "offset" FROM checkpoints'))
            return StoredState(epoch, groups, next_offset, checkpoints)
        raise DamagedStore(f"{self.file.path}: its meta table is empty")

    @property
    def next_offset(self) -> int:
        return self.state.next_offset

    def integrity_problems(self) -> list[str]:
        """What SQLite's own check of pages and indexes finds."""
        found = [row[0] for row in self._rows(f"PRAGMA integrity_check({_INTEGRITY_PROBLEMS_MAX})")]
        return [] if found == ["ok"] else found

    def part_keys(self) -> Iterator[PartKeyRow]:
        for row in self._rows("SELECT row_id, data FROM part_keys ORDER BY row_id"):
            yield PartKeyRow(*row)

    def batch_ids(self) -> list[int]:
        return [row[0] for row in self._rows("SELECT batch_id FROM chunks ORDER BY batch_id")]

    def batch(self, batch_id: int) -> tuple[bytes, bytes] | None:
        """Meta and data of a chunk batch; None if it is gone by now."""
        for row in self._rows(f"SELECT meta, data FROM chunks WHERE batch_id = {int(batch_id)}"):
            return row[0], row[1]
        return None

    def batch_metas(self) -> Iterator[tuple[int, bytes]]:
        yield from self._rows("SELECT batch_id, meta FROM chunks ORDER BY batch_id")

    def log_after(self, offset: int) -> Iterator[LogRow]:
        for row in self._rows(f'SELECT "offset", data FROM log WHERE "offset" > {int(offset)} ORDER BY "offset"'):
            yield LogRow(*row)

    def _rows(self, query: str) -> Iterator[tuple[Any, ...]]:
        try:
            yield from self._database.execute(query)
        except sqlite3.DatabaseError as error:
            raise DamagedStore(f"{self.file.path}: {error}") from error
