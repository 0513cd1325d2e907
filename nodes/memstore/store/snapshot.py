"""A shard's stored rows as a stream of pieces, and the file that a new follower makes of them.

    snapshot = StoreSnapshot(path)                          # at the leader, between two rounds
    joining = SnapshotFile(path, epoch, durability)         # at the follower
    for piece in snapshot.pieces(bytes_max, without=joining.held()):
        joining.add(piece)
    joining.install()                                       # then Shard.open(spec)

The file is written beside, as ``shard-N.joining``, and takes the old one's name when it is whole. Chunk batches that
the old file has already, read and hashed, are taken from there. ``snapshot_pieces`` says what a piece is.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from filoray.cluster.config.store_config import Durability
from filoray.cluster.errors import BadData, Unavailable
from filoray.nodes.memstore.store.copy_checksums import (
    PIECE_BYTES,
    BatchHash,
    batch_ids_of,
    checksum_in_store,
    open_to_read,
    read_in_pieces,
)
from filoray.nodes.memstore.store.snapshot_pieces import Field, Intake, Item, Kind, pieces_of
from filoray.nodes.memstore.store.sqlite_errors import database_errors
from filoray.nodes.memstore.store.sqlite_reader import blob_of
from filoray.nodes.memstore.store.sqlite_tables import (
    CLOCK_TABLE,
    FORMAT,
    SIDE_FILES,
    make_tables,
    side_file,
    sync_folders,
)
from filoray.nodes.memstore.store.store_errors import DamagedStore

_ROWS_AT_ONCE = 64

HeldBatches = Iterable[tuple[int, int]]
"""(batch id, checksum) of chunk batches that a follower has."""


class StoreSnapshot:
    """The store as it is now, whatever is changed later. SQLite's log grows with each change until it is closed."""

    def __init__(self, path: Path) -> None:
        """Cheap. Raises DamagedStore, or Unavailable if there is no such file."""
        self._path = path
        self._database = open_to_read(path)
        try:
            with database_errors(path, "read"):
                self._database.execute("BEGIN")
                self._database.execute("SELECT format FROM meta").fetchone()  # a view begins with the first row read
        except BaseException:
            self._database.close()
            raise

    def pieces(self, bytes_max: int, without: HeldBatches = (), *, with_data: bool = True) -> Iterator[bytes]:
        """On any one thread, once. A piece has little more than ``bytes_max``, unless a single row of part keys, log or
        metadata has; batches that the follower has so, ``without``, are only named, but count as if they were sent:
        taking them from its old file keeps the follower as long. ``with_data``: else of batches only their metadata.

        Raises DamagedStore where a row cannot be read, Unavailable.
        """

        def more_bytes(item: Item) -> int:
            kind, *fields = item
            return self._data_bytes(int(fields[0])) if kind is Kind.HELD else 0

        with database_errors(self._path, "read"):
            yield from pieces_of(self._rows(bytes_max, dict(without), with_data=with_data), bytes_max, more_bytes)

    def close(self) -> None:
        """Also while ``pieces`` is not at its end; not while another thread is in it."""
        self._database.close()

    def _rows(self, bytes_max: int, held: dict[int, int], *, with_data: bool) -> Iterator[Item]:
        database = self._database
        meta = "SELECT format, group_count, next_series_id, next_offset FROM meta"
        yield Kind.META, *self._checked(database.execute(meta).fetchone())
        if database.execute("SELECT 1 FROM sqlite_master WHERE name = 'clock'").fetchone():
            for row in database.execute("SELECT wall_ms, retention_ms, owed_ms, owed_since_ms FROM clock").fetchall():
                yield Kind.CLOCK, *self._checked(row)
        for row in database.execute('SELECT flush_group, "offset" FROM checkpoints').fetchall():
            yield Kind.CHECKPOINT, *self._checked(row)
        for row in self._keyed("SELECT row_id, data FROM part_keys WHERE row_id > ? ORDER BY row_id"):
            yield Kind.PART_KEYS, row[0], blob_of(row[1])
        for row in self._keyed('SELECT "offset", data FROM log WHERE "offset" > ? ORDER BY "offset"'):
            yield Kind.LOG, row[0], blob_of(row[1])
        for batch_id in batch_ids_of(database):
            if batch_id in held and checksum_in_store(database, batch_id) == held[batch_id]:
                yield Kind.HELD, batch_id, held[batch_id]
            elif with_data:
                yield from self._batch(batch_id, bytes_max)
            else:
                yield Kind.SHARED, batch_id, *self._meta(batch_id)[:2]

    def _keyed(self, query: str) -> Iterator[tuple[int, object]]:
        """No statement stays open while a piece waits to be sent."""
        after = -1
        while rows := self._database.execute(f"{query} LIMIT {_ROWS_AT_ONCE}", (after,)).fetchall():
            yield from rows
            after = rows[-1][0]

    def _meta(self, batch_id: int) -> tuple[int, bytes, int]:
        """When it was written, its metadata, and how many bytes its data have."""
        query = "SELECT written_ms, meta, CASE typeof(data) WHEN 'blob' THEN length(data) ELSE 0 END FROM chunks"
        written_ms, meta, data_bytes = self._database.execute(f"{query} WHERE batch_id = ?", (batch_id,)).fetchone()
        return written_ms if isinstance(written_ms, int) else 0, blob_of(meta), data_bytes

    def _batch(self, batch_id: int, bytes_max: int) -> Iterator[Item]:
        written_ms, meta, data_bytes = self._meta(batch_id)
        yield Kind.BATCH, batch_id, written_ms, meta, data_bytes
        digest = BatchHash(written_ms, meta)
        for data in read_in_pieces(self._database, batch_id, bytes_max):
            digest.update(data)
            yield Kind.DATA, data
        yield Kind.BATCH_END, digest.value()

    def _data_bytes(self, batch_id: int) -> int:
        query = "SELECT length(data) FROM chunks WHERE batch_id = ?"
        (length,) = self._database.execute(query, (batch_id,)).fetchone()
        return int(length or 0)

    def _checked(self, row: tuple[object, ...] | None) -> tuple[int, ...]:
        if row is None or not all(isinstance(value, int) for value in row):
            raise DamagedStore(f"{self._path}: a row of numbers holds {row!r}")
        return row  # type: ignore[return-value]


