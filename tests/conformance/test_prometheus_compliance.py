"""Every query of compliance_queries.yml, answered by filoray and by a real Prometheus over the same data.

The program that compares is not part of this repository: FILORAY_SHARED names the folder that has it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from running_cluster import RunningCluster

SHARED = os.environ.get("FILORAY_SHARED")
QUERIES = Path(__file__).with_name("compliance_queries.yml")

pytestmark = [
    pytest.mark.skipif(not SHARED, reason="FILORAY_SHARED does not name the folder of the conformance runner"),
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="not installed: prometheus"),
]


@pytest.mark.timeout(900)
def test_every_query_is_answered_as_prometheus_answers_it(tmp_path):
    report = tmp_path / "report.json"
    with RunningCluster(tmp_path / "data", nodes=1) as cluster:
        command = [
            sys.executable, str(Path(str(SHARED)) / "conformance" / "compliance.py"), "--queries", str(QUERIES),
            "--target-url", cluster.url, "--filodb-dataset", "compliance", "--json", str(report),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=800)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert json.loads(report.read_text())["passed"] > 1500
