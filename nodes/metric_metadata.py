"""What remote write tells of metrics (type, help, unit), kept beside the shard that the metric's name hashes to.

A small SQLite file for each shard that was told something: it moves to a new owner as the shard's own file does.
The newest word on a metric is the one that counts. Of METRICS_MAX metrics those that were told of first are forgotten.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

Entry = tuple[str, str, str, str]
"""(metric, type, help, unit)."""

METRICS_MAX = 50_000
"""Of one shard; wide exporters have some thousands, and names made of numbers would have no end."""
HELP_CHARACTERS_MAX = 2_000

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
            short = [(name, kind, text[:HELP_CHARACTERS_MAX], unit) for name, kind, text, unit in entries]
            news = {entry[0]: entry for entry in short if known.get(entry[0]) != entry}
            if not news:
                return
            older = [name for name in known if name not in news]
            forgotten = older[: max(0, len(older) + len(news) - METRICS_MAX)]
            with closing(sqlite3.connect(self._path, timeout=10)) as connection, connection:
                connection.execute(_SCHEMA)
                connection.executemany("DELETE FROM metrics WHERE metric = ?", [(name,) for name in forgotten])
                connection.executemany("INSERT OR REPLACE INTO metrics VALUES (?, ?, ?, ?)", news.values())
            for name in (*forgotten, *news):
                known.pop(name, None)
            known.update(news)

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
