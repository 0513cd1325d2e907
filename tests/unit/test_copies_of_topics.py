"""Leaders and followers of shards that Kafka feeds, over real files, sockets and Kafka's protocol."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from copying_nodes import CopyingCluster, copied_dataset
from mock_kafka import MockKafka
from shards import ALL_TIME, samples_of
from waiting import wait_until

from filoray.cluster import errors
from filoray.cluster.config.dataset import DatasetConfig
from filoray.cluster.control.shard_status import IngestionError
from filoray.cluster.errors import FilorayError, Unavailable
from filoray.cluster.process.clocks import steady_ms, wall_ms
from filoray.nodes.data.part_key import encode_part_key
from filoray.nodes.memstore.shard import Shard
from filoray.nodes.memstore.store.copy_checksums import differences, stored_checksums
from filoray.nodes.streams.kafka_sink import KafkaProducerSink
from filoray.nodes.streams.kafka_source import read_kafka_source
from filoray.nodes.streams.kafka_stream import KafkaStream
from filoray.nodes.streams.record_batches import ContainerBuilder
from filoray.nodes.streams.stream import StreamBatch, StreamFailed
from filoray.nodes.wire.write_reply import Refused

_TOPICS = itertools.count()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[CopyingCluster]:
    cluster = CopyingCluster(tmp_path, ["a", "b"])
    yield cluster
    cluster.close()


def dataset(broker: MockKafka, least: int = 1, reset: str = "earliest", **store: object) -> DatasetConfig:
    topic = f"topic-{next(_TOPICS)}"
    broker.create_topic(topic, 1)
    source = {
        "filo-topic-name": topic, "bootstrap.servers": broker.servers, "fetch.wait.max.ms": "20",
        "auto.offset.reset": reset,
    }  # fmt: skip
    return copied_dataset(1, least=least, topic=source, **store)


def produce(config: DatasetConfig, *times_s: int) -> None:
    """One message with a sample of each of three series for each time, acknowledged by the broker."""
    sink = KafkaProducerSink(read_kafka_source(config), 10_000)

    async def all_of_them() -> None:
        for time_s in times_s:
            builder = ContainerBuilder()
            for series in range(3):
                key = encode_part_key({"__name__": "up", "i": str(series), "age": str(time_s // 50)})
                builder.add(key, 1000 * time_s, float(time_s))
            await sink.produce(0, builder.take())

    asyncio.run(all_of_them())
    sink.close()


def times_s(shard: Shard | None) -> list[int]:
    if shard is None:
        return []
    found = samples_of(shard.select([], *ALL_TIME))
    return sorted({time_ms // 1000 for samples in found.values() for time_ms, _ in samples})


def wait_shown(cluster: CopyingCluster, *wanted_s: int) -> None:
    led = cluster.led[0]
    wait_until(
        lambda: times_s(cluster[led.leader].shown(0, led.epoch)) == sorted(wanted_s),
        lambda: f"{times_s(cluster[led.leader].shown(0, led.epoch))} is shown: {cluster.figures(0)}",
    )


def take_over(cluster: CopyingCluster, name: str) -> None:
    cluster.promote(0, name)
    cluster.after_promotion(0)
    cluster.wait_shown(0)


def follow_again(cluster: CopyingCluster, name: str, config: DatasetConfig) -> None:
    led = cluster.led[0]
    led.copies = type(led.copies)(led.copies.version + 1, (name,), led.copies.in_sync)
    cluster[name].host.follow_shards(config, [(0, led.epoch, led.copies.version)])
    cluster.tell(0)


def wait_equal_on_disk(cluster: CopyingCluster, config: DatasetConfig) -> None:
    """When the leader has flushed all that it has."""
    led = cluster.led[0]
    leader = cluster[led.leader]
    leader.host.threads.run(lambda: leader.shard(0, led.epoch).flush_all(steady_ms(), wall_ms())).result(60)
    paths = [cluster[name].copy_path(config, 0) for name in ("a", "b")]
    wait_until(lambda: differences(*map(stored_checksums, paths)) == [], "both copies have the same on disk")


def test_a_follower_leads_with_what_its_leader_has_shown_and_goes_on_in_the_topic(
    pair: CopyingCluster, broker: MockKafka
) -> None:
    config = dataset(broker)
    produce(config, *range(20))
    pair.start(config, {0: ("a", ["b"])})
    pair.wait_in_sync(0, "a", "b")
    wait_shown(pair, *range(20))
    produce(config, *range(20, 60))
    wait_shown(pair, *range(60))
    pair.forget("a").close()
    produce(config, *range(60, 70))
    take_over(pair, "b")
    assert set(times_s(pair["b"].shard(0, 2))) >= set(range(60)), "at once, from memory"
    wait_shown(pair, *range(70))
    pair.boot("a")
    follow_again(pair, "a", config)
    pair.wait_in_sync(0, "a", "b")
    produce(config, *range(70, 80))
    wait_shown(pair, *range(80))
    wait_equal_on_disk(pair, config)


def test_copies_join_and_lead_while_the_broker_is_away_and_go_on_when_it_is_back(
    pair: CopyingCluster, tmp_path: Path
) -> None:
    pytest.importorskip("confluent_kafka")
    with MockKafka() as broker:
        config = dataset(broker)
        produce(config, *range(10))
        pair.start(config, {0: ("a", ["b"])})
        pair.wait_in_sync(0, "a", "b")
        wait_shown(pair, *range(10))
        broker.down()
        wait_until(
            lambda: [e for n, _, _, e in pair.events if n == "a" and isinstance(e, IngestionError)],
            "the leader says that its source fails",
        )
        pair.forget("a").close()
        take_over(pair, "b")
        wait_shown(pair, *range(10))
        pair.boot("a")
        follow_again(pair, "a", config)
        pair.wait_in_sync(0, "a", "b")
        broker.up()
        produce(config, *range(10, 20))
        wait_shown(pair, *range(20))
        pair.wait_in_sync(0, "a", "b")
        wait_equal_on_disk(pair, config)


def test_when_all_copies_were_gone_one_reads_the_topic_and_the_others_get_what_it_has(
    pair: CopyingCluster, broker: MockKafka
) -> None:
    config = dataset(broker)
    produce(config, *range(10))
    pair.start(config, {0: ("a", ["b"])})
    pair.wait_in_sync(0, "a", "b")
    wait_shown(pair, *range(10))
    wait_equal_on_disk(pair, config)
    produce(config, *range(10, 20))
    wait_shown(pair, *range(20))
    for name in ("a", "b"):
        pair.forget(name).close()
    produce(config, *range(20, 30))
    pair.boot("b")
    take_over(pair, "b")
    assert times_s(pair["b"].shard(0, 2)) == list(range(30)), "all that the topic had is there when it is shown"
    pair.boot("a")
    follow_again(pair, "a", config)
    pair.wait_in_sync(0, "a", "b")
    produce(config, *range(30, 40))
    wait_shown(pair, *range(40))
    wait_equal_on_disk(pair, config)


def test_copies_that_began_at_the_end_and_were_all_gone_skip_nothing_that_came_since(
    pair: CopyingCluster, broker: MockKafka
) -> None:
    config = dataset(broker, reset="latest")
    pair.start(config, {0: ("a", ["b"])})
    pair.wait_in_sync(0, "a", "b")
    for name in ("a", "b"):
        pair.forget(name).close()
    produce(config, *range(10))
    pair.boot("b")
    take_over(pair, "b")
    assert times_s(pair["b"].shard(0, 2)) == list(range(10)), "the follower knows as well where the shard began"


def test_a_message_is_not_shown_before_the_follower_has_it(pair: CopyingCluster, broker: MockKafka) -> None:
    config = dataset(broker)
    pair.start(config, {0: ("a", ["b"])})
    pair.wait_in_sync(0, "a", "b")
    pair.takes_proposals = False
    go_on = threading.Event()
    pair["b"].host.followers.run("waiting for the test", go_on.wait)
    produce(config, 1, 2, 3)
    wait_until(lambda: is_under_way(pair), "the leader has read them")
    assert times_s(pair["a"].shard(0)) == []
    go_on.set()
    wait_shown(pair, 1, 2, 3)


def is_under_way(cluster: CopyingCluster) -> bool:
    (figures,) = cluster["a"].host.shards.figures()
    return any(it.lag_entries for it in figures.followers)


def test_with_too_few_in_sync_messages_stay_in_the_topic_and_the_shard_is_read(
    pair: CopyingCluster, broker: MockKafka, caplog: pytest.LogCaptureFixture
) -> None:
    config = dataset(broker, least=2)
    pair.start(config, {0: ("a", ["b"])})
    pair.wait_in_sync(0, "a", "b")
    produce(config, 1, 2)
    wait_shown(pair, 1, 2)
    pair.forget("b").close()
    wait_until(lambda: pair.led[0].copies.in_sync == ("a",), "it is alone in sync")
    produce(config, 3, 4)
    wait_until(lambda: refusal_of_a_write(pair) is Unavailable, "its copies are missing for longer than a moment")
    wait_until(lambda: lag(pair) == 2, lambda: f"{lag(pair)} messages stay in the topic")
    assert times_s(pair["a"].shard(0)) == [1, 2]
    pair.boot("b").host.follow_shards(config, [(0, 1, pair.led[0].copies.version)])
    pair.tell(0)
    pair.wait_in_sync(0, "a", "b")
    wait_shown(pair, 1, 2, 3, 4)
    assert [event for _, _, _, event in pair.events if isinstance(event, IngestionError)] == []
    told = [record.getMessage() for record in caplog.records if "messages stay in the source" in record.getMessage()]
    assert len(told) == 1, "once, not with every attempt"
    assert "1 of 2 copies are in sync (a), fewer than min-in-sync-replicas = 2" in told[0]


def refusal_of_a_write(cluster: CopyingCluster) -> type[FilorayError] | None:
    """What the leader would say to one, though nobody writes to such a shard."""
    reply = cluster["a"].write(0, ContainerBuilder().take().encode()).wait()
    return getattr(errors, reply.error_class) if isinstance(reply, Refused) else None


def lag(cluster: CopyingCluster) -> int | None:
    (figures,) = cluster["a"].host.shards.figures()
    return figures.stream_lag


def test_a_shard_that_waits_for_copies_is_closed_at_once(pair: CopyingCluster, broker: MockKafka) -> None:
    config = dataset(broker, least=2)
    pair.start(config, {0: ("a", ["b"])})
    pair.wait_in_sync(0, "a", "b")
    pair.forget("b").close()
    wait_until(lambda: pair.led[0].copies.in_sync == ("a",), "it is alone in sync")
    produce(config, 1)
    wait_until(lambda: lag(pair) == 1, lambda: f"{lag(pair)} messages stay in the topic")
    pair.forget("a").close()
    wait_until(
        lambda: not [it.name for it in threading.enumerate() if it.name.startswith("stream ")],
        lambda: f"nobody reads the topic: {threading.enumerate()}",
    )


def test_a_source_that_fails_behind_a_message_costs_no_copy(
    pair: CopyingCluster, broker: MockKafka, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A broker that hands over to another one: the leader reads on, and its followers follow."""
    config = dataset(broker)
    pair.start(config, {0: ("a", ["b"])})
    pair.wait_in_sync(0, "a", "b")
    produce(config, 1, 2)
    wait_shown(pair, 1, 2)
    poll, failed = KafkaStream.poll, []
    got_any = False

    def poll_once_in_vain(stream: KafkaStream, timeout_ms: int) -> Sequence[StreamBatch]:
        nonlocal got_any
        if not threading.current_thread().name.startswith("stream "):
            return poll(stream, timeout_ms)  # the follower's
        if got_any and not failed:
            failed.append(stream)
            raise StreamFailed("the broker is away")
        batches = poll(stream, timeout_ms)
        got_any = got_any or bool(batches)
        return batches

    monkeypatch.setattr(KafkaStream, "poll", poll_once_in_vain)
    produce(config, 3, 4)
    wait_shown(pair, 1, 2, 3, 4)
    wait_until(lambda: failed, "the leader's source fails")
    produce(config, 5)
    wait_shown(pair, 1, 2, 3, 4, 5)
    pair.wait_in_sync(0, "a", "b")
    wait_equal_on_disk(pair, config)
    assert [record.getMessage() for record in caplog.records if "is not kept up" in record.getMessage()] == []
