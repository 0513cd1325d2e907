"""A cluster fed by a Kafka topic, after every one of its processes was killed at once."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
import requests
from mock_kafka import MockKafka
from running_cluster import RunningCluster, wait_until

START_MS = 1_700_000_000_000
SHARDS, SERIES, STEPS = 4, 40, 20


def test_all_of_it_is_there_again_after_every_process_was_killed(tmp_path: Path) -> None:
    pytest.importorskip("confluent_kafka")
    with MockKafka() as broker, RunningCluster(tmp_path, nodes=2) as cluster:
        broker.create_topic("metrics", SHARDS)
        body = {
            "dataset": "restart", "num-shards": SHARDS, "min-num-nodes": 2,
            "sourcefactory": "filodb.kafka.KafkaIngestionStreamFactory",
            "sourceconfig": {
                "filo-topic-name": "metrics", "bootstrap.servers": broker.servers,
                "store": {"flush-interval": "1s", "groups-per-shard": 4},
            },
        }  # fmt: skip
        answer = requests.post(f"{cluster.url}/api/v1/cluster/restart", data=orjson.dumps(body), timeout=30)
        assert answer.status_code == 200, answer.text
        cluster.wait_active("restart")
        for step in range(STEPS):
            series = [
                ({"__name__": f"m{i % 8}", "_ws_": "w", "_ns_": "n", "i": str(i)}, [START_MS + step * 1000], [1.0])
                for i in range(SERIES)
            ]
            assert cluster.write(series, "restart").ok
        wait_until(lambda: stored_samples(cluster) == STEPS * SERIES, 30, "all samples are there")
        cluster.kill_everything()
        cluster.start()
        cluster.wait_active("restart", timeout_s=60)
        assert stored_samples(cluster) == STEPS * SERIES, "Active means: all that the topic held is there"


def stored_samples(cluster: RunningCluster) -> float:
    return cluster.number('sum(count_over_time({__name__=~"m.*"}[1h]))', START_MS / 1000 + 1800, "restart")
