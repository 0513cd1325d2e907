"""A small file system for the data of a scenario's own cluster: a full disk is a really full one, and nobody else's."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from filoray.cluster.errors import FilorayError

_SIZE = "512m"
_PIECE = b"\0" * (1 << 20)


class SmallDisk:
    """A tmpfs, mounted while the cluster runs."""

    def __init__(self) -> None:
        self._folder: Path | None = None

    @contextlib.contextmanager
    def mounted(self, folder: Path) -> Iterator[None]:
        folder.mkdir(parents=True, exist_ok=True)
        if problem := _mount(folder, _SIZE):
            raise FilorayError(f"a small disk cannot be mounted at {folder}: {problem}")
        self._folder = folder
        try:
            yield
        finally:
            self._folder = None
            _unmount(folder)

    def fill(self) -> None:
        """Until not one byte more can be stored."""
        with self._filler.open("ab", buffering=0) as file:
            piece = _PIECE
            while piece:
                try:
                    file.write(piece)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    piece = piece[: len(piece) // 2]

    def free(self) -> None:
        self._filler.unlink(missing_ok=True)

    @property
    def _filler(self) -> Path:
        if self._folder is None:
            raise FilorayError("the small disk is not mounted")
        return self._folder / "filler"


def mount_problem() -> str:
    """Why no small disk can be mounted on this machine, or "": it is tried."""
    with tempfile.TemporaryDirectory(prefix="filoray-chaos-") as folder:
        problem = _mount(Path(folder), "64k")
        if not problem:
            _unmount(Path(folder))
        return problem


def _mount(folder: Path, size: str) -> str:
    options = f"size={size},mode=0700,uid={os.getuid()},gid={os.getgid()}"
    return _run("mount", "-t", "tmpfs", "-o", options, "filoray-chaos", str(folder))


def _unmount(folder: Path) -> None:
    if _run("umount", str(folder)):  # somebody still has a file open there: it goes with the last of them
        _run("umount", "--lazy", str(folder))


def _run(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        return str(error)
    return done.stderr.strip() or f"exit code {done.returncode}" if done.returncode else ""
