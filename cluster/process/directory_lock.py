"""One holder of a directory at a time, for as long as its process lives: the kernel lets go when that ends."""

from __future__ import annotations

import fcntl
from pathlib import Path
from types import TracebackType

from filoray.cluster.errors import FilorayError


class DirectoryInUse(FilorayError):
    """Another process holds the directory."""


class DirectoryLock:
    """Held from the constructor on. Raises DirectoryInUse, naming directory and ``purpose``."""

    def __init__(self, directory: Path, purpose: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._file = (directory / f"{purpose}.lock").open("w")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise DirectoryInUse(f"another {purpose} is at work in {directory}") from None

    def release(self) -> None:
        self._file.close()

    def __enter__(self) -> DirectoryLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
