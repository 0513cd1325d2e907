"""What a shard's leader says to its followers, and what they answer: bodies of SYNC, REPLICATE and CHECK.

    request     body
    SYNC        [generation, session, step, number, metrics]; of one shard, at the leader's epoch
        BEGIN       number 0. The answer: [batch id, checksum] of each chunk batch that the follower has already
        PIECE       number: of the piece, from 0; the piece is the one frame
        METRICS     metrics: [metric, type, help, unit] each, for the file beside the shard
        END         number: of the last entry that the snapshot has. Answered when the copy is open
        AWAIT       number: of an entry. Answered as REPLICATE, when that one is stored
    REPLICATE   [generation, [session, first number, count] for each of the header's shards]; one frame per entry
                The answer: for each shard [number of the last entry that is stored, nil or [error class, message]];
                what comes later waits until the follower has read it where the shard's samples come from
    CHECK       [generation, first batch id, last batch id, bytes a second]; of one shard, at the leader's epoch
                The answer: [batch id, checksum] of each chunk batch between those that the follower has, read anew

A session is one attempt to have a follower get and keep a copy. Its number is drawn anew for each: what comes late of
another session, also of one that a former opening of the leader had at the same epoch, is never taken for this one's.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from filoray.cluster.errors import BadData
from filoray.nodes.data.metric_metadata import MetricMetadata
from filoray.nodes.wire.field_checks import INT64_MAX, items, malformed, text, whole_number
from filoray.nodes.wire.metric_entries import metric_entries
from filoray.nodes.wire.protocol import HEADER_BYTES_MAX, SHARDS_MAX, Frames, RequestHeader

ENTRIES_MAX = 4096
"""Of one message."""
_BATCHES_MAX = 1 << 20
BATCH_ID_MIN, BATCH_ID_MAX = -INT64_MAX, INT64_MAX
CHECK_RATE_MIN = 1 << 10
"""Bytes a second: slower, and one batch keeps the thread for hours."""
_UINT64_MAX = (1 << 64) - 1


class Step(IntEnum):
    BEGIN = 1
    PIECE = 2
    METRICS = 3
    END = 4
    AWAIT = 5


@dataclass(frozen=True, slots=True)
class SyncStep:
    """Of SYNC."""

    generation: int
    session: int
    step: Step
    number: int = 0
    metrics: Sequence[MetricMetadata] = ()

    def encode(self) -> list[Any]:
        metrics = [entry.as_row() for entry in self.metrics]
        return [self.generation, self.session, int(self.step), self.number, metrics]


@dataclass(frozen=True, slots=True)
class SessionEntries:
    """``count`` entries of one shard, numbered from ``first`` on."""

    session: int
    first: int
    count: int


@dataclass(frozen=True, slots=True)
class Entries:
    """Of REPLICATE: what the frames are, for each of the request's shards."""

    generation: int
    by_shard: Sequence[SessionEntries]

    def encode(self) -> list[Any]:
        return [self.generation, [[one.session, one.first, one.count] for one in self.by_shard]]


@dataclass(frozen=True, slots=True)
class BatchRange:
    """Of CHECK: from ``first`` to ``last``, both included, to be read with at most ``bytes_per_s``."""

    generation: int
    first: int
    last: int
    bytes_per_s: int

    def encode(self) -> list[Any]:
        return [self.generation, self.first, self.last, self.bytes_per_s]


@dataclass(frozen=True, slots=True)
class Stored:
    """``number``: of the last entry that the follower has. ``error``: class and message of what kept it from more."""

    number: int
    error: tuple[str, str] | None = None


