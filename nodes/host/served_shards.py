"""The open shards of a node that are known to whoever asks, under one short lock."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass

from filoray.cluster.control.node_events import OpeningId
from filoray.nodes.data.node_figures import ShardFigures
from filoray.nodes.host.append_jobs import ShardKey
from filoray.nodes.host.metric_metadata_file import MetricMetadataFile
from filoray.nodes.host.opening import Opening
from filoray.nodes.host.replication.led_shards import LedShard
from filoray.nodes.memstore.shard import Shard


@dataclass(frozen=True, slots=True)
class ServedShard:
    """``opening``: the one that opened it. ``led``: what keeps its copies, or tells those that keep it warm, if any."""

    opening: Opening
    epoch: int
    shard: Shard
    metadata: MetricMetadataFile
    led: LedShard | None = None

    @property
    def number(self) -> OpeningId:
        return self.opening.order.opening

    def figures(self) -> ShardFigures:
        consumer = self.opening.consumer
        return self.shard.figures(None if consumer is None else consumer.lag)


class ServedShards:
    """Any thread may call its methods; who changes what a key has is the caller's affair."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._served: dict[ShardKey, ServedShard] = {}

    def __len__(self) -> int:
        return len(self._served)

    def get(self, key: ShardKey) -> ServedShard | None:
        with self._lock:
            return self._served.get(key)

    def opened_by(self, key: ShardKey, number: OpeningId) -> ServedShard | None:
        """The shard as that opening opened it, if that is what is served."""
        served = self.get(key)
        return served if served is not None and served.number == number else None

    def all(self) -> Mapping[ShardKey, ServedShard]:
        """As they are now."""
        with self._lock:
            return dict(self._served)

    def put(self, served: ServedShard) -> None:
        with self._lock:
            self._served[served.opening.order.key] = served

    def remove(self, key: ShardKey) -> None:
        with self._lock:
            del self._served[key]
