"""HTTP below the application: what aiohttp's parser is given, and what it says to requests that no handler ever sees.

Three things differ from aiohttp's own server, all as Prometheus's (Go's) does them:

* Bytes above ASCII in a request line are percent-encoded before the parser, which takes none, sees them.
* Doubled and trailing slashes of a path mean nothing: clients join a base URL that ends in one with a path.
* What is refused here (no HTTP, a head over its limits, a bad Expect) has the API's JSON envelope. The texts are ours:
  the parser's quote bytes of the request, which are nobody's business in a log or an answer.
"""

from __future__ import annotations

import asyncio
import logging
import re
from enum import Enum, auto
from http import HTTPStatus
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import BadHttpMethod, HttpProcessingError, InvalidURLError, LineTooLong
from aiohttp.web_protocol import RequestHandler

from filoray.cluster.config.http_config import HttpConfig
from filoray.http.server.error_responses import envelope, http_exception_response

_log = logging.getLogger("filoray.http")

_SLASHES = re.compile("/{2,}")
_ABOVE_ASCII = re.compile(rb"[\x80-\xff]")
_TLS_BEGINNING = b"\x16\x03"
HEADERS_MAX = 128
"""Header lines of one request; browsers send about 20."""


_NO_HEADER = b"\r\n\0\r\n\r\n"
"""What no parser takes, wherever in a head it stands."""


class _Awaited(Enum):
    """Which part of a request the next bytes of a connection belong to, as far as that is known."""

    REQUEST_LINE = auto()
    REST_OF_HEAD = auto()
    BODY_OR_NEXT = auto()


