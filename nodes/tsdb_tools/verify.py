"""Checks of shard files at rest; nothing is changed."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from filoray.nodes.tsdb_tools.shard_files import ShardFile

_PROBLEMS_MAX = 100


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What one shard file's check found; ``problems`` is empty for a sound file."""

    file: ShardFile
    problems: tuple[str, ...]


def verify_shard_file(file: ShardFile) -> VerifyReport:
    """SQLite's own check of pages and indexes."""
    try:
        connection = sqlite3.connect(f"file:{file.path}?mode=ro", uri=True)
        try:
            rows = [row[0] for row in connection.execute(f"PRAGMA integrity_check({_PROBLEMS_MAX})")]
        finally:
            connection.close()
    except sqlite3.Error as error:
        rows = [str(error)]
    return VerifyReport(file, () if rows == ["ok"] else tuple(rows))
