"""Answers Prometheus remote read: a ReadRequest's queries to raw samples, as one message or as a stream of XOR chunks.

https://prometheus.io/docs/prometheus/latest/querying/remote_read_api/ and Prometheus's ``prompb/remote.proto``. Every
sample in the closed time range is given, staleness markers among them, series sorted by their labels. Hints are
not used: they may make an answer smaller, never different.

The samples come from the MetadataService; what is here is the wire. Frames are made while they are sent, so that an
answer is never in memory twice; their number is bounded by the service's limits on series and samples.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from filoray.cluster.errors import BadData, LimitExceeded
from filoray.http.fanout.requests import MetadataRequest, MetadataService
from filoray.http.remote.protobuf_reader import Field, fields
from filoray.http.remote.protobuf_writer import bytes_field, label_fields, sample_fields, varint, varint_field
from filoray.http.remote.snappy_block import compress, decompress
from filoray.http.server.answer_sizes import batch_bytes
from filoray.http.server.bodies import UnsupportedMediaType
from filoray.nodes.data.matching import LabelMatcher, MatchOp
from filoray.nodes.data.series_batch import SeriesBatch
from filoray.nodes.kernels.edge.hashing import crc32c
from filoray.nodes.kernels.edge.xor_chunk import CHUNK_BYTES_MAX, CHUNK_SAMPLES_MAX, encode_xor_chunks
from filoray.nodes.promql.regex import RegexError, compile_regex

SAMPLES_CONTENT_TYPE = "application/x-protobuf"
CHUNKS_CONTENT_TYPE = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse"

_MATCH_OPS = (MatchOp.EQUAL, MatchOp.NOT_EQUAL, MatchOp.REGEX, MatchOp.NOT_REGEX)  # by LabelMatcher.Type
_XOR_ENCODING = 1  # Chunk.Encoding.XOR
_PART_BYTES = 64 * 1024


class ResponseType(IntEnum):
    """ReadRequest.ResponseType."""

    SAMPLES = 0
    STREAMED_XOR_CHUNKS = 1


@dataclass(frozen=True, slots=True)
class ReadQuery:
    """One query of a ReadRequest; both ends of the time range are part of it."""

    start_ms: int
    end_ms: int
    matchers: tuple[LabelMatcher, ...]


@dataclass(frozen=True, slots=True)
class ReadRequest:
    queries: tuple[ReadQuery, ...]
    response_type: ResponseType


@dataclass(frozen=True, slots=True)
class RemoteReadLimits:
    """``frame_bytes_max``: Prometheus's ``--storage.remote.read-max-bytes-in-frame``, whose default this is."""

    request_bytes_max: int = 1 << 20
    query_count_max: int = 64
    matcher_count_max: int = 256
    answer_bytes_max: int = 512 << 20  # of an answer in one message, which has to be in memory
    frame_bytes_max: int = 1 << 20
    timeout_ms: int | None = None


@dataclass(frozen=True, slots=True)
class RemoteReadAnswer:
    """``frames`` are pieces of the body, in order. ``warnings`` have no place in the protocol: they are for the log."""

    content_type: str
    content_encoding: str | None
    frames: Iterable[bytes]
    warnings: tuple[str, ...] = ()
    partial: bool = False
    held_bytes: int = 0
    """What it takes in memory until it is sent."""


