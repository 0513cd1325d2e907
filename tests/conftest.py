"""Fixtures that tests of several folders take."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from certificates import Authority
    from in_process_gateway import Gateways
    from mock_kafka import MockKafka


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


@pytest.fixture(scope="module")
def broker() -> Iterator[MockKafka]:
    """librdkafka's own."""
    pytest.importorskip("confluent_kafka")
    from mock_kafka import MockKafka

    with MockKafka() as broker:
        yield broker
