"""Whether two copies of a shard have stored the same: a checksum of each chunk batch, from the bytes that are there.

    leader, follower = stored_checksums(one), stored_checksums(other)
    for sentence in differences(leader, follower): ...

The checksum is xxh3-64 of ``i64 written ms | u64 bytes of meta | meta | data``. Files are read beside whoever has them
open, a batch at a time; a batch that is dropped meanwhile is left out.
"""

from __future__ import annotations

import contextlib
import sqlite3
import struct
import threading
import time
from collections.abc import Container, Iterator, Mapping
from pathlib import Path

import xxhash

from filoray.cluster.errors import Unavailable
from filoray.nodes.memstore.store.column_store import ChunkBatchRow
from filoray.nodes.memstore.store.sqlite_errors import database_errors
from filoray.nodes.memstore.store.store_errors import DamagedStore

PIECE_BYTES = 1 << 20
_LEAD = struct.Struct("<qQ")
_BUSY_TIMEOUT_S = 5.0


class BatchHash:
    """The checksum of a batch whose data comes in pieces."""

    def __init__(self, written_ms: int, meta: bytes) -> None:
        self._hash = xxhash.xxh3_64(_LEAD.pack(written_ms, len(meta)))
        self._hash.update(meta)

    def update(self, data: bytes) -> None:
        self._hash.update(data)

    def value(self) -> int:
        return self._hash.intdigest()


def batch_checksum(row: ChunkBatchRow) -> int:
    """Of a batch that is in memory."""
    digest = BatchHash(row.written_ms, row.meta)
    digest.update(row.data)
    return digest.value()


def open_to_read(path: Path) -> sqlite3.Connection:
    """A connection of its own to a shard's file, which must be there; for one thread at a time.

    Raises DamagedStore, Unavailable.
    """
    with database_errors(path, "open"):
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=rw",
            timeout=_BUSY_TIMEOUT_S,
            isolation_level=None,
            check_same_thread=False,
            uri=True,
        )
        connection.execute("PRAGMA query_only = ON")
        return connection


def read_in_pieces(connection: sqlite3.Connection, batch_id: int, piece_bytes: int) -> Iterator[bytes]:
    """The data of a stored batch. The caller holds a transaction; what is no blob is damaged, and has no bytes."""
    (kind,) = connection.execute("SELECT typeof(data) FROM chunks WHERE batch_id = ?", (batch_id,)).fetchone()
    if kind != "blob":
        return
    with connection.blobopen("chunks", "data", batch_id, readonly=True) as blob:
        while piece := blob.read(piece_bytes):
            yield piece


def checksum_in_store(connection: sqlite3.Connection, batch_id: int, pace: Pace | None = None) -> int | None:
    """Read and hash a batch; None if there is none. The caller holds a transaction."""
    query = "SELECT written_ms, meta FROM chunks WHERE batch_id = ?"
    row = connection.execute(query, (batch_id,)).fetchone()
    if row is None:
        return None
    written_ms, meta = row
    digest = BatchHash(written_ms if isinstance(written_ms, int) else 0, meta if isinstance(meta, bytes) else b"")
    for piece in read_in_pieces(connection, batch_id, PIECE_BYTES):
        digest.update(piece)
        if pace is not None:
            pace.passed(len(piece))
    return digest.value()


def batch_ids_of(connection: sqlite3.Connection) -> list[int]:
    return [batch_id for (batch_id,) in connection.execute("SELECT batch_id FROM chunks ORDER BY batch_id")]


@contextlib.contextmanager
def reading(connection: sqlite3.Connection) -> Iterator[None]:
    """One view of the file."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        if connection.in_transaction:
            connection.execute("COMMIT")


class Pace:
    """Slows its thread down to so many bytes a second; once ``halt`` is set, it raises Unavailable instead."""

    def __init__(self, bytes_per_s: float, halt: threading.Event | None = None) -> None:
        self._bytes_per_s = bytes_per_s
        self._halt = halt or threading.Event()
        self._free_at_s = time.monotonic()

    def passed(self, data_bytes: int) -> None:
        now_s = time.monotonic()
        self._free_at_s = max(self._free_at_s, now_s) + data_bytes / self._bytes_per_s
        if self._halt.wait(max(0.0, self._free_at_s - now_s)):
            raise Unavailable("nobody wants to know any more")


def stored_checksums(
    path: Path,
    bytes_per_s: float | None = None,
    within: Container[int] | None = None,
    halt: threading.Event | None = None,
) -> dict[int, int]:
    """Batch id to checksum, of the chunk batches in a shard's file; really read, with at most ``bytes_per_s``.

    ``within``: those batch ids alone. ``halt``: that somebody slowed down need not go on, which raises Unavailable.

    Raises DamagedStore where SQLite cannot read the file, Unavailable where it is not there.
    """
    pace = None if bytes_per_s is None else Pace(bytes_per_s, halt)
    found: dict[int, int] = {}
    with contextlib.closing(open_to_read(path)) as connection:
        with database_errors(path, "read"):
            batch_ids = batch_ids_of(connection)
        for batch_id in batch_ids:
            if within is not None and batch_id not in within:
                continue
            try:
                with database_errors(path, "read"), reading(connection):
                    checksum = checksum_in_store(connection, batch_id, pace)
            except DamagedStore as error:
                raise DamagedStore(f"{error}; it was met in chunk batch {batch_id}") from error
            if checksum is not None:
                found[batch_id] = checksum
    return found


def differences(leader: Mapping[int, int], follower: Mapping[int, int]) -> list[str]:
    """A sentence for each batch that the follower has not as its leader has it, by batch; none if all are equal."""
    sentences = []
    for batch_id in sorted(leader.keys() | follower.keys()):
        there, here = leader.get(batch_id), follower.get(batch_id)
        if there is None:
            sentences.append(f"chunk batch {batch_id}: the follower has it, the leader has not")
        elif here is None:
            sentences.append(f"chunk batch {batch_id}: missing at the follower")
        elif here != there:
            sentences.append(
                f"chunk batch {batch_id}: checksum {here:016x} at the follower, {there:016x} at the leader"
            )
    return sentences
