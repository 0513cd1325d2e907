"""Decodes Prometheus remote write 1.0: a request's body to one RecordContainer for each shard.

Snappy and protobuf come from outside and are not trusted: the declared length is checked before anything is allocated,
and whatever is malformed is a BadData that says what and where. Bytes are gone over once, by a kernel
(``filoray.nodes.kernels.edge.remote_write``); series seen before are recognised by
``filoray.http.remote.remote_write_series``. Samples may be in any order and come twice: what that means is for the
shard to say. Headers, status codes and sending are the route's affair.

https://prometheus.io/docs/specs/prw/remote_write_spec/; exemplars are skipped, native histograms refused.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from filoray.cluster.config.request_config import WriteConfig
from filoray.cluster.errors import BadData
from filoray.http.remote.protobuf_reader import fields, malformed
from filoray.http.remote.remote_write_client import METADATA_TYPES
from filoray.http.remote.remote_write_series import VERDICTS, ParsedRequest, SeriesTable
from filoray.http.remote.snappy_block import decompress
from filoray.nodes.data.metric_metadata import MetricMetadata
from filoray.nodes.data.record_container import RecordContainer
from filoray.nodes.data.write_outcome import RefusalReason, WriteOutcome
from filoray.nodes.kernels.edge import remote_write as kernels
from filoray.nodes.kernels.edge.remote_write import RequestColumns
from filoray.nodes.kernels.edge.shard_groups import ShardGroups, group_by_shard

# Of one request. An empty message takes 2 bytes, its row in the columns 40: without these a small body could claim much
# memory. Agents send 10,000 samples at most, and 2,000 metadata entries.
SERIES_COUNT_MAX = 200_000
SAMPLE_COUNT_MAX = 10_000_000
METADATA_COUNT_MAX = 20_000
_SAMPLE_BYTES_USUAL = 9  # the shortest sample with a time of today: without a value, which means 0
_MESSAGE_BYTES_MIN = 2  # an empty message: tag and length
_PART_KEY_BYTES_USUAL = 512
"""Most have 150 to 300. A label value may have 16 KiB, and a million part keys of that size would be 16 GB."""


@dataclass(frozen=True, slots=True)
class DecodedWrite:
    """A request, decoded and sharded.

    ``containers``: by shard; they carry the part keys of series that no shard has acknowledged yet.
    ``outcome``: of the samples that are in no container, as they are refused.
    """

    containers: Mapping[int, RecordContainer] = field(default_factory=dict)
    metadata: Sequence[MetricMetadata] = ()
    outcome: WriteOutcome = field(default_factory=WriteOutcome)
    _rows: Mapping[int, NDArray[np.int32]] = field(default_factory=dict)
    _table: SeriesTable | None = None
    _has_new: bool = False
    """Whether there are series among them that no shard had acknowledged."""

    @property
    def sample_count(self) -> int:
        """Samples in the containers."""
        return sum(container.sample_count for container in self.containers.values())

    def with_keys(self, shard: int, series: NDArray[np.int32]) -> RecordContainer:
        """The shard's container with the part keys of ``series`` besides those that it carries already.

        ``series`` int32: positions in the container, as the shard answers with.
        """
        container = self.containers[shard]
        wanted = np.union1d(container.key_series, series).astype(np.int32)
        return _with_part_keys(self._series_table(), self._rows[shard], container, wanted)

    def acknowledged(self) -> None:
        """To be called when every shard has the containers: their series' part keys stay at home from now on."""
        if self._has_new:
            self._series_table().acknowledge(np.concatenate(list(self._rows.values())))

    def _series_table(self) -> SeriesTable:
        if self._table is None:
            raise ValueError("a decoded write without samples has no series")
        return self._table


