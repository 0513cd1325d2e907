"""What a gateway remembers of the series that pass through it: where they go, and whether their shard knows them.

An agent sends the labels of each series with every request. A ``SeriesTable`` recognises a series by a keyed
128-bit hash of its labels' bytes as they came, so that only a series never seen before is parsed, validated, hashed and
assigned to a shard. All of it can be lost at any time: a gateway that starts anew fills its tables as requests come.

Memory: about 100 bytes of columns a series, and its part key (``key_bytes`` in all).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from filoray.http.remote.protobuf_reader import fields, malformed
from filoray.nodes.data.part_key import PART_KEY_TEXT_BYTES_MAX, hash_shard_key, ingestion_shard, part_key_hash
from filoray.nodes.data.write_outcome import RefusalReason
from filoray.nodes.kernels.edge import part_keys as kernels
from filoray.nodes.kernels.edge.part_keys import LabelBounds, PartKeyColumns
from filoray.nodes.kernels.edge.remote_write import RequestColumns
from filoray.nodes.kernels.edge.series_lookup import SeriesColumns, add_rows, find_rows

_ROWS_FIRST = 1024
_EXAMPLE_CHARACTERS_MAX = 300


VERDICTS = {
    kernels.LABEL_NAME_EMPTY: RefusalReason.LABEL_NAME_EMPTY,
    kernels.LABEL_NAME_DUPLICATE: RefusalReason.LABEL_NAME_DUPLICATE,
    kernels.LABELS_WITHOUT_METRIC: RefusalReason.LABELS_WITHOUT_METRIC,
    kernels.LABELS_TOO_MANY: RefusalReason.LABELS_TOO_MANY,
    kernels.LABEL_NAME_TOO_LONG: RefusalReason.LABEL_NAME_TOO_LONG,
    kernels.LABEL_VALUE_TOO_LONG: RefusalReason.LABEL_VALUE_TOO_LONG,
    kernels.LABEL_NOT_UTF8: RefusalReason.LABEL_NOT_UTF8,
}
"""Why a series is refused, by the kernel's verdict."""


class LabelLimits(Protocol):
    """The part of ``WriteConfig`` that concerns labels."""

    @property
    def max_label_count(self) -> int: ...
    @property
    def max_label_name_bytes(self) -> int: ...
    @property
    def max_label_value_bytes(self) -> int: ...


@dataclass(frozen=True, slots=True)
class ParsedRequest:
    """A WriteRequest after ``parse_write_request``; ``data`` uint8[] is the message."""

    data: NDArray[np.uint8]
    columns: RequestColumns
    histogram_count: int


