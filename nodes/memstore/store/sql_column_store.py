"""A shard's column store in PostgreSQL: for clusters of many machines. The tables are in ``sql_tables``.

The shard's row in ``column_stores`` is its fence: every change begins by updating it where epoch and revision are those
that this owner knows, which also locks it until the change is committed. A later owner has raised the epoch; then
no row matches, and the change is refused with StaleRoute and rolled back.

A connection that breaks while a commit is under way leaves open whether it happened. The revision tells: it is asked
for, over a new connection, until the server answers. If that takes too long, the store takes no more changes and says
why in ``trouble``; opening the shard anew finds out what is stored. How durable a commit is, PostgreSQL's own
configuration says.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from filoray.cluster.errors import StaleRoute, StoreIsAhead, Unavailable
from filoray.nodes.memstore.store.column_store import Commit, Flush, LogRow, PartKeyRow, StoreState
from filoray.nodes.memstore.store.sql_database import SqlDatabase
from filoray.nodes.memstore.store.sql_reader import SqlReader, of_shard
from filoray.nodes.memstore.store.sql_tables import CHECKPOINTS, CHUNKS, CLOCKS, LOG, PART_KEYS, STORES, TABLES
from filoray.nodes.memstore.store.store_errors import DamagedStore
from filoray.nodes.memstore.upkeep.retention_clock import ClockReading

FORMAT = 1
OUTCOME_TIMEOUT_S = 5.0
"""How long a lost commit is asked for; the shard's other writes wait meanwhile."""
_ASK_AGAIN_S = 0.1

Work = Callable[[sa.Connection], None]


