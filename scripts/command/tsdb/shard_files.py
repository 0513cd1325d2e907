"""Which shard files a data directory holds: ``DIR/<storage name>/shard-<n>.db``, as the nodes lay them out.

Of a data set with several copies of each shard: ``DIR/copies/<node>/<storage name>/shard-<n>.db``, one of each node.
A storage name is the dataset's, or ``<dataset>@<generation>`` if it was set up again after a deletion. Of several
generations the last is the dataset; the others are being deleted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from filoray.cluster.config.dataset_file import dataset_directories
from filoray.cluster.errors import NotFound

_SHARD_FILE = re.compile(r"shard-(\d+)\.db")


@dataclass(frozen=True, slots=True, order=True)
class ShardFile:
    """``node``: whose copy it is; "" of a data set with one copy of each shard."""

    dataset: str
    shard: int
    path: Path
    node: str = ""


def find_shard_files(data_dir: Path, dataset: str | None = None) -> list[ShardFile]:
    """All shard files of ``data_dir``, by dataset and shard; of one dataset if given. Raises NotFound for none."""
    if not data_dir.is_dir():
        raise NotFound(f"{data_dir} is not a directory")
    found = list(_shard_files(data_dir, "db", dataset))
    if not found:
        wanted = f" of dataset {dataset}" if dataset else ""
        raise NotFound(
            f"{data_dir} holds no shard files{wanted} ({data_dir}/DATASET/shard-N.db or copies/NODE/DATASET/)"
        )
    return sorted(found)


def missing_shard_files(data_dir: Path, dataset: str | None = None) -> list[ShardFile]:
    """Those that a node made once and that are not there any more."""
    return sorted(file for file in _shard_files(data_dir, "made", dataset) if not file.path.exists())


def _shard_files(data_dir: Path, kind: str, dataset: str | None) -> Iterator[ShardFile]:
    for directory in dataset_directories(data_dir):
        if dataset not in (None, directory.dataset):
            continue
        for path in directory.path.glob(f"shard-*.{kind}"):
            file = path.with_suffix(".db")
            if match := _SHARD_FILE.fullmatch(file.name):
                yield ShardFile(directory.dataset, int(match[1]), file, directory.node)
