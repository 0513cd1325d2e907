"""A data set with copies in a running cluster: set up, watched, and its nodes killed."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Mapping

import requests
from running_cluster import RunningCluster, wait_until
from steady_load import Load

from filoray.cluster.config.dataset import KAFKA_STREAM_FACTORY, LOG_STREAM_FACTORY

DATASET = "safe"


def fresh(cluster: RunningCluster, replicas: int = 2, least: int = 1, topic: Mapping[str, str] | None = None) -> None:
    """A data set with so many copies of each shard, all in sync. ``topic``: settings of the Kafka source, if any."""
    requests.delete(f"{cluster.url}/api/v1/cluster/{DATASET}", timeout=30)
    source = {
        "dataset": DATASET,
        "num-shards": 4,
        "min-num-nodes": 2,
        "num-replicas": replicas,
        "min-in-sync-replicas": least,
        "sourcefactory": KAFKA_STREAM_FACTORY if topic else LOG_STREAM_FACTORY,
        "sourceconfig": {**(topic or {}), "store": {"disk-time-to-live": "7000 days"}},
    }
    answer = requests.post(f"{cluster.url}/api/v1/cluster/{DATASET}", json=source, timeout=60)
    assert answer.status_code == 200, answer.text
    wait_until_whole(cluster, replicas)


def shards(cluster: RunningCluster) -> list[dict]:
    return cluster.get(f"/api/v1/cluster/{DATASET}/status?verbose=true").json()["data"]


def wait_until_whole(cluster: RunningCluster, replicas: int = 2) -> None:
    def is_whole() -> bool:
        return len(cluster.get("/__members").json()["members"]) == cluster.nodes and all(
            shard["status"] == "ShardStatusActive" and len(shard["inSync"]) == replicas for shard in shards(cluster)
        )

    wait_until(is_whole, 60, f"all {replicas} copies are in sync again")


def kill(cluster: RunningCluster, node: str, *, loses_disk: bool = False) -> None:
    """And wait until it is not known under its old process any more."""
    killed = cluster.kill(node)
    if loses_disk:
        shutil.rmtree(cluster.data_dir / "copies" / node)
    wait_until(lambda: is_new(cluster, node, killed), 60, f"{node} is made anew")


def is_new(cluster: RunningCluster, node: str, killed: int) -> bool:
    return cluster.pids().get(node, killed) != killed


def leader(cluster: RunningCluster) -> str:
    """The node that leads most shards."""
    leaders = [shard["leader"] for shard in shards(cluster)]
    return max(sorted(set(leaders)), key=leaders.count)


def resume(pid: int) -> None:
    """One that leads shards is replaced when it hangs for long."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


def story(cluster: RunningCluster, shard: int) -> str:
    return "\n".join(cluster.get(f"/api/v1/cluster/{DATASET}/shards/{shard}/story").json()["data"])


# ---- what is done to it while it is written to


def lose_a_leader(cluster: RunningCluster, *, loses_disk: bool) -> tuple[Load, set[int]]:
    """What was written, and the shards that the killed node led."""
    with Load(cluster, dataset=DATASET) as load:
        load.wait_for_more(20)
        node = leader(cluster)
        led = {shard["shard"] for shard in shards(cluster) if shard["leader"] == node}
        kill(cluster, node, loses_disk=loses_disk)
        wait_until_whole(cluster)
        load.wait_for_more(20)
    return load, led


def assert_led_at_once(cluster: RunningCluster, led: set[int]) -> None:
    for shard in shards(cluster):
        if shard["shard"] in led:
            text = story(cluster, shard["shard"]).split("lost: ")[-1]
            assert "ShardStatusRecovery" not in text, "what it has in memory will do"
            assert shard["epoch"] > 1


def lose_every_disk_in_turn(cluster: RunningCluster) -> Load:
    with Load(cluster, dataset=DATASET) as load:
        for index in range(cluster.nodes):
            load.wait_for_more(10)
            kill(cluster, f"node-{index}", loses_disk=True)
            wait_until_whole(cluster)
        load.wait_for_more(10)
    return load


def kill_all_at_once(cluster: RunningCluster) -> Load:
    with Load(cluster, dataset=DATASET) as load:
        load.wait_for_more(30)
        killed = {f"node-{index}": cluster.kill(f"node-{index}") for index in range(cluster.nodes)}
        wait_until(lambda: all(is_new(cluster, *it) for it in killed.items()), 60, "all nodes are made anew")
        wait_until_whole(cluster)
        load.wait_for_more(10)
    return load
