"""Produces record containers to a dataset's Kafka topic: how remote write reaches a dataset whose source is Kafka.

A container goes to the partition of its shard and is acknowledged when all in-sync replicas of the broker have it
(``acks=all``, idempotent: librdkafka's own retries write nothing twice). What a shard makes of it later (too old,
over a limit) the writer does not hear; the shard counts it.
"""

from __future__ import annotations

import asyncio
import logging
import struct
import threading
from typing import Any

from filoray.cluster.errors import PayloadTooLarge, TooManyRequests, Unavailable
from filoray.nodes.data.record_container import RecordContainer
from filoray.nodes.streams.kafka_source import KafkaSource, check_topic, confluent_kafka, library_logger, make_client
from filoray.nodes.streams.record_batches import split_container

logger = logging.getLogger(__name__)

_POLL_S = 0.1
_RECORD_OVERHEAD_BYTES = 512  # of Kafka's message format, with room to spare
_MESSAGE_KEY = struct.Struct(">q")  # the shard, as FiloDB's LongSerializer writes it


class KafkaProducerSink:
    """One per dataset and gateway. ``produce`` belongs to one event loop; the constructor and ``close`` may block.

    The constructor raises StreamFailed for a broker or topic that is not there, ConfigError for settings.
    """

    def __init__(self, source: KafkaSource, timeout_ms: int) -> None:
        self._source = source
        self._kafka = confluent_kafka(source.dataset)
        self._is_down = False
        properties = source.producer_properties(timeout_ms)
        self._producer = make_client(self._make_producer, properties, source)
        check_topic(self._producer, source)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._serve, name=f"kafka-{source.dataset}", daemon=True)
        self._thread.start()

    async def produce(self, shard: int, container: RecordContainer) -> int:
        """Returns the samples written when the broker has them all. The container carries all its part keys.

        Raises Unavailable when the broker does not acknowledge in time, TooManyRequests when librdkafka's queue is
        full, PayloadTooLarge for a sample whose labels alone are over the topic's message size.
        """
        parts = split_container(container, self._source.message_bytes_max - _RECORD_OVERHEAD_BYTES)
        await asyncio.gather(*(self._send(shard, part.encode()) for part in parts))
        return container.sample_count

    def close(self) -> None:
        """Wait for what is under way, then stop."""
        self._producer.flush(_POLL_S * 50)
        self._closing.set()
        self._thread.join()

    async def _send(self, shard: int, message: bytes) -> None:
        loop = asyncio.get_running_loop()
        delivered: asyncio.Future[None] = loop.create_future()

        def settle(error: Any) -> None:
            if delivered.done():
                return
            if error is None:
                delivered.set_result(None)
            else:
                delivered.set_exception(self._failure(error))

        def on_delivery(error: Any, _message: Any) -> None:  # on the serving thread
            self._is_down = self._is_down and error is not None
            loop.call_soon_threadsafe(settle, error)

        try:
            self._producer.produce(
                self._source.topic, message, key=_MESSAGE_KEY.pack(shard), partition=shard, on_delivery=on_delivery
            )
        except BufferError as error:
            raise TooManyRequests(f"Kafka topic {self._source.topic}: the producer's queue is full") from error
        except self._kafka.KafkaException as error:
            raise self._failure(error.args[0]) from error
        await delivered

    def _failure(self, error: Any) -> Exception:
        text = f"Kafka topic {self._source.topic} at {self._source.servers}: {error.str()}"
        if error.code() == self._kafka.KafkaError.MSG_SIZE_TOO_LARGE:
            return PayloadTooLarge(f"{text} (sourceconfig.message.max.bytes is {self._source.message_bytes_max})")
        return Unavailable(text)

    def _make_producer(self, properties: dict[str, Any]) -> Any:
        return self._kafka.Producer(properties | {"error_cb": self._on_error}, logger=library_logger)

    def _on_error(self, error: Any) -> None:
        # Single connections come and go, and the whole is repeated with every attempt.
        if error.code() == self._kafka.KafkaError._ALL_BROKERS_DOWN and not self._is_down:
            self._is_down = True
            logger.warning("Kafka topic %s at %s: %s", self._source.topic, self._source.servers, error.str())

    def _serve(self) -> None:
        """Delivery reports come while someone polls."""
        while not self._closing.is_set():
            self._producer.poll(_POLL_S)
