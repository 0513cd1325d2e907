"""A shard's column store in one SQLite file: the embedded one.

    meta         one row: format, epoch of the owner, group count, next series id, next offset
    part_keys    row_id, data                        part keys, compressed, a row per commit or merged
    log          offset, data                        samples that are not all in chunks yet
    chunks       batch_id, written_ms, meta, data    chunk batches
    checkpoints  flush_group, offset
    clock        one row: a ClockReading             the retention clock at the last flush

``durability = process`` (synchronous=OFF): a commit is in the operating system's cache, which outlives every
process. ``power`` (synchronous=FULL): each commit is on the disk, and so is the folder that names the file. Torn
transactions are SQLite's to undo.

Beside the file, ``shard-N.made`` says that it was made once: if the file is missing then, a new one is made and
``StoreState.lost`` says so. If both are missing of a shard that was open before, its place is (a volume that is not
mounted): nothing is made then.

Of a shard with copies elsewhere nothing is made anew in place of a file that was there, whatever ``shard-N.made`` says:
another copy is to lead. Only ``shard-N.anew``, made by an operator, has it begin empty.

``shard-N.suspect`` says that a change met damage: the next opening looks at the whole file before anything is promised.

A file that is unlinked or replaced while it is open takes commits that nobody will ever find: each commit looks whether
the paths still lead to what was opened.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from filoray.cluster.config.store_config import Durability
from filoray.cluster.errors import StaleRoute, StoreIsAhead, Unavailable
from filoray.nodes.memstore.store.column_store import Commit, Flush, LogRow, PartKeyRow, StoreState
from filoray.nodes.memstore.store.sqlite_errors import database_errors, is_damage
from filoray.nodes.memstore.store.sqlite_reader import SqliteReader, blob_of
from filoray.nodes.memstore.store.sqlite_tables import (
    CLOCK_TABLE,
    FORMAT,
    SIDE_FILES,
    make_tables,
    side_file,
    sync_folders,
)
from filoray.nodes.memstore.store.store_errors import DamagedStore
from filoray.nodes.memstore.upkeep.retention_clock import ClockReading

_BUSY_TIMEOUT_S = 5.0
_CACHE_KIB = 1024
_INCREMENTAL = 2
"""What SQLite calls it."""
_WAL_CHECKPOINT_PAGES = 1000
_RECLAIM_PAGES = 4096
_WAL_BYTES_KEPT = 8 << 20


class SqliteColumnStore:
    """See ColumnStore. Opening takes the shard over: owners with a lower epoch cannot commit from then on."""

    def __init__(
        self,
        path: Path,
        epoch: int,
        durability: Durability,
        group_count: int,
        *,
        was_open: bool = False,
        is_copy: bool = False,
    ) -> None:
        self._path = path
        self._epoch = epoch
        self._durability: Durability = durability
        self._made = path.with_suffix(".made")
        self._suspect = path.with_suffix(".suspect")
        self._anew = path.with_suffix(".anew")
        self._trouble: str | None = None
        with database_errors(path, "open"):
            if was_open and not path.exists():
                self._check_may_begin_anew(is_copy=is_copy)
            path.parent.mkdir(parents=True, exist_ok=True)
            lost = f"{path}: the file is gone that was made before" if self._made.exists() and not path.exists() else ""
            self._writer = self._connect()
            try:
                self._check_if_suspect()
                self._take_over(group_count, lost)
                self._mark_made()
                reading = self._connect()
                reading.execute("PRAGMA query_only = ON")
                self._reader = SqliteReader(path, reading)
                self._places = [(place, _identity(place)) for place in (str(path), str(side_file(path, "-wal")))]
            except BaseException:
                self._writer.close()  # or its transaction would keep the rightful owner out
                raise

    def _check_may_begin_anew(self, *, is_copy: bool) -> None:
        """Raises DamagedStore. Where there are other copies, only an operator's word has one begin empty."""
        word = self._anew if is_copy else self._made
        if word.exists():
            self._anew.unlink(missing_ok=True)
            return
        raise DamagedStore(
            f"{self._path}: the shard was open before, and nothing of it is here; is the volume mounted? It is opened "
            f"when the file is back; to have it begin anew, empty, make a file {word.name} in its place"
        )

    @property
    def state(self) -> StoreState:
        return self._state

    @property
    def trouble(self) -> str | None:
        if self._trouble is None:
            moved = [place for place, identity in self._places if _identity(place) != identity]
            if moved:
                self._trouble = (
                    f"{moved[0]}: the file was removed or replaced while it was open; what was written to it since "
                    "is not there, and nothing more is acknowledged until the shard is opened anew"
                )
        return self._trouble

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False, cached_statements=32
        )
        connection.execute(f"PRAGMA synchronous = {'FULL' if self._durability == 'power' else 'OFF'}")
        if connection.execute("PRAGMA auto_vacuum").fetchone() != (_INCREMENTAL,):  # to set it is to write
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # takes effect in a new file only
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        connection.execute("PRAGMA secure_delete = OFF")  # some builds zero what is deleted
        connection.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES_KEPT}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_WAL_CHECKPOINT_PAGES}")
        return connection

    def _check_if_suspect(self) -> None:
        if not self._suspect.exists():
            return
        (found,) = self._writer.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise DamagedStore(f"{self._path}: {found}")
        self._suspect.unlink(missing_ok=True)

    def _mark_made(self) -> None:
        if not self._made.exists():
            self._made.touch()
        if self._durability == "power":
            # SQLite sees to the files' bytes; the names of new ones, and of their new folder, are the folders' bytes.
            sync_folders(self._path)

    def _take_over(self, group_count: int, lost: str) -> None:
        database = self._writer
        database.execute("BEGIN IMMEDIATE")
        is_new = not database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if is_new:
            make_tables(database, group_count)
        row = database.execute("SELECT format, epoch, group_count, next_series_id, next_offset FROM meta").fetchone()
        if row is None:
            raise DamagedStore(f"{self._path}: its meta table is empty")
        if not all(isinstance(value, int) for value in row) or row[2] < 1:
            raise DamagedStore(f"{self._path}: its meta table holds {row!r}")
        version, epoch, groups, next_series_id, next_offset = row
        if version != FORMAT:
            raise DamagedStore(f"{self._path}: written in format {version}; this filoray reads format {FORMAT}")
        if epoch > self._epoch:
            raise StoreIsAhead(
                f"{self._path} belongs to the owner with epoch {epoch}; this one has epoch {self._epoch}", epoch
            )
        database.execute("UPDATE meta SET epoch = ?", (self._epoch,))
        database.execute(CLOCK_TABLE)
        clock = database.execute("SELECT wall_ms, retention_ms, owed_ms, owed_since_ms FROM clock").fetchone()
        checkpoints = dict(database.execute('SELECT flush_group, "offset" FROM checkpoints'))
        (log_bytes,) = database.execute("SELECT coalesce(sum(length(data)), 0) FROM log").fetchone()
        (first_batch_id,) = database.execute("SELECT min(batch_id) FROM chunks").fetchone()
        (next_batch_id,) = database.execute("SELECT coalesce(max(batch_id), 0) + 1 FROM chunks").fetchone()
        (log_end,) = database.execute('SELECT coalesce(max("offset"), -1) + 1 FROM log').fetchone()
        database.execute("COMMIT")
        self._state = StoreState(
            group_count=groups,
            next_series_id=next_series_id,
            next_offset=max(next_offset, log_end),
            checkpoints=checkpoints,
            log_bytes=log_bytes,
            is_new=is_new,
            next_batch_id=next_batch_id,
            first_batch_id=first_batch_id,
            former_epoch=epoch,
            clock=None if clock is None else ClockReading(*clock),
            lost=lost,
        )

    # ---- recovery

    def part_keys(self) -> Iterator[PartKeyRow]:
        for row in self._reader.rows("SELECT row_id, data FROM part_keys WHERE row_id > ? ORDER BY row_id"):
            yield PartKeyRow(row[0], blob_of(row[1]))

    def batch_metas(self) -> Iterator[tuple[int, int, bytes]]:
        for row in self._reader.rows(
            "SELECT batch_id, written_ms, meta FROM chunks WHERE batch_id > ? ORDER BY batch_id"
        ):
            yield row[0], row[1] if isinstance(row[1], int) else 0, blob_of(row[2])

    def log_after(self, offset: int) -> Iterator[LogRow]:
        for row in self._reader.rows('SELECT "offset", data FROM log WHERE "offset" > ? ORDER BY "offset"', offset):
            yield LogRow(row[0], blob_of(row[1]))

    # ---- changes

    def commit(self, commit: Commit) -> None:
        with self._transaction() as database:
            if commit.part_keys is not None:
                database.execute("INSERT INTO part_keys(data) VALUES (?)", (commit.part_keys,))
            if commit.log is not None:
                database.execute("INSERT INTO log VALUES (?, ?)", (commit.log.offset, commit.log.data))
            self._own(
                "UPDATE meta SET next_series_id = ?, next_offset = ? WHERE epoch = ?",
                (commit.next_series_id, commit.next_offset, self._epoch),
            )

    def flush(self, flush: Flush) -> None:
        with self._transaction() as database:
            self._own("UPDATE meta SET epoch = epoch WHERE epoch = ?", (self._epoch,))
            database.executemany(
                "INSERT INTO chunks VALUES (?, ?, ?, ?)",
                [(row.batch_id, row.written_ms, row.meta, row.data) for row in flush.batches],
            )
            if flush.group_count is not None:
                database.execute("UPDATE meta SET group_count = ?", (flush.group_count,))
                database.execute("DELETE FROM checkpoints")
            if flush.next_series_id is not None:
                database.execute("UPDATE meta SET next_series_id = ?", (flush.next_series_id,))
            if flush.next_offset is not None:
                database.execute("UPDATE meta SET next_offset = max(next_offset, ?)", (flush.next_offset,))
            if flush.clock is not None:
                reading = dataclasses.astuple(flush.clock)
                database.execute("INSERT OR REPLACE INTO clock VALUES (1, ?, ?, ?, ?)", reading)
            database.executemany("INSERT OR REPLACE INTO checkpoints VALUES (?, ?)", list(flush.checkpoints.items()))
            database.execute('DELETE FROM log WHERE "offset" <= ?', (flush.log_end,))
            database.executemany("DELETE FROM chunks WHERE batch_id = ?", [(i,) for i in flush.dropped_batches])
            database.executemany("DELETE FROM part_keys WHERE row_id = ?", [(i,) for i in flush.dropped_part_keys])
            database.executemany("INSERT INTO part_keys(data) VALUES (?)", [(data,) for data in flush.new_part_keys])

    def promote(self, epoch: int) -> None:
        with self._transaction() as database:
            (stored_epoch,) = database.execute("SELECT epoch FROM meta").fetchone()
            if stored_epoch > epoch:
                raise StoreIsAhead(
                    f"{self._path} belongs to the owner with epoch {stored_epoch}; this one would have epoch {epoch}",
                    stored_epoch,
                )
            self._own("UPDATE meta SET epoch = ? WHERE epoch = ?", (epoch, self._epoch))
        self._epoch = epoch

    def _own(self, statement: str, parameters: tuple[int, ...]) -> None:
        if self._writer.execute(statement, parameters).rowcount != 1:
            raise StaleRoute(f"{self._path}: another owner has taken it over; epoch {self._epoch} may not write")

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        if self.trouble is not None:
            raise Unavailable(self.trouble)
        database = self._writer
        try:
            database.execute("BEGIN IMMEDIATE")
            yield database
            database.execute("COMMIT")
        except BaseException as error:
            with contextlib.suppress(sqlite3.Error):
                if database.in_transaction:
                    database.execute("ROLLBACK")
            with database_errors(self._path, "write"):
                if isinstance(error, sqlite3.Error) and is_damage(error):
                    self._stop_for_damage(error)
                raise

    def _stop_for_damage(self, error: sqlite3.Error) -> None:
        self._trouble = f"{self._path}: {error}; nothing more is acknowledged until the file is sound"
        with contextlib.suppress(OSError):
            self._suspect.touch()

    # ---- chunks

    def read_batch(self, batch_id: int) -> bytes | None:
        return self._reader.read_batch(batch_id)

    def read_pieces(self, batch_id: int, pieces: Sequence[tuple[int, int]]) -> list[bytes] | None:
        return self._reader.read_pieces(batch_id, pieces)

    # ---- upkeep

    def reclaim(self) -> bool:
        try:
            # This pragma frees a page with each step and has no rows: ``execute`` would step once.
            self._writer.executescript(f"PRAGMA incremental_vacuum({_RECLAIM_PAGES})")
            (free_pages,) = self._writer.execute("PRAGMA freelist_count").fetchone()
            if free_pages:
                return True
            # A snapshot that is being sent holds the log for minutes: nobody waits for it here.
            self._writer.execute("PRAGMA busy_timeout = 0")
            self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.OperationalError:
            pass  # busy: another time
        finally:
            self._writer.execute(f"PRAGMA busy_timeout = {int(_BUSY_TIMEOUT_S * 1000)}")
        return False

    def close(self) -> None:
        self._reader.close()
        self._writer.close()

    def delete(self) -> None:
        self.close()
        for place in (self._made, self._suspect, *(side_file(self._path, suffix) for suffix in ("", *SIDE_FILES))):
            place.unlink(missing_ok=True)


def _identity(place: str) -> tuple[int, int] | None:
    """Device and inode; None if nothing is there. An inode's number is not given away while the file is open."""
    try:
        status = os.stat(place)
    except OSError:
        return None
    return status.st_dev, status.st_ino
