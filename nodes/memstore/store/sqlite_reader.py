"""Reading in a shard's SQLite file over one connection, from any thread: rows by key, and the data of chunk batches."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from filoray.cluster.errors import StaleRoute
from filoray.nodes.memstore.store.sqlite_errors import database_errors

_ROWS_AT_ONCE = 64


class SqliteReader:
    """``connection``: it is closed with this."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._connection = connection
        self._lock = threading.Lock()
        self._is_closed = False

    def rows(self, query: str, after: int = -1) -> Iterator[Any]:
        """Rows in pieces, so that the lock is free in between; the first column is the key."""
        while True:
            with self._reading() as database:
                rows = database.execute(f"{query} LIMIT {_ROWS_AT_ONCE}", (after,)).fetchall()
            if not rows:
                return
            yield from rows
            after = rows[-1][0]

    def read_batch(self, batch_id: int) -> bytes | None:
        """See ColumnStore; so with ``read_pieces``."""
        with self._reading() as database:
            row = database.execute("SELECT data FROM chunks WHERE batch_id = ?", (batch_id,)).fetchone()
        return None if row is None else blob_of(row[0])

    def read_pieces(self, batch_id: int, pieces: Sequence[tuple[int, int]]) -> list[bytes] | None:
        with self._reading() as database:
            database.execute("BEGIN")  # one view of the file: the batch may be dropped at any moment
            try:
                row = database.execute("SELECT typeof(data) FROM chunks WHERE batch_id = ?", (batch_id,)).fetchone()
                if row is None:
                    return None
                if row[0] != "blob":
                    return [blob_of(None)] * len(pieces)
                with database.blobopen("chunks", "data", batch_id, readonly=True) as blob:
                    found = []
                    for offset, length in pieces:
                        blob.seek(min(offset, len(blob)))
                        found.append(blob.read(length))
                    return found
            finally:
                if database.in_transaction:
                    database.execute("COMMIT")

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """Raises StaleRoute once the store is closed: a query that began before is to go to the next owner."""
        with database_errors(self._path, "read"), self._lock:
            if self._is_closed:
                raise StaleRoute(f"{self._path}: it was closed here while it was read")
            yield self._connection

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            self._connection.close()


def blob_of(value: object) -> bytes:
    """A damaged record header makes a text, a number or nothing of a blob: then it is bytes that no checksum fits."""
    return value if isinstance(value, bytes) else b"\0"
