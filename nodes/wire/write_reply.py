"""A node's answer to a write, one entry for each shard's container, as plain msgpack values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from filoray.cluster.errors import FilorayError
from filoray.nodes.data.write_outcome import RefusalReason, UnknownSeries, WriteOutcome
from filoray.nodes.wire.field_checks import items, malformed
from filoray.nodes.wire.protocol import SHARDS_MAX


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing was stored: the class name and message of a FilorayError."""

    error_class: str
    message: str

    @classmethod
    def of(cls, error: FilorayError) -> Refused:
        return cls(type(error).__name__, error.message)


ShardWriteReply = WriteOutcome | UnknownSeries | Refused


_REASONS = {reason.value: reason for reason in RefusalReason}


def encode_write_reply(replies: Sequence[ShardWriteReply]) -> list[Any]:
    return [_encode(reply) for reply in replies]


def _encode(reply: ShardWriteReply) -> list[Any]:
    match reply:
        case WriteOutcome(accepted, refused, example):
            return [0, accepted, {reason.value: count for reason, count in refused.items()}, example]
        case UnknownSeries(series):
            return [1, series.astype("<i4").tobytes()]
        case Refused(error_class, message):
            return [2, error_class, message]


def decode_write_reply(body: object) -> list[ShardWriteReply]:
    """The inverse of ``encode_write_reply``. Raises BadData for what is none."""
    return [_decode(entry) for entry in items(body, "the reply to a write", SHARDS_MAX)]


def _decode(entry: object) -> ShardWriteReply:
    match entry:
        case [0, int(accepted), dict(refused), str(example)] if all(
            type(reason) is str and reason in _REASONS and type(count) is int for reason, count in refused.items()
        ):
            return WriteOutcome(accepted, {_REASONS[reason]: n for reason, n in refused.items()}, example)
        case [1, bytes(series)] if len(series) % 4 == 0:
            return UnknownSeries(np.frombuffer(series, "<i4"))
        case [2, str(error_class), str(message)]:
            return Refused(error_class, message)
    raise malformed("a shard's reply to a write", entry, "one of the three kinds there are")
