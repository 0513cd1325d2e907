"""A node's answer to a write, one entry for each shard's container, as plain msgpack values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


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


def decode_write_reply(body: Sequence[Sequence[Any]]) -> list[ShardWriteReply]:
    """The inverse of ``encode_write_reply``."""
    return [_decode(entry) for entry in body]


def _decode(entry: Sequence[Any]) -> ShardWriteReply:
    kind, *fields = entry
    if kind == 0:
        return Stored(*fields)
    if kind == 1:
        return UnknownSeries(np.frombuffer(fields[0], "<i4"))
    return Refused(*fields)
