"""The cluster scenarios of the simulator, played by real actors. What a line waits for may take longer here."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections import deque
from typing import Any

import pytest
import requests
from cluster_scenarios import DATASET, SCENARIOS
from running_cluster import RunningCluster, wait_until

from filoray.cluster.control.shard_status import StatusKind
from filoray.cluster.simulation.scenario import parse_scenario, run_scenario

NODES = 3
CONFIG = """filoray {
  node { heartbeat-interval = 200ms, heartbeat-timeout = 2s, encryption = always }  # as between machines
  supervisor.hang-timeout = 60s  # or it would end a coordinator that hangs for a while
}"""
_STATUS = re.compile(r"ShardStatus\w+")
_CHANGE = re.compile(r"-> (ShardStatus\w+)")


class RealCluster:
    """ScenarioDriver over HTTP and signals. It misses nothing: short-lived statuses are read in the shards' stories."""

    def __init__(self, cluster: RunningCluster) -> None:
        self._cluster = cluster
        self.datasets: list[str] = []
        self._pids: dict[str, int] = {}
        self._read_lines: set[tuple[str, int, str]] = set()
        self._waiting: dict[tuple[str, int], deque[StatusKind]] = {}

    # ---- what a scenario does

    def set_up_dataset(self, dataset: str, num_shards: int, min_num_nodes: int) -> None:
        self._cluster.setup(dataset, num_shards, min_num_nodes)
        self.datasets.append(dataset)

    def delete_dataset(self, dataset: str) -> None:
        answer = requests.delete(f"{self._cluster.url}/api/v1/cluster/{dataset}", timeout=30)
        assert answer.status_code == 200, answer.text
        self.datasets.remove(dataset)
        self._read_lines.clear()
        self._waiting.clear()

    def kill_node(self, index: int) -> None:
        os.kill(self._pid(f"node-{index}"), signal.SIGKILL)

    def hang_node(self, index: int) -> None:
        os.kill(self._pid(f"node-{index}"), signal.SIGSTOP)

    def resume_node(self, index: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pids[f"node-{index}"], signal.SIGCONT)

    def kill_coordinator(self) -> None:
        os.kill(self._pid("coordinator"), signal.SIGKILL)

    def hang_coordinator(self) -> None:
        os.kill(self._pid("coordinator"), signal.SIGSTOP)

    def resume_coordinator(self) -> None:
        os.kill(self._pids["coordinator"], signal.SIGCONT)

    def stop_shard(self, dataset: str, shard: int) -> None:
        self._order(dataset, "stopshards", {"shardList": [shard]})

    def start_shard(self, dataset: str, shard: int, node_index: int) -> None:
        address = f"akka://filo-server@127.0.0.1:{self._cluster.node_port + node_index}"
        self._order(dataset, "startshards", {"address": address, "shardList": [shard]})

    def advance(self, duration_ms: int) -> None:
        time.sleep(duration_ms / 1000)

    # ---- what it sees

    def statuses(self) -> dict[str, list[StatusKind]]:
        """Of each shard the next status that was not shown yet, the present one if there is none."""
        seen = {}
        for dataset in self.datasets:
            present = [_STATUS.match(text).group() for text in self._cluster.statuses(dataset)]
            for shard in range(len(present)):
                self._read_story(dataset, shard)
            seen[dataset] = [
                self._waiting[dataset, shard].popleft() if self._waiting.get((dataset, shard)) else StatusKind(status)
                for shard, status in enumerate(present)
            ]
        return seen

    def members(self) -> frozenset[int]:
        with contextlib.suppress(requests.RequestException, KeyError):
            ports = [int(address.rpartition(":")[2]) for address in self._get("/__members")["members"]]
            return frozenset(port - self._cluster.node_port for port in ports)
        return frozenset()

    # ---- how

    def _read_story(self, dataset: str, shard: int) -> None:
        """A coordinator that is away has nothing to tell; one that is back begins its stories anew."""
        with contextlib.suppress(requests.RequestException, KeyError):
            for line in self._get(f"/api/v1/cluster/{dataset}/shards/{shard}/story")["data"]:
                change = _CHANGE.search(line)
                if change and (dataset, shard, line) not in self._read_lines:
                    self._read_lines.add((dataset, shard, line))
                    self._waiting.setdefault((dataset, shard), deque()).append(StatusKind(change[1]))

    def _get(self, path: str) -> Any:
        return requests.get(self._cluster.url + path, timeout=2).json()

    def _order(self, dataset: str, order: str, body: dict[str, Any]) -> None:
        answer = requests.post(f"{self._cluster.url}/api/v1/cluster/{dataset}/{order}", json=body, timeout=30)
        assert answer.status_code == 200, answer.text

    def _pid(self, actor: str) -> int:
        """The last that was heard of, if nobody can tell now."""
        with contextlib.suppress(requests.RequestException, KeyError):
            self._pids |= self._get("/admin/actors")["data"]
        return self._pids[actor]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with RunningCluster(tmp_path_factory.mktemp("scenarios"), nodes=NODES, config=CONFIG) as running:
        yield running


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario(cluster, name):
    driver = RealCluster(cluster)
    wait_until(lambda: driver.members() == frozenset(range(NODES)), 60, "all nodes are members")
    _, steps = parse_scenario(f"nodes {NODES}\n{DATASET}{SCENARIOS[name]}")
    try:
        run_scenario(steps, driver)
    finally:
        for dataset in list(driver.datasets):
            driver.delete_dataset(dataset)
