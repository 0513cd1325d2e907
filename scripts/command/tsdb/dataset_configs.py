"""What a data directory knows of its datasets: read from the coordinator's own file, which is left as it is."""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
from collections.abc import Mapping
from pathlib import Path

from filoray.cluster.config.dataset import DatasetConfig
from filoray.cluster.errors import NotFound, Unavailable
from filoray.cluster.store.meta_store import SQLITE_FILE, MetaStore
from filoray.command.tsdb.database_copy import copy_database

InSync = Mapping[tuple[str, int], tuple[str, ...]]
"""(dataset, shard) to the nodes whose copies have all that was acknowledged."""


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


def read_in_sync(data_dir: Path) -> InSync:
    """Of shards with several copies; empty where that is kept elsewhere (``meta-store-url``), or was lost."""
    path = data_dir / SQLITE_FILE
    if not path.is_file():
        return {}
    with tempfile.TemporaryDirectory(prefix="filoray-tsdb-") as folder:
        copy = Path(folder) / SQLITE_FILE
        copy_database(path, copy)
        with contextlib.closing(MetaStore(f"sqlite:///{copy}")) as store:
            return in_sync_of(store)


def in_sync_of(store: MetaStore) -> InSync:
    """As ``read_in_sync``, of a store that may be opened."""
    return {
        (config.name, entry.shard): entry.copies.in_sync
        for config, shard_map in store.restored_state({}).shard_maps
        for entry in shard_map.shards
        if entry.copies.in_sync
    }


def choose_dataset(configs: dict[str, DatasetConfig], name: str | None, data_dir: Path) -> DatasetConfig:
    """The named one, or the only one there is. Raises NotFound naming the choice."""
    if name is None and len(configs) == 1:
        return next(iter(configs.values()))
    if name in configs:
        return configs[name]
    known = ", ".join(configs) or "none"
    wanted = f"dataset {name} is not known to" if name else "say which --dataset of"
    raise NotFound(f"{wanted} {data_dir} (there: {known})")
