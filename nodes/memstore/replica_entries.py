"""What a shard's leader tells its followers, in this order, so that their copies become its own, byte by byte.

    u64 checksum of the rest | u8 version | u8 kind | 6 free | fields of the kind, i64 where nothing else is said

    kind 1  commit       next series id | next offset | offset of the log row, -1: none
                         | u32 bytes of the part key row, 0: none | u32 bytes of the log row | part key row | log row
    kind 2  flush        clock reading (4) | group count, -1: as before | next offset | batch id, -1: none
                         | u64 checksum of the batch | u32 groups | u32 checkpoints | u32 dropped batches | 4 free
                         | groups | checkpoints | dropped batches
    kind 3  seal         groups
    kind 4  drop         clock reading (4) | batch ids
    kind 5  dead series  next series id | series ids
    kind 6  streamed     batch count | samples | bytes | of each batch: offset, u64 checksum, series id end, shut ms
                         | fields of the commit, as of kind 1; nothing: there was none

Part key rows and log rows are as they are stored (``part_key_rows``, ``log_record``), with checksums of their own.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from filoray.cluster.errors import BadData
from filoray.nodes.memstore.store.checked_bytes import seal, unseal
from filoray.nodes.memstore.store.column_store import Commit, LogRow
from filoray.nodes.memstore.upkeep.retention_clock import ClockReading

VERSION = 2
_COMMIT, _FLUSH, _SEAL, _DROP, _DEAD_SERIES, _STREAMED = 1, 2, 3, 4, 5, 6
_HEADER = struct.Struct("<BB6x")
_COMMIT_FIELDS = struct.Struct("<qqqII")
_CLOCK_FIELDS = struct.Struct("<qqqq")
_FLUSH_FIELDS = struct.Struct("<qqqqqqqQIII4x")
_STREAMED_FIELDS = struct.Struct("<qqq")
_BATCH_FIELDS = struct.Struct("<qQqq")
NONE = -1


@dataclass(frozen=True, slots=True)
class CommitEntry:
    """Series and samples that were written."""

    commit: Commit


@dataclass(frozen=True, slots=True)
class StreamedBatch:
    """What became of one message of the shard's stream was decided by this, and by what the shard had.

    ``checksum``: of its bytes. ``series_end``: series of that id or a later one were refused there. ``shut_ms``:
    nothing is too old for series whose newest sample is later than this.
    """

    offset: int
    checksum: int
    series_end: int
    shut_ms: int


@dataclass(frozen=True, slots=True)
class StreamedEntry:
    """These messages of the shard's stream were appended; each copy reads them there.

    ``commit``: the series that were new. ``sample_count`` and ``byte_count``: of the messages.
    """

    commit: Commit | None
    batches: tuple[StreamedBatch, ...]
    sample_count: int
    byte_count: int

    @property
    def offsets(self) -> tuple[int, ...]:
        return tuple([batch.offset for batch in self.batches])


@dataclass(frozen=True, slots=True)
class FlushEntry:
    """Samples of these groups became a chunk batch (None: there were none), and the log was cut.

    ``checkpoints``: of all groups, after it. ``group_count``: the number of groups from then on, None: as before.
    """

    groups: tuple[int, ...]
    clock: ClockReading
    group_count: int | None
    checkpoints: tuple[int, ...]
    next_offset: int
    dropped_batches: tuple[int, ...]
    batch_id: int | None
    batch_checksum: int


@dataclass(frozen=True, slots=True)
class SealEntry:
    """Samples of these groups were compressed for a flush that then failed: the next one stores them so."""

    groups: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class DropEntry:
    """Batches whose time was over left the store."""

    batch_ids: tuple[int, ...]
    clock: ClockReading


@dataclass(frozen=True, slots=True)
class DeadSeriesEntry:
    """Series without samples left the shard. ``next_series_id``: from then on."""

    series_ids: tuple[int, ...]
    next_series_id: int


ReplicaEntry = CommitEntry | StreamedEntry | FlushEntry | SealEntry | DropEntry | DeadSeriesEntry


def encode_entry(entry: ReplicaEntry) -> bytes:
    match entry:
        case CommitEntry(commit):
            return _sealed(_COMMIT, _commit_fields(commit))
        case StreamedEntry():
            return _sealed(_STREAMED, _streamed_fields(entry))
        case FlushEntry():
            return _sealed(_FLUSH, _flush_fields(entry))
        case SealEntry(groups):
            return _sealed(_SEAL, _numbers(groups))
        case DropEntry(batch_ids, clock):
            return _sealed(_DROP, _CLOCK_FIELDS.pack(*dataclasses.astuple(clock)) + _numbers(batch_ids))
        case DeadSeriesEntry(series_ids, next_series_id):
            return _sealed(_DEAD_SERIES, _numbers([next_series_id, *series_ids]))


def decode_entry(data: bytes, what: str) -> ReplicaEntry:
    """Raises DamagedStore for bytes that are not what was sent, BadData for those of another format; names ``what``."""
    body = unseal(data, what)
    if len(body) < _HEADER.size:
        raise BadData(f"{what}: {len(body)} bytes are no entry")
    version, kind = _HEADER.unpack_from(body)
    if version != VERSION:
        raise BadData(f"{what}: written in version {version}; this filoray reads version {VERSION}")
    fields = body[_HEADER.size :]
    try:
        if kind == _COMMIT:
            return CommitEntry(_commit_of(fields))
        if kind == _STREAMED:
            return _streamed_of(fields)
        if kind == _FLUSH:
            return _flush_of(fields)
        if kind == _SEAL:
            return SealEntry(_numbers_of(fields))
        if kind == _DROP:
            clock = ClockReading(*_CLOCK_FIELDS.unpack_from(fields))
            return DropEntry(_numbers_of(fields[_CLOCK_FIELDS.size :]), clock)
        if kind == _DEAD_SERIES:
            next_series_id, *series_ids = _numbers_of(fields)
            return DeadSeriesEntry(tuple(series_ids), next_series_id)
    except (struct.error, ValueError) as error:
        raise BadData(f"{what}: no entry of kind {kind}: {error}") from error
    raise BadData(f"{what}: an entry of kind {kind}; this filoray knows {_COMMIT} to {_STREAMED}")


def _sealed(kind: int, fields: bytes) -> bytes:
    return seal(_HEADER.pack(VERSION, kind) + fields)


def _numbers(numbers: Sequence[int]) -> bytes:
    return np.array(numbers, "<i8").tobytes()


def _numbers_of(data: memoryview) -> tuple[int, ...]:
    return tuple(np.frombuffer(data, "<i8").tolist())


def _commit_fields(commit: Commit) -> bytes:
    part_keys = b"" if commit.part_keys is None else commit.part_keys
    offset, log = (NONE, b"") if commit.log is None else (commit.log.offset, commit.log.data)
    numbers = (commit.next_series_id, commit.next_offset, offset, len(part_keys), len(log))
    return b"".join([_COMMIT_FIELDS.pack(*numbers), part_keys, log])


def _commit_of(fields: memoryview) -> Commit:
    next_series_id, next_offset, offset, part_key_bytes, log_bytes = _COMMIT_FIELDS.unpack_from(fields)
    rest = fields[_COMMIT_FIELDS.size :]
    if len(rest) != part_key_bytes + log_bytes:
        raise ValueError(f"{len(rest)} bytes of rows, where {part_key_bytes} and {log_bytes} belong")
    part_keys = bytes(rest[:part_key_bytes]) if part_key_bytes else None
    log = None if offset == NONE else LogRow(offset, bytes(rest[part_key_bytes:]))
    return Commit(part_keys, log, next_series_id, next_offset)


def _streamed_fields(entry: StreamedEntry) -> bytes:
    batches = [_BATCH_FIELDS.pack(*dataclasses.astuple(batch)) for batch in entry.batches]
    commit = b"" if entry.commit is None else _commit_fields(entry.commit)
    return b"".join([_STREAMED_FIELDS.pack(len(batches), entry.sample_count, entry.byte_count), *batches, commit])


def _streamed_of(fields: memoryview) -> StreamedEntry:
    count, sample_count, byte_count = _STREAMED_FIELDS.unpack_from(fields)
    commit_at = _STREAMED_FIELDS.size + count * _BATCH_FIELDS.size
    if count < 0 or commit_at > len(fields):
        raise ValueError(f"{len(fields)} bytes, too few for {count} batches")
    batches = [StreamedBatch(*row) for row in _BATCH_FIELDS.iter_unpack(fields[_STREAMED_FIELDS.size : commit_at])]
    commit = _commit_of(fields[commit_at:]) if commit_at < len(fields) else None
    return StreamedEntry(commit, tuple(batches), sample_count, byte_count)


def _flush_fields(entry: FlushEntry) -> bytes:
    columns = (entry.groups, entry.checkpoints, entry.dropped_batches)
    fields = _FLUSH_FIELDS.pack(
        *dataclasses.astuple(entry.clock),
        NONE if entry.group_count is None else entry.group_count,
        entry.next_offset,
        NONE if entry.batch_id is None else entry.batch_id,
        entry.batch_checksum,
        *map(len, columns),
    )
    return b"".join([fields, *map(_numbers, columns)])


def _flush_of(fields: memoryview) -> FlushEntry:
    *reading, group_count, next_offset, batch_id, checksum, groups, checkpoints, dropped = _FLUSH_FIELDS.unpack_from(
        fields
    )
    numbers = _numbers_of(fields[_FLUSH_FIELDS.size :])
    if len(numbers) != groups + checkpoints + dropped:
        raise ValueError(f"{len(numbers)} numbers, where {groups + checkpoints + dropped} belong")
    return FlushEntry(
        groups=numbers[:groups],
        clock=ClockReading(*reading),
        group_count=None if group_count == NONE else group_count,
        checkpoints=numbers[groups : groups + checkpoints],
        next_offset=next_offset,
        dropped_batches=numbers[groups + checkpoints :],
        batch_id=None if batch_id == NONE else batch_id,
        batch_checksum=checksum,
    )
