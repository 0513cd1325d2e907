"""Nothing grows without bound: a gateway's decoder and a shard under days of series churn, in a process of their own.

What the process really has in memory is measured, so that what no account knows of is found as well.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SOAK = Path(__file__).parents[1] / "support" / "soak.py"
HOURS, SETTLED_HOUR, LAST_HOURS = 22, 8, 4
GROWTH_BYTES_MAX = 3 << 20
"""Over 14 hours with 1,200 series each, whose labels, index entries and buffers alone take a megabyte an hour."""


def test_memory_disk_and_every_table_stay_flat_under_series_churn(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(SOAK), str(tmp_path), str(HOURS)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    hours = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(hours) == HOURS
    settled, last = hours[SETTLED_HOUR - LAST_HOURS : SETTLED_HOUR], hours[-LAST_HOURS:]
    for what in hours[0]:
        before, after = (max(hour[what] for hour in some) for some in (settled, last))
        limit = before + GROWTH_BYTES_MAX if what == "resident_bytes" else before * 1.05
        assert after <= limit, f"{what} went from {before} to {after}: {[hour[what] for hour in hours]}"
