"""Which names a new data set may have: those that are a directory's name on any file system, and nobody else's.

A data set's files are in a directory of its name, beside the data directory's own files (``coordinator.db``,
``launch.json``, logs, locks). A name that is one of those, or that a program may yet make of one (``.part``,
``-journal``, ``.log.1``), would keep the next launch from writing it. Data sets that are there already keep theirs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from filoray.cluster.errors import BadData

NAME_BYTES_MAX = 128

_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_-])?")
_OWN_FILES = re.compile(
    r"(?:auth-token|coordinator|demo-feeder|gateway-[0-9]+|launch|manifest|node-[0-9]+|ray|seed-discovery|sockets"
    r"|supervisor)(?:\..*)?|.*\.(?:bak|conf|db|json|lock|log|part|pid|sock|tmp)(?:[.-].*)?"
)
_DEVICES = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?")


def check_dataset_name(name: str, others: Iterable[str] = ()) -> None:
    """Raises BadData that says what is wrong with the name. ``others``: names of the data sets there are."""
    shown = repr(name if len(name) <= NAME_BYTES_MAX else name[:NAME_BYTES_MAX] + "…")
    if len(name) > NAME_BYTES_MAX or not _NAME.fullmatch(name):
        raise BadData(
            f"{shown} is not a dataset name: use letters, digits, _ and -, or . inside, beginning with a letter, "
            f"a digit or _, up to {NAME_BYTES_MAX}"
        )
    folded = name.lower()
    if _OWN_FILES.fullmatch(folded) or _DEVICES.fullmatch(folded):
        raise BadData(
            f"{shown} is not a dataset name: files of the data directory, or an operating system's devices, have "
            "such names; choose one without that beginning or ending"
        )
    for other in others:
        if other != name and other.lower() == folded:
            raise BadData(
                f"{shown} is not a dataset name: there is a dataset {other!r}, which differs only in upper and lower "
                "case, and some file systems take them for one"
            )
