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
    for module in pkgutil.walk_packages(kernels.__path__, f"{kernels.__name__}."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
print(json.dumps([str(compiled.data["dispatcher"].py_func) for _, compiled in recorder.buffer]))
"""


def test_no_process_compiles_what_another_has_compiled():
    subprocess.run([sys.executable, "-m", "filoray.nodes.kernels"], check=True)
    answer = subprocess.run([sys.executable, "-c", _IMPORT_ALL], check=True, capture_output=True, text=True)
    assert json.loads(answer.stdout) == []
