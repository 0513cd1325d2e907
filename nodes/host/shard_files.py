"""Where the shards of a node have their files: a directory for each data set, by its storage name.

Any node opens the files of a data set with one copy of each shard: they are beside the other data sets' in the data
directory. Of one with more, each node has its own, ``copies/<node>/<storage name>/``, so that its disk may be lost.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from filoray.cluster.config.dataset import DatasetConfig, storage_name
from filoray.cluster.config.dataset_file import COPIES_DIRECTORY, DATASET_FILE, node_directories, write_dataset_file
from filoray.cluster.control.node_effects import OpenShard
from filoray.cluster.node_protocol import StoredCopies
from filoray.nodes.memstore.shard_spec import ShardSpec
from filoray.nodes.memstore.store.store_choice import delete_shared_store

logger = logging.getLogger(__name__)


class ShardFiles:
    """``node``: whose copies these are. ``column_store_url``: the PostgreSQL that has the samples instead, or None."""

    def __init__(self, node: str, data_dir: Path, column_store_url: str | None) -> None:
        self.column_store_url = column_store_url
        self._node = node
        self._data_dir = data_dir

    def path(self, config: DatasetConfig, shard: int, kind: str = "db") -> Path:
        return self._directory(config) / f"shard-{shard}.{kind}"

    def stored(self) -> tuple[StoredCopies, ...]:
        """What copies this node has, of whatever data sets."""
        found = []
        for directory in node_directories(self._data_dir, self._node):
            if (config := directory.described()) is not None:
                paths = directory.path.glob("shard-*.db")
                numbers = [path.stem.removeprefix("shard-") for path in paths]
                shards = tuple(sorted(int(number) for number in numbers if number.isdecimal()))
                found.append(StoredCopies(config.name, config.generation, shards, config.cluster_id))
        return tuple(sorted(found, key=lambda one: (one.dataset, one.generation)))

    def spec(self, order: OpenShard) -> ShardSpec:
        """What is to be opened for that order."""
        config = order.config
        return ShardSpec(
            config.name,
            order.shard,
            order.epoch,
            self.path(config, order.shard),
            config.store,
            column_store_url=self.column_store_url,
            generation=config.generation,
            was_open=order.was_open,
            is_copy=config.has_copies,
        )

    def _directory(self, config: DatasetConfig) -> Path:
        if config.has_copies:
            return self._copies(config.storage_name)
        return self._data_dir / config.storage_name

    def _copies(self, storage: str) -> Path:
        return self._data_dir / COPIES_DIRECTORY / self._node / storage

    def prepare(self, config: DatasetConfig) -> None:
        """Before a shard is led: a directory for its metrics' types. Raises OSError."""
        if self.column_store_url is not None:  # a store of files makes its own
            self._directory(config).mkdir(parents=True, exist_ok=True)

    def describe(self, config: DatasetConfig) -> None:
        """Beside the shards, for whoever lost the coordinator's store."""
        directory = self._directory(config)
        try:
            write_dataset_file(directory, config)
        except OSError as error:  # only a coordinator that lost its store would miss it
            logger.warning("dataset %s: %s cannot be written: %s", config.name, directory / DATASET_FILE, error)

    def delete(self, dataset: str, generation: int, shards: Sequence[int]) -> None:
        """All that is stored of them on this machine, in every node's copies: whoever had one has closed it.

        And the directories if nothing is left. Takes a database long for large shards.
        """
        storage = storage_name(dataset, generation)
        for directory in [self._data_dir / storage, *self._data_dir.glob(f"{COPIES_DIRECTORY}/*/{storage}")]:
            _delete_files(directory, shards)
        for shard in shards:
            delete_shared_store(self.column_store_url, storage, shard)

    def delete_own_copies(self, dataset: str, generation: int, shards: Sequence[int]) -> None:
        """This node's copies of them, and nobody else's."""
        _delete_files(self._copies(storage_name(dataset, generation)), shards)


def _delete_files(directory: Path, shards: Sequence[int]) -> None:
    for shard in shards:
        for path in directory.glob(f"shard-{shard}.*"):  # with SQLite's -wal and -shm
            path.unlink(missing_ok=True)
    try:
        if not any(directory.glob("shard-*")):
            (directory / DATASET_FILE).unlink(missing_ok=True)
        directory.rmdir()
    except OSError:
        pass
