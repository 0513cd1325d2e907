"""A cluster whose data set is fed by a Kafka topic: remote write in, a killed owner, a broker that goes."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping

import orjson
import pytest
import requests
from mock_kafka import MockKafka
from running_cluster import RunningCluster, wait_until

SHARDS = 4
SERIES = 40
START_MS = 1_700_000_000_000
STEP_MS = 1000


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCluster]:
    with RunningCluster(tmp_path_factory.mktemp("kafka"), nodes=3) as cluster:
        yield cluster


def post_dataset(cluster: RunningCluster, name: str, factory: str, source: Mapping[str, object]) -> requests.Response:
    body = {
        "dataset": name, "num-shards": SHARDS, "min-num-nodes": 2, "sourcefactory": factory,
        "sourceconfig": {**source, "store": {"flush-interval": "1s", "groups-per-shard": 4}},
    }  # fmt: skip
    return requests.post(f"{cluster.url}/api/v1/cluster/{name}", data=orjson.dumps(body), timeout=30)


def setup_kafka(cluster: RunningCluster, broker: MockKafka, name: str) -> None:
    broker.create_topic(f"topic-{name}", SHARDS)
    source = {"filo-topic-name": f"topic-{name}", "bootstrap.servers": broker.servers}
    answer = post_dataset(cluster, name, "filodb.kafka.KafkaIngestionStreamFactory", source)
    assert answer.status_code == 200, answer.text
    cluster.wait_active(name)


def write_step(cluster: RunningCluster, dataset: str, step: int, gateway: int = 0) -> requests.Response:
    labels = [{"__name__": f"m{i % 8}", "_ws_": "w", "_ns_": "n", "instance": str(i)} for i in range(SERIES)]
    return cluster.write([(each, [START_MS + step * STEP_MS], [float(step)]) for each in labels], dataset, gateway)


def stored_samples(cluster: RunningCluster, dataset: str, gateway: int = 0) -> float:
    query = '{__name__=~"m.*"}[1h]'
    return cluster.number(f"sum(count_over_time({query}))", START_MS / 1000 + 1800, dataset, gateway)


def owner_of_a_shard(cluster: RunningCluster, dataset: str) -> str:
    """Actor name of a node that holds shard 0. Members are sorted by address, and nodes' ports ascend by number."""
    status = cluster.get(f"/api/v1/cluster/{dataset}/status").json()["data"]
    members = cluster.get("/__members").json()["members"]
    ports = sorted(int(member.rpartition(":")[2]) for member in members)
    return f"node-{ports.index(int(status[0]['address'].rpartition(':')[2]))}"


def test_a_killed_owner_in_mid_stream_costs_no_sample(cluster: RunningCluster, broker: MockKafka) -> None:
    setup_kafka(cluster, broker, "failover")
    acknowledged = 0
    stop = threading.Event()

    def write_until_stopped() -> None:
        nonlocal acknowledged
        step = 0
        while not stop.is_set():
            answer = write_step(cluster, "failover", step)
            assert answer.status_code in (200, 204), answer.text
            acknowledged += SERIES
            step += 1

    writer = threading.Thread(target=write_until_stopped)
    writer.start()
    wait_until(lambda: acknowledged >= 30 * SERIES, 30, "30 steps are written")
    cluster.kill(owner_of_a_shard(cluster, "failover"))
    before = acknowledged
    wait_until(lambda: acknowledged >= before + 30 * SERIES, 60, "writes go on")
    stop.set()
    writer.join(60)
    assert not writer.is_alive()
    cluster.wait_active("failover", timeout_s=60)
    wait_until(lambda: stored_samples(cluster, "failover") >= acknowledged, 30, "all that was produced is answered")
    for gateway in range(cluster.nodes):
        assert stored_samples(cluster, "failover", gateway) == acknowledged


def test_an_outage_of_the_broker_shows_in_status_and_writes_and_ends_with_it(cluster: RunningCluster) -> None:
    pytest.importorskip("confluent_kafka")
    with MockKafka() as broker:
        setup_kafka(cluster, broker, "outage")
        assert write_step(cluster, "outage", 0).ok
        broker.down()
        wait_until(lambda: "ShardStatusError" in cluster.statuses("outage"), 30, "a shard shows the error")
        broker.up()
        cluster.wait_active("outage", timeout_s=60)
        assert write_step(cluster, "outage", 1).ok
        wait_until(lambda: stored_samples(cluster, "outage") == 2 * SERIES, 30, "both steps are there")


def test_a_topic_with_too_few_partitions_shows_as_an_error(cluster: RunningCluster, broker: MockKafka) -> None:
    broker.create_topic("narrow", 2)
    source = {"filo-topic-name": "narrow", "bootstrap.servers": broker.servers}
    assert post_dataset(cluster, "narrow", "filodb.kafka.KafkaIngestionStreamFactory", source).ok
    wait_until(lambda: set(cluster.statuses("narrow")) == {"ShardStatusError"}, 30, "all shards show the error")


def test_a_kafka_data_set_without_a_topic_is_refused(cluster: RunningCluster) -> None:
    answer = post_dataset(cluster, "topicless", "filodb.kafka.KafkaIngestionStreamFactory", {})
    assert answer.status_code == 400
    assert "filo-topic-name" in answer.json()["error"]
