"""Kafka streams against librdkafka's mock broker, which speaks the real protocol from a process of its own."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from types import SimpleNamespace

import pytest
from mock_kafka import MockKafka

from filoray.cluster.cluster_view import ClusterView, DatasetView
from filoray.cluster.config.dataset import DatasetConfig, parse_dataset_config
from filoray.cluster.control.shard_map import ShardMap
from filoray.cluster.errors import ConfigError, PayloadTooLarge, Unavailable
from filoray.cluster.process.clocks import wall_ms
from filoray.http.fanout.requests import WriteRequest
from filoray.http.fanout.view_holder import ViewHolder
from filoray.http.fanout.write_service import FanOutWriteService
from filoray.nodes.data.part_key import encode_part_key
from filoray.nodes.data.record_container import RecordContainer
from filoray.nodes.data.write_outcome import WriteOutcome
from filoray.nodes.streams import kafka_source, kafka_stream
from filoray.nodes.streams.kafka_sink import KafkaProducerSink
from filoray.nodes.streams.kafka_source import KafkaSource, read_kafka_source
from filoray.nodes.streams.kafka_stream import KafkaStream
from filoray.nodes.streams.record_batches import ContainerBuilder
from filoray.nodes.streams.sources import WritePath, open_stream, write_path
from filoray.nodes.streams.stream import StreamBatch, StreamFailed

confluent_kafka = pytest.importorskip("confluent_kafka")

SHARDS = 2


def dataset_config(servers: str, topic: str, more: str = "") -> DatasetConfig:
    return parse_dataset_config(
        f"""dataset = prometheus, num-shards = {SHARDS}, min-num-nodes = 1
        sourcefactory = "filodb.kafka.KafkaIngestionStreamFactory"
        sourceconfig {{
            filo-topic-name = "{topic}"
            bootstrap.servers = "{servers}"
            group.id = "filo-db-timeseries-ingestion"
            value.deserializer = "org.example.OnlyInJava"
            {more}
            store {{ flush-interval = 1h }}
        }}""",
        "prometheus",
    )


def source_of(broker: MockKafka, topic: str, more: str = "", partitions: int = SHARDS) -> KafkaSource:
    if partitions:
        broker.create_topic(topic, partitions)
    return read_kafka_source(dataset_config(broker.servers, topic, more))


def container_of(samples: Sequence[tuple[str, int, float]]) -> RecordContainer:
    builder = ContainerBuilder()
    for instance, time_ms, value in samples:
        builder.add(encode_part_key({"__name__": "m", "instance": instance}), time_ms, value)
    return builder.take()


def produce(source: KafkaSource, shard: int, *containers: RecordContainer, timeout_ms: int = 10_000) -> None:
    sink = KafkaProducerSink(source, timeout_ms)

    async def all_of_them() -> None:
        for container in containers:
            await sink.produce(shard, container)

    try:
        asyncio.run(all_of_them())
    finally:
        sink.close()


def read_all(stream: KafkaStream) -> list[StreamBatch]:
    end = stream.end_offset()
    batches: list[StreamBatch] = []
    while end is not None and stream.position < end:
        batches += stream.poll(500)
    return batches


def poll_for_ever(stream: KafkaStream) -> None:
    while True:
        assert stream.poll(200) == []


def test_what_is_produced_to_a_shard_is_polled_by_that_shard_alone(broker: MockKafka) -> None:
    source = source_of(broker, "by-shard")
    sent = container_of([("a", 1000, 1.5), ("b", 1000, 2.5), ("a", 2000, 3.5)])
    produce(source, 1, sent)
    streams = [KafkaStream(source, shard, None) for shard in range(SHARDS)]
    received = [read_all(stream) for stream in streams]
    for stream in streams:
        stream.close()
    assert received[0] == []
    assert [batch.offset for batch in received[1]] == [0]
    assert bytes(received[1][0].container) == sent.encode()


def test_a_stream_resumes_behind_its_checkpoint(broker: MockKafka) -> None:
    source = source_of(broker, "resume")
    produce(source, 0, *[container_of([("a", i, float(i))]) for i in range(5)])
    stream = KafkaStream(source, 0, 2)
    offsets = [batch.offset for batch in read_all(stream)]
    stream.close()
    assert offsets == [3, 4]


@pytest.mark.parametrize(("reset", "expected"), [("earliest", [0, 1]), ("latest", [])])
def test_without_a_checkpoint_the_configured_end_is_where_it_begins(
    broker: MockKafka, reset: str, expected: list[int]
) -> None:
    source = source_of(broker, f"reset-{reset}", f"auto.offset.reset = {reset}")
    produce(source, 0, container_of([("a", 1, 1.0)]), container_of([("a", 2, 1.0)]))
    stream = KafkaStream(source, 0, None)
    offsets = [batch.offset for batch in read_all(stream)]
    stream.close()
    assert offsets == expected


def test_without_a_checkpoint_none_refuses_to_guess(broker: MockKafka) -> None:
    source = source_of(broker, "reset-none", "auto.offset.reset = none")
    with pytest.raises(StreamFailed, match="no checkpoint"):
        KafkaStream(source, 0, None)


def test_a_checkpoint_past_the_partitions_end_is_an_error(broker: MockKafka) -> None:
    source = source_of(broker, "anew")
    produce(source, 0, container_of([("a", 1, 1.0)]))
    with pytest.raises(StreamFailed, match="checkpoint is 17, but the partition ends before 1"):
        KafkaStream(source, 0, 17)


def test_a_missing_topic_and_a_wrong_number_of_partitions_are_told_apart(broker: MockKafka) -> None:
    with pytest.raises(StreamFailed, match="no topic 'nowhere'; create it with 2 partitions"):
        KafkaStream(source_of(broker, "nowhere", partitions=0), 0, None)
    with pytest.raises(StreamFailed, match="has 3 partitions, but dataset prometheus has 2 shards"):
        KafkaProducerSink(source_of(broker, "three", partitions=3), 1000)


def test_messages_that_are_no_containers_are_skipped_and_counted(broker: MockKafka) -> None:
    source = source_of(broker, "garbage")
    producer = confluent_kafka.Producer({"bootstrap.servers": broker.servers})
    empty = container_of([])
    keyless = dataclasses.replace(container_of([("a", 1, 1.0)]), key_series=empty.key_series, keys=empty.keys)
    for message in (b"hello", b"", keyless.encode(), container_of([("a", 1, 1.0)]).encode(), b"\xff" * 100):
        producer.produce("garbage", message, partition=0)
    assert producer.flush(10) == 0
    stream = KafkaStream(source, 0, None)
    offsets = [batch.offset for batch in read_all(stream)]
    stream.close()
    assert offsets == [3]
    assert stream.problems.count == 4
    assert stream.position == 4
    assert [problem.place for problem in stream.problems.examples][2] == "Kafka topic garbage partition 0 offset 2"
    assert "1 series but 0 part keys" in stream.problems.examples[2].reason


def test_a_container_over_the_message_size_is_cut(broker: MockKafka) -> None:
    source = source_of(broker, "cut", "message.max.bytes = 4000")
    samples = [(f"host-{i % 7}", i, float(i)) for i in range(1000)]
    produce(source, 0, container_of(samples))
    stream = KafkaStream(source, 0, None)
    batches = read_all(stream)
    stream.close()
    assert len(batches) > 4
    assert max(len(batch.container) for batch in batches) <= 4000
    received = [
        (key, int(time_ms), float(value))
        for batch in batches
        for container in [RecordContainer.decode(batch.container)]
        for key, time_ms, value in zip(
            [container.part_keys()[i] for i in range(container.series_count) for _ in range(container.counts[i])],
            container.timestamps, container.values, strict=True,
        )
    ]  # fmt: skip
    expected = [(encode_part_key({"__name__": "m", "instance": host}), at, value) for host, at, value in samples]
    assert sorted(received) == sorted(expected)


def test_a_sample_whose_labels_do_not_fit_is_too_large(broker: MockKafka) -> None:
    source = source_of(broker, "too-large", "message.max.bytes = 2000")
    with pytest.raises(PayloadTooLarge, match=r"message\.max\.bytes is 2000"):
        produce(source, 0, container_of([("x" * 3000, 1, 1.0)]))


def test_a_broker_that_goes_fails_the_stream_and_one_that_comes_back_serves_it_again() -> None:
    with MockKafka() as broker:
        source = source_of(broker, "outage")
        produce(source, 0, container_of([("a", 1, 1.0)]), container_of([("a", 2, 1.0)]))
        stream = KafkaStream(source, 0, None)
        assert len(read_all(stream)) == 2
        broker.down()
        with pytest.raises(StreamFailed, match="outage"):
            poll_for_ever(stream)
        stream.close()
        broker.up()
        stream = KafkaStream(source, 0, 0)
        assert [batch.offset for batch in read_all(stream)] == [1]
        stream.close()


def test_a_write_that_the_broker_does_not_take_in_time_is_unavailable() -> None:
    with MockKafka() as broker:
        source = source_of(broker, "late")
        sink = KafkaProducerSink(source, 500)
        broker.down()
        with pytest.raises(Unavailable, match="late"):
            asyncio.run(sink.produce(0, container_of([("a", 1, 1.0)])))
        broker.up()
        sink.close()


def test_committed_progress_is_shown_to_the_group_but_never_followed(broker: MockKafka) -> None:
    source = source_of(broker, "progress")
    produce(source, 0, *[container_of([("a", i, 1.0)]) for i in range(3)])
    stream = KafkaStream(source, 0, None)
    read_all(stream)
    stream.commit(1)
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": broker.servers, "group.id": "filo-db-timeseries-ingestion"}
    )
    for _ in range(100):
        (committed,) = consumer.committed([confluent_kafka.TopicPartition("progress", 0)], timeout=5)
        if committed.offset == 2:
            break
        stream.poll(20)
    assert committed.offset == 2
    consumer.close()
    stream.close()
    stream = KafkaStream(source, 0, None)
    assert [batch.offset for batch in read_all(stream)] == [0, 1, 2]
    stream.close()


def test_filodbs_keys_are_read() -> None:
    config = dataset_config(
        "a:1",
        "t",
        """filo-kafka-servers = ["old:1"]
        auto.offset.reset = largest
        consumer.fetch.min.bytes = 7
        producer.linger.ms = 9
        enable.auto.commit = true
        security.protocol = SSL""",
    )
    source = read_kafka_source(config)
    consumer, producer = source.consumer_properties(), source.producer_properties(1000)
    assert source.offset_reset == "latest"
    assert consumer["bootstrap.servers"] == "a:1"
    assert consumer["group.id"] == "filo-db-timeseries-ingestion"
    assert consumer["fetch.min.bytes"] == "7"
    assert "fetch.min.bytes" not in producer
    assert producer["linger.ms"] == "9"
    assert "linger.ms" not in consumer
    assert consumer["enable.auto.commit"] is False
    assert producer["acks"] == "all"
    assert producer["security.protocol"] == consumer["security.protocol"] == "SSL"


def test_servers_may_be_a_list_and_have_a_default() -> None:
    config = dataset_config("x", "t")
    several = dataclasses.replace(config, source_config={"filo-topic-name": "t", "filo-kafka-servers": ["a:1", "b:2"]})
    none = dataclasses.replace(config, source_config={"filo-topic-name": "t"})
    assert read_kafka_source(several).servers == "a:1,b:2"
    assert read_kafka_source(none).servers == "localhost:9092"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "filo-topic-name is missing"),
        ({"filo-topic-name": "t", "auto.offset.reset": "yesterday"}, "use earliest, latest or none"),
        ({"filo-topic-name": "t", "message.max.bytes": "big"}, "message.max.bytes is 'big'"),
    ],
)
def test_settings_that_cannot_work_are_named(settings: dict[str, str], message: str) -> None:
    config = dataclasses.replace(dataset_config("x", "t"), source_config=settings)
    with pytest.raises(ConfigError, match=message):
        open_stream(config, 0, None)


def test_a_bad_value_of_a_kafka_property_is_named() -> None:
    config = dataset_config("127.0.0.1:1", "t", "session.timeout.ms = soon")
    with pytest.raises(ConfigError, match=r"session\.timeout\.ms"):
        open_stream(config, 0, None)


@pytest.fixture
def silent_server() -> Iterator[str]:
    """Accepts connections, and never a word."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