class RemoteWriteDecoder:
    """One for each gateway. May be used by several threads at once: the work outside a short lock holds no GIL.

    ``config.series_cache_count`` series are remembered for each dataset, or fewer if their part keys are long; past
    that the half that was used last stays.
    """

    def __init__(self, config: WriteConfig) -> None:
        self._config = config
        self._key_bytes_max = config.series_cache_count * _PART_KEY_BYTES_USUAL
        self._lock = threading.Lock()
        self._tables: dict[tuple[str, int, int], SeriesTable] = {}
        self._key_0 = np.uint64(secrets.randbits(64))
        self._key_1 = np.uint64(secrets.randbits(64))

    def decode(self, dataset_key: str, body: bytes | memoryview, num_shards: int, spread: int) -> DecodedWrite:
        """One request for a dataset of ``num_shards`` shards. An empty body is an empty write.

        Raises PayloadTooLarge (a snappy bomb) and BadData (malformed), and then nothing of the body counts.
        """
        if not body:
            return DecodedWrite()
        data = decompress(body, self._config.max_decoded_bytes, "filoray.write.max-decoded-size")
        request = self._parse(data)
        table = self._table(dataset_key, num_shards, spread)
        rows = table.rows_of(request)
        outcome = _refused(table, request, rows)
        has_new = not table.columns.known[rows].all()
        containers, shard_rows = _group(table, request, rows, num_shards, has_new=has_new)
        return DecodedWrite(containers, _metadata(request), outcome, shard_rows, table, has_new)

    def forget(self, dataset_key: str) -> None:
        """Drop what is remembered of a dataset, e.g. when it is deleted."""
        with self._lock:
            self._tables = {key: table for key, table in self._tables.items() if key[0] != dataset_key}

    def keep_only(self, dataset_keys: Container[str]) -> None:
        """Drop what is remembered of all other datasets."""
        with self._lock:
            self._tables = {key: table for key, table in self._tables.items() if key[0] in dataset_keys}

    def cached_series_count(self) -> int:
        with self._lock:
            return sum(table.count for table in self._tables.values())

    def _table(self, dataset_key: str, num_shards: int, spread: int) -> SeriesTable:
        key = (dataset_key, num_shards, spread)
        with self._lock:
            table = self._tables.get(key)
            if table is None:
                table = self._tables[key] = SeriesTable(num_shards, spread, self._config)
            elif table.count >= self._config.series_cache_count or table.key_bytes > self._key_bytes_max:
                table = self._tables[key] = table.renewed(min(self._config.series_cache_count, table.count) // 2)
            return table

    def _parse(self, data: NDArray[np.uint8]) -> ParsedRequest:
        for least_bytes in (_SAMPLE_BYTES_USUAL, _MESSAGE_BYTES_MIN):
            most = len(data) // least_bytes + 1
            series_room, sample_room = min(most, SERIES_COUNT_MAX), min(most, SAMPLE_COUNT_MAX)
            columns = RequestColumns.room_for(series_room, sample_room, METADATA_COUNT_MAX)
            result = np.zeros(kernels.RESULT_FIELDS, np.int64)
            kernels.parse_write_request(data, self._key_0, self._key_1, columns, result)
            code, offset, series, samples, families, histograms = result.tolist()
            if code != kernels.NEEDS_ROOM:
                break
        if code == kernels.NEEDS_ROOM:
            raise BadData(
                f"a write request with more than {SERIES_COUNT_MAX} series, {SAMPLE_COUNT_MAX} samples or "
                f"{METADATA_COUNT_MAX} metadata entries; send it in parts"
            )
        if code:
            raise malformed("WriteRequest", code, offset)
        return ParsedRequest(data, columns.cut(series, samples, families), histograms)


def _group(
    table: SeriesTable, request: ParsedRequest, rows: NDArray[np.int32], num_shards: int, *, has_new: bool
) -> tuple[dict[int, RecordContainer], dict[int, NDArray[np.int32]]]:
    """Containers by shard, and the table's rows of their series."""
    groups = ShardGroups.room_for(len(rows), len(request.columns.timestamps), num_shards)
    group_by_shard(rows, request.columns, table.columns, groups)
    values = groups.value_bits.view(np.float64)
    shard_ends = zip(groups.series_ends.tolist(), groups.sample_ends.tolist(), strict=True)
    containers: dict[int, RecordContainer] = {}
    shard_rows: dict[int, NDArray[np.int32]] = {}
    series_start = sample_start = 0
    for shard, (series_end, sample_end) in enumerate(shard_ends):
        if series_end > series_start:
            series, samples = slice(series_start, series_end), slice(sample_start, sample_end)
            shard_rows[shard] = groups.rows[series]
            container = RecordContainer(
                groups.hash_high[series],
                groups.hash_low[series],
                groups.counts[series],
                groups.timestamps[samples],
                values[samples],
            )
            if has_new:
                new = np.flatnonzero(table.columns.known[shard_rows[shard]] == 0).astype(np.int32)
                container = _with_part_keys(table, shard_rows[shard], container, new)
            containers[shard] = container
        series_start, sample_start = series_end, sample_end
    return containers, shard_rows


def _with_part_keys(
    table: SeriesTable, rows: NDArray[np.int32], container: RecordContainer, series: NDArray[np.int32]
) -> RecordContainer:
    """A container with the part keys of exactly these series."""
    if not len(series):
        return container
    return container.with_part_keys(series, [table.part_keys[row] for row in rows[series].tolist()])


def _refused(table: SeriesTable, request: ParsedRequest, rows: NDArray[np.int32]) -> WriteOutcome:
    """What the edge itself refuses."""
    outcome = WriteOutcome()
    shards = table.columns.shards[rows]
    positions = np.flatnonzero(shards < 0)
    if len(positions):
        verdicts = -shards[positions]
        counts = np.bincount(verdicts, request.columns.counts[positions])
        for verdict in np.unique(verdicts).tolist():
            outcome.refuse(VERDICTS[verdict], int(counts[verdict]))
        outcome.example = table.part_keys[rows[positions[0]]].decode()
    if request.histogram_count:
        outcome.refuse(RefusalReason.NATIVE_HISTOGRAM, request.histogram_count)
        text = f"{request.histogram_count} native histograms: filoray stores floats (classic histograms)"
        outcome.example = outcome.example or text
    return outcome


def _metadata(request: ParsedRequest) -> list[MetricMetadata]:
    found = []
    starts, ends = request.columns.metadata_starts, request.columns.metadata_ends
    if len(starts):
        data = request.data.tobytes()
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            kind, metric, help_text, unit = 0, "", "", ""
            for part in fields(data, "MetricMetadata", start, end):
                if part.number == 1:
                    kind = part.as_int64()
                elif part.number == 2:
                    metric = part.as_text()
                elif part.number == 4:
                    help_text = part.as_text()
                elif part.number == 5:
                    unit = part.as_text()
            type_name = METADATA_TYPES[kind] if 0 <= kind < len(METADATA_TYPES) else "unknown"
            if metric:
                found.append(MetricMetadata(metric, type_name, help_text, unit))
    return found
