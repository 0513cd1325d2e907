"""Opens a file that a dataset names, below the directory that the operator allows and nowhere else.

The path may be relative to the directory or absolute; links may lead about inside it. What is opened is where the path
leads now, taken component by component from the directory on without following any further link, so that nothing that
changes meanwhile leads out. Only regular files: a pipe that nobody writes to would hold the thread that opens it.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from filoray.nodes.streams.stream import StreamFailed

_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def is_below(path: Path, directory: Path) -> bool:
    """By the letters alone, before any file system is asked: this may not be the machine that has the file."""
    whole = os.path.normpath(directory / path)
    return Path(whole) != directory and Path(whole).is_relative_to(os.path.normpath(directory))


def open_below(path: Path, directory: Path) -> int:
    """A descriptor to read ``path`` from. Raises StreamFailed; the text says nothing of files elsewhere."""
    if not is_below(path, directory):
        raise StreamFailed(f"{path}: it is not below filoray.datasets.csv-directory, {directory}")
    try:
        top = Path(os.path.realpath(directory))
        real = Path(os.path.realpath(directory / path))
        if real == top or not real.is_relative_to(top):
            raise StreamFailed(f"{path}: it leads out of filoray.datasets.csv-directory, {directory}")
        descriptor = _walk(top, real.relative_to(top).parts)
    except (OSError, ValueError) as error:
        raise StreamFailed(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise StreamFailed(f"{path}: it is not a regular file")
    return descriptor


def _walk(top: Path, parts: tuple[str, ...]) -> int:
    directory = os.open(top, _OPEN_DIRECTORY)
    try:
        for part in parts[:-1]:
            inner = os.open(part, _OPEN_DIRECTORY | os.O_NOFOLLOW, dir_fd=directory)
            os.close(directory)
            directory = inner
        return os.open(parts[-1], _OPEN_FILE, dir_fd=directory)
    finally:
        os.close(directory)
