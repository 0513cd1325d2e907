"""The files of ``conf/`` that come with the code, read by name."""

from __future__ import annotations

import functools
import importlib.resources
from pathlib import Path


@functools.cache
def shipped_config_text(name: str) -> str:
    """A file of ``conf/``: the repository's where the code runs in place, else the installed package's."""
    beside = Path(__file__).resolve().parents[2] / "conf" / name
    if beside.is_file():
        return beside.read_text("utf-8")
    return importlib.resources.files("filoray.conf").joinpath(name).read_text("utf-8")
