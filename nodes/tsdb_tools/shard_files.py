"""Which shard files a data directory holds: ``DIR/<dataset>/shard-<n>.db``, as the nodes lay them out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from filoray.cluster.errors import NotFound

_SHARD_FILE = re.compile(r"shard-(\d+)\.db")


@dataclass(frozen=True, slots=True, order=True)
class ShardFile:
    dataset: str
    shard: int
    path: Path


def find_shard_files(data_dir: Path, dataset: str | None = None) -> list[ShardFile]:
    """All shard files of ``data_dir``, by dataset and shard; of one dataset if given. Raises NotFound for none."""
    if not data_dir.is_dir():
        raise NotFound(f"{data_dir} is not a directory")
    found = []
    for path in data_dir.glob("*/shard-*.db"):
        match = _SHARD_FILE.fullmatch(path.name)
        if match and dataset in (None, path.parent.name):
            found.append(ShardFile(path.parent.name, int(match[1]), path))
    if not found:
        wanted = f" of dataset {dataset}" if dataset else ""
        raise NotFound(f"{data_dir} holds no shard files{wanted} ({data_dir}/DATASET/shard-N.db)")
    return sorted(found)
