"""Compiles ahead on this machine: numba's cache, for which processes would race, and the modules' bytecode."""

from __future__ import annotations

import compileall
import subprocess
import sys
from importlib.util import find_spec


def warm_up_kernels() -> None:
    """In a process of its own: its parent needs no numba. Raises RuntimeError with what went wrong."""
    _keep_bytecode()
    command = [sys.executable, "-m", "filoray.nodes.kernels"]
    # What is beside the sources is for whoever uses them, though a cluster's own files are private.
    result = subprocess.run(command, capture_output=True, text=True, check=False, umask=0o022)
    if result.returncode:
        raise RuntimeError(result.stderr)


def _keep_bytecode() -> None:
    """Write the modules' bytecode where Python is told not to (PYTHONDONTWRITEBYTECODE, as in many containers).

    It is read all the same, and else each of a cluster's processes would compile every module at each start.
    """
    if not sys.dont_write_bytecode:
        return
    for room in ("cluster", "nodes", "http", "command"):
        spec = find_spec(f"filoray.{room}")
        for folder in (spec and spec.submodule_search_locations) or ():
            compileall.compile_dir(folder, quiet=2)
