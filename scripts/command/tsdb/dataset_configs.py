"""The datasets that a data directory knows: read from the coordinator's own file, which is left as it is."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from filoray.cluster.config.dataset import DatasetConfig
from filoray.cluster.errors import NotFound, Unavailable
from filoray.cluster.store.meta_store import SQLITE_FILE


def read_dataset_configs(data_dir: Path) -> dict[str, DatasetConfig]:
    """By name; empty where the configurations are kept elsewhere (``meta-store-url``)."""
    path = data_dir / SQLITE_FILE
    if not path.is_file():
        return {}
    try:
        with contextlib.closing(
            sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True, timeout=10)
        ) as database:
            database.execute("PRAGMA query_only = ON")
            rows = database.execute("SELECT name, config FROM datasets WHERE NOT is_deleting ORDER BY name").fetchall()
    except sqlite3.Error as error:
        raise Unavailable(f"{path}: {error}") from error
    return {name: DatasetConfig.from_json(config) for name, config in rows}


def choose_dataset(configs: dict[str, DatasetConfig], name: str | None, data_dir: Path) -> DatasetConfig:
    """The named one, or the only one there is. Raises NotFound naming the choice."""
    if name is None and len(configs) == 1:
        return next(iter(configs.values()))
    if name in configs:
        return configs[name]
    known = ", ".join(configs) or "none"
    wanted = f"dataset {name} is not known to" if name else "say which --dataset of"
    raise NotFound(f"{wanted} {data_dir} (there: {known})")
