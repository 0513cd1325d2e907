"""ARCHITECTURE.md is what the code says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from architecture_blocks import PAGE, blocks, coordinator_endings, shown

from filoray.cluster.control import coordinator_effects, coordinator_events

ROOT = Path(__file__).resolve().parents[2]
TEXT = PAGE.read_text()


@pytest.mark.parametrize("name", blocks())
def test_what_is_made_from_the_code_is_fresh(name: str) -> None:
    assert shown(TEXT, name) == blocks()[name], "run python tests/support/architecture_blocks.py"


def test_the_table_of_endings_names_effects_and_events_that_there_are() -> None:
    endings = coordinator_endings()
    assert endings
    for effect, ends in endings.items():
        assert hasattr(coordinator_effects, effect)
        assert all(hasattr(coordinator_events, event) for event in ends.split(", "))


def test_every_file_it_names_is_there() -> None:
    named = set(re.findall(r"`((?:cluster|nodes|http|conf|tests|scripts)/[\w./-]*)`", TEXT))
    assert named
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
