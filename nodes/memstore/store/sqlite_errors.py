"""SQLite's errors in our words: the bytes are damaged, or the environment does not let us (a full disk, a lock)."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from filoray.cluster.errors import Unavailable
from filoray.nodes.memstore.store.store_errors import DamagedStore


@contextlib.contextmanager
def database_errors(path: Path, verb: str) -> Iterator[None]:
    """Raises DamagedStore or Unavailable for what SQLite and the file system raise; ``verb`` as in "cannot open"."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if is_damage(error):
            raise DamagedStore(f"{path}: {error}") from error
        raise Unavailable(f"{path}: cannot {verb}: {error}") from error
    except OSError as error:
        raise Unavailable(f"{path}: cannot {verb}: {error}") from error


def is_damage(error: sqlite3.Error) -> bool:
    """SQLITE_CORRUPT and SQLITE_NOTADB; the rest is the environment's fault."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
