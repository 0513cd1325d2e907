"""What a data directory holds of data sets: their directories, each with ``dataset.json`` beside the shards' files.

    <data-dir>/<storage name>/                 of a data set with one copy of each shard: any node opens its files
    <data-dir>/copies/<node>/<storage name>/   of one with more: that node's copies, and nobody else's

``dataset.json`` is its configuration, written by the nodes, so that a coordinator whose own store was lost can tell
what the shards' files belong to (``store_claim.py``). It may name a Kafka cluster's password, so only its owner may
read it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from filoray.cluster.config.dataset import DatasetConfig, parse_storage_name
from filoray.cluster.process.owner_files import write_whole

DATASET_FILE = "dataset.json"
COPIES_DIRECTORY = "copies"


@dataclass(frozen=True, slots=True, order=True)
class DatasetDirectory:
    """``node``: whose copies are there; "" where any node opens the files."""

    dataset: str
    generation: int
    node: str
    path: Path

    def described(self) -> DatasetConfig | None:
        """The configuration, if it is there and that of this data set."""
        config = read_dataset_file(self.path)
        is_its = config is not None and (config.name, config.generation) == (self.dataset, self.generation)
        return config if is_its else None


def write_dataset_file(directory: Path, config: DatasetConfig) -> None:
    """Make it say that; whole or not at all. Raises OSError."""
    path, data = directory / DATASET_FILE, config.to_json().encode()
    with contextlib.suppress(OSError):
        if path.read_bytes() == data:
            return
    write_whole(path, data)


def read_dataset_file(directory: Path) -> DatasetConfig | None:
    """None if there is none that can be read."""
    try:
        return DatasetConfig.from_json((directory / DATASET_FILE).read_text("utf-8"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def dataset_directories(data_dir: Path) -> list[DatasetDirectory]:
    """Of each data set those of its last generation that has shards' files, by data set and node."""
    found = list(_directories(data_dir))
    last: dict[str, int] = {}
    for directory in found:
        last[directory.dataset] = max(last.get(directory.dataset, 0), directory.generation)
    return sorted(directory for directory in found if directory.generation == last[directory.dataset])


def node_directories(data_dir: Path, node: str) -> Iterator[DatasetDirectory]:
    """Of each data set, and generation, of which the node has shards' files of its own."""
    return _directories_in(data_dir / COPIES_DIRECTORY / node, node)


def _directories(data_dir: Path) -> Iterator[DatasetDirectory]:
    yield from _directories_in(data_dir, "")
    for folder in (data_dir / COPIES_DIRECTORY).glob("*"):
        yield from _directories_in(folder, folder.name)


def _directories_in(folder: Path, node: str) -> Iterator[DatasetDirectory]:
    for path in folder.glob("*"):
        parsed = parse_storage_name(path.name)
        if parsed is not None and next(path.glob("shard-*"), None) is not None:
            yield DatasetDirectory(*parsed, node, path)
