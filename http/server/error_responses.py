"""The one place where errors become answers: JSON envelopes with the status and ``errorType`` of the error's class.

Whatever a handler raises ends here: FilorayErrors say their own text; aiohttp's HTTP exceptions (404, 405, 413) get
the same envelope, never HTML; anything else is a fault of ours, logged with its traceback and answered
with the request's id and no inner detail.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping

import orjson
from aiohttp import web

from filoray.cluster.errors import FilorayError, Unauthorized

_NOT_UTF8 = re.compile("[\ud800-\udfff]")

_log = logging.getLogger("filoray.http")


def error_response(error: Exception, request_id: str) -> web.Response:
    """The answer to a request that raised ``error``."""
    if isinstance(error, FilorayError):
        headers = {} if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}
        if isinstance(error, Unauthorized):
            headers["WWW-Authenticate"] = error.challenge
        return envelope(error.http_status, error.error_type, error.message, headers)
    _log.error("request failed unexpectedly request_id=%s", request_id, exc_info=error)
    return envelope(500, "internal", f"an unexpected error occurred; the log has it under request id {request_id}")


def http_exception_response(request: web.Request, exception: web.HTTPException) -> web.Response:
    """aiohttp's own refusals in the API's envelope."""
    headers: dict[str, str] = {}
    if isinstance(exception, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(exception.allowed_methods))
        headers["Allow"] = allowed
        text = f"{request.path} does not take {request.method}; it takes {allowed}"
    elif exception.status == 404:
        text = f"there is no endpoint {request.path or request.method} here"
    else:
        text = exception.reason
    error_type = "not_found" if exception.status == 404 else "internal" if exception.status >= 500 else "bad_data"
    return envelope(exception.status, error_type, text, headers)


def envelope(status: int, error_type: str, text: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """The API's object for what went wrong."""
    # Exactly three fields: clients of the cluster API compare the whole object.
    body = orjson.dumps({"status": "error", "errorType": error_type, "error": printable(text)})
    safe = {"X-Content-Type-Options": "nosniff", **(headers or {})}
    return web.Response(status=status, body=body, content_type="application/json", headers=safe)


def printable(text: str) -> str:
    """``text`` with U+FFFD for each byte that is not UTF-8, as Go prints it: what a client sent may be quoted in it."""
    return _NOT_UTF8.sub("\N{REPLACEMENT CHARACTER}", text)