class GatewayProtocol(RequestHandler):
    """One connection."""

    __slots__ = ("_awaited", "_config", "_cut_off", "_has_refused_head", "_head_bytes")

    def __init__(self, server: GatewayServer, config: HttpConfig, **options: Any) -> None:
        super().__init__(server, **options)
        self._config = config
        self._awaited = _Awaited.REQUEST_LINE
        self._has_refused_head = False
        self._head_bytes = 0
        """Of a head that is not complete yet."""
        self._cut_off: asyncio.TimerHandle | None = None

    def pause_writing(self) -> None:
        """The client takes nothing of what is sent, and what it has not taken stays in memory: not for ever."""
        super().pause_writing()
        if self._cut_off is None:
            self._cut_off = self._loop.call_later(self._config.send_timeout_ms / 1000, self._abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._forget_cut_off()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._forget_cut_off()
        super().connection_lost(exc)

    def _abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def _forget_cut_off(self) -> None:
        if self._cut_off is not None:
            self._cut_off.cancel()
            self._cut_off = None

    def data_received(self, data: bytes) -> None:
        if self._has_refused_head:
            return  # the connection is about to end
        if self._awaited is _Awaited.BODY_OR_NEXT:
            # Its handler waits for a request: these bytes begin it. Requests that are sent ahead are left as they are.
            waiter = self._waiter
            if waiter is not None and not waiter.done():
                self._awaited = _Awaited.REQUEST_LINE
        if self._awaited is _Awaited.REQUEST_LINE:
            data = self._with_plain_line(data)
        before = self._request_count
        super().data_received(data)
        if self._request_count != before:
            self._awaited = _Awaited.BODY_OR_NEXT
            self._head_bytes = 0
        elif self._awaited is not _Awaited.BODY_OR_NEXT:
            self._head_bytes += len(data)
            if self._head_bytes > head_bytes_max(self._config):
                self._refuse_head()

    def _refuse_head(self) -> None:
        """The parser knows a limit of each line only, and keeps the lines of whoever has proved nothing yet."""
        before = self._request_count
        self._has_refused_head = True
        super().data_received(_NO_HEADER)  # so that it ends here, and is answered as what else is malformed
        if self._request_count == before:
            self._abort()

    def _with_plain_line(self, data: bytes) -> bytes:
        start = len(data) - len(data.lstrip(b"\r\n"))
        if start == len(data):
            return data
        end = data.find(b"\n", start)
        if end >= 0:
            self._awaited = _Awaited.REST_OF_HEAD
        line = data[:end] if end >= 0 else data
        if line.isascii() or line.startswith(_TLS_BEGINNING):
            return data
        return _ABOVE_ASCII.sub(lambda byte: b"%%%02X" % byte[0][0], line) + data[len(line) :]

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """The answer to what is no request, or to what no handler answered. Ends the connection."""
        if isinstance(exc, HttpProcessingError):
            if self._has_refused_head:
                status, text = _head_refusal(self._config)
            else:
                status, text = parser_refusal(exc, self._config)
            # Anyone may send it, as often as they like: one line.
            _log.info("a malformed request was refused from=%s reason=%s", request.remote, text)
        else:
            status = status if status >= 500 else 500
            text = "an unexpected error occurred; the gateway's log has it"
            _log.error("an answer failed below the application from=%s", request.remote, exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("a part of another answer is sent already")
        response = envelope(status, "bad_data" if status < 500 else "internal", text)
        response.force_close()
        return response


class GatewayServer(web.Server):
    """Makes the connections' protocols, and the requests that the application sees."""

    def __init__(self, application: web.Application, config: HttpConfig, **options: Any) -> None:
        self._handle = application._handle
        self._make = application._make_request
        # Both make web.Requests, which aiohttp knows here as BaseRequests only.
        super().__init__(self._answer, request_factory=self._request, handler_cancellation=True)  # type: ignore[arg-type]
        self._config = config
        self._options = options

    def __call__(self) -> RequestHandler:
        return GatewayProtocol(self, self._config, loop=self._loop, **self._options)

    def _request(self, message: Any, *connection: Any) -> web.Request:
        path = message.url.raw_path
        plain = plain_path(path)
        if plain != path:
            url = message.url.with_path(plain, encoded=True, keep_query=True, keep_fragment=True)
            message = message._replace(url=url, path=plain + message.path[len(path) :])
        return self._make(message, *connection)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        """The application's answer. What it raises is a refusal from before its middlewares."""
        expected = request.headers.get("Expect", "100-continue")
        if expected.lower() != "100-continue":  # aiohttp's own refusal cannot quote every header there is
            text = f"Expect: {expected[:100]} cannot be met; only 100-continue can"
            return envelope(HTTPStatus.EXPECTATION_FAILED, "bad_data", text)
        try:
            return await self._handle(request)
        except web.HTTPException as exception:
            return http_exception_response(request, exception)


class GatewayRunner(web.BaseRunner):
    """aiohttp's AppRunner, with connections that are ours."""

    __slots__ = ("_application", "_config", "_options")

    def __init__(self, application: web.Application, config: HttpConfig) -> None:
        super().__init__(shutdown_timeout=config.shutdown_timeout_ms / 1000)
        self._application = application
        self._config = config

    async def _make_server(self) -> web.Server:
        application = self._application
        application._set_loop(asyncio.get_running_loop())
        application.on_startup.freeze()
        await application.startup()
        application.freeze()
        return GatewayServer(
            application,
            self._config,
            access_log=None,  # the application logs requests itself, with their ids
            keepalive_timeout=self._config.keepalive_timeout_ms / 1000,
            max_line_size=self._config.max_url_bytes,
            max_field_size=self._config.max_header_bytes,
            max_headers=HEADERS_MAX,
            auto_decompress=False,  # by ``bodies``, which knows what may be decompressed and how far
        )

    async def shutdown(self) -> None:
        await self._application.shutdown()

    async def _cleanup_server(self) -> None:
        await self._application.cleanup()


def plain_path(path: str) -> str:
    """The path without doubled and trailing slashes, percent-encoded as before."""
    return _SLASHES.sub("/", path).rstrip("/") or "/"


def head_bytes_max(config: HttpConfig) -> int:
    """Of a request line and all headers together."""
    return config.max_url_bytes + 2 * config.max_header_bytes


def _head_refusal(config: HttpConfig) -> tuple[int, str]:
    return HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, (
        f"the URL and all headers together are longer than {head_bytes_max(config)} bytes: filoray.http.max-url-size, "
        "and twice filoray.http.max-header-size"
    )


def parser_refusal(error: HttpProcessingError, config: HttpConfig) -> tuple[int, str]:
    """Status and text for what the parser did not take."""
    if isinstance(error, LineTooLong):
        if str(error.args[1]) == str(config.max_url_bytes) and config.max_url_bytes != config.max_header_bytes:
            return HTTPStatus.REQUEST_URI_TOO_LONG, (
                f"the URL is longer than the {config.max_url_bytes} bytes that filoray.http.max-url-size allows; "
                "long PromQL belongs into the body of a POST"
            )
        return HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, (
            f"a header, or the URL, is longer than the {config.max_header_bytes} bytes that "
            "filoray.http.max-header-size allows"
        )
    if isinstance(error, InvalidURLError):
        return 400, "the request line has no valid URL; bytes outside of RFC 3986 must be percent-encoded"
    text = error.message
    if "Too many headers" in text:
        return HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"there are more than {HEADERS_MAX} headers"
    if isinstance(error, BadHttpMethod):
        if "HTTPS traffic" in text:
            return 400, "this port speaks HTTP, and what came is TLS; use http:// in the URL"
        return 400, "the request line begins with no method of HTTP"
    for sign, meaning in _MEANINGS:
        if sign in text:
            return 400, meaning
    return 400, "what came is not HTTP/1.1 as RFC 9112 has it"


_MEANINGS = (
    ("Missing 'Host'", "the request has no Host header"),
    ("Duplicate", "a header that may be there once is there twice"),
    ("Transfer-Encoding", "Transfer-Encoding is malformed, or beside a Content-Length"),
    ("transfer", "Transfer-Encoding is malformed, or beside a Content-Length"),
    ("chunk", "a chunk of the body is malformed"),
    ("Chunk", "a chunk of the body is malformed"),
    ("Content-Length", "Content-Length is not a number of bytes, or beside a Transfer-Encoding"),
    ("version", "the request line does not end in HTTP/1.1 or HTTP/1.0"),
    ("HTTP/", "the request line does not end in HTTP/1.1 or HTTP/1.0"),
    ("header", "a header is malformed"),
    ("Header", "a header is malformed"),
)
