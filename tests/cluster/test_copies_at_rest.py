"""The tools on copies that real nodes made: compared while they are written to, adopted, taken into a snapshot."""

from __future__ import annotations

import threading
from pathlib import Path

import requests
from running_cluster import RunningCluster, filoray, wait_until

START_MS = 1_700_000_000_000
NODES = 2
SERIES = 30
COUNT = 'sum(count_over_time({__name__="kept"}[1h]))'


def set_up(cluster: RunningCluster) -> None:
    body = {
        "dataset": "timeseries",
        "num-shards": 4,
        "min-num-nodes": 1,
        "num-replicas": NODES,
        "sourcefactory": "filoray.nodes.streams.LogStreamFactory",
        "sourceconfig": {"store": {"flush-interval": "2s", "flush-when-idle": "1s", "disk-time-to-live": "7000 days"}},
    }
    answer = requests.post(f"{cluster.url}/api/v1/cluster/timeseries", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    wait_until_whole(cluster)


def wait_until_whole(cluster: RunningCluster) -> None:
    def is_whole() -> bool:
        answer = cluster.get("/api/v1/cluster/timeseries/status?verbose=true")
        shards = answer.json().get("data", []) if answer.status_code == 200 else []
        return bool(shards) and all(
            shard["status"] == "ShardStatusActive" and len(shard["inSync"]) == NODES for shard in shards
        )

    wait_until(is_whole, 60, "every copy is in sync")


def write(cluster: RunningCluster, step: int) -> None:
    series = [({"__name__": "kept", "i": str(i)}, [START_MS + step * 1000], [float(step)]) for i in range(SERIES)]
    assert cluster.write(series).ok


def test_copies_are_compared_under_load_and_adopted_when_the_coordinators_store_is_lost(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    cluster = RunningCluster(data_dir, nodes=NODES)
    with cluster:
        set_up(cluster)
        stop = threading.Event()
        steps = 0

        def write_until_stopped() -> None:
            nonlocal steps
            while not stop.is_set():
                write(cluster, steps)
                steps += 1

        writer = threading.Thread(target=write_until_stopped)
        writer.start()
        wait_until(lambda: len(list(data_dir.glob("copies/*/timeseries/*.db"))) == 8 and steps > 50, 60, "copies grow")
        compared = filoray("tsdb", "verify", "--replicas", str(data_dir))
        snapshot = filoray("tsdb", "snapshot", str(data_dir), str(tmp_path / "snapshot"))
        stop.set()
        writer.join(60)
        assert compared.returncode == 0, compared.stdout
        assert compared.stdout.count("are equal") == 4
        assert snapshot.returncode == 0, snapshot.stderr
        assert cluster.number(COUNT, START_MS / 1000 + 1800) == steps * SERIES

        cluster.kill_everything()
        for path in data_dir.glob("coordinator.db*"):
            path.unlink()
        refused = filoray("up", "--nodes", str(NODES), "--http-port", str(cluster.http_port), "--node-port",
                          str(cluster.node_port), "--data-dir", str(data_dir))  # fmt: skip
        assert refused.returncode != 0
        assert f"filoray tsdb adopt-copies {data_dir}" in refused.stdout + refused.stderr
        doubted = filoray("tsdb", "adopt-copies", str(data_dir))
        assert doubted.returncode == 1
        assert "name all nodes that the cluster had" in doubted.stderr
        adopted = filoray("tsdb", "adopt-copies", str(data_dir), "--nodes", "node-0,node-1")
        assert adopted.returncode == 0, adopted.stderr
        cluster.start()
        wait_until_whole(cluster)
        assert cluster.number(COUNT, START_MS / 1000 + 1800) == steps * SERIES
        write(cluster, steps)

    restored = filoray("tsdb", "restore", str(tmp_path / "snapshot"), str(tmp_path / "second"))
    assert restored.returncode == 0, restored.stderr
    assert "which have the copies; the others are made anew from them" in restored.stderr
    with RunningCluster(tmp_path / "second", nodes=NODES) as cluster:
        wait_until_whole(cluster)
        assert 50 * SERIES <= cluster.number(COUNT, START_MS / 1000 + 1800) <= steps * SERIES
        compared = filoray("tsdb", "verify", "--replicas", str(tmp_path / "second"))
        assert compared.returncode == 0, compared.stdout
