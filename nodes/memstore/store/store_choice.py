"""Which column store a shard has: its own SQLite file, or PostgreSQL where the server's configuration gives a URL."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

from filoray.nodes.memstore.shard_spec import ShardSpec
from filoray.nodes.memstore.store.column_store import ColumnStore, StoredChunks
from filoray.nodes.memstore.store.copy_checksums import open_to_read
from filoray.nodes.memstore.store.snapshot import StoreSnapshot
from filoray.nodes.memstore.store.sqlite_column_store import SqliteColumnStore
from filoray.nodes.memstore.store.sqlite_errors import database_errors
from filoray.nodes.memstore.store.sqlite_reader import SqliteReader


class Snapshot(Protocol):
    """What is stored at one moment; see ``StoreSnapshot``."""

    def pieces(
        self, bytes_max: int, without: Iterable[tuple[int, int]] = (), *, with_data: bool = True
    ) -> Iterator[bytes]: ...

    def close(self) -> None: ...


def open_column_store(spec: ShardSpec) -> ColumnStore:
    """Take the shard's store over with ``spec.epoch``. Raises as Shard.open."""
    if spec.column_store_url is None:
        return SqliteColumnStore(
            spec.path,
            spec.epoch,
            spec.store.durability,
            spec.store.groups_per_shard,
            was_open=spec.was_open,
            is_copy=spec.is_copy,
        )
    # SQLAlchemy takes long to import, and most nodes need it for nothing.
    from filoray.nodes.memstore.store.sql_column_store import SqlColumnStore

    return SqlColumnStore(
        spec.column_store_url,
        spec.storage_name,
        spec.shard,
        spec.epoch,
        spec.store.groups_per_shard,
        was_open=spec.was_open,
    )


def open_snapshot(spec: ShardSpec) -> Snapshot:
    """What is stored now, to be closed by the caller. Raises DamagedStore, Unavailable."""
    if spec.column_store_url is None:
        return StoreSnapshot(spec.path)
    from filoray.nodes.memstore.store.sql_snapshot import SqlSnapshot

    return SqlSnapshot(spec.column_store_url, spec.storage_name, spec.shard)


def open_chunks(spec: ShardSpec) -> StoredChunks:
    """To read chunks in a store that another owns. Raises DamagedStore, Unavailable if it cannot be reached."""
    if spec.column_store_url is None:
        return _open_file(spec.path)
    from filoray.nodes.memstore.store.sql_database import SqlDatabase
    from filoray.nodes.memstore.store.sql_reader import SqlReader

    database = SqlDatabase.acquire(spec.column_store_url)
    reader = SqlReader(database, spec.storage_name, spec.shard)
    try:
        with database.writing():
            pass  # who takes the shard over will find a connection that is open
    except BaseException:
        reader.close()
        raise
    return reader


def _open_file(path: Path) -> SqliteReader:
    """The file is really open, so that its owner is not the last to close it, which would empty its log first."""
    connection = open_to_read(path)
    try:
        with database_errors(path, "read"):
            connection.execute("SELECT format FROM meta").fetchone()
    except BaseException:
        connection.close()
        raise
    return SqliteReader(path, connection)


def delete_shared_store(column_store_url: str | None, storage_name: str, shard: int) -> None:
    """Remove what is stored of a shard elsewhere than in its own files. Raises Unavailable."""
    if column_store_url is not None:
        from filoray.nodes.memstore.store.sql_column_store import delete_shard

        delete_shard(column_store_url, storage_name, shard)
