"""Request bodies: read whole, inside a limit of bytes and of time, and decompressed where a sender compressed them.

The server gives bodies as they came (aiohttp's own decompression knows no limit of ours, and speaks of the libraries it
lacks); gzip and deflate are undone here. What a body says is left to ``forms`` and the routes.
"""

from __future__ import annotations

import asyncio
import zlib

from aiohttp import web

from filoray.cluster.errors import BadData, FilorayError, PayloadTooLarge
from filoray.http.server.byte_budgets import Share

BODY_TIMEOUT_MS = web.AppKey("body_timeout_ms", int)
"""The application's limit for the arrival of a body; without it bodies take what time they take."""

# aiohttp 3.14 wants typed keys and warns of others; before, there are only others.
_BODY_MEMORY = web.RequestKey("body_memory", Share)
_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
_RAW_DEFLATE_WINDOW_BITS = -15


def hold_body_in(request: web.Request, memory: Share) -> None:
    """Let the request's body count there, unless its reader names another place."""
    request[_BODY_MEMORY] = memory


class BodyTimeout(BadData):
    """A body did not become complete in time (408)."""

    http_status = 408


class UnsupportedMediaType(BadData):
    """A body in a form that this endpoint does not read (415); its senders fall back to another."""

    http_status = 415


async def read_body(request: web.Request, max_bytes: int, rule: str) -> bytes:
    """The whole body, gzip and deflate undone.

    ``rule`` begins the sentence that ends with the limit: "filoray.write.max-body-size allows". Raises PayloadTooLarge
    as soon as it is known to be over the limit, compressed or not, UnsupportedMediaType, BodyTimeout and BadData.
    """
    encoding = content_encoding(request)
    if encoding not in ("", "identity", *_WINDOW_BITS):
        raise UnsupportedMediaType(f"content encoding {encoding} is not read here; gzip and deflate are")
    body = await read_raw_body(request, max_bytes, rule)
    return _decompressed(body, encoding, max_bytes, rule) if encoding in _WINDOW_BITS else body


async def read_raw_body(request: web.Request, max_bytes: int, rule: str, memory: Share | None = None) -> bytes:
    """The whole body as it came. ``memory`` grows by what has arrived, whatever length was declared.

    Raises PayloadTooLarge, BodyTimeout, BadData, and Unavailable where memory is too short.
    """
    timeout_ms = request.app.get(BODY_TIMEOUT_MS)
    memory = memory or request.get(_BODY_MEMORY)
    try:
        async with asyncio.timeout(None if timeout_ms is None else timeout_ms / 1000) as deadline:
            if memory is not None:
                memory.cut_off = lambda: deadline.reschedule(asyncio.get_running_loop().time())
            return await _read(request, max_bytes, rule, memory)
    except TimeoutError:
        if memory is not None and memory.refusal is not None:
            raise memory.refusal from None
        raise BodyTimeout(
            f"the body did not arrive within {timeout_ms} ms, as filoray.http.body-timeout demands"
        ) from None
    finally:
        if memory is not None:
            memory.cut_off = None


def content_encoding(request: web.Request) -> str:
    """What Content-Encoding says, in lower case; several of them with commas between."""
    return ", ".join(part.strip() for part in request.headers.getall("Content-Encoding", ())).lower()


def media_type(request: web.Request) -> str:
    """What Content-Type says, in lower case, without parameters. aiohttp's own reader is quadratic in those."""
    return request.headers.get("Content-Type", "").partition(";")[0].strip().lower()


async def _read(request: web.Request, max_bytes: int, rule: str, memory: Share | None) -> bytes:
    declared = request.content_length
    if declared is not None and declared > max_bytes:
        raise PayloadTooLarge(f"the body has {declared} bytes; {rule} {max_bytes}")
    pieces: list[bytes] = []
    size_bytes = 0
    try:
        async for piece in request.content.iter_any():
            size_bytes += len(piece)
            if size_bytes > max_bytes:
                raise PayloadTooLarge(f"the body has more than {size_bytes - 1} bytes; {rule} {max_bytes}")
            if memory is not None:
                memory.grow(len(piece))
            pieces.append(piece)
    except (FilorayError, ConnectionError):
        raise
    except Exception as error:  # what aiohttp raises of a body has no public base
        raise BadData("the body is malformed: its chunks or its length are not as HTTP/1.1 has them") from error
    return b"".join(pieces)


def _decompressed(body: bytes, encoding: str, max_bytes: int, rule: str) -> bytes:
    if not body:
        return body
    bits = _WINDOW_BITS[encoding]
    if encoding == "deflate" and (body[0] & 0x0F != 8 or int.from_bytes(body[:2]) % 31):
        bits = _RAW_DEFLATE_WINDOW_BITS  # some send it without the two bytes of zlib's head
    inflater = zlib.decompressobj(bits)
    try:
        plain = inflater.decompress(body, max_bytes + 1)
    except zlib.error:
        raise BadData(f"the body is not {encoding}, which its Content-Encoding says it is") from None
    if len(plain) > max_bytes:
        raise PayloadTooLarge(f"the body has more than {max_bytes} bytes when decompressed; {rule} {max_bytes}")
    if not inflater.eof or inflater.unused_data:
        raise BadData(f"the body does not end where its {encoding} data end")
    return plain
