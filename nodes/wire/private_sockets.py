"""Where the sockets are that only this user's processes may enter: a directory of mode 0700, one for each user.

On one machine the file system says who may speak to a node, for nothing: faster than TCP, and no stranger gets as far
as a handshake. The directory is ``filoray-<uid>`` in the system's directory for temporary files; one of that name
which somebody else made, or may enter, is not used.
"""

from __future__ import annotations

import os
import secrets
import socket
import stat
import tempfile
import time
from contextlib import suppress
from pathlib import Path

_PATH_BYTES_MAX = 100
"""A socket's path may have 107 bytes (sun_path)."""
_NEW_S = 60.0


def new_socket_path(name: str) -> Path:
    """A path of a socket that is not there yet, in the private directory.

    Former sockets at which nobody listens any more are removed: a killed process leaves its. Raises OSError.
    """
    directory = _private_directory()
    for old in directory.iterdir():
        if (old.name.startswith(f"{name}-") or _is_old(old)) and _is_dead(old):
            with suppress(OSError):
                old.unlink()
    return directory / f"{name}-{secrets.token_hex(8)}"


def _private_directory() -> Path:
    for parent in (tempfile.gettempdir(), "/tmp"):  # a long TMPDIR leaves no room for the name of a socket
        path = Path(parent) / f"filoray-{os.geteuid()}"
        if len(os.fsencode(path)) > _PATH_BYTES_MAX - 40:
            continue
        try:
            path.mkdir(mode=0o700)
        except FileExistsError:
            pass
        if _is_private(path):
            return path
    return Path(tempfile.mkdtemp(prefix="filoray-", dir="/tmp"))  # of mode 0700 and of a name that nobody guesses


def _is_private(path: Path) -> bool:
    found = path.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077


def _is_old(path: Path) -> bool:
    """Another node's that was made just now may not listen yet."""
    try:
        return time.time() - path.lstat().st_mtime > _NEW_S
    except OSError:
        return False


def _is_dead(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(0)
        try:
            probe.connect(os.fsencode(path))
        except ConnectionRefusedError:
            return True
        except OSError:  # full, or something else than a socket
            return False
    return False
