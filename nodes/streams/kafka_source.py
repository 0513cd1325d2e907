"""Reads FiloDB's Kafka source configuration and makes confluent-kafka clients of it.

FiloDB's keys (https://github.com/filodb/FiloDB/blob/develop/conf/timeseries-dev-source.conf, its KafkaSettings.scala):

    filo-topic-name        needed; the topic, with one partition for each shard
    bootstrap.servers      "host:port,host:port" or a list; before it FiloDB knew filo-kafka-servers
    auto.offset.reset      where a shard without a checkpoint begins: earliest (default), latest, or none (refuse)
    group.id               under which progress is shown to Kafka's own tools; never read back
    anything with a dot    a Kafka client property; with the prefix consumer. or producer. for one of the two only

Default ``earliest`` differs from FiloDB's ``latest``: what a gateway acknowledged before a shard first opened must
not be skipped. Which properties a dataset may set says ``filoray.cluster.config.kafka_properties``; Java's own
(deserializers and the like) have no effect. What decides whether data can be lost (commits, acknowledgements,
idempotence) is set here and cannot be overridden.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar, cast, get_args

from filoray.cluster.config.dataset import DatasetConfig
from filoray.cluster.config.dataset_limits import NO_FILES, DatasetLimits
from filoray.cluster.config.kafka_properties import RefusedProperty, allowed_properties, check_mechanism
from filoray.cluster.errors import ConfigError
from filoray.cluster.units import PlainValue
from filoray.nodes.streams.stream import StreamFailed

logger = logging.getLogger(__name__)
library_logger = logging.getLogger(f"{__name__}.librdkafka")
library_logger.setLevel(logging.CRITICAL)  # a line per failed connection; what matters comes as errors. May be opened.

OffsetReset = Literal["earliest", "latest", "none"]
MESSAGE_BYTES_MAX = 1_000_000
"""librdkafka's and, nearly, the broker's own default for ``message.max.bytes``."""

_DEFAULT_SERVERS = "localhost:9092"
_RESET_WORDS = {"smallest": "earliest", "beginning": "earliest", "largest": "latest", "end": "latest", "error": "none"}
_UNKNOWN_PROPERTY = re.compile(r'No such configuration property: "([^"]+)"')
_OURS = {"auto.offset.reset", "bootstrap.servers", "enable.auto.commit", "enable.idempotence", "acks"}
_NOT_KAFKAS = ("filo-", "akka.", "store.", "downsample.")
_METADATA_TIMEOUT_S = 5.0

Client = TypeVar("Client")


@dataclass(frozen=True, slots=True)
class KafkaSource:
    """``properties``: Kafka client properties as given, prefixes not yet applied."""

    dataset: str
    topic: str
    partition_count: int
    servers: str
    offset_reset: OffsetReset
    message_bytes_max: int
    properties: Mapping[str, str]

    def consumer_properties(self) -> dict[str, Any]:
        return self._client_properties("consumer.") | {
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "error",  # a jump would be silent; KafkaStream decides and reports
            "allow.auto.create.topics": False,
        }

    def producer_properties(self, delivery_timeout_ms: int) -> dict[str, Any]:
        return (
            {"linger.ms": 2, "compression.type": "lz4"}
            | self._client_properties("producer.")
            | {
                "acks": "all",
                "enable.idempotence": True,
                "delivery.timeout.ms": delivery_timeout_ms,
                "message.max.bytes": self.message_bytes_max,
                "allow.auto.create.topics": False,
            }
        )

    def _client_properties(self, prefix: str) -> dict[str, Any]:
        other = {"consumer.": "producer.", "producer.": "consumer."}[prefix]
        shared = {key: value for key, value in self.properties.items() if not key.startswith((prefix, other))}
        own = {key.removeprefix(prefix): value for key, value in self.properties.items() if key.startswith(prefix)}
        known = {key: value for key, value in (shared | own).items() if key not in _OURS}
        defaults = {
            "group.id": f"filoray-{self.dataset}",
            "reconnect.backoff.max.ms": "1000",
            "socket.timeout.ms": "10000",  # of the default, 60 s, a recovery would hold the shard's opening
        }
        return {**defaults, **known, "bootstrap.servers": self.servers}


def read_kafka_source(config: DatasetConfig, limits: DatasetLimits = NO_FILES) -> KafkaSource:
    """Raises ConfigError naming the key: what cannot work, and what a dataset may not set."""
    given = _flat(config.source_config)
    topic = given.get("filo-topic-name")
    if not isinstance(topic, str) or not topic:
        raise ConfigError(
            f"dataset {config.name}: sourceconfig.filo-topic-name is missing: name the Kafka topic "
            f"with one partition for each of the {config.num_shards} shards"
        )
    reset = str(given.get("auto.offset.reset", "earliest"))
    reset = _RESET_WORDS.get(reset, reset)
    if reset not in get_args(OffsetReset):
        raise ConfigError(
            f"dataset {config.name}: sourceconfig.auto.offset.reset is {reset!r}; use earliest, latest or none"
        )
    size = given.get("producer.message.max.bytes", given.get("message.max.bytes", MESSAGE_BYTES_MAX))
    if not str(size).isdecimal() or not 1000 <= int(str(size)) <= 1_000_000_000:
        raise ConfigError(
            f"dataset {config.name}: sourceconfig.message.max.bytes is {size!r}; use 1000 to 1000000000 bytes"
        )
    source = KafkaSource(
        config.name,
        topic,
        config.num_shards,
        _servers(given.get("bootstrap.servers") or given.get("filo-kafka-servers") or _DEFAULT_SERVERS),
        cast(OffsetReset, reset),
        int(str(size)),
        {key: _text(value) for key, value in given.items() if not key.startswith(_NOT_KAFKAS) and value is not None},
    )
    try:
        source = replace(source, properties=allowed_properties(source.properties, limits))
        for client in (source.consumer_properties(), source.producer_properties(delivery_timeout_ms=1)):
            check_mechanism(client)
    except RefusedProperty as error:
        raise ConfigError(f"dataset {config.name}: {error}") from None
    return source


def confluent_kafka(dataset: str) -> Any:
    """The client library. Raises ConfigError that says what to install."""
    try:
        import confluent_kafka as library
    except ImportError as error:
        raise ConfigError(
            f"dataset {dataset}: its source is Kafka, which needs confluent-kafka: pip install confluent-kafka"
        ) from error
    return library


def make_client(create: Callable[[dict[str, Any]], Client], properties: dict[str, Any], source: KafkaSource) -> Client:
    """``create(properties)`` less those that librdkafka does not know. Raises ConfigError for bad values."""
    library = confluent_kafka(source.dataset)
    remaining = dict(properties)
    while True:
        try:
            return create(remaining)
        except library.KafkaException as error:
            text = str(error.args[0].str())
            unknown = _UNKNOWN_PROPERTY.search(text)
            if unknown is None or unknown[1] not in remaining:
                raise ConfigError(f"dataset {source.dataset}: sourceconfig for Kafka: {text}") from error
            logger.info("dataset %s: Kafka property %s is not used by filoray", source.dataset, unknown[1])
            del remaining[unknown[1]]


def check_topic(client: Any, source: KafkaSource) -> None:
    """The topic is there with as many partitions as the dataset has shards, else StreamFailed says what is not."""
    library = confluent_kafka(source.dataset)
    try:
        # Of all topics: asking for one by name makes some brokers create it.
        topics = client.list_topics(timeout=_METADATA_TIMEOUT_S).topics
    except library.KafkaException as error:
        raise StreamFailed(f"Kafka at {source.servers} does not answer: {error.args[0].str()}") from error
    topic = topics.get(source.topic)
    if topic is None or topic.error is not None:
        reason = f" ({topic.error.str()})" if topic is not None else ""
        raise StreamFailed(
            f"Kafka at {source.servers} has no topic {source.topic!r}{reason}; "
            f"create it with {source.partition_count} partitions, one for each shard of dataset {source.dataset}"
        )
    if len(topic.partitions) != source.partition_count:
        raise StreamFailed(
            f"Kafka topic {source.topic!r} has {len(topic.partitions)} partitions, but dataset {source.dataset} has "
            f"{source.partition_count} shards; it must have one partition for each shard"
        )


def _flat(values: Mapping[str, PlainValue], prefix: str = "") -> dict[str, PlainValue]:
    """HOCON reads ``group.id = x`` as a block; Kafka's properties have the dots in their names."""
    flat: dict[str, PlainValue] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _servers(value: PlainValue) -> str:
    return ",".join(str(server) for server in value) if isinstance(value, list) else str(value)


def _text(value: PlainValue) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return _servers(value)
