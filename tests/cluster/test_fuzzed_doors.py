"""Whatever is sent to a cluster, it answers, says what it refuses and why, and goes on working for everybody else.

How long each door is leaned on, and from which seed, ``fuzzing`` says.
"""

from __future__ import annotations

import time

import psutil
import pytest
from door_fuzzers import DOORS, lean_on
from fuzzing import SECONDS, new_seed
from running_cluster import RunningCluster

START_MS = 1_700_000_000_000
REQUESTS = 250
GROWTH_BYTES_MAX = 600 << 20


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with RunningCluster(tmp_path_factory.mktemp("doors"), nodes=2) as running:
        running.setup(num_shards=2, min_num_nodes=1)
        series = [({"__name__": "up", "job": f"j{i % 7}", "i": str(i)}, [START_MS], [float(i)]) for i in range(50)]
        assert running.write(series).status_code == 204
        yield running


@pytest.mark.timeout(SECONDS + 300)
@pytest.mark.parametrize("door", DOORS)
def test_a_door_that_is_leaned_on_holds(cluster, door):
    seed = new_seed()
    before = cluster.pids()
    held = {name: psutil.Process(pid).memory_info().rss for name, pid in before.items()}
    end_s = time.monotonic() + SECONDS

    statuses = lean_on(door, cluster.http_port, seed, lambda count: count >= REQUESTS and time.monotonic() >= end_s)

    print(dict(statuses))
    assert cluster.pids() == before  # nothing died and was replaced
    grown = {name: psutil.Process(pid).memory_info().rss - held[name] for name, pid in before.items()}
    assert max(grown.values()) < GROWTH_BYTES_MAX, grown
    assert cluster.get("/__health").text == "All good"
    assert set(cluster.statuses()) == {"ShardStatusActive"}
    assert cluster.number("sum(up)", START_MS / 1000) == sum(range(50))
    after = [({"__name__": "after", "door": door, "i": str(i)}, [START_MS], [1.0]) for i in range(20)]
    assert cluster.write(after).status_code == 204
    assert cluster.number(f'count(after{{door="{door}"}})', START_MS / 1000) == 20
