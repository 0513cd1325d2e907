"""Prometheus's own PromQL test scripts, run over HTTP against a real cluster by the conformance runner.

The runner and its scripts are not part of this repository: FILORAY_SHARED names the folder that has them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from running_cluster import RunningCluster

SHARED = os.environ.get("FILORAY_SHARED")
EXPERIMENTAL = (
    "filoray.query { experimental-functions = true, duration-expressions = true, extended-range-selectors = true, "
    "delayed-name-removal = true }"
)

pytestmark = pytest.mark.skipif(not SHARED, reason="FILORAY_SHARED does not name the folder of the conformance runner")


@pytest.mark.timeout(900)
def test_every_eval_without_native_histograms_passes(tmp_path):
    runner = Path(str(SHARED)) / "conformance" / "promqltest.py"
    report = tmp_path / "report.json"
    with RunningCluster(tmp_path / "data", nodes=1, config=EXPERIMENTAL) as cluster:
        command = [
            sys.executable, str(runner), "--backend", "filodb", "--url", cluster.url,
            "--native-histograms", "skip-eval", "--json", str(report), str(runner.parent / "testdata"),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=800)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert json.loads(report.read_text())
