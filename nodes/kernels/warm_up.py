"""Fills numba's compile cache once, before processes race for it.

Kernels have explicit signatures, so importing a module compiles or loads them. numba keeps what it compiled beside the
sources (or where NUMBA_CACHE_DIR says) and checks each file's own age only; a kernel that another file inlines would
stay stale there. So a stamp with a digest of all kernel sources stands for the whole cache, and another digest empties
it.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import os
import pkgutil
import sys
from pathlib import Path

import filoray.nodes.kernels as kernels

_STAMP = "filoray-kernels.stamp"


def warm_up() -> None:
    """Compile what is not in the cache. Cheap when nothing has changed: no kernel is even imported."""
    root = Path(next(iter(kernels.__path__)))
    own_place = os.environ.get("NUMBA_CACHE_DIR")
    cache = Path(own_place) if own_place else root / "__pycache__"
    stamp = cache / _STAMP
    wanted = _digest(root)
    if stamp.exists() and stamp.read_text() == wanted:
        return
    for folder in {source.parent for source in root.rglob("*.py")}:
        # numba has a folder for each folder of sources in a place of its own, which may be shared with other programs.
        kept = cache.glob(f"{folder.name}_*/*.nb[ic]") if own_place else folder.glob("__pycache__/*.nb[ic]")
        for stale in kept:
            stale.unlink(missing_ok=True)
    for module in pkgutil.walk_packages(kernels.__path__, f"{kernels.__name__}."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    cache.mkdir(parents=True, exist_ok=True)
    stamp.write_text(wanted)


def _digest(root: Path) -> str:
    digest = hashlib.sha256(f"{sys.version} numba {importlib.metadata.version('numba')}".encode())
    for source in sorted(root.rglob("*.py")):
        digest.update(str(source.relative_to(root)).encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()