class SeriesTable:
    """Series of one dataset under one sharding, in rows. Rows are only ever added: a row number stays good.

    ``part_keys``: of a refused series, the sentence that says why.
    """

    def __init__(self, num_shards: int, spread: int, limits: LabelLimits) -> None:
        self._num_shards = num_shards
        self._spread = spread
        self._limits = limits
        self._lock = threading.Lock()
        self._request_count = 0
        self.count = 0
        self.part_keys: list[bytes] = []
        self.key_bytes = 0
        self._slots = np.full(2 * _ROWS_FIRST, -1, np.int32)
        self.columns = SeriesColumns.empty().grown(_ROWS_FIRST)

    def rows_of(self, request: ParsedRequest) -> NDArray[np.int32]:
        """int32[series]: the row of each series of a request, added where it is new.

        Raises BadData, and adds nothing, if the labels of a new series are malformed.
        """
        rows = np.empty(len(request.columns.counts), np.int32)
        first, second = request.columns.hash_first, request.columns.hash_second
        with self._lock:
            columns = self.columns
            missing = find_rows(first, second, self._slots, columns.label_first, columns.label_second, rows)
            if missing:
                self._add(request, np.flatnonzero(rows < 0), rows)
            self._request_count += 1
            self.columns.last_used[rows] = self._request_count
        return rows

    def acknowledge(self, rows: NDArray[np.int32]) -> None:
        with self._lock:
            self.columns.known[rows] = 1

    def renewed(self, row_count_max: int) -> SeriesTable:
        """A new table with the ``row_count_max`` series that were used last. This one stays good for who holds it."""
        table = SeriesTable(self._num_shards, self._spread, self._limits)
        with self._lock:
            last_used = self.columns.last_used[: self.count]
            keep = np.arange(self.count)
            if self.count > row_count_max:
                keep = np.sort(np.argpartition(last_used, self.count - row_count_max)[self.count - row_count_max :])
            table._reserve(len(keep))
            rows = np.empty(len(keep), np.int32)
            first, second = self.columns.label_first[keep], self.columns.label_second[keep]
            table.count = table._add_rows(first, second, 0, rows)
            for old, new in zip(self.columns.arrays(), table.columns.arrays(), strict=True):
                new[rows] = old[keep]
            table.part_keys = [self.part_keys[row] for row in keep.tolist()]
            table.key_bytes = sum(map(len, table.part_keys))
            table._request_count = self._request_count
        return table

    def _add(self, request: ParsedRequest, missing: NDArray[np.int64], rows: NDArray[np.int32]) -> None:
        """Rows for the series at the positions ``missing`` of a request (the same series may be there twice)."""
        made = self._build_part_keys(request, missing)
        self._reserve(self.count + len(missing))
        first, second = request.columns.hash_first[missing], request.columns.hash_second[missing]
        missing_rows = np.empty(len(missing), np.int32)
        count_before = self.count
        self.count = self._add_rows(first, second, count_before, missing_rows)
        columns = self.columns
        rows[missing] = missing_rows
        key_bytes = made.key_bytes.tobytes()
        key_start = 0
        shard_key_hashes: dict[tuple[bytes, bytes, bytes], int] = {}
        data = request.data
        spans = made.shard_key_spans.tolist()
        next_row = count_before
        for index, (row, key_end, verdict) in enumerate(
            zip(missing_rows.tolist(), made.key_ends.tolist(), made.verdicts.tolist(), strict=True)
        ):
            part_key = key_bytes[key_start:key_end]
            key_start = key_end
            if row != next_row:  # the request has the series twice
                continue
            next_row += 1
            if verdict != kernels.LABELS_GOOD:
                columns.shards[row] = -verdict
                self._append_key(self._why(VERDICTS[verdict], request, int(missing[index])).encode())
                continue
            at = 6 * index
            shard_key = (
                data[spans[at] : spans[at + 1]].tobytes(),
                data[spans[at + 2] : spans[at + 3]].tobytes(),
                data[spans[at + 4] : spans[at + 5]].tobytes(),
            )
            shard_key_hash = shard_key_hashes.get(shard_key)
            if shard_key_hash is None:
                shard_key_hash = shard_key_hashes[shard_key] = hash_shard_key(*shard_key)
            high, low = part_key_hash(part_key)
            columns.hash_high[row] = high
            columns.hash_low[row] = low
            columns.shards[row] = ingestion_shard(shard_key_hash, low, self._num_shards, self._spread)
            self._append_key(part_key)

    def _append_key(self, part_key: bytes) -> None:
        self.part_keys.append(part_key)
        self.key_bytes += len(part_key)

    def _build_part_keys(self, request: ParsedRequest, missing: NDArray[np.int64]) -> PartKeyColumns:
        limits = self._limits
        room = int((request.columns.label_ends[missing] - request.columns.label_starts[missing]).sum())
        made = PartKeyColumns.room_for(len(missing), room)
        bounds = LabelBounds(
            limits.max_label_count,
            min(limits.max_label_name_bytes, PART_KEY_TEXT_BYTES_MAX),
            min(limits.max_label_value_bytes, PART_KEY_TEXT_BYTES_MAX),
        )
        scratch = np.empty(4 * (limits.max_label_count + 1), np.int64)
        result = np.zeros(kernels.RESULT_FIELDS, np.int64)
        kernels.build_part_keys(request.data, missing, request.columns, bounds, made, scratch, result)
        if result[kernels.CODE]:
            raise malformed("Label of a WriteRequest", int(result[kernels.CODE]), int(result[kernels.OFFSET]))
        return made

    def _why(self, refusal: RefusalReason, request: ParsedRequest, position: int) -> str:
        """The sentence about a refused series, with its labels as they came."""
        start, end = int(request.columns.label_starts[position]), int(request.columns.label_ends[position])
        pairs = label_pairs(request.data[start:end].tobytes())
        limits = self._limits
        reason = {
            RefusalReason.LABEL_NAME_EMPTY: "a label has an empty name",
            RefusalReason.LABEL_NAME_DUPLICATE: f"label {_first_duplicate(pairs)} is there more than once",
            RefusalReason.LABELS_WITHOUT_METRIC: "it has no metric name (label __name__)",
            RefusalReason.LABELS_TOO_MANY: (
                f"it has over {limits.max_label_count} labels (filoray.write.max-label-count)"
            ),
            RefusalReason.LABEL_NAME_TOO_LONG: (
                f"a label name is over {limits.max_label_name_bytes} bytes (filoray.write.max-label-name-size)"
            ),
            RefusalReason.LABEL_VALUE_TOO_LONG: (
                f"a label value is over {limits.max_label_value_bytes} bytes (filoray.write.max-label-value-size)"
            ),
            RefusalReason.LABEL_NOT_UTF8: "a label name or value is not valid UTF-8",
        }[refusal]
        text = "{" + ", ".join(f"{_quoted(name)}={_quoted(value)}" for name, value in pairs) + "}"
        if len(text) > _EXAMPLE_CHARACTERS_MAX:
            text = text[:_EXAMPLE_CHARACTERS_MAX] + "..."
        return f"series {text}: {reason}"

    def _reserve(self, row_count: int) -> None:
        """Room for that many rows; the lookup stays at most half full."""
        room = self.columns.room
        if row_count <= room:
            return
        while room < row_count:
            room *= 2
        self.columns = self.columns.grown(room)
        self._slots = np.full(2 * room, -1, np.int32)
        kept = slice(self.count)
        first, second = self.columns.label_first[kept].copy(), self.columns.label_second[kept].copy()
        self._add_rows(first, second, 0, np.empty(self.count, np.int32))

    def _add_rows(
        self, first: NDArray[np.uint64], second: NDArray[np.uint64], count: int, rows: NDArray[np.int32]
    ) -> int:
        """Fills ``rows`` with those of the hashes; the new ones begin at ``count``. Returns how many there are then."""
        columns = self.columns
        return int(add_rows(first, second, self._slots, columns.label_first, columns.label_second, count, rows))


def label_pairs(data: bytes) -> list[tuple[bytes, bytes]]:
    """Names and values of the label fields of a TimeSeries message, in order, unchecked."""
    pairs = []
    for field in fields(data, "TimeSeries"):
        if field.number == 1:
            name = value = b""
            for part in field.message_fields("Label"):
                if part.number == 1:
                    name = part.as_bytes()
                elif part.number == 2:
                    value = part.as_bytes()
            pairs.append((name, value))
    return pairs


def _first_duplicate(pairs: Sequence[tuple[bytes, bytes]]) -> str:
    seen: set[bytes] = set()
    for name, value in pairs:
        if value and name in seen:
            return _quoted(name)
        if value:
            seen.add(name)
    return ""


def _quoted(text: bytes) -> str:
    return json.dumps(text.decode(errors="replace"), ensure_ascii=False)