def test_a_broker_that_is_not_there_or_says_nothing_ends_the_opening_with_its_reason(
    silent_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_source, "_METADATA_TIMEOUT_S", 0.5)
    with pytest.raises(StreamFailed, match=r"Kafka at 127\.0\.0\.1:1 does not answer: .*Connection refused"):
        open_stream(dataset_config("127.0.0.1:1", "t"), 0, None)
    with pytest.raises(StreamFailed, match=f"Kafka at {silent_server} does not answer"):
        open_stream(dataset_config(silent_server, "t"), 0, None)


def test_closing_does_not_wait_for_a_client_that_does_not_end(
    broker: MockKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_stream, "_CLOSE_TIMEOUT_S", 0.01)
    stream = KafkaStream(source_of(broker, "unending"), 0, None)
    consumer, let_go = stream._consumer, threading.Event()
    stream._consumer = SimpleNamespace(close=let_go.wait)
    stream.close()
    let_go.set()
    consumer.close()


def test_remote_write_to_a_kafka_dataset_goes_to_the_topic() -> None:
    assert write_path(dataset_config("x", "t")) is WritePath.TOPIC


def test_a_deleted_datasets_producer_goes_with_it(broker: MockKafka) -> None:
    broker.create_topic("deleted", SHARDS)
    config = dataset_config(broker.servers, "deleted")

    def producer_threads() -> int:
        return sum(thread.name == f"kafka-{config.name}" for thread in threading.enumerate())

    async def write_and_delete() -> None:
        views = ViewHolder(ClusterView(1), lambda info: pytest.fail("no node is asked"))
        service = FanOutWriteService(views, 10_000)
        container = container_of([("a", 1, 1.0)])
        for version in range(2, 6, 2):
            views.update(
                ClusterView(version, datasets={config.name: DatasetView(config, ShardMap.initial(config.name, SHARDS))})
            )
            outcome = await service.write(WriteRequest(config.name, 0, {0: container}, lambda shard, series: container))
            assert (outcome.accepted, producer_threads()) == (1, 1)
            views.update(ClusterView(version + 1))
            async with asyncio.timeout(20):
                while producer_threads():
                    await asyncio.sleep(0.01)
        await service.close()

    asyncio.run(write_and_delete())


