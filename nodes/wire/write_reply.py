"""A node's answer to a write, one entry for each shard's container, as plain msgpack values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from filoray.cluster.errors import FilorayError
from filoray.nodes.wire.field_checks import items, malformed
from filoray.nodes.wire.protocol import SHARDS_MAX


@dataclass(frozen=True, slots=True)
class Stored:
    """Durable, but for the refused samples: counts by reason, and one of them as an example."""

    accepted: int
    refused: Mapping[str, int]
    example: str


@dataclass(frozen=True, slots=True)
class UnknownSeries:
    """Nothing was stored: the shard needs the part keys of these series (int32 indices into the container)."""

    series: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing was stored: the class name and message of a FilorayError."""

    error_class: str
    message: str

    @classmethod
    def of(cls, error: FilorayError) -> Refused:
        return cls(type(error).__name__, error.message)


ShardWriteReply = Stored | UnknownSeries | Refused


def encode_write_reply(replies: Sequence[ShardWriteReply]) -> list[Any]:
    return [_encode(reply) for reply in replies]


def _encode(reply: ShardWriteReply) -> list[Any]:
    match reply:
        case Stored(accepted, refused, example):
            return [0, accepted, dict(refused), example]
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
            type(reason) is str and type(count) is int for reason, count in refused.items()
        ):
            return Stored(accepted, refused, example)
        case [1, bytes(series)] if len(series) % 4 == 0:
            return UnknownSeries(np.frombuffer(series, "<i4"))
        case [2, str(error_class), str(message)]:
            return Refused(error_class, message)
    raise malformed("a shard's reply to a write", entry, "one of the three kinds there are")
