"""The log of one actor's process: a file named after the actor in the data directory, bounded, and warnings on stderr.

Ray's own files have stderr only, and go with Ray's temporary directory when a cluster is stopped.

Whatever a record quotes (names, label values, what a client sent) stays inside it: a record is one line of bounded
length, a traceback below it is indented, and nothing in either speaks to a terminal.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import time
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from filoray.cluster.process.owner_files import PRIVATE_UMASK

_FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"
_FILE_BYTES_MAX = 16 * 1024 * 1024
_OLD_FILES = 2
_LINE_CHARACTERS_MAX = 8 * 1024
_TRACEBACK_CHARACTERS_MAX = 32 * 1024
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class RecordFormatter(logging.Formatter):
    """One record, one line, which ends with the id of its cause if it has one; a traceback's lines begin with a bar."""

    _second: int | None = None
    _second_text = ""

    def formatMessage(self, record: logging.LogRecord) -> str:
        line = _escaped(_shortened(super().formatMessage(record), _LINE_CHARACTERS_MAX))
        cause = getattr(record, "cause", "")
        return f"{line} cause={cause}" if cause else line

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        """As the base class does, but a calendar's second is made a text once."""
        second = int(record.created)
        if second != self._second:
            self._second, self._second_text = second, time.strftime(self.default_time_format, time.localtime(second))
        return f"{self._second_text},{int(record.msecs):03d}"

    def formatException(self, ei: Any) -> str:
        lines = _shortened(super().formatException(ei), _TRACEBACK_CHARACTERS_MAX).split("\n")
        return "\n".join(f"  | {_escaped(line)}" for line in lines)


def _shortened(text: str, characters_max: int) -> str:
    """The beginning and the end of what is too long: of a traceback both tell."""
    if len(text) <= characters_max:
        return text
    half = characters_max // 2
    return f"{text[:half]} … {len(text) - 2 * half} characters … {text[-half:]}"


def _escaped(text: str) -> str:
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class LogFile(RotatingFileHandler):
    """A gateway writes a line for each request, which therefore is formatted once, and no file is looked for."""

    def shouldRollover(self, record: logging.LogRecord) -> bool:
        """Whether the file is full before ``record``: its bound is passed by one record at most."""
        return self.stream is not None and self.stream.tell() >= self.maxBytes


def log_to_file(data_dir: Path, actor: str) -> None:
    """From INFO on. Where no file can be written, to stderr. What it writes from now on is its owner's only."""
    os.umask(PRIVATE_UMASK)  # whoever started it
    warnings = logging.StreamHandler(sys.stderr)
    handlers: list[logging.Handler] = [warnings]
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        path = data_dir / f"{actor}.log"
        handlers.append(LogFile(path, maxBytes=_FILE_BYTES_MAX, backupCount=_OLD_FILES, encoding="utf-8"))
        warnings.setLevel(logging.WARNING)
    except OSError as error:
        logging.getLogger(__name__).warning("no log file for %s: %s", actor, error)
    for handler in handlers:
        handler.setFormatter(RecordFormatter(_FORMAT))
    logging.basicConfig(level=logging.INFO, handlers=handlers, force=True)
