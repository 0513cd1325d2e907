"""Real nodes killed, drained, restarted one after the other, added and removed under load: nobody is refused."""

from __future__ import annotations

import threading

import pytest
import requests
from running_cluster import RunningCluster, filoray, wait_until
from steady_load import SERIES, START_MS, Load, assert_nothing_lost

SHARDS = 8
FILLED, SAMPLES_PER_SERIES = 400_000, 500
METRICS = [f"metric_{index}" for index in range(40)]
"""Of all shards."""


class Reader:
    """Asks for all series, again and again, in its own thread; every answer must be whole."""

    def __init__(self, cluster: RunningCluster, gateway: int) -> None:
        self._cluster = cluster
        self._gateway = gateway
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.answers = 0
        self.problems: list[str] = []

    def __enter__(self) -> Reader:
        wait_until(lambda: self._cluster.number("count(load)", START_MS / 1000) == len(SERIES), 10, "all are written")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        query = {"query": "count(load)", "time": START_MS / 1000}
        while not self._stop.is_set():
            answer = self._cluster.get("/promql/timeseries/api/v1/query", self._gateway, **query)
            result = answer.json()["data"]["result"] if answer.status_code == 200 else None
            if not result or result[0]["value"][1] != str(len(SERIES)):
                self.problems.append(answer.text)
            self.answers += 1


class Writer(Load):
    """A load that nobody may refuse."""

    def __init__(self, cluster: RunningCluster) -> None:
        super().__init__(cluster)
        self.problems: list[str] = []

    def write(self, step: int) -> requests.Response:
        answer = super().write(step)
        if answer.status_code != 204:
            self.problems.append(answer.text)
        return answer


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory):
    with RunningCluster(tmp_path_factory.mktemp("nodes"), config="filoray.balance.wait = 1s", nodes_max=4) as running:
        yield running


@pytest.fixture
def cluster(running: RunningCluster) -> RunningCluster:
    """Three nodes with an even share of a new data set."""
    requests.delete(f"{running.url}/api/v1/cluster/timeseries", timeout=30)
    running.setup(num_shards=SHARDS, min_num_nodes=2)
    written = running.write([({"__name__": name}, [START_MS], [1.0]) for name in METRICS])
    assert written.status_code == 204, written.text
    assert is_even(running, 3)
    return running


def label_values(cluster: RunningCluster, gateway: int) -> set[str]:
    """Of the node beside that gateway."""
    window = {"start": START_MS / 1000 - 1, "end": START_MS / 1000 + 10_000}
    answer = cluster.get("/api/v1/label/__name__/values", gateway, **window)
    return set(answer.json()["data"]) if answer.status_code == 200 else set()


def owned(cluster: RunningCluster) -> dict[str, list[int]]:
    nodes = cluster.get("/admin/nodes").json()["data"]
    return {node["node"]: node["shards"].get("timeseries", []) for node in nodes}


def is_even(cluster: RunningCluster, nodes: int) -> bool:
    counts = [len(shards) for shards in owned(cluster).values()]
    return len(counts) == nodes and sum(counts) == SHARDS and max(counts) - min(counts) <= 1


def run(cluster: RunningCluster, *arguments: str) -> str:
    done = filoray(*arguments, "--url", cluster.url)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_after_a_kill_the_map_becomes_even_again_and_every_gateway_has_label_values(cluster):
    with Load(cluster) as load:
        load.wait_for_more(10)
        cluster.kill("node-1")
        wait_until(lambda: "node-1" not in owned(cluster), 10, "the node is lost")
        wait_until(lambda: is_even(cluster, 3), 60, "the map is even")
        load.wait_for_more(10)
    assert_nothing_lost(cluster, load)
    cluster.wait_active()
    assert all(label_values(cluster, gateway) for gateway in range(3)), "each node has metrics of its own"
    everywhere = set().union(*(label_values(cluster, gateway) for gateway in range(3)))
    assert everywhere == {"load", *METRICS}


def test_a_node_is_drained_and_let_in_again(cluster):
    with Writer(cluster) as load, Reader(cluster, 1) as reader:
        load.wait_for_more(5)
        assert "node-0 is empty" in run(cluster, "drain", "node-0")
        assert owned(cluster)["node-0"] == []
        drained = {node["node"]: node["drained"] for node in cluster.get("/admin/nodes").json()["data"]}
        assert drained == {"node-0": True, "node-1": False, "node-2": False}
        refused = filoray("drain", "node-1", "--url", cluster.url)
        assert refused.returncode == 1
        assert "node-1 cannot be drained" in refused.stderr
        run(cluster, "undrain", "node-0")
        wait_until(lambda: is_even(cluster, 3), 30, "the map is even")
        load.wait_for_more(5)
    assert (load.problems, reader.problems) == ([], [])
    assert reader.answers
    assert_nothing_lost(cluster, load)