async def answer_remote_read(
    body: bytes,
    content_encoding: str | None,
    service: MetadataService,
    dataset: str,
    limits: RemoteReadLimits,
    request_id: str = "",
) -> RemoteReadAnswer:
    """The answer to one ``POST .../read``.

    Raises BadData for a request that cannot be read or asks for no response type that there is, LimitExceeded for an
    answer in one message over ``answer_bytes_max``, and what ``service.read_raw`` raises.
    """
    request = decode_read_request(body, content_encoding, limits)
    answers = await asyncio.gather(
        *(
            service.read_raw(
                MetadataRequest(
                    dataset,
                    (query.matchers,) if query.matchers else (),
                    query.start_ms,
                    query.end_ms,
                    timeout_ms=limits.timeout_ms,
                    request_id=request_id,
                )
            )
            for query in request.queries
        )
    )
    batches = [answer.batch for answer in answers]
    warnings = tuple(dict.fromkeys(warning for answer in answers for warning in answer.warnings))
    partial = any(answer.partial for answer in answers)
    if request.response_type is ResponseType.STREAMED_XOR_CHUNKS:
        frames = _joined(stream_frames(batches, limits.frame_bytes_max))
        held_bytes = sum(batch_bytes(batch) for batch in batches)
        return RemoteReadAnswer(CHUNKS_CONTENT_TYPE, None, frames, warnings, partial, held_bytes)
    message = await asyncio.to_thread(encode_read_response, batches, limits.answer_bytes_max)
    return RemoteReadAnswer(SAMPLES_CONTENT_TYPE, "snappy", (message,), warnings, partial, len(message))


def decode_read_request(body: bytes, content_encoding: str | None, limits: RemoteReadLimits) -> ReadRequest:
    """Raises BadData that says what is wrong and where. The body is a snappy block whatever the header's case."""
    if content_encoding is not None and content_encoding.strip().lower() != "snappy":
        raise UnsupportedMediaType(f"remote read: content encoding {content_encoding} is not read here; only snappy is")
    data = decompress(body, limits.request_bytes_max, "remote read requests").tobytes()
    queries: list[ReadQuery] = []
    accepted: list[int] = []
    for field in fields(data, "ReadRequest"):
        if field.number == 1:
            if len(queries) >= limits.query_count_max:
                raise BadData(f"a remote read request with more than {limits.query_count_max} queries")
            queries.append(_read_query(field, limits))
        elif field.number == 2:
            accepted += field.as_int64s()
    return ReadRequest(tuple(queries), _response_type(accepted))


def encode_read_response(batches: Sequence[SeriesBatch], answer_bytes_max: int) -> bytes:
    """A ReadResponse with one result for each batch, as a snappy block."""
    results = []
    size = 0
    for batch in batches:
        series = []
        for row in batch.labels.sorted_rows().tolist():
            start, end = int(batch.offsets[row]), int(batch.offsets[row + 1])
            samples = sample_fields(batch.timestamps[start:end], batch.values[start:end])
            series.append(bytes_field(1, label_fields(batch.labels.label_set(row)) + samples))
            size += len(series[-1])
            if size > answer_bytes_max:
                raise LimitExceeded(
                    f"remote read: the answer in one message is over {answer_bytes_max} bytes; ask for a shorter time "
                    "range, or accept STREAMED_XOR_CHUNKS"
                )
        results.append(bytes_field(1, b"".join(series)))
    return compress(b"".join(results))


def stream_frames(batches: Sequence[SeriesBatch], frame_bytes_max: int) -> Iterator[bytes]:
    """Frames of a chunked answer, one series each; a series over ``frame_bytes_max`` goes on in further ones.

    A frame: uvarint length of the message | CRC-32C of the message, big-endian | ChunkedReadResponse.
    """
    for query_index, batch in enumerate(batches):
        value_bits = np.ascontiguousarray(batch.values, np.float64).view(np.uint64)
        timestamps = np.ascontiguousarray(batch.timestamps, np.int64)
        query = varint_field(2, query_index) if query_index else b""
        for row in batch.labels.sorted_rows().tolist():
            labels = label_fields(batch.labels.label_set(row))
            start, end = int(batch.offsets[row]), int(batch.offsets[row + 1])
            parts, size = [labels], len(labels)
            for chunk in _chunk_fields(timestamps, value_bits, start, end):
                if len(parts) > 1 and size + len(chunk) > frame_bytes_max:
                    yield _frame(parts, query)
                    parts, size = [labels], len(labels)
                parts.append(chunk)
                size += len(chunk)
            if len(parts) > 1:
                yield _frame(parts, query)


