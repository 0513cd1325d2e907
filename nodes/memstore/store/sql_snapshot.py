"""What PostgreSQL has of a shard at one moment, as pieces of a snapshot without the data of chunk batches."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from filoray.nodes.memstore.store.snapshot_pieces import Item, Kind, pieces_of
from filoray.nodes.memstore.store.sql_database import SqlDatabase
from filoray.nodes.memstore.store.sql_reader import ROWS_AT_ONCE, SqlReader
from filoray.nodes.memstore.store.sql_tables import CHECKPOINTS, CHUNKS, CLOCKS, LOG, PART_KEYS, STORES
from filoray.nodes.memstore.store.store_errors import DamagedStore
from filoray.nodes.memstore.upkeep.retention_clock import ClockReading


class SqlSnapshot:
    """The shard's rows as they are now, whatever is changed later; PostgreSQL keeps dropped rows until it is closed."""

    def __init__(self, url: str, dataset: str, shard: int) -> None:
        """Raises Unavailable, and DamagedStore if nothing is stored of the shard."""
        database = SqlDatabase.acquire(url)
        self._reader = SqlReader(database, dataset, shard)
        self._ending = contextlib.ExitStack()
        self._ending.callback(self._reader.close)
        self._errors = database.read_errors
        try:
            self._connection = self._ending.enter_context(database.snapshot())
            with self._errors():
                # The view of the transaction begins with the first query.
                columns = STORES.c.format, STORES.c.group_count, STORES.c.next_series_id, STORES.c.next_offset
                meta = self._connection.execute(self._reader.select(STORES, *columns)).one_or_none()
            if meta is None:
                raise DamagedStore(f"dataset {dataset} shard {shard} in {database.place}: nothing is stored of it")
            self._meta = tuple(meta)
        except BaseException:
            self._ending.close()
            raise

    def pieces(
        self, bytes_max: int, without: Iterable[tuple[int, int]] = (), *, with_data: bool = True
    ) -> Iterator[bytes]:
        """On any one thread, once; see ``StoreSnapshot.pieces``. Only without data: nobody has a database's copies."""
        assert not with_data, "the data stay where all nodes reach them"
        with self._errors():
            yield from pieces_of(self._rows(), bytes_max)

    def close(self) -> None:
        """Also while ``pieces`` is not at its end; not while another thread is in it."""
        self._ending.close()

    def _rows(self) -> Iterator[Item]:
        yield Kind.META, *self._meta
        reading = [CLOCKS.c[field.name] for field in dataclasses.fields(ClockReading)]
        for row in self._all(CLOCKS, *reading):
            yield Kind.CLOCK, *row
        for row in self._all(CHECKPOINTS, CHECKPOINTS.c.flush_group, CHECKPOINTS.c.offset):
            yield Kind.CHECKPOINT, *row
        for row in self._keyed(PART_KEYS.c.row_id, PART_KEYS.c.data):
            yield Kind.PART_KEYS, *row
        for row in self._keyed(LOG.c.offset, LOG.c.data):
            yield Kind.LOG, *row
        for row in self._keyed(CHUNKS.c.batch_id, CHUNKS.c.written_ms, CHUNKS.c.meta):
            yield Kind.SHARED, *row

    def _all(self, table: sa.Table, *columns: sa.Column[Any]) -> Sequence[sa.Row[Any]]:
        return self._connection.execute(self._reader.select(table, *columns)).all()

    def _keyed(self, key: sa.Column[Any], *columns: sa.Column[Any]) -> Iterator[sa.Row[Any]]:
        first = self._reader.select(key.table, key, *columns).order_by(key).limit(ROWS_AT_ONCE)
        after = -1
        while rows := self._connection.execute(first.where(key > after)).all():
            yield from rows
            after = rows[-1][0]
