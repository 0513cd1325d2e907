"""The Kafka stream: a shard reads the one partition that has its number, from the shard's own checkpoint on.

A message is a RecordContainer with all its part keys; its Kafka offset is the batch's. The partition is assigned,
never subscribed to: who reads it is the coordinator's decision. Offsets committed to the group are for Kafka's
tools alone.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import Any

from filoray.cluster.errors import BadData
from filoray.nodes.data.record_container import RecordContainer
from filoray.nodes.streams.kafka_source import KafkaSource, check_topic, confluent_kafka, library_logger, make_client
from filoray.nodes.streams.stream import ProblemReport, StreamBatch, StreamFailed

logger = logging.getLogger(__name__)

_POLL_BYTES_MAX = 8 * 1024 * 1024
_POLL_MESSAGES = 64
_BROKER_TIMEOUT_S = 5.0
_CLOSE_TIMEOUT_S = 5.0


class KafkaStream:
    """See IngestionStream. ``offset``: of the last message that is not wanted again; None: there is no checkpoint yet.

    The constructor raises StreamFailed if the broker, the topic or the offset is not there, ConfigError for settings;
    it comes back within three times _BROKER_TIMEOUT_S whatever the broker does.
    """

    def __init__(self, source: KafkaSource, shard: int, offset: int | None) -> None:
        self._source = source
        self._shard = shard
        self._kafka = confluent_kafka(source.dataset)
        self._suspicion: str | None = None
        self.problems = ProblemReport(f"dataset {source.dataset} shard {shard}")
        properties = source.consumer_properties() | {"client.id": f"filoray-{source.dataset}-{shard}"}
        self._consumer = make_client(self._make_consumer, properties, source)
        try:
            self._check_topic()
            start = self._start(offset)
            self.position = start - 1
            self._consumer.assign([self._partition(start)])
        except BaseException:
            self.close()
            raise

    def poll(self, timeout_ms: int) -> Sequence[StreamBatch]:
        batches: list[StreamBatch] = []
        polled_bytes = 0
        message = self._consumer.poll(timeout_ms / 1000)
        messages = [] if message is None else [message]
        while messages:
            for message in messages:
                if self._is_record(message):
                    container = message.value()
                    polled_bytes += len(container)
                    batches.append(StreamBatch(container, message.offset()))
            if polled_bytes >= _POLL_BYTES_MAX:
                break
            messages = self._consumer.consume(_POLL_MESSAGES, 0)
        if not batches and self._suspicion is not None:
            self._ask_broker()
        return batches

    def end_offset(self) -> int | None:
        _, high = self._watermarks()
        return high - 1 if high > 0 else None

    def known_end(self) -> int | None:
        """What the broker says with each fetch."""
        try:
            _, high = self._consumer.get_watermark_offsets(self._partition(), cached=True)
        except self._kafka.KafkaException:  # it knows none yet
            return None
        return high - 1 if high > 0 else None

    @property
    def ended(self) -> bool:
        return False

    def commit(self, offset: int) -> None:
        try:
            self._consumer.commit(offsets=[self._partition(offset + 1)], asynchronous=True)
        except self._kafka.KafkaException as error:  # the shard's checkpoint is what counts
            logger.debug("%s: offset %d is not shown to the group: %s", self._place(), offset, error)

    def close(self) -> None:
        """Returns soon: librdkafka waits for its threads, and one of them may wait for a name server."""
        closing = threading.Thread(target=self._consumer.close, name=f"close-kafka-{self._shard}", daemon=True)
        closing.start()
        closing.join(_CLOSE_TIMEOUT_S)

    def _check_topic(self) -> None:
        try:
            check_topic(self._consumer, self._source)
        except StreamFailed as error:
            self._consumer.poll(0)  # brings what the connections said meanwhile
            if self._suspicion is None:
                raise
            raise StreamFailed(f"{error.message} ({self._suspicion})") from error

    def _make_consumer(self, properties: dict[str, Any]) -> Any:
        return self._kafka.Consumer(properties | {"error_cb": self._on_error}, logger=library_logger)

    def _on_error(self, error: Any) -> None:
        """Runs inside ``poll``. A lost connection is normal, so the next empty poll asks before it gives up."""
        self._suspicion = str(error.str())

    def _is_record(self, message: Any) -> bool:
        problem = message.error()
        if problem is not None:
            if problem.code() == self._kafka.KafkaError._PARTITION_EOF:
                self.position = max(self.position, message.offset() - 1)
            elif problem.retriable():
                self._suspicion = str(problem.str())
            else:
                raise StreamFailed(f"{self._place()}: {problem.str()}")
            return False
        self.position = message.offset()
        try:
            container = RecordContainer.decode(message.value() or b"")
            if len(container.key_series) != container.series_count:
                raise BadData(f"{container.series_count} series but {len(container.key_series)} part keys")
        except BadData as error:
            self.problems.add(f"{self._place()} offset {message.offset()}", error.message)
            return False
        return True

    def _start(self, offset: int | None) -> int:
        """The first offset to read. Raises StreamFailed where going on would hide a loss that was not asked for."""
        low, high = self._watermarks()
        if offset is None:
            if self._source.offset_reset == "none":
                raise StreamFailed(f"{self._place()}: the shard has no checkpoint and auto.offset.reset is none")
            if self._source.offset_reset == "earliest":
                return low
            logger.info(
                "%s: the shard begins at offset %d, behind %d messages, as auto.offset.reset is latest",
                self._place(),
                high,
                high - low,
            )
            return high
        if offset + 1 > high:
            raise StreamFailed(
                f"{self._place()}: the shard's checkpoint is {offset}, but the partition ends before {high}; "
                "was the topic created anew?"
            )
        if offset + 1 < low:
            lost = f"messages {offset + 1} to {low - 1} are gone from the broker before they were read"
            if self._source.offset_reset == "none":
                raise StreamFailed(f"{self._place()}: {lost}")
            self.problems.add(self._place(), lost)
            return low
        return offset + 1

    def _ask_broker(self) -> None:
        """Is the partition's leader there? Raises StreamFailed if not."""
        suspicion = self._suspicion
        try:
            self._watermarks()
        except StreamFailed as error:
            raise StreamFailed(f"{error.message} ({suspicion})") from error
        self._suspicion = None

    def _watermarks(self) -> tuple[int, int]:
        """First offset that is kept, and one past the last."""
        try:
            low, high = self._consumer.get_watermark_offsets(self._partition(), _BROKER_TIMEOUT_S, cached=False)
        except self._kafka.KafkaException as error:
            raise StreamFailed(f"{self._place()} at {self._source.servers}: {error.args[0].str()}") from error
        return low, high

    def _partition(self, *offset: int) -> Any:
        return self._kafka.TopicPartition(self._source.topic, self._shard, *offset)

    def _place(self) -> str:
        return f"Kafka topic {self._source.topic} partition {self._shard}"
