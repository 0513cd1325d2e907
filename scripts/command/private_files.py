"""Closes a data directory to all but its owner.

New files are private by the umask of the launcher (``cluster/process/owner_files.py``), which all that it starts
inherits; here is what makes private those that another version left open.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from filoray.cluster.config.dataset_file import DATASET_FILE

_OPEN_BITS = stat.S_IRWXG | stat.S_IRWXO
_OUR_FILES = ("coordinator.db*", "launch.*", ".launch.json-*", "*.log", "*.log.[0-9]", "*.lock")
_SHARD_FILES = "shard-*"


def make_private(data_dir: Path) -> list[Path]:
    """Close the data directory and what is ours in it to others; returns what could not be closed.

    A directory that has other things as well (somebody's home, ``/tmp``) stays open, our files in it do not.
    """
    ours = _our_files(data_dir)
    if _has_nothing_else(data_dir, ours):
        ours.append(data_dir)
    return [path for path in ours if not _closed(path)]


def _our_files(data_dir: Path) -> list[Path]:
    found = {path for pattern in _OUR_FILES for path in data_dir.glob(pattern) if path.is_file()}
    for folder in data_dir.iterdir():
        if folder.is_dir() and not folder.is_symlink():
            shards = {path for path in folder.rglob(_SHARD_FILES) if path.is_file()}
            folders = {parent for path in shards for parent in path.parents if parent.is_relative_to(folder)}
            found |= shards | folders | {path for one in folders for path in one.glob(DATASET_FILE)}
    return sorted(found)


def _has_nothing_else(data_dir: Path, ours: list[Path]) -> bool:
    own_folders = {"kernel-cache"}
    known = {path.name for path in ours} | own_folders | {path.name for path in data_dir.glob("*.conf")}
    return all(entry.name in known or (entry.is_dir() and not any(entry.iterdir())) for entry in data_dir.iterdir())


def _closed(path: Path) -> bool:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & _OPEN_BITS:
            os.chmod(path, mode & ~_OPEN_BITS)
        return True
    except FileNotFoundError:
        return True
    except OSError:
        return False
