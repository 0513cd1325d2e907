"""The file in which a shard keeps what it was told of metrics (type, help, unit).

A small SQLite file for each shard that was told something: it moves to a new owner as the shard's own file does.
The newest word on a metric is the one that counts. Of METRICS_MAX metrics those that were told of first are forgotten.
Agents tell all of it again every minute or so, so what is damaged is passed over and said in the log, no more.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path

from filoray.nodes.data.metric_metadata import METRICS_MAX, MetricMetadata
from filoray.nodes.memstore.store.sqlite_errors import database_errors
from filoray.nodes.memstore.store.store_errors import DamagedStore

logger = logging.getLogger(__name__)

_SCHEMA = "CREATE TABLE IF NOT EXISTS metrics(metric TEXT PRIMARY KEY, type TEXT, help TEXT, unit TEXT) WITHOUT ROWID"


class MetricMetadataFile:
    """``path`` is made by the first ``put``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._known: dict[str, MetricMetadata] | None = None

    def put(self, entries: Sequence[MetricMetadata]) -> None:
        """Durable when it returns; what is known already costs nothing. Raises Unavailable (a full disk, ...)."""
        with self._lock:
            known = self._load()
            short = [entry.shortened() for entry in entries]
            news = {entry.metric: entry for entry in short if entry is not None and known.get(entry.metric) != entry}
            if not news:
                return
            older = [name for name in known if name not in news]
            forgotten = older[: max(0, len(older) + len(news) - METRICS_MAX)]
            try:
                self._write(forgotten, news.values())
            except DamagedStore as error:
                self._set_aside(error)
                self._write([], [*(known[name] for name in older[len(forgotten) :]), *news.values()])
            for name in (*forgotten, *news):
                known.pop(name, None)
            known.update(news)

    def get(self, metric: str, limit: int) -> list[MetricMetadata]:
        """Of one metric, or of all (``""``) in the order of their names; at most ``limit`` (0: any number)."""
        with self._lock:
            known = self._load()
            if metric:
                return [known[metric]] if metric in known else []
            ordered = [known[name] for name in sorted(known)]
            return ordered[:limit] if limit else ordered

    def _load(self) -> dict[str, MetricMetadata]:
        if self._known is None:
            try:
                self._known = self._read() if self._path.exists() else {}
            except DamagedStore as error:
                self._set_aside(error)
                self._known = {}
        return self._known

    def _read(self) -> dict[str, MetricMetadata]:
        known: dict[str, MetricMetadata] = {}
        with database_errors(self._path, "read"), closing(sqlite3.connect(self._path, timeout=10)) as connection:
            connection.text_factory = bytes  # decoded here, as one bad text must not hide the others
            connection.execute(_SCHEMA)
            rows = connection.execute("SELECT metric, type, help, unit FROM metrics").fetchall()
        for row in rows:
            entry = _as_entry(row)
            if entry is not None:
                known[entry.metric] = entry
        if len(known) < len(rows):
            bad = len(rows) - len(known)
            logger.error("%s: %d rows are not metric metadata and are passed over", self._path, bad)
        return known

    def _write(self, forgotten: Sequence[str], entries: Iterable[MetricMetadata]) -> None:
        with (
            database_errors(self._path, "write"),
            closing(sqlite3.connect(self._path, timeout=10)) as connection,
            connection,
        ):
            connection.execute(_SCHEMA)
            connection.executemany("DELETE FROM metrics WHERE metric = ?", [(name,) for name in forgotten])
            connection.executemany(
                "INSERT OR REPLACE INTO metrics VALUES (?, ?, ?, ?)", [entry.as_row() for entry in entries]
            )

    def _set_aside(self, error: DamagedStore) -> None:
        """Senders tell their metrics' types again within minutes: a damaged file must not refuse their writes."""
        logger.error("%s; it is set aside as %s.damaged, and begun anew", error, self._path.name)
        for suffix in ("-wal", "-shm", "-journal"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
        self._path.replace(self._path.with_name(self._path.name + ".damaged"))


def _as_entry(row: Sequence[object]) -> MetricMetadata | None:
    try:
        metric, kind, help_text, unit = [part.decode() for part in row if isinstance(part, bytes)]
    except (UnicodeDecodeError, ValueError):
        return None
    return MetricMetadata(metric, kind, help_text, unit).shortened()
