"""The embedded log as a stream: what a shard's file holds beyond its chunks, as record containers with part keys.

A shard's owner replays its log by series id and needs no containers; this is for whoever reads the log from outside,
as the tools do. Offsets are those of the log's rows, one per group commit. The rows go when the shard's flush puts
their samples into chunks, in that very transaction, so committing an offset here has nothing left to do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from filoray.nodes.data.record_container import RecordContainer
from filoray.nodes.memstore.store.column_store import LogRow, PartKeyRow
from filoray.nodes.memstore.store.log_record import decode_log_records
from filoray.nodes.memstore.store.part_key_rows import decode_part_key_row
from filoray.nodes.memstore.store.store_errors import DamagedStore
from filoray.nodes.streams.stream import ProblemReport, StreamBatch

_POLL_ROWS = 64


class ReadsLog(Protocol):
    """Of a column store, what this needs."""

    def part_keys(self) -> Iterator[PartKeyRow]: ...

    def log_after(self, offset: int) -> Iterator[LogRow]: ...

    @property
    def next_offset(self) -> int: ...


class LogStream:
    """See IngestionStream. Reads the rows that are there when it is opened; damaged ones are reported and skipped."""

    def __init__(self, store: ReadsLog, name: str, offset: int | None) -> None:
        self._name = name
        self.problems = ProblemReport(name)
        self.position = -1 if offset is None else offset
        self._end = store.next_offset - 1
        self._key_of: dict[int, bytes] = {}
        for row in store.part_keys():
            try:
                series_ids, keys = decode_part_key_row(row.data, f"part keys of row {row.row_id}")
            except DamagedStore as error:
                self.problems.add(name, error.message)
                continue
            self._key_of.update(zip(series_ids.tolist(), keys, strict=True))
        self._rows = store.log_after(self.position)
        self._ended = False

    def poll(self, timeout_ms: int) -> Sequence[StreamBatch]:
        batches: list[StreamBatch] = []
        while not self._ended and len(batches) < _POLL_ROWS:
            row = next(self._rows, None)
            if row is None or row.offset > self._end:
                self._ended = True
                self.position = max(self.position, self._end)
                break
            container = self._container(row)
            if container is not None:
                batches.append(StreamBatch(container.encode(), row.offset))
            self.position = row.offset
        return batches

    def end_offset(self) -> int | None:
        return self._end if self._end >= 0 else None

    def known_end(self) -> int | None:
        return self.end_offset()

    @property
    def ended(self) -> bool:
        return self._ended

    def commit(self, offset: int) -> None:
        """See the module's first lines."""

    def close(self) -> None:
        self._ended = True

    def _container(self, row: LogRow) -> RecordContainer | None:
        """All records of a row; those of unknown series are left out."""
        place = f"{self._name} log row {row.offset}"
        try:
            records = list(decode_log_records(row.data, "it"))
        except DamagedStore as error:
            self.problems.add(place, error.message)
            return None
        series_ids = np.concatenate([record.series_ids for record in records])
        counts = np.concatenate([record.counts for record in records])
        keys = [self._key_of.get(series_id) for series_id in series_ids.tolist()]
        known = np.array([key is not None for key in keys], np.bool_)
        samples = np.repeat(known, counts)
        if not known.all():
            self.problems.add(place, f"{int((~samples).sum())} samples of {int((~known).sum())} unknown series")
        found = [key for key in keys if key is not None]
        return RecordContainer.complete(
            found,
            counts[known],
            np.concatenate([record.times for record in records])[samples],
            np.concatenate([record.values for record in records])[samples],
        )