class SnapshotFile:
    """A file in the making. One thread; the old file may be in use until ``install``."""

    def __init__(self, path: Path, epoch: int, durability: Durability) -> None:
        """``path``, ``epoch``: as the shard will be opened. What an earlier one left over is removed.

        Raises Unavailable if it cannot be written.
        """
        self._path = path
        self._epoch = epoch
        self._durability = durability
        self._joining = path.with_suffix(".joining")
        self._old: sqlite3.Connection | None = None
        self._held: dict[int, int] = {}
        self._intake = Intake(str(self._joining))
        self._batch: _BatchUnderWay | None = None
        with database_errors(self._joining, "write"):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._remove()
            self._database = sqlite3.connect(self._joining, isolation_level=None, check_same_thread=False)
            self._database.execute("PRAGMA auto_vacuum = INCREMENTAL")
            # Until it is whole, a crash leaves what is thrown away: nothing is to be undone or on the disk before.
            self._database.execute("PRAGMA journal_mode = OFF")
            self._database.execute("PRAGMA synchronous = OFF")

    def held(self, unwanted: threading.Event | None = None) -> list[tuple[int, int]]:
        """(batch id, checksum) of the chunk batches of the old file, really read; [] if it cannot be.

        Takes as long as the file is large. Raises Unavailable once ``unwanted`` is set.
        """
        if not self._path.exists():
            return []
        try:
            self._old = open_to_read(self._path)
            with database_errors(self._path, "read"):
                self._old.execute("BEGIN")  # what is told here must be there later
                found: dict[int, int | None] = {}
                for batch_id in batch_ids_of(self._old):
                    if unwanted is not None and unwanted.is_set():
                        raise Unavailable(f"{self._joining}: it is not wanted any more")
                    found[batch_id] = checksum_in_store(self._old, batch_id)
        except DamagedStore:
            self._close_old()
            return []
        self._held = {batch_id: checksum for batch_id, checksum in found.items() if checksum is not None}
        return list(self._held.items())

    def add(self, piece: bytes) -> None:
        """Pieces come in their order.

        Raises DamagedStore for bytes that are not what was sent, BadData for what does not belong here, Unavailable if
        it cannot be written: then all of it is to be given up.
        """
        with database_errors(self._joining, "write"):
            for kind, fields in self._intake.items(piece, FORMAT):
                self._add(kind, fields, self._intake.what)
        if self._intake.is_whole and self._batch is not None:
            raise BadData(f"{self._intake.what}: END is out of place, within a chunk batch")

    def _add(self, kind: Kind, fields: list[Field], what: str) -> None:
        database = self._database
        if (kind in (Kind.DATA, Kind.BATCH_END)) != (self._batch is not None):
            raise BadData(f"{what}: {kind.name} is out of place, within a chunk batch or without one")
        try:
            if kind is Kind.META:
                self._begin(fields)
            elif kind is Kind.CLOCK:
                database.execute("INSERT INTO clock VALUES (1, ?, ?, ?, ?)", fields)
            elif kind is Kind.CHECKPOINT:
                database.execute("INSERT INTO checkpoints VALUES (?, ?)", fields)
            elif kind is Kind.PART_KEYS:
                database.execute("INSERT INTO part_keys VALUES (?, ?)", fields)
            elif kind is Kind.LOG:
                database.execute("INSERT INTO log VALUES (?, ?)", fields)
            elif kind is Kind.BATCH:
                self._batch = _BatchUnderWay(database, fields)
            elif kind is Kind.DATA:
                assert self._batch is not None
                self._batch.write(fields[0], what)
            elif kind is Kind.BATCH_END:
                assert self._batch is not None
                self._batch.end(fields[0], what)
                self._batch = None
            elif kind is Kind.HELD:
                self._take_from_old(fields, what)
            else:
                raise BadData(f"{what}: {kind.name} is of a store that is shared, and this one is not")
        except sqlite3.IntegrityError as error:
            raise BadData(f"{what}: a row of {kind.name} came twice: {error}") from error

    def _begin(self, fields: list[Field]) -> None:
        _, group_count, next_series_id, next_offset = fields
        assert isinstance(group_count, int)
        self._database.execute("BEGIN")
        make_tables(self._database, group_count)
        self._database.execute(CLOCK_TABLE)
        numbers = (self._epoch, next_series_id, next_offset)
        self._database.execute("UPDATE meta SET epoch = ?, next_series_id = ?, next_offset = ?", numbers)

    def _take_from_old(self, fields: list[Field], what: str) -> None:
        batch_id, checksum = fields
        if self._old is None or self._held.get(int(batch_id)) != checksum:
            raise BadData(f"{what}: chunk batch {batch_id!r} is not among what is held here")
        query = "SELECT batch_id, written_ms, meta, length(data) FROM chunks WHERE batch_id = ?"
        batch = _BatchUnderWay(self._database, [*self._old.execute(query, (batch_id,)).fetchone()])
        for data in read_in_pieces(self._old, int(batch_id), PIECE_BYTES):
            batch.write(data, what)
        batch.end(checksum, what)

    # ---- the end

    def install(self) -> None:
        """It takes the old file's place, whose shard is closed. Raises BadData if it is not whole, Unavailable.

        A crash at any moment leaves the old file or the new one, whole; or, if the old one was damaged, none, which the
        next opening tells.
        """
        for _ in self.install_steps():
            pass

    def install_steps(self) -> Iterator[str]:
        """As ``install``; says what is done after each step that something may end the process behind."""
        self._intake.check_whole()
        with database_errors(self._joining, "write"):
            self._database.execute("COMMIT")
            self._database.close()
            if self._durability == "power":
                _sync_file(self._joining)
            yield "the new file is whole"
            self._close_old()
            # SQLite would carry out the log of the old file on the new one.
            if self._path.exists() and not self._empties_log():
                self._path.unlink()
                yield "a damaged old file is gone"
            for suffix in SIDE_FILES:
                side_file(self._path, suffix).unlink(missing_ok=True)
                yield f"the old file's {suffix} is gone"
            os.replace(self._joining, self._path)
            yield "the new file is in place"
            self._path.with_suffix(".suspect").unlink(missing_ok=True)
            self._path.with_suffix(".made").touch()
            if self._durability == "power":
                sync_folders(self._path)
            yield "its place is known to have been made"

    def _empties_log(self) -> bool:
        """All that the old file's log has is in the file then."""
        try:
            with contextlib.closing(open_to_read(self._path)) as old:
                old.execute("PRAGMA query_only = OFF")
                (busy, _, _) = old.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                return not busy
        except (DamagedStore, sqlite3.DatabaseError):
            return False

    def abort(self) -> None:
        """Leave all as it was. Also after anything raised, or twice."""
        self._close_old()
        self._database.close()
        self._remove()

    def _close_old(self) -> None:
        if self._old is not None:
            self._old.close()
            self._old = None

    def _remove(self) -> None:
        for suffix in ("", *SIDE_FILES):
            side_file(self._joining, suffix).unlink(missing_ok=True)


