"""Actors killed with SIGKILL under load: every acknowledged sample is answered afterwards, and none twice."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
import time

import pytest
import requests
from running_cluster import RunningCluster, filoray, wait_until
from steady_load import SERIES, START_MS, Load, assert_nothing_lost

from filoray.command.client_access import ClientAccess
from filoray.command.top import Gateways

_MOVED = re.compile(".*-> ShardStatus".join(["-> ShardStatusDown", "Assigned", "Recovery", "Active"]))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with RunningCluster(tmp_path_factory.mktemp("chaos")) as running:
        running.setup(num_shards=8, min_num_nodes=2)
        yield running


def fresh(cluster: RunningCluster) -> None:
    requests.delete(f"{cluster.url}/api/v1/cluster/timeseries", timeout=30)
    cluster.setup(num_shards=8, min_num_nodes=2)


def test_a_killed_nodes_shards_move_and_come_back_with_everything(cluster):
    fresh(cluster)
    with Load(cluster) as load:
        load.wait_for_more(20)
        shards = cluster.get("/api/v1/cluster/timeseries/status").json()["data"]
        victim_address = next(
            n for n in cluster.get("/__members").json()["members"] if n.endswith(shards[0]["address"][-5:])
        )
        lost = {entry["shard"] for entry in shards if entry["address"] == victim_address}
        assert lost
        killed = cluster.kill(_actor_at(cluster, victim_address))
        wait_until(
            lambda: all(_MOVED.search(_story(cluster, shard)) for shard in lost), 30, "the lost shards are recovered"
        )
        load.wait_for_more(20)
    assert_nothing_lost(cluster, load)
    assert set(cluster.statuses(gateway=1)) == {"ShardStatusActive"}
    wait_until(lambda: len(cluster.get("/__members").json()["members"]) == 3, 20, "the killed node is a member again")
    assert cluster.pid(_actor_at(cluster, victim_address)) != killed


@pytest.mark.parametrize("actor", ["coordinator", "seed-discovery"])
def test_queries_and_writes_go_on_without(cluster, actor):
    fresh(cluster)
    with Load(cluster) as load:
        load.wait_for_more(10)
        killed = cluster.kill(actor)
        load.wait_for_more(20)
        assert_is_answered(cluster)
        wait_until(lambda: cluster.pids().get(actor, killed) != killed, 30, f"{actor} is back")
        load.wait_for_more(5)
    assert_nothing_lost(cluster, load)
    assert set(cluster.statuses()) == {"ShardStatusActive"}


def test_a_coordinator_that_is_back_still_handles_a_nodes_death(cluster):
    fresh(cluster)
    with Load(cluster) as load:
        load.wait_for_more(5)
        killed = cluster.kill("coordinator")
        wait_until(lambda: cluster.pids().get("coordinator", killed) != killed, 30, "the coordinator is back")
        node = cluster.kill("node-1")
        wait_until(lambda: cluster.pids().get("node-1", node) != node, 30, "the node is back")
        cluster.wait_active()
        load.wait_for_more(10)
    assert_nothing_lost(cluster, load)


def test_a_coordinator_that_was_stopped_for_8_s_kills_nobody(cluster):
    fresh(cluster)
    pids = cluster.pids()
    with Load(cluster) as load:
        load.wait_for_more(5)
        os.kill(pids["coordinator"], signal.SIGSTOP)
        try:
            time.sleep(8)  # longer than node.heartbeat-timeout
            load.wait_for_more(10)
        finally:
            with contextlib.suppress(ProcessLookupError):  # the supervisor may have had Ray start another meanwhile
                os.kill(pids["coordinator"], signal.SIGCONT)
        time.sleep(2)  # it would have killed them by then
        load.wait_for_more(10)
    assert_nothing_lost(cluster, load)
    wait_until(lambda: "coordinator" in cluster.pids(), 30, "there is a coordinator")
    present = cluster.pids()
    assert present | {"coordinator": 0} == pids | {"coordinator": 0}, "everybody else lives"
    assert set(cluster.statuses()) == {"ShardStatusActive"}


def test_a_gateway_that_slept_answers_by_the_present_data_sets(cluster):
    """A 404 for one that was set up meanwhile would make senders drop their samples."""
    fresh(cluster)
    pid = cluster.pid("gateway-2")
    answers = []

    def write() -> None:
        answers.append(cluster.write([({"__name__": "up"}, [START_MS], [1.0])], dataset="meanwhile", gateway=2))

    os.kill(pid, signal.SIGSTOP)
    try:
        cluster.setup("meanwhile")
        writers = [threading.Thread(target=write) for _ in range(4)]
        for writer in writers:
            writer.start()
        time.sleep(0.5)  # their requests wait in its sockets
    finally:
        os.kill(pid, signal.SIGCONT)
    for writer in writers:
        writer.join()
    assert [answer.status_code for answer in answers] == [204] * 4, answers[0].text
    requests.delete(f"{cluster.url}/api/v1/cluster/meanwhile", timeout=60)


def test_a_killed_gateway_comes_back_while_the_others_serve(cluster):
    fresh(cluster)
    with Load(cluster, gateway=2) as load:
        load.wait_for_more(5)
        cluster.kill("gateway-1")
        load.wait_for_more(10)
        wait_until(lambda: cluster.get("/__health", gateway=1).text == "All good", 30, "the gateway is back")
    assert_nothing_lost(cluster, load, gateway=1)


def test_top_says_who_hangs_and_who_is_gone_while_nobody_sets_it_right(cluster):
    fresh(cluster)
    with Load(cluster) as load:
        load.wait_for_more(10)
        well = top(cluster)
        assert re.search(r"nodes 3/3 +gateways 3/3 +shards 8/8 Active", well), well
        assert float(re.search(r"samples/s ([0-9.]+)", well)[1]) > 0, well
    pids = cluster.pids()
    os.kill(pids["coordinator"], signal.SIGSTOP)
    try:
        os.kill(pids["node-1"], signal.SIGSTOP)
        hung = top(cluster)
        assert "nodes 2/3" in hung
        assert re.search(r"^coordinator hung \d.*: .* did not answer", hung, re.MULTILINE), hung
        assert re.search(r"^node-1 +hung \d.* +– +– +–", hung, re.MULTILINE), hung
        assert re.search(r"^timeseries +\d +Active +node-1 +– +\d+ +– +– +–", hung, re.MULTILINE), hung
        os.kill(pids["node-1"], signal.SIGKILL)
        gone = top(cluster)
        assert re.search(r"^node-1 +away \d", gone, re.MULTILINE), gone
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pids["coordinator"], signal.SIGCONT)
    wait_until(lambda: re.search(r"^node-1 +up +#", top(cluster), re.MULTILINE) is not None, 30, "top shows it again")
    cluster.wait_active()


def test_top_goes_on_at_another_gateway(cluster):
    gateways = Gateways(ClientAccess(cluster.url))
    assert gateways.snapshot().figures.gateway == "gateway-0"
    cluster.kill("gateway-0")
    figures = gateways.snapshot().figures
    assert figures.gateway in ("gateway-1", "gateway-2")
    assert [reading.node for reading in figures.nodes if reading.figures is None] == []
    wait_until(lambda: cluster.get("/__health").text == "All good", 30, "the gateway is back")


def top(cluster: RunningCluster) -> str:
    done = filoray("top", "--once", "--interval", "300ms", "--url", cluster.url)
    assert done.returncode == 0, done.stderr
    return done.stdout


def assert_is_answered(cluster: RunningCluster) -> None:
    assert cluster.number("count(count_over_time(load[1h]))", START_MS / 1000 + 60) == len(SERIES)


def _story(cluster: RunningCluster, shard: int) -> str:
    return " ".join(cluster.get(f"/api/v1/cluster/timeseries/shards/{shard}/story").json()["data"])


def _actor_at(cluster: RunningCluster, address: str) -> str:
    members = cluster.get("/__members").json()["members"]
    return f"node-{members.index(address)}"
