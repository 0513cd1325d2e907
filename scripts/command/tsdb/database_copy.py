"""Copies of SQLite files that may be written to meanwhile, and facts about who has one open."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from filoray.cluster.errors import Unavailable


def copy_database(source: Path, target: Path) -> None:
    """What was committed when the copy began, as one plain file (SQLite's online backup). Raises Unavailable."""
    try:
        with (
            contextlib.closing(sqlite3.connect(f"{source.resolve().as_uri()}?mode=rw", uri=True, timeout=30)) as read,
            contextlib.closing(sqlite3.connect(target)) as write,
        ):
            # In one step, that is in one read transaction: a copy in several begins anew at every commit in between.
            read.backup(write, pages=-1)
            write.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.Error as error:
        target.unlink(missing_ok=True)
        raise Unavailable(f"{source}: cannot be copied: {error}") from error


def check_not_in_use(path: Path) -> None:
    """Raises Unavailable if another process (a running cluster's node) has the database open."""
    with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True, timeout=0)) as database:
        try:
            # SQLite leaves WAL mode only for whoever is alone.
            database.execute("PRAGMA journal_mode = DELETE")
        except sqlite3.OperationalError as error:
            raise Unavailable(f"{path} is in use: stop the cluster, or go through it with --url") from error
