"""Successful answers: envelopes, gzip where it is asked for and worth it, and large bodies sent piece by piece.

Makes HTTP of JSON text; the text itself comes from ``json_encoding``. Small bodies are encoded on the event loop; large
ones in a thread, one piece at a time, so that neither the loop nor memory holds a whole answer.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import orjson
from aiohttp import web
from isal import isal_zlib

from filoray.http.server.byte_budgets import UnsentAnswer
from filoray.http.server.deep_json import deep_json
from filoray.http.server.error_responses import printable
from filoray.http.server.request_context import request_id

JSON_TYPE = "application/json"
SEND_TIMEOUT_MS = web.AppKey("send_timeout_ms", int)
"""The application's limit for a client to take a piece of its answer; without it clients take what time they take."""

_SENT_BYTES = 1024 * 1024
_GZIP_WINDOW_BITS = 31
_GZIP_LEVEL = 1  # of ISA-L's: on answers of numbers smaller than zlib's level 2, in a quarter of the time
_INLINE_POINTS_MAX = 8_192
_INLINE_GZIP_BYTES_MAX = 64 * 1024
_QUALITY_ZERO = re.compile(r"q\s*=\s*0(\.0*)?")


def success(
    request: web.Request, data: object, min_compressed_bytes: int, *, deep: bool = False, **beside: object
) -> web.Response:
    """``{"status":"success","data":…}`` with ``beside`` (empty ones left out) next to data.

    ``deep``: data may nest deeper than orjson allows.
    """
    return json_response(request, success_body(data, deep=deep, **beside), min_compressed_bytes)


def success_body(data: object, *, deep: bool = False, **beside: object) -> bytes:
    body = {"status": "success", "data": data, **{key: value for key, value in beside.items() if value}}
    return deep_json(body) if deep else orjson.dumps(body)


def json_response(request: web.Request, body: bytes, min_compressed_bytes: int) -> web.Response:
    """A JSON body that is small or was small work to make."""
    headers = {"Vary": "Accept-Encoding"}
    if len(body) >= min_compressed_bytes and accepts_gzip(request):
        body = _gzip(body)
        headers["Content-Encoding"] = "gzip"
    return web.Response(body=body, content_type=JSON_TYPE, headers=headers)


async def json_stream(
    request: web.Request,
    pieces: Iterator[bytes],
    points: int,
    min_compressed_bytes: int,
    unsent: UnsentAnswer | None = None,
) -> web.StreamResponse:
    """The pieces' JSON, whole if there are few ``points``, else as they are made.

    ``unsent``: what is held of the answer while it is sent.
    """
    if points <= _INLINE_POINTS_MAX:
        return await json_body(request, b"".join(pieces), min_compressed_bytes, unsent)
    return await _streamed(request, pieces, unsent)


async def json_body(
    request: web.Request, body: bytes, min_compressed_bytes: int, unsent: UnsentAnswer | None = None
) -> web.StreamResponse:
    """A JSON body of any size, sent in pieces if it is large."""
    if len(body) < _INLINE_GZIP_BYTES_MAX:
        return json_response(request, body, min_compressed_bytes)
    pieces = (body[first : first + _SENT_BYTES] for first in range(0, len(body), _SENT_BYTES))
    return await _streamed(request, pieces, unsent)


async def _streamed(request: web.Request, pieces: Iterator[bytes], unsent: UnsentAnswer | None) -> web.StreamResponse:
    response = web.StreamResponse()
    response.content_type = JSON_TYPE
    response.headers["Vary"] = "Accept-Encoding"
    response.headers["X-Request-Id"] = request_id(request)
    if accepts_gzip(request):
        response.headers["Content-Encoding"] = "gzip"
        pieces = _gzip_pieces(pieces)
    await send_pieces(request, response, pieces, unsent)
    return response


async def send_pieces(
    request: web.Request, response: web.StreamResponse, pieces: Iterator[bytes], unsent: UnsentAnswer | None = None
) -> None:
    """Make the pieces in a thread and send each before the next is made.

    A client that takes none of it for the configured time is cut off: it holds the answer in memory. So is one that
    takes none of it for a shorter time when ``unsent`` is needed for others.
    """
    if unsent is not None:
        unsent.cut_off = lambda: _cut_off(request)
    # The first piece is made before the head is sent: what fails by then can still be answered as an error.
    piece = await asyncio.to_thread(next, pieces, None)
    await response.prepare(request)
    timeout_ms = request.app.get(SEND_TIMEOUT_MS)
    timeout_s = None if timeout_ms is None else timeout_ms / 1000
    try:
        while piece is not None:
            for first in range(0, len(piece), _SENT_BYTES):
                async with asyncio.timeout(timeout_s):
                    with nullcontext() if unsent is None else unsent.waiting():
                        await response.write(piece[first : first + _SENT_BYTES])
            piece = await asyncio.to_thread(next, pieces, None)
        async with asyncio.timeout(timeout_s):
            await response.write_eof()
    except TimeoutError:
        _cut_off(request)
        raise ConnectionResetError(f"the client took nothing of its answer for {timeout_ms} ms") from None


def _cut_off(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


def enveloped(
    data: Iterable[bytes],
    warnings: Sequence[str] = (),
    infos: Sequence[str] = (),
    *,
    partial: bool = False,
) -> Iterator[bytes]:
    """Pieces of an envelope around the pieces of data's JSON."""
    yield b'{"status":"success","data":'
    yield from data
    if partial:
        yield b',"partial":true'
    for name, texts in (("warnings", warnings), ("infos", infos)):
        if texts:
            yield f',"{name}":'.encode() + orjson.dumps([printable(text) for text in texts])
    yield b"}"


def query_data(result: Iterable[bytes], stats: Mapping[str, Any] | None) -> Iterator[bytes]:
    """Pieces of a query's data: the result's own members and, where asked for, ``stats``."""
    yield b"{"
    yield from result
    if stats is not None:
        yield b',"stats":' + deep_json(stats)
    yield b"}"


def accepts_gzip(request: web.Request) -> bool:
    """Whether Accept-Encoding names gzip with a quality above 0."""
    for part in request.headers.get("Accept-Encoding", "").lower().split(","):
        coding, _, parameters = part.partition(";")
        if coding.strip() in ("gzip", "x-gzip"):
            return _QUALITY_ZERO.fullmatch(parameters.strip()) is None
    return False


def _gzip(body: bytes) -> bytes:
    compressor = isal_zlib.compressobj(_GZIP_LEVEL, isal_zlib.DEFLATED, _GZIP_WINDOW_BITS)
    return compressor.compress(body) + compressor.flush()


def _gzip_pieces(pieces: Iterable[bytes]) -> Iterator[bytes]:
    compressor = isal_zlib.compressobj(_GZIP_LEVEL, isal_zlib.DEFLATED, _GZIP_WINDOW_BITS)
    for piece in pieces:
        compressed = compressor.compress(piece)
        if compressed:
            yield compressed
    yield compressor.flush()
