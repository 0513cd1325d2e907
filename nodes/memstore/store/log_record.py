"""A row of the embedded log: the samples of one group commit, by series id.

Several records follow each other in one row, each 8-byte aligned:

    u64 checksum of the rest | u32 length of the rest | u8 flags | 3 free | u32 series | u32 samples
    | i64 first series id | i64 first time ms
    | values float64[samples] | times | series ids | counts

    flag 1  times are uint32 ms after the first time, else int64
    flag 2  series ids are uint32 after the first, else int64
    flag 4  every series has one sample: counts (uint32[series]) are left out
    flag 8  the record ends with i64 shut ms: series with samples later than this took samples of any age

That is 16 bytes a sample for a scrape where a record container takes 36; part keys are stored beside the log.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import xxhash
from numpy.typing import NDArray

from filoray.nodes.kernels.storage.column_bounds import LOG_BOUNDS, log_bounds
from filoray.nodes.memstore.store.store_errors import DamagedStore

_HEADER = struct.Struct("<QIB3xIIqq")
_CHECKED_FROM = 8
_SHORT_TIMES, _SHORT_IDS, _SINGLE, _SHUT = 1, 2, 4, 8
_SHUT_MS = struct.Struct("<q")
NEVER_SHUT_MS = 2**63 - 1
_SHORT_MAX = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class LogRecord:
    """``counts`` int32[series] samples of each series, flat in ``times`` int64 ms and ``values`` float64.

    ``shut_ms``: see the table; a replay must judge samples as they were judged when they came.
    """

    series_ids: NDArray[np.int64]
    counts: NDArray[np.int32]
    times: NDArray[np.int64]
    values: NDArray[np.float64]
    shut_ms: int = NEVER_SHUT_MS


def encode_log_record(record: LogRecord) -> bytes:
    """Of aligned columns. Raises ValueError if there are no samples: nothing is to be logged then."""
    times, ids, counts = record.times, record.series_ids, record.counts
    if not (len(times) and len(ids)):
        raise ValueError("a log record without samples")
    bounds = np.empty(LOG_BOUNDS, np.int64)
    log_bounds(times, ids, counts, bounds)
    first_time, last_time, first_id, last_id, is_single = bounds.tolist()
    flags = 0
    time_column: NDArray[np.int64] | NDArray[np.uint32] = times
    id_column: NDArray[np.int64] | NDArray[np.uint32] = ids
    if last_time - first_time <= _SHORT_MAX:
        flags |= _SHORT_TIMES
        time_column = (times - first_time).astype(np.uint32)
    if last_id - first_id <= _SHORT_MAX:
        flags |= _SHORT_IDS
        id_column = (ids - first_id).astype(np.uint32)
    parts = [record.values.tobytes(), time_column.tobytes(), id_column.tobytes()]
    if is_single:
        flags |= _SINGLE
    else:
        parts.append(counts.astype(np.uint32).tobytes())
    body = b"".join(parts)
    body += b"\0" * (-len(body) % 8)
    if record.shut_ms != NEVER_SHUT_MS:
        flags |= _SHUT
        body += _SHUT_MS.pack(record.shut_ms)
    length = _HEADER.size - _CHECKED_FROM + len(body)
    tail = _HEADER.pack(0, length, flags, len(ids), len(times), first_id, first_time)[_CHECKED_FROM:] + body
    return struct.pack("<Q", xxhash.xxh3_64_intdigest(tail)) + tail


def samples_in(data: bytes) -> int:
    """How many samples a row says it has; of one that was just made, so nothing is checked."""
    count = at = 0
    while at < len(data):
        _, length, _, _, samples, _, _ = _HEADER.unpack_from(data, at)
        count += samples
        at += _CHECKED_FROM + length
    return count


def decode_log_records(data: bytes, what: str) -> Iterator[LogRecord]:
    """The records of a row. Raises DamagedStore naming ``what`` when it comes to one that is not what was written."""
    view = memoryview(data)
    at = 0
    while at < len(view):
        if len(view) - at < _HEADER.size:
            raise DamagedStore(f"{what}: cut off")
        checksum, length, flags, series, samples, first_id, first_time = _HEADER.unpack_from(view, at)
        end = at + _CHECKED_FROM + length
        if end > len(view) or checksum != xxhash.xxh3_64_intdigest(view[at + _CHECKED_FROM : end]):
            raise DamagedStore(f"{what}: checksum does not match")
        position = at + _HEADER.size
        values = np.frombuffer(view, "<f8", samples, position)
        position += 8 * samples
        times: NDArray[np.int64]
        if flags & _SHORT_TIMES:
            times = np.frombuffer(view, "<u4", samples, position) + np.int64(first_time)
            position += 4 * samples
        else:
            times = np.frombuffer(view, "<i8", samples, position)
            position += 8 * samples
        ids: NDArray[np.int64]
        if flags & _SHORT_IDS:
            ids = np.frombuffer(view, "<u4", series, position) + np.int64(first_id)
            position += 4 * series
        else:
            ids = np.frombuffer(view[position:], np.uint8, 8 * series).copy().view(np.int64)
            position += 8 * series
        if flags & _SINGLE:
            counts = np.ones(series, np.int32)
        else:
            counts = np.frombuffer(view, "<u4", series, position).astype(np.int32)
        shut_ms = _SHUT_MS.unpack_from(view, end - _SHUT_MS.size)[0] if flags & _SHUT else NEVER_SHUT_MS
        yield LogRecord(ids, counts, times, values, shut_ms)
        at = end