class SqlColumnStore:
    """See ColumnStore. Opening takes the shard over: owners with a lower epoch cannot commit from then on.

    ``url``: ``postgresql+psycopg://…``.
    """

    def __init__(
        self, url: str, dataset: str, shard: int, epoch: int, group_count: int, *, was_open: bool = False
    ) -> None:
        self._was_open = was_open
        self._shard = {"dataset": dataset, "shard": shard}
        self._epoch = epoch
        self._database = SqlDatabase.acquire(url)
        self._reader = SqlReader(self._database, dataset, shard)
        self._place = f"dataset {dataset} shard {shard} in {self._database.place}"
        self._trouble: str | None = None
        self._is_closed = False
        try:
            self._state = self._take_over(group_count)
        except BaseException:
            self._reader.close()
            raise

    @property
    def state(self) -> StoreState:
        return self._state

    @property
    def trouble(self) -> str | None:
        return self._trouble

    def _take_over(self, group_count: int) -> StoreState:
        first = {"format": FORMAT, "epoch": self._epoch, "revision": 0, "group_count": group_count}
        first |= {"next_series_id": 0, "next_offset": 0}
        insert = postgresql.insert(STORES).values(**self._shard, **first)
        insert_if_new = insert.on_conflict_do_nothing().returning(STORES.c.epoch)
        update = (
            self._update_owner()
            .where(STORES.c.epoch <= self._epoch)
            .values(epoch=self._epoch, revision=STORES.c.revision + 1)
            .returning(STORES)
        )
        with self._database.writing() as connection, connection.begin():
            is_new = connection.execute(insert_if_new).one_or_none() is not None
            if is_new and self._was_open:
                raise DamagedStore(
                    f"{self._place}: nothing is stored of a shard that was open before; if its tables were emptied on "
                    "purpose, delete the dataset and set it up again"
                )
            # The lock keeps the epoch as it is read until the update is committed.
            former = self._reader.select(STORES, STORES.c.epoch).with_for_update()
            former_epoch = int(connection.execute(former).scalar() or 0)
            row = connection.execute(update).one_or_none()
            if row is None:
                raise StoreIsAhead(
                    f"{self._place}: belongs to the owner with epoch {former_epoch}; this one has epoch {self._epoch}",
                    former_epoch,
                )
            if row.format != FORMAT:
                raise DamagedStore(f"{self._place}: written in format {row.format}; this filoray reads format {FORMAT}")
            checkpoints = connection.execute(
                self._reader.select(CHECKPOINTS, CHECKPOINTS.c.flush_group, CHECKPOINTS.c.offset)
            )
            log_bytes, log_end, first_batch_id, last_batch_id, last_row_id = connection.execute(self._bounds()).one()
            reading = [CLOCKS.c[field.name] for field in dataclasses.fields(ClockReading)]
            clock = connection.execute(self._reader.select(CLOCKS, *reading)).one_or_none()
            state = StoreState(
                group_count=row.group_count,
                next_series_id=row.next_series_id,
                next_offset=max(row.next_offset, -1 if log_end is None else log_end + 1),
                checkpoints={row.flush_group: row.offset for row in checkpoints},
                log_bytes=int(log_bytes or 0),
                is_new=is_new,
                next_batch_id=(last_batch_id or 0) + 1,
                first_batch_id=first_batch_id,
                former_epoch=former_epoch,
                clock=None if clock is None else ClockReading(*clock),
            )
        self._revision = row.revision
        self._next_row_id = (last_row_id or 0) + 1
        return state

    def _bounds(self) -> sa.Select[Any]:
        """Of the log, its bytes and its end; of the batches, the first and the last id; and the last part key row's."""
        whole = (
            sa.func.sum(sa.func.length(LOG.c.data)),
            sa.func.max(LOG.c.offset),
            sa.func.min(CHUNKS.c.batch_id),
            sa.func.max(CHUNKS.c.batch_id),
            sa.func.max(PART_KEYS.c.row_id),
        )
        tables = LOG, LOG, CHUNKS, CHUNKS, PART_KEYS
        queries = [self._reader.select(table, one) for table, one in zip(tables, whole, strict=True)]
        return sa.select(*[query.scalar_subquery() for query in queries])

    # ---- recovery

    def part_keys(self) -> Iterator[PartKeyRow]:
        for row in self._reader.rows(PART_KEYS.c.row_id, PART_KEYS.c.data):
            yield PartKeyRow(*row)

    def batch_metas(self) -> Iterator[tuple[int, int, bytes]]:
        yield from self._reader.rows(CHUNKS.c.batch_id, CHUNKS.c.written_ms, CHUNKS.c.meta)

    def log_after(self, offset: int) -> Iterator[LogRow]:
        for row in self._reader.rows(LOG.c.offset, LOG.c.data, after=offset):
            yield LogRow(*row)

    # ---- changes

    def commit(self, commit: Commit) -> None:
        row_id = self._next_row_id

        def work(connection: sa.Connection) -> None:
            if commit.part_keys is not None:
                row = {**self._shard, "row_id": row_id, "data": commit.part_keys}
                connection.execute(sa.insert(PART_KEYS), row)
            if commit.log is not None:
                row = {**self._shard, "offset": commit.log.offset, "data": commit.log.data}
                connection.execute(sa.insert(LOG), row)

        self._change({"next_series_id": commit.next_series_id, "next_offset": commit.next_offset}, work)
        self._next_row_id += commit.part_keys is not None

    def flush(self, flush: Flush) -> None:
        counters: dict[str, object] = {}
        if flush.group_count is not None:
            counters["group_count"] = flush.group_count
        if flush.next_series_id is not None:
            counters["next_series_id"] = flush.next_series_id
        if flush.next_offset is not None:
            counters["next_offset"] = sa.func.greatest(STORES.c.next_offset, flush.next_offset)
        self._change(counters, functools.partial(self._flush, flush, self._next_row_id))
        self._next_row_id += len(flush.new_part_keys)

    def _flush(self, flush: Flush, row_id: int, connection: sa.Connection) -> None:
        def insert(table: sa.Table | postgresql.Insert, rows: Sequence[Mapping[str, object]]) -> None:
            if rows:
                statement = sa.insert(table) if isinstance(table, sa.Table) else table
                connection.execute(statement, [{**self._shard, **row} for row in rows])

        def drop(table: sa.Table, key: str, keys: Sequence[int]) -> None:
            if keys:
                chosen = table.c[key] == sa.any_(sa.bindparam("keys", type_=postgresql.ARRAY(sa.BigInteger)))
                connection.execute(self._delete(table).where(chosen), {"keys": list(keys)})

        insert(
            CHUNKS,
            [
                {"batch_id": row.batch_id, "written_ms": row.written_ms, "meta": row.meta, "data": row.data}
                for row in flush.batches
            ],
        )
        if flush.group_count is not None:
            connection.execute(self._delete(CHECKPOINTS))
        if flush.clock is not None:
            reading = dataclasses.asdict(flush.clock)
            upsert = postgresql.insert(CLOCKS).on_conflict_do_update(constraint=CLOCKS.primary_key, set_=reading)
            insert(upsert, [reading])
        upsert = postgresql.insert(CHECKPOINTS)
        insert(
            upsert.on_conflict_do_update(constraint=CHECKPOINTS.primary_key, set_={"offset": upsert.excluded.offset}),
            [{"flush_group": group, "offset": offset} for group, offset in flush.checkpoints.items()],
        )
        if flush.log_end >= 0:
            connection.execute(self._delete(LOG).where(LOG.c.offset <= flush.log_end))
        drop(CHUNKS, "batch_id", flush.dropped_batches)
        drop(PART_KEYS, "row_id", flush.dropped_part_keys)
        insert(PART_KEYS, [{"row_id": row_id + i, "data": data} for i, data in enumerate(flush.new_part_keys)])

    def promote(self, epoch: int) -> None:
        if epoch < self._epoch:
            raise StoreIsAhead(f"{self._place}: has epoch {self._epoch}; epoch {epoch} is before it", self._epoch)
        self._change({"epoch": epoch}, lambda connection: None)
        self._epoch = epoch

    def _change(self, counters: Mapping[str, object], work: Work) -> None:
        """All of it durably, with the owner's row updated by ``counters``; or nothing."""
        if self._is_closed or self._trouble is not None:
            raise Unavailable(self._trouble or f"{self._place}: it is closed")
        try:
            self._attempt(counters, work)
        except Unavailable as error:
            if self._trouble is not None or not _is_disconnected(error):
                raise
            # It broke before the commit: the server was restarted since the connection was made, it seems.
            self._attempt(counters, work)

    def _attempt(self, counters: Mapping[str, object], work: Work) -> None:
        fence = (
            self._update_owner()
            .where(STORES.c.epoch == self._epoch, STORES.c.revision == self._revision)
            .values(revision=self._revision + 1, **counters)
        )
        lost: sa.exc.DBAPIError | None = None
        with self._database.writing() as connection:
            transaction = connection.begin()
            if connection.execute(fence).rowcount != 1:
                raise StaleRoute(f"{self._place}: another owner has taken it over; epoch {self._epoch} may not write")
            work(connection)
            try:
                transaction.commit()
            except sa.exc.DBAPIError as error:
                if not error.connection_invalidated:
                    raise
                lost = error
        if lost is not None and not self._has_happened(lost):
            raise Unavailable(f"{self._place}: cannot write: {lost.orig}")
        self._revision += 1

    def _has_happened(self, lost: sa.exc.DBAPIError) -> bool:
        """Whether the commit whose answer was lost took place. Raises StaleRoute, or Unavailable if nobody tells."""
        # The lock waits for a commit that is still under way over the lost connection.
        query = self._reader.select(STORES, STORES.c.epoch, STORES.c.revision).with_for_update()
        deadline_s = time.monotonic() + OUTCOME_TIMEOUT_S
        while True:
            try:
                with self._database.writing() as connection:
                    row = connection.execute(query).one_or_none()
                break
            except Unavailable as error:
                if time.monotonic() > deadline_s:
                    self._trouble = (
                        f"{self._place}: the connection broke during a commit, and whether that took place "
                        f"is not known yet ({lost.orig}; {error.message}); the shard is opened anew"
                    )
                    raise Unavailable(self._trouble) from error
            time.sleep(_ASK_AGAIN_S)
        if row is None or row.epoch != self._epoch or row.revision not in (self._revision, self._revision + 1):
            raise StaleRoute(f"{self._place}: another owner has taken it over; epoch {self._epoch} may not write")
        return bool(row.revision == self._revision + 1)

    # ---- chunks

    def read_batch(self, batch_id: int) -> bytes | None:
        return self._reader.read_batch(batch_id)

    def read_pieces(self, batch_id: int, pieces: Sequence[tuple[int, int]]) -> list[bytes] | None:
        return self._reader.read_pieces(batch_id, pieces)

    # ---- upkeep

    def reclaim(self) -> bool:
        """PostgreSQL's autovacuum does it."""
        return False

    def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._reader.close()

    def delete(self) -> None:
        """Raises StaleRoute, with all left in place, if a later owner has the shard."""
        try:
            self._change({}, lambda connection: _delete_rows(connection, self._shard))
        finally:
            self.close()

    # ---- statements

    def _update_owner(self) -> sa.Update:
        return sa.update(STORES).where(*of_shard(STORES, self._shard))

    def _delete(self, table: sa.Table) -> sa.Delete:
        return sa.delete(table).where(*of_shard(table, self._shard))


def delete_shard(url: str, dataset: str, shard: int) -> None:
    """Remove all that is stored of a shard that nobody holds any more. Raises Unavailable."""
    database = SqlDatabase.acquire(url)
    try:
        with database.writing() as connection, connection.begin():
            _delete_rows(connection, {"dataset": dataset, "shard": shard})
    finally:
        database.release()


def _delete_rows(connection: sa.Connection, shard: Mapping[str, object]) -> None:
    for table in TABLES.sorted_tables:
        connection.execute(sa.delete(table).where(*of_shard(table, shard)))


def _is_disconnected(error: Unavailable) -> bool:
    cause = error.__cause__
    return isinstance(cause, sa.exc.DBAPIError) and cause.connection_invalidated
