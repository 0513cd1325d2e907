"""Kernels come from numba's cache on disk: a process that compiles one spends a second on its first query."""

from __future__ import annotations

import json
import subprocess
import sys

_IMPORT_ALL = """
import importlib, json, pkgutil
from numba.core import event
import filoray.nodes.kernels as kernels

with event.install_recorder("numba:compile") as recorder:
    for module in pkgutil.iter_modules(kernels.__path__):
        if not module.name.startswith("__"):
            importlib.import_module(f"{kernels.__name__}.{module.name}")
print(json.dumps([str(compiled.data["dispatcher"].py_func) for _, compiled in recorder.buffer]))
"""


def test_no_process_compiles_what_another_has_compiled():
    subprocess.run([sys.executable, "-m", "filoray.nodes.kernels"], check=True)
    answer = subprocess.run([sys.executable, "-c", _IMPORT_ALL], check=True, capture_output=True, text=True)
    assert json.loads(answer.stdout) == []
