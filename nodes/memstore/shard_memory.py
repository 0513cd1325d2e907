"""All that one shard holds in memory, under one lock.

One thread changes it (appends, seals, flushes); it holds the lock for each change. Query threads hold the
lock while they look up series and copy buffered samples, and decode chunks without it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import xxhash
from numpy.typing import NDArray

from filoray.nodes.data.node_figures import ShardCounters
from filoray.nodes.kernels.storage.samples import CountedSamples
from filoray.nodes.memstore.chunks.chunk_codec import CHUNK_SAMPLES_MAX, checksum_of, encode_column
from filoray.nodes.memstore.chunks.chunk_table import ChunkTable, OpenBatch
from filoray.nodes.memstore.late_samples import LateSamples
from filoray.nodes.memstore.part_key_index import PartKeyIndex
from filoray.nodes.memstore.write_buffers import WriteBuffers

GROUP_RUN = 64
"""So many series with following ids share a flush group: those of one target follow each other and share times."""

ALL_TIME = (np.iinfo(np.int64).min, np.iinfo(np.int64).max)


@dataclass(frozen=True, slots=True)
class StoredBatch:
    """A flushed batch: when it was written (retention clock) and how many bytes its data has."""

    written_ms: int
    data_bytes: int


class ShardMemory:
    def __init__(self, group_count: int, chunk_samples: int, chunk_time_ms: int | None = None) -> None:
        """``chunk_samples`` and ``chunk_time_ms``: the most samples and the longest time of a chunk."""
        self.lock = threading.RLock()
        self.chunk_samples = min(chunk_samples, CHUNK_SAMPLES_MAX)
        self._chunk_time_ms = chunk_time_ms
        self.index = PartKeyIndex()
        self.buffers = WriteBuffers()
        self.chunks = ChunkTable()
        self.late = LateSamples()
        self.counters = ShardCounters()
        self.batches: dict[int, StoredBatch] = {}
        self.expiring: frozenset[int] = frozenset()
        """Batches that a change of the store drops, until memory has forgotten them too."""
        self.resident: OrderedDict[int, bytes] = OrderedDict()
        self.resident_bytes = 0
        self.damages: dict[str, None] = {}
        """What could not be read at opening; every answer of the shard says so until it is opened again."""
        self.unlike_replay: set[int] = set()
        """Flush groups of which the log, replayed from the checkpoints, would not make what is here."""
        self.set_groups(group_count)

    def set_groups(self, group_count: int) -> None:
        """Only while no batch is open."""
        self.group_count = group_count
        self.open_batches = [OpenBatch(-1 - group) for group in range(group_count)]

    def groups_of(self, partitions: NDArray[np.int32]) -> NDArray[np.int64]:
        """The flush group of each series."""
        return self.index.series_ids.data[partitions] // GROUP_RUN % self.group_count

    def reserve(self, series_count: int) -> None:
        self.buffers.reserve(series_count)
        self.chunks.reserve(series_count)

    # ---- sealing

    def seal(self, partitions: NDArray[np.int32]) -> None:
        """Turn the buffers of these series into chunks of their groups' open batches."""
        partitions = partitions[self.buffers.counts.data[partitions] > 0]
        sealed = self._encode(partitions, self.buffers.read(partitions, *ALL_TIME))
        with self.lock:
            self._install(sealed)
            self.buffers.clear(partitions)

    def seal_late(self, groups: Sequence[int]) -> None:
        """Turn the late samples of these groups' series into chunks."""
        if not len(self.late):
            return
        late = self.late.all()
        chosen = np.isin(self.groups_of(late.partitions), groups)
        series, counts = np.unique(late.partitions[chosen], return_counts=True)
        samples = CountedSamples(counts, late.times[chosen], late.values[chosen])
        sealed = self._encode(series.astype(np.int32), samples)
        with self.lock:
            self._install(sealed)
            self.late.drop(chosen)

    def _encode(
        self, partitions: NDArray[np.int32], samples: CountedSamples
    ) -> list[tuple[int, OpenBatch, NDArray[np.int64], bytes]]:
        """(partition, its open batch, times, compressed values) of each chunk to be."""
        counts, times, values = samples
        sealed = []
        at = 0
        groups = self.groups_of(partitions).tolist()
        for partition, group, count in zip(partitions.tolist(), groups, counts.tolist(), strict=True):
            batch = self.open_batches[group]
            bounds = self._chunk_bounds(times[at : at + count])
            for start, end in pairwise(bounds):
                part = slice(at + start, at + end)
                sealed.append((partition, batch, times[part], encode_column(values[part])))
            at += count
        return sealed

    def _chunk_bounds(self, times: NDArray[np.int64]) -> list[int]:
        """Where the chunks of a series begin, and the end of the last."""
        count = len(times)
        if self._chunk_time_ms is None or int(times[-1]) - int(times[0]) <= self._chunk_time_ms:
            pieces = -(-count // self.chunk_samples)
            return [count * piece // pieces for piece in range(pieces + 1)]
        bounds = [0]
        while bounds[-1] < count:
            start = bounds[-1]
            last_ms = min(int(times[start]) + self._chunk_time_ms, ALL_TIME[1])
            bounds.append(min(int(np.searchsorted(times, last_ms, "right")), start + self.chunk_samples))
        return bounds

    def _install(self, sealed: list[tuple[int, OpenBatch, NDArray[np.int64], bytes]]) -> None:
        table = self.chunks
        for partition, batch, times, payload in sealed:
            digest = xxhash.xxh3_128_digest(times.data)
            column = batch.column_of_times.get(digest)
            if column is None:
                packed = encode_column(times)
                column = batch.column_of_times[digest] = table.add_time_column(
                    batch.batch_id,
                    len(batch.payloads),
                    len(packed),
                    checksum_of(packed),
                    len(times),
                    int(times[0]),
                    int(times[-1]),
                )
                batch.time_columns.append(column)
                batch.payloads.append(packed)
                batch.nbytes += len(packed)
            batch.chunks.append(
                table.add_chunk(
                    batch.batch_id, len(batch.payloads), len(payload), checksum_of(payload), partition, column
                )
            )
            batch.payloads.append(payload)
            batch.nbytes += len(payload)

    def drop_batches(self, batch_ids: Sequence[int]) -> None:
        """Forget these stored batches. The caller holds the lock."""
        new_chunks, new_columns = self.chunks.drop_batches(batch_ids)
        for batch in self.open_batches:
            batch.chunks = new_chunks[batch.chunks].tolist()
            batch.time_columns = new_columns[batch.time_columns].tolist()
            batch.column_of_times = {
                digest: int(new_columns[column]) for digest, column in batch.column_of_times.items()
            }
        for batch_id in batch_ids:
            self.drop_resident(batch_id)
            del self.batches[batch_id]

    # ---- compressed pieces

    def keep_resident(self, batch_id: int, data: bytes) -> None:
        self.resident[batch_id] = data
        self.resident_bytes += len(data)

    def drop_resident(self, batch_id: int) -> None:
        data = self.resident.pop(batch_id, None)
        if data is not None:
            self.resident_bytes -= len(data)

    @property
    def nbytes(self) -> int:
        """Memory in use, decoded chunks not counted."""
        return (
            self.index.nbytes
            + self.buffers.nbytes
            + self.chunks.nbytes
            + self.late.nbytes
            + self.resident_bytes
            + sum(batch.nbytes + 80 * len(batch.payloads) for batch in self.open_batches)
        )
