"""A data set with copies on real nodes: leaders killed, with their disks, followers that hang, and nothing is lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
import requests
from copies_in_cluster import (
    DATASET,
    assert_led_at_once,
    fresh,
    kill_all_at_once,
    lose_a_leader,
    lose_every_disk_in_turn,
    resume,
    shards,
    wait_until_whole,
)
from running_cluster import RunningCluster, wait_until
from steady_load import Load, assert_nothing_lost


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCluster]:
    with RunningCluster(tmp_path_factory.mktemp("copies")) as running:
        yield running


def test_copies_are_on_different_nodes_in_directories_of_their_own(cluster: RunningCluster) -> None:
    fresh(cluster)
    for shard in shards(cluster):
        nodes = [shard["leader"], *(copy["node"] for copy in shard["followers"])]
        assert len(set(nodes)) == 2
        for node in nodes:
            assert (cluster.data_dir / "copies" / node / DATASET).glob(f"shard-{shard['shard']}.db")
    leaders = [shard["leader"] for shard in shards(cluster)]
    assert len(set(leaders)) == 3, "leaders are spread over all nodes"


@pytest.mark.parametrize("loses_disk", [False, True])
def test_a_follower_leads_at_once_when_the_leader_is_killed(cluster: RunningCluster, *, loses_disk: bool) -> None:
    fresh(cluster)
    load, led = lose_a_leader(cluster, loses_disk=loses_disk)
    assert_nothing_lost(cluster, load, dataset=DATASET)
    assert_led_at_once(cluster, led)


def test_every_node_killed_in_turn_with_its_disk_loses_nothing(cluster: RunningCluster) -> None:
    fresh(cluster)
    load = lose_every_disk_in_turn(cluster)
    assert_nothing_lost(cluster, load, dataset=DATASET)


def test_a_follower_that_hangs_holds_writes_up_for_a_while_and_joins_again(cluster: RunningCluster) -> None:
    fresh(cluster)
    follower = shards(cluster)[0]["followers"][0]["node"]
    pid = cluster.pid(follower)
    with Load(cluster, dataset=DATASET) as load:
        load.wait_for_more(20)
        os.kill(pid, signal.SIGSTOP)
        try:
            load.wait_for_more(20)  # which it does not have
        finally:
            resume(pid)
        wait_until_whole(cluster)
        load.wait_for_more(20)
    assert_nothing_lost(cluster, load, dataset=DATASET)


def test_writes_are_refused_while_fewer_copies_are_in_sync_than_must_be(cluster: RunningCluster) -> None:
    fresh(cluster, replicas=3, least=3)
    load = Load(cluster, dataset=DATASET)
    assert load.write(0).status_code == 204
    follower = shards(cluster)[0]["followers"][0]["node"]
    pid = cluster.pid(follower)
    os.kill(pid, signal.SIGSTOP)
    try:
        refused: list[requests.Response] = []

        def is_refused() -> bool:
            refused[:] = [load.write(1)]
            return refused[0].status_code == 503 and "min-in-sync-replicas" in refused[0].text

        wait_until(is_refused, 30, "writes are refused")
        assert "3" in refused[0].text
        assert refused[0].headers["Retry-After"]
    finally:
        resume(pid)
    wait_until_whole(cluster, 3)
    wait_until(lambda: load.write(1).status_code == 204, 30, "writes are taken again")


def test_everything_killed_at_once_comes_back_with_everything(cluster: RunningCluster) -> None:
    fresh(cluster)
    load = kill_all_at_once(cluster)
    assert_nothing_lost(cluster, load, dataset=DATASET)


def test_a_deleted_data_set_leaves_no_copy_behind(cluster: RunningCluster) -> None:
    fresh(cluster)
    answer = requests.delete(f"{cluster.url}/api/v1/cluster/{DATASET}", timeout=60)
    assert answer.status_code == 200, answer.text
    assert not list(cluster.data_dir.glob(f"copies/*/{DATASET}*/shard-*"))
