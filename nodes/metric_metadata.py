"""What remote write tells of metrics (type, help, unit), kept beside the shard that the metric's name hashes to.

A small SQLite file for each shard that was told something: it moves to a new owner as the shard's own file does.
The newest word on a metric is the one that counts.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

Entry = tuple[str, str, str, str]
"""(metric, type, help, unit)."""

_SCHEMA = "CREATE TABLE IF NOT EXISTS metrics(metric TEXT PRIMARY KEY, type TEXT, help TEXT, unit TEXT) WITHOUT ROWID"


class MetricMetadataFile:
    """``path`` is made by the first ``put``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._known: dict[str, Entry] | None = None

    def put(self, entries: Sequence[Entry]) -> None:
        """Durable when it returns; what is known already costs nothing."""
        with self._lock:
            known = self._load()
            news = [entry for entry in entries if known.get(entry[0]) != entry]
            if not news:
                return
            with closing(sqlite3.connect(self._path, timeout=10)) as connection, connection:
                connection.execute(_SCHEMA)
                connection.executemany("INSERT OR REPLACE INTO metrics VALUES (?, ?, ?, ?)", news)
            known.update((entry[0], entry) for entry in news)

    def get(self, metric: str, limit: int) -> list[Entry]:
        """Of one metric, or of all (``""``) in the order of their names; at most ``limit`` (0: any number)."""
        with self._lock:
            known = self._load()
            if metric:
                return [known[metric]] if metric in known else []
            ordered = [known[name] for name in sorted(known)]
            return ordered[:limit] if limit else ordered

    def _load(self) -> dict[str, Entry]:
        if self._known is None:
            self._known = {}
            if self._path.exists():
                with closing(sqlite3.connect(self._path, timeout=10)) as connection:
                    connection.execute(_SCHEMA)
                    rows = connection.execute("SELECT metric, type, help, unit FROM metrics")
                    self._known = {row[0]: tuple(row) for row in rows}
        return self._known
