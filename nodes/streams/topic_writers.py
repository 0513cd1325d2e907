"""A gateway's Kafka producers: one per dataset, made when first written to and anew when its configuration changes.

They go with their dataset: a producer has a thread and connections of its own. Brokers may not answer: who waits for
one does so in threads that nothing else needs, keeps no writer of another dataset waiting, and no longer than a write
may take.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from filoray.cluster.config.dataset import DatasetConfig
from filoray.cluster.config.dataset_limits import NO_FILES, DatasetLimits
from filoray.cluster.errors import Unavailable
from filoray.nodes.data.record_container import RecordContainer
from filoray.nodes.streams.kafka_sink import KafkaProducerSink
from filoray.nodes.streams.kafka_source import KafkaSource, read_kafka_source

T = TypeVar("T")
_THREADS = 4


class TopicWriters:
    """Belongs to one event loop."""

    def __init__(self, timeout_ms: int, limits: DatasetLimits = NO_FILES) -> None:
        self._timeout_ms = timeout_ms
        self._limits = limits
        self._sinks: dict[str, tuple[KafkaSource, KafkaProducerSink]] = {}
        self._opening: dict[str, asyncio.Lock] = {}
        self._threads = ThreadPoolExecutor(_THREADS, "kafka-producer")
        self._closing: set[asyncio.Task[None]] = set()

    async def produce(self, config: DatasetConfig, containers: Mapping[int, RecordContainer]) -> int:
        """Samples written, when the broker has all; see KafkaProducerSink for what it raises."""
        try:
            async with asyncio.timeout(self._timeout_ms / 1000):
                sink = await self._sink(config)
        except TimeoutError:
            raise Unavailable(f"dataset {config.name}: no Kafka broker answered within {self._timeout_ms} ms") from None
        return sum(await asyncio.gather(*(sink.produce(shard, container) for shard, container in containers.items())))

    def keep_only(self, datasets: Container[str]) -> None:
        """Close, in the background, the producers of all other datasets."""
        for name in [name for name in self._sinks if name not in datasets]:
            _, sink = self._sinks.pop(name)
            self._opening.pop(name, None)
            task = asyncio.get_running_loop().create_task(self._in_thread(sink.close))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def _sink(self, config: DatasetConfig) -> KafkaProducerSink:
        """Asking the broker for its topics takes a thread: it may not answer."""
        source = read_kafka_source(config, self._limits)
        known = self._sinks.get(config.name)
        if known is not None and known[0] == source:
            return known[1]
        async with self._opening.setdefault(config.name, asyncio.Lock()):
            known = self._sinks.get(config.name)
            if known is None or known[0] != source:
                sink = await self._in_thread(KafkaProducerSink, source, self._timeout_ms)
                self._sinks[config.name] = source, sink
                if known is not None:
                    await self._in_thread(known[1].close)
            return self._sinks[config.name][1]

    async def close(self) -> None:
        """Wait for what is under way, then stop."""
        sinks, self._sinks = self._sinks, {}
        await asyncio.gather(*(self._in_thread(sink.close) for _, sink in sinks.values()), *self._closing)
        self._threads.shutdown(wait=False)

    async def _in_thread(self, act: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, act, *args)
