"""The log of one actor's process: a file named after the actor in the data directory, bounded, and warnings on stderr.

Ray's own files have stderr only, and go with Ray's temporary directory when a cluster is stopped.
"""

from __future__ import annotations

import logging
import os
import sys
from logging.handlers import RotatingFileHandler
from pathlib import Path

_FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"
_FILE_BYTES_MAX = 16 * 1024 * 1024
_OLD_FILES = 2


def log_to_file(data_dir: Path, actor: str) -> None:
    """From INFO on. Where no file can be written, to stderr. What it writes from now on is its owner's only."""
    os.umask(0o077)  # whoever started it: configurations have passwords
    warnings = logging.StreamHandler(sys.stderr)
    handlers: list[logging.Handler] = [warnings]
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        path = data_dir / f"{actor}.log"
        handlers.append(RotatingFileHandler(path, maxBytes=_FILE_BYTES_MAX, backupCount=_OLD_FILES, encoding="utf-8"))
        warnings.setLevel(logging.WARNING)
    except OSError as error:
        logging.getLogger(__name__).warning("no log file for %s: %s", actor, error)
    logging.basicConfig(level=logging.INFO, format=_FORMAT, handlers=handlers, force=True)
