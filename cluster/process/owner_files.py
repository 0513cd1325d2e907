"""Files for their owner alone: configurations have passwords, and samples are nobody else's."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

PRIVATE_UMASK = 0o077


def write_whole(path: Path, data: bytes) -> None:
    """Make the file say that, for its owner alone; whatever ends this process or the machine, all of it or as before.

    Raises OSError; the file is then as it was.
    """
    # A name that is nobody's: a data set may have any that is like ours.
    descriptor, draft = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(draft)
        raise
