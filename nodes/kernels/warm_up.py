"""Fills numba's compile cache. Kernels have explicit signatures, so importing a module compiles or loads them."""

from __future__ import annotations

import importlib
import pkgutil

import filoray.nodes.kernels as kernels


def warm_up() -> None:
    """Import every kernel module. Processes that start later load what this one has compiled."""
    for module in pkgutil.iter_modules(kernels.__path__):
        if not module.name.startswith("__"):
            importlib.import_module(f"{kernels.__name__}.{module.name}")
