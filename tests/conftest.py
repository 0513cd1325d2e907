"""Fixtures that tests of several folders take."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from certificates import Authority
    from in_process_gateway import Gateways


@pytest.fixture
async def gateways() -> AsyncIterator[Gateways]:
    """Starts gateways over in-process services, and stops them after the test."""
    from in_process_gateway import Gateways

    made = Gateways()
    yield made
    await made.stop()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Signs certificates that those trust who are told to."""
    from certificates import Authority

    return Authority(tmp_path / "ours")
