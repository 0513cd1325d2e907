"""Shards that Kafka feeds, with copies on real nodes: leaders killed, with their disks, and a broker that goes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from copies_in_cluster import (
    DATASET,
    assert_led_at_once,
    fresh,
    kill,
    kill_all_at_once,
    leader,
    lose_a_leader,
    lose_every_disk_in_turn,
    shards,
    wait_until_whole,
)
from mock_kafka import MockKafka
from running_cluster import RunningCluster, wait_until
from steady_load import SERIES, START_MS, Load, assert_nothing_lost

_TOPICS = itertools.count()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCluster]:
    with RunningCluster(tmp_path_factory.mktemp("copies-of-topics")) as running:
        yield running


def fed_by(broker: MockKafka) -> dict[str, str]:
    """A new topic."""
    topic = f"topic-{next(_TOPICS)}"
    broker.create_topic(topic, 4)
    return {"filo-topic-name": topic, "bootstrap.servers": broker.servers, "fetch.wait.max.ms": "50"}


def assert_all_is_shown(cluster: RunningCluster, load: Load) -> None:
    """What the broker took is answered as soon as the shards have read it."""
    wanted = len(SERIES) * len(load.acknowledged)
    query = f"sum(count_over_time(load[{len(load.acknowledged) + 200}s]))"
    end_s = START_MS / 1000 + len(load.acknowledged) + 100
    wait_until(lambda: cluster.number(query, end_s, DATASET) >= wanted, 60, f"{wanted} samples are shown")
    for gateway in range(cluster.nodes):
        assert_nothing_lost(cluster, load, gateway, DATASET)


@pytest.mark.parametrize("loses_disk", [False, True])
def test_a_follower_leads_at_once_when_the_leader_is_killed(
    cluster: RunningCluster, broker: MockKafka, *, loses_disk: bool
) -> None:
    fresh(cluster, topic=fed_by(broker))
    load, led = lose_a_leader(cluster, loses_disk=loses_disk)
    assert_all_is_shown(cluster, load)
    assert_led_at_once(cluster, led)


def test_every_node_killed_in_turn_with_its_disk_loses_nothing(cluster: RunningCluster, broker: MockKafka) -> None:
    fresh(cluster, topic=fed_by(broker))
    load = lose_every_disk_in_turn(cluster)
    assert_all_is_shown(cluster, load)


def test_everything_killed_at_once_comes_back_with_everything(cluster: RunningCluster, broker: MockKafka) -> None:
    fresh(cluster, topic=fed_by(broker))
    load = kill_all_at_once(cluster)
    assert_all_is_shown(cluster, load)


def test_a_leader_is_followed_while_the_broker_is_away(cluster: RunningCluster) -> None:
    pytest.importorskip("confluent_kafka")
    with MockKafka() as broker:
        fresh(cluster, topic=fed_by(broker))
        load = Load(cluster, dataset=DATASET)
        for step in range(5):
            assert load.write(step).status_code == 204
            load.acknowledged.append(step)
        assert_all_is_shown(cluster, load)
        broker.down()
        wait_until(lambda: "ShardStatusError" in cluster.statuses(DATASET), 30, "a shard shows the error")
        node = leader(cluster)
        epochs = {shard["shard"]: shard["epoch"] for shard in shards(cluster) if shard["leader"] == node}
        kill(cluster, node)
        for shard in shards(cluster):
            if shard["shard"] in epochs:
                assert shard["leader"] != node
                assert shard["epoch"] == epochs[shard["shard"]] + 1, "a source that fails has nobody else lead"
        broker.up()
        wait_until_whole(cluster)
        assert_all_is_shown(cluster, load)
        wait_until(lambda: load.write(5).status_code == 204, 60, "writes are taken again")
        load.acknowledged.append(5)
        assert_all_is_shown(cluster, load)