def test_a_shard_is_moved_where_an_operator_wants_it(cluster):
    before = owned(cluster)
    shard, target = before["node-0"][0], "node-1"
    assert f"shard {shard} of timeseries is on node-1" in run(cluster, "move", "timeseries", str(shard), target)
    assert shard in owned(cluster)[target]
    address = next(node["address"] for node in cluster.get("/admin/nodes").json()["data"] if node["node"] == "node-0")
    url = f"{cluster.url}/api/v1/cluster/timeseries/moveshards"
    answer = requests.post(url, json={"address": address, "shardList": [shard]}, timeout=30)
    assert answer.status_code == 200, answer.text
    assert shard in owned(cluster)["node-0"]
    refused = requests.post(url, json={"node": "node-7", "shardList": [shard]}, timeout=30)
    assert refused.status_code == 400
    assert "there is no node node-7" in refused.text


def test_a_shard_with_much_in_it_goes_round_the_nodes_without_being_opened_anew(cluster):
    fill(cluster, FILLED)
    shard = owned(cluster)["node-0"][0]
    was_taken_over = taken_over_warm(cluster, shard)
    with Writer(cluster) as load, Reader(cluster, 1) as reader:
        for target in ("node-1", "node-2", "node-0"):
            load.wait_for_more(5)
            asked = reader.answers
            run(cluster, "move", "timeseries", str(shard), target)
            wait_until(lambda asked=asked: reader.answers > asked + 3, 30, "it is asked there")
        load.wait_for_more(5)
    assert (load.problems, reader.problems) == ([], [])
    assert_nothing_lost(cluster, load)
    assert cluster.number("sum(count_over_time(filled[100d]))", START_MS / 1000) == FILLED
    assert taken_over_warm(cluster, shard) == was_taken_over + 3


def fill(cluster: RunningCluster, count: int) -> None:
    """So many samples before those of the load, in series of all shards."""
    times = [START_MS - 1000 * step for step in reversed(range(SAMPLES_PER_SERIES))]
    for first in range(0, count // SAMPLES_PER_SERIES, 100):
        body = [
            ({"__name__": "filled", "_ws_": "w", "_ns_": f"n{i % 13}", "i": str(i)}, times, [float(i)] * len(times))
            for i in range(first, first + 100)
        ]
        answer = cluster.write(body)
        assert answer.status_code == 204, answer.text


def taken_over_warm(cluster: RunningCluster, shard: int) -> int:
    """How often a node has led the shard with what it had in memory, by the nodes' logs."""
    said = f"dataset timeseries shard {shard}: taken over warm"
    return sum(path.read_text().count(said) for path in cluster.data_dir.glob("node-*.log*"))


def test_a_rolling_restart_refuses_nobody(cluster):
    before = {name: pid for name, pid in cluster.pids().items() if name.startswith("node")}
    with Writer(cluster) as load, Reader(cluster, 2) as reader:
        load.wait_for_more(5)
        said = run(cluster, "restart", "--rolling")
        load.wait_for_more(5)
    assert all(f"node-{index} is replaced and has its shards" in said for index in range(3))
    assert (load.problems, reader.problems) == ([], [])
    assert reader.answers
    assert_nothing_lost(cluster, load)
    assert is_even(cluster, 3)
    after = cluster.pids()
    assert all(after[name] != pid for name, pid in before.items())


def test_nodes_are_added_and_removed(cluster):
    with Writer(cluster) as load:
        load.wait_for_more(5)
        added = filoray("scale", "4", "--data-dir", str(cluster.data_dir))
        assert added.returncode == 0, added.stderr
        assert cluster.gateway(3) in added.stdout
        wait_until(lambda: is_even(cluster, 4), 30, "the new node has its part")
        assert len(cluster.query("load", START_MS / 1000, gateway=3)) == len(SERIES)
        removed = filoray("scale", "3", "--data-dir", str(cluster.data_dir))
        assert removed.returncode == 0, removed.stderr
        load.wait_for_more(5)
    assert owned(cluster).keys() == {"node-0", "node-1", "node-2"}
    assert sorted(cluster.pids()) == sorted(
        ["coordinator", "seed-discovery", *(f"{kind}-{index}" for kind in ("node", "gateway") for index in range(3))]
    )
    assert load.problems == []
    assert_nothing_lost(cluster, load)
    too_few = filoray("scale", "1", "--data-dir", str(cluster.data_dir))
    assert too_few.returncode == 1
    assert "cannot be drained" in too_few.stderr
    assert is_even(cluster, 3)
