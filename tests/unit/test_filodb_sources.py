"""Source configurations in FiloDB's words, with its quirks, are accepted as they are and as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from filoray.cluster.config.dataset import KAFKA_STREAM_FACTORY, parse_dataset_config
from filoray.cluster.config.hocon import parse_posted
from filoray.cluster.config.parse_budget import ParseBudget, ParseLimits
from filoray.nodes.streams.kafka_source import read_kafka_source
from filoray.nodes.streams.sources import check_source

HEAD = f"""
dataset = "prometheus"
num-shards = 8
min-num-nodes = 2
sourcefactory = "{KAFKA_STREAM_FACTORY}"
"""
SOURCES = {
    "a plain one": 'filo-topic-name = "timeseries-dev", bootstrap.servers = "localhost:9092", group.id = "ingestion"',
    "a list of servers": 'filo-topic-name = t, bootstrap.servers = [\n"a:9092"\n"b:9092"\n]',
    "the older key of the servers": 'filo-topic-name = t, filo-kafka-servers = ["a:9092"]',
    "Java's classes": """
        filo-topic-name = "events"
        filo-record-converter = "filodb.kafka.StringRecordConverter"
        auto.offset.reset=latest
        enable.auto.commit=false
        key.deserializer = "org.apache.kafka.common.serialization.LongDeserializer"
        value.deserializer = "org.example.CustomDeserializer"
        key.serializer = "org.apache.kafka.common.serialization.LongSerializer"
        my.custom.client.namespace = "custom.value"
        """,
    "clients of their own": """
        filo-topic-name = raw_events, client.id = c, group.id = g
        sasl.mechanism = "PLAIN", producer.acks = 1, consumer.fetch.min.bytes = 1, producer.linger.ms = 5
        """,
    "host and port from the environment": """
        filo-topic-name = t
        host = "localhost", host = ${?KAFKA_HOST_THAT_IS_NOT_SET}
        port = 9092, port=${?KAFKA_PORT_THAT_IS_NOT_SET}
        bootstrap.servers = ${sourceconfig.host}":"${sourceconfig.port}
        """,
    "a store and downsampling": """
        filo-topic-name = t, shutdown-ingest-after-stopped = true
        store {
          flush-interval = 1h
          disk-time-to-live = 7 days
          demand-paged-chunk-retention-period = 12 hours
          max-chunks-size = 400
          shard-mem-size = 768MB
          ingestion-buffer-mem-size = 200MB
          evicted-pk-bloom-filter-capacity = 50000
          # trace-filters = { metric = "include this" }
          max-data-per-shard-query = 50 MB
          retry-delay = 15s
        }
        downsample { resolutions = [ 1 minute, 5 minutes ], ttls = [ 30 days, 183 days ], raw-schema-names = [gauge] }
        """,
}


@pytest.mark.parametrize("name", SOURCES)
def test_it_is_accepted_as_hocon_and_as_json(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)  # who accepts it need not be able to run it
    text = f'{HEAD}schema = "prom-counter"\nsourceconfig {{ {SOURCES[name]} }}'
    config = parse_dataset_config(text, "prometheus")
    as_json = json.dumps(parse_posted(text, ParseBudget("t", ParseLimits())))
    assert parse_dataset_config(as_json, "prometheus") == config
    assert parse_dataset_config(json.dumps(json.loads(as_json), indent=2), "prometheus") == config
    check_source(config)
    source = read_kafka_source(config)
    assert source.servers in ("localhost:9092", "a:9092,b:9092", "a:9092")
    assert config.store.flush_interval_ms == 3_600_000


def test_dotted_keys_of_json_are_kafkas_names() -> None:
    values = {
        "filo-topic-name": "t",
        "bootstrap.servers": "x:1",
        "auto.offset.reset": "latest",
        "consumer.fetch.min.bytes": 7,
    }
    body = {
        "dataset": "d",
        "num-shards": 1,
        "min-num-nodes": 1,
        "sourcefactory": KAFKA_STREAM_FACTORY,
        "sourceconfig": values,
    }
    source = read_kafka_source(parse_dataset_config(json.dumps(body), "d"))
    assert (source.servers, source.offset_reset) == ("x:1", "latest")
    assert source.consumer_properties()["fetch.min.bytes"] == "7"


def test_the_default_install_brings_kafka() -> None:
    import tomllib

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert any(dependency.startswith("confluent-kafka") for dependency in project["dependencies"])
    assert "kafka" in project["optional-dependencies"], "scripts of others may ask for it"
