"""What travels between a gateway and a node's data plane: multipart messages, their headers and their errors.

    frame   content
    0       msgpack header: RequestHeader or ReplyHeader as an array, in field order
    1..     raw buffers, as the request's kind says:
            WRITE   one record container per entry of ``shards``
            QUERY   the encoded fragments; the reply is their encoded answers
            SERIES, NAMES, VALUES, RAW   none; the reply is encoded as ``filoray.nodes.metadata_codec`` says
            PUT_METADATA, METADATA       none; what is said is in ``body``
            CANCEL  none and no reply; ``request_id`` names the request to stop

Every request but CANCEL names the node's incarnation and the epoch of each shard that it was routed by. A
node that holds others answers with a StaleRoute error, and nothing of the request is done.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import msgpack

from filoray.cluster import errors
from filoray.cluster.errors import FilorayError

Frames = list[bytes | memoryview]


class Kind(IntEnum):
    WRITE = 1
    QUERY = 2
    SERIES = 3
    NAMES = 4
    VALUES = 5
    RAW = 6
    PUT_METADATA = 7
    METADATA = 8
    CANCEL = 9


@dataclass(frozen=True, slots=True)
class RequestHeader:
    """``shards``: (shard, epoch) pairs. ``timeout_ms``: what is left of the request's deadline. ``body``: by kind."""

    request_id: int
    kind: Kind
    incarnation: int
    dataset: str
    shards: tuple[tuple[int, int], ...]
    timeout_ms: int
    body: Any = None

    def encode(self) -> bytes:
        return _pack(
            [self.request_id, int(self.kind), self.incarnation, self.dataset, self.shards, self.timeout_ms, self.body]
        )

    @classmethod
    def decode(cls, data: bytes) -> RequestHeader:
        """Raises ValueError if these are not a header's bytes."""
        request_id, kind, incarnation, dataset, shards, timeout_ms, body = _unpack(data)
        pairs = tuple((shard, epoch) for shard, epoch in shards)
        return cls(request_id, Kind(kind), incarnation, dataset, pairs, timeout_ms, body)


@dataclass(frozen=True, slots=True)
class ReplyHeader:
    """Either ``error`` (class name and message) or an answer: ``body`` and the frames that follow."""

    request_id: int
    error: tuple[str, str] | None = None
    body: Any = None

    def encode(self) -> bytes:
        return _pack([self.request_id, self.error, self.body])

    @classmethod
    def decode(cls, data: bytes) -> ReplyHeader:
        request_id, error, body = _unpack(data)
        return cls(request_id, tuple(error) if error else None, body)

    @classmethod
    def of_error(cls, request_id: int, error: Exception) -> ReplyHeader:
        """Expected errors keep their class; any other arrives as FilorayError (500)."""
        if isinstance(error, FilorayError):
            return cls(request_id, (type(error).__name__, error.message))
        return cls(request_id, ("FilorayError", f"{type(error).__name__}: {error}"))

    def raise_error(self) -> None:
        if self.error is not None:
            raise error_named(*self.error)


def _pack(fields: list[Any]) -> bytes:
    # A query may spell bytes that are not UTF-8, and an error may quote them (``filoray.nodes.promql.quoting``).
    return msgpack.packb(fields, unicode_errors="surrogatepass")


def _unpack(data: bytes) -> list[Any]:
    return msgpack.unpackb(data, unicode_errors="surrogatepass")


def error_named(name: str, message: str) -> FilorayError:
    """The error that a node raised, to be raised at the gateway; FilorayError for a name that is not in ``errors``."""
    error_class = getattr(errors, name, FilorayError)
    if not (isinstance(error_class, type) and issubclass(error_class, FilorayError)):
        error_class = FilorayError
    error = error_class.__new__(error_class)
    # Not through __init__: some errors build their message from other arguments.
    FilorayError.__init__(error, message)
    return error
