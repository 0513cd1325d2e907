"""The tables of a shard's SQLite file (``sqlite_column_store`` says what is in them), and the files around it."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

FORMAT = 1
SIDE_FILES = ("-wal", "-shm", "-journal")
"""What SQLite keeps beside a file, by the end of its name."""

_SCHEMA = f"""
CREATE TABLE meta(
    only INTEGER PRIMARY KEY CHECK (only = 1), format INTEGER NOT NULL, epoch INTEGER NOT NULL,
    group_count INTEGER NOT NULL, next_series_id INTEGER NOT NULL, next_offset INTEGER NOT NULL);
CREATE TABLE part_keys(row_id INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE log("offset" INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE chunks(batch_id INTEGER PRIMARY KEY, written_ms INTEGER NOT NULL, meta BLOB NOT NULL, data BLOB NOT NULL);
CREATE TABLE checkpoints(flush_group INTEGER PRIMARY KEY, "offset" INTEGER NOT NULL);
INSERT INTO meta VALUES (1, {FORMAT}, 0, :groups, 0, 0);
"""
CLOCK_TABLE = """
CREATE TABLE IF NOT EXISTS clock(
    only INTEGER PRIMARY KEY CHECK (only = 1), wall_ms INTEGER NOT NULL, retention_ms INTEGER NOT NULL,
    owed_ms INTEGER NOT NULL, owed_since_ms INTEGER NOT NULL)
"""


def make_tables(database: sqlite3.Connection, group_count: int) -> None:
    """All but the clock's, which older files lack."""
    for statement in _SCHEMA.split(";\n"):
        if statement.strip():
            database.execute(statement, {"groups": group_count} if ":groups" in statement else {})


def side_file(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def sync_folders(path: Path) -> None:
    """The name of the file at ``path``, and of its folder, are on the disk when it returns."""
    for folder in (path.parent, path.parent.parent):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
