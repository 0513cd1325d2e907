"""Nodes on three hosts: spread, each with its gateway beside it, also after one was lost and came back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from many_machines import many_machines
from running_cluster import wait_until

MACHINES = ("one", "two", "three")
START_MS = 1_600_000_000_000
END_S = START_MS / 1000 + 100
SERIES = [{"__name__": "load", "instance": str(number)} for number in range(30)]


pytestmark = pytest.mark.skipif(not os.environ.get("FILORAY_HOSTS_LONG"), reason="takes minutes: FILORAY_HOSTS_LONG=1")


def test_nodes_are_spread_again_after_a_host_was_lost_and_came_back(tmp_path: Path) -> None:
    with many_machines(tmp_path, MACHINES) as cluster:
        cluster.wait_spread(MACHINES, timeout_s=30)
        cluster.setup(num_shards=8, min_num_nodes=2)
        answer = cluster.write([(labels, [START_MS], [1.0]) for labels in SERIES])
        assert answer.status_code == 204, answer.text

        # Where neither Ray's head nor the coordinator is: what they need is in other tests.
        lost = next(name for name in MACHINES[1:] if not cluster.runs(name, "CoordinatorActor"))
        cluster.hosts.lose(lost)
        staying = [name for name in MACHINES if name != lost]
        cluster.wait_spread(staying, timeout_s=150)
        wait_until(lambda: cluster.number("sum(load)", END_S) == len(SERIES), 60, "every sample is found")

        cluster.hosts.replace(lost)
        cluster.start_ray(lost)
        cluster.wait_spread(MACHINES, timeout_s=150)
        cluster.wait_active()
        for gateway in range(3):
            assert cluster.number("sum(load)", END_S, gateway=gateway) == len(SERIES)
