"""A process's connections to the PostgreSQL that holds its shards: one set, however many shards it has.

Shards are changed by one thread and read by several, so one connection for changes and a few for reads are kept;
shards that open at the same time borrow some more.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

import sqlalchemy as sa

from filoray.cluster.errors import Unavailable
from filoray.cluster.store.postgres import create_tables, errors_as_unavailable, place_of, postgres_engine, postgres_url
from filoray.nodes.memstore.store.sql_tables import TABLES
from filoray.nodes.memstore.store.store_errors import DamagedStore

_WRITERS_MORE = 4
_READERS = 2
_READERS_MORE = 2
_SNAPSHOT_IDLE_S = 60
"""Between two pieces, for which a follower has half as long; then the server ends a snapshot that nobody closes."""
_DAMAGED = {"XX001", "XX002"}  # SQLSTATE data_corrupted, index_corrupted

T = TypeVar("T")

_lock = threading.Lock()
_shared: dict[str, SqlDatabase] = {}


class SqlDatabase:
    """Use ``acquire`` and ``release``; the last to release closes the connections."""

    def __init__(self, url: sa.URL) -> None:
        self.place = place_of(url)
        self._url = url
        self._writer = postgres_engine(url, pool_size=1, max_overflow=_WRITERS_MORE)
        self._reader = postgres_engine(
            url, pool_size=_READERS, max_overflow=_READERS_MORE, isolation_level="AUTOCOMMIT"
        )
        self._users = 0
        self._tables_lock = threading.Lock()
        self._has_tables = False

    @staticmethod
    def acquire(url_text: str) -> SqlDatabase:
        """Raises ConfigError for a URL that cannot be, Unavailable if the server is not there."""
        url = postgres_url(url_text)
        key = url.render_as_string(hide_password=False)
        with _lock:
            database = _shared.get(key)
            if database is None:
                database = _shared[key] = SqlDatabase(url)
            database._users += 1
        try:
            database._make_tables()
        except BaseException:
            database.release()
            raise
        return database

    def release(self) -> None:
        with _lock:
            self._users -= 1
            if self._users:
                return
            del _shared[self._url.render_as_string(hide_password=False)]
        self._writer.dispose()
        self._reader.dispose()

    def _make_tables(self) -> None:
        with self._tables_lock:
            if not self._has_tables:
                with errors_as_unavailable(self._url, "make tables"):
                    create_tables(self._writer, TABLES)
                self._has_tables = True

    @contextlib.contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A connection without a transaction yet; what is not committed is rolled back. Errors become Unavailable."""
        with errors_as_unavailable(self._url, "write"), self._writer.connect() as connection:
            yield connection

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[sa.Connection]:
        """A connection of its own in a read-only transaction, whose view begins with the first query."""
        with errors_as_unavailable(self._url, "read"):
            connection = self._writer.connect()
            connection.detach()
            try:
                connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                connection.exec_driver_sql(f"SET LOCAL idle_in_transaction_session_timeout = '{_SNAPSHOT_IDLE_S}s'")
                yield connection
            finally:
                connection.close()

    @contextlib.contextmanager
    def read_errors(self) -> Iterator[None]:
        """Raises Unavailable, or DamagedStore if the server finds its files damaged, for what it raises within."""
        try:
            with errors_as_unavailable(self._url, "read"):
                yield
        except Unavailable as error:
            if getattr(getattr(error.__cause__, "orig", None), "sqlstate", None) in _DAMAGED:
                raise DamagedStore(error.message) from error
            raise

    def read(self, ask: Callable[[sa.Connection], T]) -> T:
        """``ask`` over a connection. Raises Unavailable, or DamagedStore if the server finds its files damaged."""
        with self.read_errors():
            try:
                return self._ask(ask)
            except sa.exc.DBAPIError as error:
                if not error.connection_invalidated:
                    raise
            return self._ask(ask)  # the server was restarted since this connection was made, it seems

    def _ask(self, ask: Callable[[sa.Connection], T]) -> T:
        with self._reader.connect() as connection:
            return ask(connection)
