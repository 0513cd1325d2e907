"""The host of Ray's head: what goes on without it for a while, and what brings everything back when it is lost.

Its GCS is one process; Ray's other machines end themselves when it has been away for a minute (Ray's default).
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import requests
from many_machines import many_machines
from running_cluster import wait_until
from steady_samples import SteadySamples

MACHINES = ("one", "two", "three")
pytestmark = pytest.mark.skipif(not os.environ.get("FILORAY_HOSTS_LONG"), reason="takes minutes: FILORAY_HOSTS_LONG=1")


def test_what_was_acknowledged_is_there_after_the_head_was_lost_with_its_disk(tmp_path: Path) -> None:
    with many_machines(tmp_path, MACHINES) as cluster:
        cluster.wait_spread(MACHINES, timeout_s=60)
        cluster.setup(num_shards=8, min_num_nodes=1)
        with SteadySamples(cluster) as samples:
            samples.wait_for_more()
        cluster.hosts.lose("one")
        for name in MACHINES[1:]:
            wait_until(lambda name=name: not cluster.runs(name, ""), 180, f"Ray's actors on {name} ended themselves")
        cluster.hosts.replace("one")
        cluster.hosts.heal()
        cluster.start()
        cluster.wait_spread(MACHINES, timeout_s=60)
        cluster.wait_active()
        wait_until(lambda: samples.are_all_there(cluster.any_gateway()), 60, "every acknowledged sample is there")


def test_queries_and_writes_go_on_while_the_head_is_away_for_a_while(tmp_path: Path) -> None:
    """If the coordinator that leads is elsewhere: only who has asked for an actor before finds it without the GCS."""
    with many_machines(tmp_path, MACHINES) as cluster:
        cluster.wait_spread(MACHINES, timeout_s=60)
        cluster.setup(num_shards=8, min_num_nodes=1)
        cluster.lead_from("two")
        with SteadySamples(cluster) as samples:
            samples.wait_for_more()
            cluster.hosts.isolate("one")
            begun_s = time.monotonic()
            url = cluster.any_gateway(beside=["one"])

            def is_answered() -> bool:
                status = requests.get(f"{url}/api/v1/cluster/timeseries/status", timeout=10).json()["data"]
                lost = cluster.hosts["one"].address
                return all(
                    entry["status"] == "ShardStatusActive" and lost not in entry["address"] for entry in status
                ) and samples.are_all_there(url)

            wait_until(is_answered, 45, "all shards answer without the head's host")
            print(f"without the head's host after {time.monotonic() - begun_s:.1f} s")
            cluster.hosts.heal()
            cluster.wait_spread(MACHINES, timeout_s=150)
            wait_until(lambda: samples.are_all_there(cluster.any_gateway()), 60, "every acknowledged sample is there")
