"""Fills numba's compile cache on this machine: processes that fill it at the same time would race for it."""

from __future__ import annotations

import subprocess
import sys


def warm_up_kernels() -> None:
    """In a process of its own: its parent needs no numba. Raises RuntimeError with what went wrong."""
    command = [sys.executable, "-m", "filoray.nodes.kernels"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(result.stderr)