class _BatchUnderWay:
    """A chunk batch whose data comes in pieces."""

    def __init__(self, database: sqlite3.Connection, fields: list[Field]) -> None:
        batch_id, written_ms, meta, data_bytes = fields
        assert isinstance(batch_id, int)
        assert isinstance(written_ms, int)
        assert isinstance(meta, bytes)
        assert isinstance(data_bytes, int)
        self._batch_id = batch_id
        self._left_bytes = data_bytes
        self._digest = BatchHash(written_ms, meta)
        statement = "INSERT INTO chunks VALUES (?, ?, ?, zeroblob(?))"
        database.execute(statement, (batch_id, written_ms, meta, data_bytes))
        self._blob = database.blobopen("chunks", "data", batch_id)

    def write(self, data: Field, what: str) -> None:
        assert isinstance(data, bytes)
        if len(data) > self._left_bytes:
            raise BadData(f"{what}: chunk batch {self._batch_id} has more bytes than were to come")
        self._left_bytes -= len(data)
        self._digest.update(data)
        self._blob.write(data)

    def end(self, checksum: Field, what: str) -> None:
        self._blob.close()
        if self._left_bytes:
            raise BadData(f"{what}: chunk batch {self._batch_id} lacks {self._left_bytes} bytes")
        if self._digest.value() != checksum:
            raise DamagedStore(f"{what}: chunk batch {self._batch_id}: checksum does not match")


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