def _chunk_fields(
    timestamps: np.ndarray[tuple[int], np.dtype[np.int64]],
    value_bits: np.ndarray[tuple[int], np.dtype[np.uint64]],
    start: int,
    end: int,
) -> Iterator[bytes]:
    """The samples ``start:end`` of a series as Chunk fields of a ChunkedSeries."""
    chunk_count = -(-(end - start) // CHUNK_SAMPLES_MAX)
    out = np.zeros(chunk_count * CHUNK_BYTES_MAX, np.uint8)
    chunk_ends = np.empty(chunk_count, np.int64)
    encode_xor_chunks(timestamps, value_bits, start, end, CHUNK_SAMPLES_MAX, out, chunk_ends)
    byte_start = 0
    for index, byte_end in enumerate(chunk_ends.tolist()):
        first = start + index * CHUNK_SAMPLES_MAX
        last = min(first + CHUNK_SAMPLES_MAX, end) - 1
        data = out[byte_start:byte_end].tobytes()
        byte_start = byte_end
        yield bytes_field(
            2,
            varint_field(1, int(timestamps[first]))
            + varint_field(2, int(timestamps[last]))
            + varint_field(3, _XOR_ENCODING)
            + bytes_field(4, data),
        )


def _frame(series_parts: Sequence[bytes], query: bytes) -> bytes:
    message = bytes_field(1, b"".join(series_parts)) + query
    checksum = int(crc32c(np.frombuffer(message, np.uint8)))
    return varint(len(message)) + checksum.to_bytes(4, "big") + message


def _joined(frames: Iterable[bytes]) -> Iterator[bytes]:
    """Several small frames as one piece: a piece is a write to a socket."""
    parts: list[bytes] = []
    size = 0
    for frame in frames:
        parts.append(frame)
        size += len(frame)
        if size >= _PART_BYTES:
            yield b"".join(parts)
            parts, size = [], 0
    if parts:
        yield b"".join(parts)


def _read_query(query: Field, limits: RemoteReadLimits) -> ReadQuery:
    start_ms = end_ms = 0
    matchers: list[LabelMatcher] = []
    for field in query.message_fields("Query"):
        if field.number == 1:
            start_ms = field.as_int64()
        elif field.number == 2:
            end_ms = field.as_int64()
        elif field.number == 3:
            if len(matchers) >= limits.matcher_count_max:
                raise BadData(f"a remote read query with more than {limits.matcher_count_max} matchers")
            matchers.append(_read_matcher(field))
    if end_ms < start_ms:
        raise BadData(f"remote read: a query ends at {end_ms} ms, before it starts at {start_ms} ms")
    return ReadQuery(start_ms, end_ms, tuple(matchers))


def _read_matcher(matcher: Field) -> LabelMatcher:
    kind, name, value = 0, "", ""
    for field in matcher.message_fields("LabelMatcher"):
        if field.number == 1:
            kind = field.as_int64()
        elif field.number == 2:
            name = field.as_text()
        elif field.number == 3:
            value = field.as_text()
    if not 0 <= kind < len(_MATCH_OPS):
        raise BadData(f"remote read: matcher of label {name!r} has type {kind}; EQ, NEQ, RE and NRE are 0 to 3")
    op = _MATCH_OPS[kind]
    if op in (MatchOp.REGEX, MatchOp.NOT_REGEX):
        try:
            compile_regex(value)
        except RegexError as error:
            raise BadData(f"remote read: matcher of label {name!r}: {error}") from error
    return LabelMatcher(name, op, value)


def _response_type(accepted: Sequence[int]) -> ResponseType:
    """The first of the accepted types that there is; none named means samples, as in Prometheus."""
    if not accepted:
        return ResponseType.SAMPLES
    for number in accepted:
        if number in ResponseType.__members__.values():
            return ResponseType(number)
    known = ", ".join(f"{kind.name} ({kind.value})" for kind in ResponseType)
    raise BadData(f"remote read: none of the accepted response types {list(accepted)} is served; there are {known}")
