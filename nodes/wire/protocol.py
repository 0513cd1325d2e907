"""What travels between a gateway and a node's data plane: multipart messages, their headers and their errors.

Leaders of shards send to their followers' nodes as gateways do.

    frame   content
    0       msgpack header: RequestHeader or ReplyHeader as an array, in field order
    1..     raw buffers, as the request's kind says:
            WRITE   one record container per entry of ``shards``
            QUERY   the encoded fragments; the reply is their encoded answers
            SERIES, NAMES, VALUES, RAW, PUT_METADATA, METADATA   none; what is said is in ``body``, see
                    ``request_bodies``
            CANCEL  none and no reply; ``request_id`` names the request to stop
            FIGURES none, and no shards and no dataset: it is for the node itself
            SYNC    a piece of a snapshot, if it is the step that has one; from a shard's leader to a follower
            REPLICATE  one frame per entry, those of the first shard first; from shards' leader to their follower
            CHECK   none; from a shard's leader to a follower

Every request but CANCEL names the node's incarnation and the epoch of each shard that it was routed by. A
node that holds others answers with a StaleRoute error, and nothing of the request is done. What is not of this form
is answered with BadData, or dropped if it does not even say which request it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import msgpack

from filoray.cluster import errors
from filoray.cluster.errors import BadData, FilorayError
from filoray.nodes.wire.field_checks import INT64_MAX, items, malformed, text, whole_number

Frames = list[bytes | memoryview]

HEADER_BYTES_MAX = 64 << 20
"""Far above the largest header: one remote write's metric metadata."""
SHARDS_MAX = 1 << 16
"""Of one request; more than a data set may have."""
TIMEOUT_MS_MAX = 7 * 24 * 3600 * 1000
_DATASET_CHARACTERS_MAX = 128
_INCARNATION_MAX = (1 << 31) - 1


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
    FIGURES = 10
    SYNC = 11
    REPLICATE = 12
    CHECK = 13


@dataclass(frozen=True, slots=True)
class RequestHeader:
    """``shards``: (shard, epoch) pairs. ``timeout_ms``: what is left of the request's deadline. ``body``: by kind."""

    request_id: int
    kind: Kind
    incarnation: int
    dataset: str
    shards: tuple[tuple[int, int], ...]
    timeout_ms: int
    body: object = None

    def encode(self) -> bytes:
        return _pack(
            [self.request_id, int(self.kind), self.incarnation, self.dataset, self.shards, self.timeout_ms, self.body]
        )

    @classmethod
    def decode(cls, data: bytes) -> RequestHeader:
        """Raises MalformedRequest if these are not a header's bytes. ``body`` is left to ``request_bodies``."""
        request_id: int | None = None
        try:
            fields = _unpack(data)
            if type(fields) is list and fields:
                request_id = whole_number(fields[0], "request_id", 0, INT64_MAX)
            _, kind, incarnation, dataset, shards, timeout_ms, body = items(fields, "the header", 7, exactly=7)
            pairs = tuple([_shard_epoch(pair) for pair in items(shards, "shards", SHARDS_MAX)])
            if len({shard for shard, _ in pairs}) < len(pairs):
                raise malformed("shards", shards, "pairs of different shards")
            assert request_id is not None, "it was the first of the fields"
            return cls(
                request_id,
                Kind(whole_number(kind, "kind", min(Kind), max(Kind))),
                whole_number(incarnation, "incarnation", 0, _INCARNATION_MAX),
                text(dataset, "dataset", _DATASET_CHARACTERS_MAX),
                pairs,
                whole_number(timeout_ms, "timeout_ms", 0, TIMEOUT_MS_MAX),
                body,
            )
        except BadData as error:
            raise MalformedRequest(error.message, request_id) from None


class MalformedRequest(BadData):
    """``request_id``: of the request, as far as it could be read, so that its sender can be told."""

    def __init__(self, message: str, request_id: int | None) -> None:
        super().__init__(message)
        self.request_id = request_id


def _shard_epoch(pair: object) -> tuple[int, int]:
    shard, epoch = items(pair, "a shard with its epoch", 2, exactly=2)
    return whole_number(shard, "a shard", 0, SHARDS_MAX - 1), whole_number(epoch, "an epoch", 0, INT64_MAX)


@dataclass(frozen=True, slots=True)
class ReplyHeader:
    """Either ``error`` (class name and message) or an answer: ``body`` and the frames that follow."""

    request_id: int
    error: tuple[str, str] | None = None
    body: object = None

    def encode(self) -> bytes:
        return _pack([self.request_id, self.error, self.body])

    @classmethod
    def decode(cls, data: bytes) -> ReplyHeader:
        """Raises BadData if these are not a header's bytes."""
        request_id, error, body = items(_unpack(data), "the reply's header", 3, exactly=3)
        named: tuple[str, str] | None = None
        if error is not None:
            name, message = items(error, "the reply's error", 2, exactly=2)
            named = text(name, "an error's name", 200), text(message, "an error's text", HEADER_BYTES_MAX)
        return cls(whole_number(request_id, "request_id", 0, INT64_MAX), named, body)

    @classmethod
    def of_error(cls, request_id: int, error: Exception) -> ReplyHeader:
        """Expected errors keep their class; any other arrives as FilorayError (500)."""
        if isinstance(error, MalformedRequest):
            return cls(request_id, (BadData.__name__, error.message))
        if isinstance(error, FilorayError):
            return cls(request_id, (type(error).__name__, str(error.message)))
        return cls(request_id, ("FilorayError", f"{type(error).__name__}: {error}"))

    def raise_error(self) -> None:
        if self.error is not None:
            raise error_named(*self.error)


def _pack(fields: list[Any]) -> bytes:
    # A query may spell bytes that are not UTF-8, and an error may quote them (``filoray.nodes.promql.quoting``).
    packed: bytes = msgpack.packb(fields, unicode_errors="surrogatepass")
    return packed


def _unpack(data: bytes) -> Any:
    """Raises BadData. msgpack itself bounds depth, and every length by the bytes that are there."""
    if len(data) > HEADER_BYTES_MAX:
        raise BadData(f"a malformed data-plane message: a header of {len(data)} bytes; {HEADER_BYTES_MAX} are allowed")
    try:
        return msgpack.unpackb(data, unicode_errors="surrogatepass")
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException) as error:
        raise BadData(f"a malformed data-plane message: {type(error).__name__}: {error}"[:300]) from None


def error_named(name: str, message: str) -> FilorayError:
    """The error that a node raised, to be raised at the gateway; FilorayError for a name that is not in ``errors``."""
    error_class = getattr(errors, name, FilorayError)
    if not (isinstance(error_class, type) and issubclass(error_class, FilorayError)):
        error_class = FilorayError
    error = error_class.__new__(error_class)
    # Not through __init__: some errors build their message from other arguments.
    FilorayError.__init__(error, message)
    return error
