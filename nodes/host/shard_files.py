"""Where the shards of a node have their files: a directory for each data set, by its storage name."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from filoray.cluster.config.dataset import DatasetConfig, storage_name
from filoray.cluster.config.dataset_file import DATASET_FILE, write_dataset_file
from filoray.nodes.memstore.store.store_choice import delete_shared_store

logger = logging.getLogger(__name__)


class ShardFiles:
    """``column_store_url``: the PostgreSQL that has the shards' samples instead, or None."""

    def __init__(self, data_dir: Path, column_store_url: str | None) -> None:
        self.column_store_url = column_store_url
        self._data_dir = data_dir

    def path(self, config: DatasetConfig, shard: int, kind: str = "db") -> Path:
        return self._data_dir / config.storage_name / f"shard-{shard}.{kind}"

    def describe(self, config: DatasetConfig) -> None:
        """Beside the shards, for whoever lost the coordinator's store."""
        directory = self._data_dir / config.storage_name
        try:
            write_dataset_file(directory, config)
        except OSError as error:  # only a coordinator that lost its store would miss it
            logger.warning("dataset %s: %s cannot be written: %s", config.name, directory / DATASET_FILE, error)

    def delete(self, dataset: str, generation: int, shards: Sequence[int]) -> None:
        """All that is stored of them, and the directory if nothing is left. Takes a database long for large shards."""
        storage = storage_name(dataset, generation)
        for shard in shards:
            self._delete_shard(storage, shard)
        directory = self._data_dir / storage
        try:
            if not any(directory.glob("shard-*")):
                (directory / DATASET_FILE).unlink(missing_ok=True)
            directory.rmdir()
        except OSError:
            pass

    def _delete_shard(self, storage: str, shard: int) -> None:
        for path in (self._data_dir / storage).glob(f"shard-{shard}.*"):  # with SQLite's -wal and -shm
            path.unlink(missing_ok=True)
        delete_shared_store(self.column_store_url, storage, shard)
