"""What the environment of a launch's processes must have, whatever the operator's says: no proxy before our own ports,
and a place for compiled kernels where neither the sources' folder nor a home takes them.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_CACHE_VARIABLE = "NUMBA_CACHE_DIR"


def without_proxies(environment: Mapping[str, str], hosts: Iterable[str]) -> dict[str, str]:
    """Variables by which neither urllib nor gRPC asks a proxy for the hosts or for this machine."""
    given = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    names = [name.strip() for name in given.split(",") if name.strip()]
    names += [host for host in (*_LOOPBACK, *hosts) if host not in names]
    listed = ",".join(dict.fromkeys(names))
    return {"no_proxy": listed, "NO_PROXY": listed}


def kernel_cache(environment: Mapping[str, str], sources: Path, data_dir: Path) -> dict[str, str]:
    """Variables by which numba keeps what it compiled: beside the sources if they take it, else in the data directory.

    numba itself would go to the home directory, and fail where there is none.
    """
    if environment.get(_CACHE_VARIABLE):
        return {}
    folders = {sources, *(source.parent for source in sources.rglob("*.py"))}
    if all(_takes_files(folder / "__pycache__") for folder in folders):
        return {}
    return {_CACHE_VARIABLE: str(data_dir / "kernel-cache")}


def prepare_environment(data_dir: Path, hosts: Iterable[str]) -> None:
    """For this process and all that it starts; before numba or ray is imported."""
    spec = importlib.util.find_spec("filoray.nodes.kernels")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    os.environ.update(without_proxies(os.environ, hosts))
    os.environ.update(kernel_cache(os.environ, Path(next(iter(spec.submodule_search_locations))), data_dir))


def _takes_files(folder: Path) -> bool:
    """Tried, since permissions do not tell of file systems that are read-only."""
    probe = folder / f".writable-{os.getpid()}"
    try:
        folder.mkdir(exist_ok=True)
        probe.touch()
        probe.unlink()
        return True
    except OSError:
        return False
