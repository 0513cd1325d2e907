"""Inside a Ray worker that starts in the repository root, ``import http`` is the standard library's."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import ray
ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, _temp_dir={temp_dir!r})

@ray.remote(num_cpus=0)
def where():
    import http.client
    import filoray.http.server.http_protocol
    return http.__file__, filoray.http.server.http_protocol.__file__

print(*ray.get(where.remote()))
ray.shutdown()
"""


def test_a_worker_imports_both():
    with tempfile.TemporaryDirectory(prefix="ray-") as temp_dir:  # short: Unix socket paths are limited
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM.format(temp_dir=temp_dir)],
            cwd=ROOT, capture_output=True, text=True, check=False, timeout=120,
            env={**os.environ, "RAY_AUTH_MODE": "disabled"},
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    standard, ours = done.stdout.split()
    assert "lib/python3" in standard
    assert Path(ours) == ROOT / "http" / "server" / "http_protocol.py"
