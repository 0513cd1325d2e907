"""Reading a shard's rows in PostgreSQL: by key in pieces, and the data of its chunk batches."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from filoray.nodes.memstore.store.sql_database import SqlDatabase
from filoray.nodes.memstore.store.sql_tables import CHUNKS

ROWS_AT_ONCE = 64

_PIECES = sa.text("""
    SELECT substring(chunks.data FROM piece.place FOR piece.length) AS data
    FROM chunks, unnest(CAST(:places AS integer[]), CAST(:lengths AS integer[])) WITH ORDINALITY
        AS piece(place, length, number)
    WHERE dataset = :dataset AND shard = :shard AND batch_id = :batch_id ORDER BY number
""")


class SqlReader:
    """Any thread may use it. ``database``: acquired for it, released with ``close``."""

    def __init__(self, database: SqlDatabase, dataset: str, shard: int) -> None:
        self._database = database
        self._shard = {"dataset": dataset, "shard": shard}
        self._is_closed = False

    def select(self, table: sa.FromClause, *columns: sa.ColumnElement[Any]) -> sa.Select[Any]:
        return sa.select(*columns).where(*of_shard(table, self._shard))

    def rows(self, key: sa.Column[Any], *columns: sa.Column[Any], after: int = -1) -> Iterator[tuple[Any, ...]]:
        """Rows by key, in pieces, so that neither side holds them all."""
        first = self.select(key.table, key, *columns).order_by(key).limit(ROWS_AT_ONCE)
        while True:
            rows = self._database.read(functools.partial(_all_rows, first.where(key > after)))
            yield from map(tuple, rows)
            if len(rows) < ROWS_AT_ONCE:
                return
            after = rows[-1][0]

    def read_batch(self, batch_id: int) -> bytes | None:
        """See ColumnStore; so with ``read_pieces``."""
        query = self.select(CHUNKS, CHUNKS.c.data).where(CHUNKS.c.batch_id == sa.bindparam("batch_id"))
        return self._database.read(lambda connection: connection.execute(query, {"batch_id": batch_id}).scalar())

    def read_pieces(self, batch_id: int, pieces: Sequence[tuple[int, int]]) -> list[bytes] | None:
        if not pieces:
            return None if self.read_batch(batch_id) is None else []
        parameters = {
            **self._shard,
            "batch_id": batch_id,
            "places": [offset + 1 for offset, _ in pieces],
            "lengths": [length for _, length in pieces],
        }
        found = self._database.read(lambda connection: connection.execute(_PIECES, parameters).scalars().all())
        return list(found) or None

    def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._database.release()


def of_shard(table: sa.FromClause, shard: Mapping[str, object]) -> list[sa.ColumnElement[bool]]:
    """The rows of ``shard``, which names dataset and shard."""
    return [table.c[name] == value for name, value in shard.items()]


def _all_rows(query: sa.Select[Any], connection: sa.Connection) -> Sequence[sa.Row[Any]]:
    return connection.execute(query).all()
