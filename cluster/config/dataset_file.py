"""What a data set's directory says of itself: ``dataset.json`` beside the shards' files, its configuration.

Written by the nodes, so that a coordinator whose own store was lost can tell what the shards' files belong to
(``store_claim.py``). It may name a Kafka cluster's password, so only its owner may read it.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from filoray.cluster.config.dataset import DatasetConfig, parse_storage_name
from filoray.cluster.process.owner_files import write_whole

DATASET_FILE = "dataset.json"


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


def dataset_directories(data_dir: Path) -> dict[str, Path]:
    """Dataset to the directory of its last generation that has shards' files."""
    generations: dict[str, tuple[int, Path]] = {}
    for directory in {path.parent for path in data_dir.glob("*/shard-*")}:
        parsed = parse_storage_name(directory.name)
        if parsed is not None:
            name, generation = parsed
            generations[name] = max(generations.get(name, (-1, directory)), (generation, directory))
    return {name: directory for name, (_, directory) in sorted(generations.items())}
