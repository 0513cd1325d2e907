"""Where hosts cannot be made, everything here is skipped with the reason."""

from __future__ import annotations

import pytest
from hosts import require_hosts


@pytest.fixture(scope="session", autouse=True)
def _hosts_are_possible(tmp_path_factory: pytest.TempPathFactory) -> None:
    require_hosts(tmp_path_factory.mktemp("probe"))