def read_sync_step(header: RequestHeader, frame_count: int) -> SyncStep:
    """Raises BadData."""
    if len(header.shards) != 1:
        raise malformed("shards", list(header.shards), "one shard")
    generation, session, step, number, metrics = items(header.body, "body", 5, exactly=5)
    found = SyncStep(
        whole_number(generation, "generation", 0, INT64_MAX),
        whole_number(session, "session", 0, INT64_MAX),
        Step(whole_number(step, "step", min(Step), max(Step))),
        whole_number(number, "number", 0, INT64_MAX),
        metric_entries(metrics),
    )
    _check_frames("SYNC", 1 if found.step is Step.PIECE else 0, frame_count)
    return found


def read_entries(header: RequestHeader, frame_count: int) -> Entries:
    """Raises BadData."""
    generation, plain = items(header.body, "body", 2, exactly=2)
    lists = items(plain, "the entries of shards", SHARDS_MAX, exactly=len(header.shards))
    by_shard = []
    for one in lists:
        session, first, count = items(one, "the entries of a shard", 3, exactly=3)
        by_shard.append(
            SessionEntries(
                whole_number(session, "session", 0, INT64_MAX),
                whole_number(first, "the first entry's number", 1, INT64_MAX - ENTRIES_MAX),
                whole_number(count, "a count of entries", 1, ENTRIES_MAX),
            )
        )
    _check_frames("REPLICATE", sum(one.count for one in by_shard), frame_count)
    return Entries(whole_number(generation, "generation", 0, INT64_MAX), tuple(by_shard))


def read_batch_range(header: RequestHeader) -> BatchRange:
    """Raises BadData."""
    if len(header.shards) != 1:
        raise malformed("shards", list(header.shards), "one shard")
    generation, first, last, bytes_per_s = items(header.body, "body", 4, exactly=4)
    return BatchRange(
        whole_number(generation, "generation", 0, INT64_MAX),
        whole_number(first, "the first batch's id", BATCH_ID_MIN, BATCH_ID_MAX),
        whole_number(last, "the last batch's id", BATCH_ID_MIN, BATCH_ID_MAX),
        whole_number(bytes_per_s, "bytes a second", CHECK_RATE_MIN, INT64_MAX),
    )


def _check_frames(kind: str, wanted: int, frame_count: int) -> None:
    if frame_count != wanted:
        raise BadData(f"a malformed data-plane message: {kind} has {wanted} frames here, not {frame_count}")


def frames_by_shard(entries: Entries, frames: Frames) -> list[Frames]:
    """Whose frames which are."""
    ends = list(itertools.accumulate(one.count for one in entries.by_shard))
    return [frames[end - one.count : end] for one, end in zip(entries.by_shard, ends, strict=True)]


def encode_stored(stored: Sequence[Stored]) -> list[Any]:
    return [[one.number, one.error and [*one.error]] for one in stored]


def decode_stored(body: object, count: int) -> list[Stored]:
    """The inverse, of an answer for ``count`` shards. Raises BadData."""
    found = []
    for one in items(body, "the answer to entries", count, exactly=count):
        number, error = items(one, "the answer to a shard's entries", 2, exactly=2)
        named = None
        if error is not None:
            name, message = items(error, "an entry's error", 2, exactly=2)
            named = text(name, "an error's name", 200), text(message, "an error's text", HEADER_BYTES_MAX)
        found.append(Stored(whole_number(number, "the number of an entry", 0, INT64_MAX), named))
    return found


def encode_held(batches: Sequence[tuple[int, int]]) -> list[Any]:
    return [list(batch) for batch in batches]


def decode_held(body: object) -> list[tuple[int, int]]:
    """The answer to BEGIN, and to CHECK: (batch id, checksum) pairs. Raises BadData."""
    found = []
    for one in items(body, "the chunk batches of a follower", _BATCHES_MAX):
        batch_id, checksum = items(one, "a chunk batch", 2, exactly=2)
        found.append(
            (
                whole_number(batch_id, "a batch's id", BATCH_ID_MIN, BATCH_ID_MAX),
                whole_number(checksum, "a batch's checksum", 0, _UINT64_MAX),
            )
        )
    return found
