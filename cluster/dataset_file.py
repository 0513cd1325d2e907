"""What a data set's directory says of itself: ``dataset.json`` beside the shards' files, its configuration.

Written by the nodes, so that a coordinator whose own store was lost can tell what the shards' files belong to
(``store_claim.py``). It may name a Kafka cluster's password, so only its owner may read it.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from filoray.cluster.dataset import DatasetConfig, parse_storage_name

DATASET_FILE = "dataset.json"


def write_dataset_file(directory: Path, config: DatasetConfig) -> None:
    """Make it say that; whole or not at all. Raises OSError."""
    path, text = directory / DATASET_FILE, config.to_json()
    try:
        if path.read_text("utf-8") == text:
            return
    except (OSError, UnicodeDecodeError):
        pass
    handle, draft = tempfile.mkstemp(prefix=f".{DATASET_FILE}.", dir=directory)  # mode 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(draft, path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise


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