def test_a_sample_of_the_future_does_not_reach_the_topic_and_its_sender_hears_of_it(broker: MockKafka) -> None:
    source = source_of(broker, "of-the-future")
    config = dataset_config(broker.servers, "of-the-future")
    later_ms = wall_ms() + 3_600_000
    sent = {
        0: container_of([("a", 1, 1.0), ("a", later_ms, 2.0), ("b", later_ms, 3.0)]),
        1: container_of([("c", later_ms, 4.0)]),
    }

    async def write() -> WriteOutcome:
        view = DatasetView(config, ShardMap.initial(config.name, SHARDS))
        views = ViewHolder(ClusterView(1, datasets={config.name: view}), lambda info: pytest.fail("no node is asked"))
        service = FanOutWriteService(views, 10_000)
        try:
            return await service.write(WriteRequest(config.name, 0, sent, lambda shard, series: sent[shard]))
        finally:
            await service.close()

    outcome = asyncio.run(write())
    assert (outcome.accepted, outcome.refused) == (1, {"out of bounds": 3})
    assert "ahead of the clock here" in outcome.example
    streams = [KafkaStream(source, shard, None) for shard in range(SHARDS)]
    batches = [batch for stream in streams for batch in read_all(stream)]
    assert [RecordContainer.decode(batch.container).timestamps.tolist() for batch in batches] == [[1]]
    for stream in streams:
        stream.close()


def test_without_the_library_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    with pytest.raises(ConfigError, match="pip install confluent-kafka"):
        open_stream(dataset_config("x", "t"), 0, None)


def test_only_who_opens_a_topic_imports_the_library() -> None:
    code = (
        "import sys, filoray.nodes.host.node, filoray.http.server.services, filoray.nodes.streams.topic_writers\n"
        "assert not [name for name in sys.modules if name.startswith('confluent_kafka')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
