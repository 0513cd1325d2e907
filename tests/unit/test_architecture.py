"""ARCHITECTURE.md is what the code says."""

from __future__ import annotations

import re
from pathlib import Path

from filoray.cluster.control.shard_status import mermaid_diagram

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "ARCHITECTURE.md").read_text()


def test_the_life_cycle_diagram_is_made_from_the_table():
    shown = re.search(
        r"<!-- shard-status-diagram -->\n```mermaid\n(.*?)```\n<!-- /shard-status-diagram -->", TEXT, re.DOTALL
    )
    assert shown is not None
    assert shown[1] == mermaid_diagram()


def test_every_file_it_names_is_there():
    named = set(re.findall(r"`((?:cluster|nodes|http|conf|tests|scripts)/[\w./-]*)`", TEXT))
    assert named
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
