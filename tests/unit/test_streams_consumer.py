"""Shards fed by streams: recovery, resumption, failing sources. Real shards, and Kafka's real protocol."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from mock_kafka import MockKafka
from waiting import wait_until

from filoray.cluster.config.dataset import DatasetConfig, parse_dataset_config
from filoray.cluster.config.dataset_limits import NO_FILES
from filoray.cluster.control.shard_status import ShardEvent
from filoray.nodes.data.part_key import encode_part_key
from filoray.nodes.data.record_container import RecordContainer
from filoray.nodes.host.shard_host import ShardHost
from filoray.nodes.memstore.shard import Shard
from filoray.nodes.memstore.shard_spec import ShardSpec
from filoray.nodes.streams.kafka_sink import KafkaProducerSink
from filoray.nodes.streams.kafka_source import read_kafka_source
from filoray.nodes.streams.record_batches import ContainerBuilder

FOREVER_MS = 1 << 50


def source_config(factory: str, num_shards: int = 1, **source: object) -> DatasetConfig:
    body = {
        "dataset": "d", "num-shards": num_shards, "min-num-nodes": 1, "sourcefactory": factory,
        "sourceconfig": {**source, "store": {"groups-per-shard": 4}},
    }  # fmt: skip
    return parse_dataset_config(orjson.dumps(body).decode(), "d")


def kafka_config(broker: MockKafka, topic: str, **more: object) -> DatasetConfig:
    broker.create_topic(topic, 1)
    return source_config(
        "filodb.kafka.KafkaIngestionStreamFactory",
        **{"filo-topic-name": topic, "bootstrap.servers": broker.servers, **more},  # type: ignore[arg-type]
    )


class Node:
    """A shard host and what it reported."""

    def __init__(self, data_dir: Path, config: DatasetConfig, epoch: int = 1) -> None:
        self.events: list[ShardEvent] = []
        self.config = config
        self.epoch = epoch
        self.host = ShardHost(
            "node-0",
            data_dir,
            lambda dataset, shard, epoch, event: self.events.append(event),
            limits=replace(NO_FILES, csv_directory=data_dir.parent),
        )
        self.host.start_shards(config, [(shard, epoch) for shard in range(config.num_shards)])

    @property
    def names(self) -> list[str]:
        return [type(event).__name__ for event in self.events]

    def wait_for(self, *names: str) -> None:
        """Until the last reports are of these kinds."""
        wait_until(lambda: tuple(self.names[-len(names) :]) == names, lambda: f"{names}, reported: {self.events}")

    def shard(self, number: int = 0) -> Shard:
        (shard,) = self.host.readable("d", [(number, self.epoch)])
        return shard

    def samples(self) -> list[float]:
        return sorted(v for n in range(self.config.num_shards) for v in self.shard(n).select((), 0, FOREVER_MS).values)

    def on_ingest_thread(self, action: Callable[[], None]) -> None:
        self.host.threads.run(action).result(10)


def now_ms() -> int:
    return int(time.time() * 1000)


def container_of(values: Sequence[int], series: int = 5) -> RecordContainer:
    builder = ContainerBuilder()
    for value in values:
        builder.add(encode_part_key({"__name__": "m", "i": str(value % series)}), 1000 + value, float(value))
    return builder.take()


def produce(config: DatasetConfig, *containers: RecordContainer) -> None:
    sink = KafkaProducerSink(read_kafka_source(config), 10_000)

    async def all_of_them() -> None:
        for container in containers:
            await sink.produce(0, container)

    asyncio.run(all_of_them())
    sink.close()


def test_a_shard_is_active_once_it_has_all_that_the_topic_held_and_goes_on_with_what_comes(
    broker: MockKafka, tmp_path: Path
) -> None:
    config = kafka_config(broker, "recover")
    produce(config, *[container_of(range(i * 10, i * 10 + 10)) for i in range(30)])
    node = Node(tmp_path, config)
    node.wait_for("IngestionStarted")
    assert node.samples() == list(range(300))
    assert node.names[0] == "RecoveryStarted"
    produce(config, container_of(range(300, 310)))
    wait_until(lambda: len(node.samples()) == 310, lambda: f"{len(node.samples())} samples")
    node.host.close()


def test_what_the_topic_has_and_the_shard_has_not_is_known(broker: MockKafka, tmp_path: Path) -> None:
    config = kafka_config(broker, "lag")
    produce(config, container_of(range(10)))
    node = Node(tmp_path, config)
    node.wait_for("IngestionStarted")

    def lag() -> int | None:
        (figures,) = node.host.shards.figures()
        return figures.stream_lag

    wait_until(lambda: lag() == 0, lambda: f"a lag of {lag()}")
    let_go = threading.Event()
    node.host.threads.run(lambda: let_go.wait(30))
    for number in range(1, 4):  # the first waits to be stored when the others come
        produce(config, container_of(range(number * 10, number * 10 + 10)))
        wait_until(lambda number=number: lag() == number, lambda: f"a lag of {lag()}")
    let_go.set()
    wait_until(lambda: lag() == 0, lambda: f"a lag of {lag()}")
    assert len(node.samples()) == 40
    node.host.close()


def test_a_new_owner_resumes_at_the_checkpoint_and_has_every_sample_once(broker: MockKafka, tmp_path: Path) -> None:
    config = kafka_config(broker, "failover")
    produce(config, *[container_of(range(i * 10, i * 10 + 10)) for i in range(10)])
    first = Node(tmp_path, config)
    first.wait_for("IngestionStarted")
    first.on_ingest_thread(lambda: first.shard().flush_group(1, now_ms()))
    first.on_ingest_thread(lambda: first.shard().flush_group(0, now_ms()))
    produce(config, container_of(range(100, 120)))
    wait_until(lambda: len(first.samples()) == 120, lambda: f"{len(first.samples())} samples")
    # The first owner is not closed: it is thought dead, and its epoch is over.
    second = Node(tmp_path, config, epoch=2)
    second.wait_for("IngestionStarted")
    assert second.samples() == list(range(120))
    produce(config, container_of(range(120, 130)))
    wait_until(lambda: len(second.samples()) == 130, lambda: f"{len(second.samples())} samples")
    second.host.close()
    first.host.close()


def test_a_flush_moves_the_place_where_a_restart_begins(broker: MockKafka, tmp_path: Path) -> None:
    config = kafka_config(broker, "checkpoint")
    produce(config, *[container_of(range(i * 10, i * 10 + 10), series=300) for i in range(10)])
    node = Node(tmp_path, config)
    node.wait_for("IngestionStarted")
    assert node.shard().resume_offset == 0
    node.on_ingest_thread(lambda: node.shard().flush_all(now_ms()))
    assert node.shard().resume_offset == 10
    node.host.close()
    again = Node(tmp_path, config, epoch=2)
    again.wait_for("IngestionStarted")
    assert again.shard().resume_offset == 10
    again.on_ingest_thread(lambda: again.shard().flush_all(now_ms()))
    assert again.shard().resume_offset == 10, "a flush without news moves no checkpoint back"
    assert again.samples() == list(range(100))
    again.host.close()


def test_a_shard_that_begins_at_the_end_begins_there_after_a_restart_too(broker: MockKafka, tmp_path: Path) -> None:
    config = kafka_config(broker, "from-the-end", **{"auto.offset.reset": "latest"})
    produce(config, container_of(range(10)))
    node = Node(tmp_path, config)
    node.wait_for("IngestionStarted")
    node.host.close()
    produce(config, container_of(range(10, 20)))
    again = Node(tmp_path, config, epoch=2)
    again.wait_for("IngestionStarted")
    assert again.samples() == list(range(10, 20))
    again.host.close()


@pytest.mark.parametrize("before", [0, 10])
def test_a_shard_that_begins_at_the_end_and_dies_before_a_flush_skips_nothing_that_came_since(
    before: int, broker: MockKafka, tmp_path: Path
) -> None:
    config = kafka_config(broker, f"died-behind-{before}", **{"auto.offset.reset": "latest"})
    produce(config, *[container_of([value]) for value in range(before)])
    node = Node(tmp_path, config)
    node.wait_for("IngestionStarted")
    produce(config, container_of(range(10, 20)))
    wait_until(lambda: node.samples() == list(range(10, 20)), lambda: f"{len(node.samples())} samples")
    again = Node(tmp_path, config, epoch=2)  # takes the file from the first, which never flushed what it read
    again.wait_for("IngestionStarted")
    assert again.samples() == list(range(10, 20))
    again.host.close()
    node.host.close()


def test_a_broker_outage_shows_as_error_with_its_reason_and_ends_by_itself(tmp_path: Path) -> None:
    pytest.importorskip("confluent_kafka")
    with MockKafka() as broker:
        config = kafka_config(broker, "outage")
        produce(config, container_of(range(10)))
        node = Node(tmp_path, config)
        node.wait_for("IngestionStarted")
        broker.down()
        node.wait_for("IngestionError")
        assert "outage" in node.events[-1].reason  # type: ignore[attr-defined]
        broker.up()
        produce(config, container_of(range(10, 20)))
        node.wait_for("IngestionStarted")
        # It may have caught up before these were produced.
        wait_until(lambda: node.samples() == list(range(20)), lambda: f"{len(node.samples())} samples")
        node.host.close()


def test_a_topic_that_comes_later_is_found(broker: MockKafka, tmp_path: Path) -> None:
    config = source_config(
        "filodb.kafka.KafkaIngestionStreamFactory",
        **{"filo-topic-name": "later", "bootstrap.servers": broker.servers},  # type: ignore[arg-type]
    )
    node = Node(tmp_path, config)
    node.wait_for("IngestionError")
    assert "no topic 'later'" in node.events[-1].reason  # type: ignore[attr-defined]
    broker.create_topic("later", 1)
    node.wait_for("IngestionStarted")
    node.host.close()


def test_a_container_that_the_shard_refuses_does_not_hold_up_the_next(broker: MockKafka, tmp_path: Path) -> None:
    config = kafka_config(broker, "poison")
    good = container_of(range(10))
    wrong_hash = replace(good, hash_high=good.hash_high + 1)
    produce(config, wrong_hash, good)
    node = Node(tmp_path, config)
    node.wait_for("IngestionStarted")
    assert node.samples() == list(range(10))
    (opening,) = node.host.shards.openings()
    assert opening.consumer is not None
    assert opening.consumer.stats().skipped == 1
    assert opening.consumer.stats().accepted == 10
    node.host.close()


def test_csv_rows_are_loaded_before_their_shards_are_active(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("metric,timestamp,value,host\n" + "".join(f"m{i % 7},{i},{i},{i % 31}\n" for i in range(1000)))
    config = source_config("filodb.coordinator.sources.CsvStreamFactory", num_shards=4, file=str(path))
    node = Node(tmp_path / "data", config)
    wait_until(lambda: node.names.count("IngestionStarted") == 4, lambda: str(node.events))
    assert node.samples() == list(range(1000))
    assert [shard.stream_lag for shard in node.host.shards.figures()] == [0] * 4, "rows of other shards are none of its"
    for shard in range(4):
        node.on_ingest_thread(lambda shard=shard: node.shard(shard).flush_all(now_ms()))  # type: ignore[misc]
    node.host.close()
    again = Node(tmp_path / "data", config, epoch=2)
    wait_until(lambda: again.names.count("IngestionStarted") == 4, lambda: str(again.events))
    assert again.samples() == list(range(1000))
    again.host.close()


def test_a_csv_file_that_comes_later_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    node = Node(tmp_path / "data", source_config("filodb.coordinator.sources.CsvStreamFactory", file=str(path)))
    node.wait_for("IngestionError")
    assert "No such file" in node.events[-1].reason  # type: ignore[attr-defined]
    (tmp_path / "new").write_text("metric,timestamp,value\nm,1,1\n")
    (tmp_path / "new").rename(path)
    node.wait_for("IngestionStarted")
    assert node.samples() == [1.0]
    node.host.close()


def test_a_streamed_shard_writes_no_log(broker: MockKafka, tmp_path: Path) -> None:
    config = kafka_config(broker, "no-log")
    produce(config, container_of(range(10)))
    node = Node(tmp_path, config)
    node.wait_for("IngestionStarted")
    assert node.shard().stats().log_bytes == 0
    node.host.close()
    alone = Shard.open(ShardSpec("d", 0, 2, tmp_path / "d" / "shard-0.db", config.store))
    assert alone.stats().samples == 0, "what was not flushed is in the topic, not in the file"
    alone.close()
