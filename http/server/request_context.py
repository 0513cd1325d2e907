"""Around every request: its id, its line in the log, its figures in the metrics, and errors turned into answers."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from functools import lru_cache
from ipaddress import IPv6Address, IPv6Network, ip_address
from urllib.parse import quote

from aiohttp import web
from aiohttp.typedefs import Middleware

from filoray.http.access.access_policy import ANYBODY
from filoray.http.access.request_access import identity_of
from filoray.http.server.error_responses import error_response, http_exception_response
from filoray.http.server.own_metrics import GatewayMetrics

_log = logging.getLogger("filoray.http.access")
_ID_FORM = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
_CLIENT_GONE = 499
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
_PATH_CHARACTERS_MAX = 500

_REQUEST_ID = web.RequestKey("request_id", str)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def request_id(request: web.Request) -> str:
    """The id that the client sent as X-Request-Id, or the one made up for it."""
    return request[_REQUEST_ID]


def client_of(request: web.Request) -> str:
    """Who is asking, to share out what all need: the user; else the address, of IPv6 the network that one host has."""
    identity = identity_of(request)
    if identity is not ANYBODY:
        return f"user {identity.name}"
    return _network_of(request.remote or "")


@lru_cache(1024)
def _network_of(remote: str) -> str:
    try:
        address = ip_address(remote.partition("%")[0])
    except ValueError:
        return remote
    if isinstance(address, IPv6Address):
        return str(address.ipv4_mapped or IPv6Network((address, 64), strict=False))
    return str(address)


def context_middleware(metrics: GatewayMetrics) -> Middleware:
    @web.middleware
    async def in_context(request: web.Request, handler: Handler) -> web.StreamResponse:
        given = request.headers.get("X-Request-Id", "")
        request[_REQUEST_ID] = identity = given if _ID_FORM.fullmatch(given) else secrets.token_hex(8)
        began_s = time.monotonic()
        status = _CLIENT_GONE
        metrics.in_flight.inc()
        try:
            response = await _answer(request, handler)
            status = response.status
            return response
        finally:
            metrics.in_flight.dec()
            elapsed_s = time.monotonic() - began_s
            route = _route_of(request)
            method = request.method if request.method in _METHODS else "other"
            metrics.requests.labels(method, route, str(status)).inc()
            metrics.duration.labels(route).observe(elapsed_s)
            _log.log(
                logging.WARNING if status >= 500 else logging.INFO,
                "request_id=%s method=%s path=%s status=%d ms=%.1f from=%s user=%s",
                identity,
                request.method,
                quote(request.path[:_PATH_CHARACTERS_MAX]),
                status,
                elapsed_s * 1000,
                request.remote,
                _user_of(request),
            )

    return in_context


def _user_of(request: web.Request) -> str:
    """The proven name in one word, "-" where there is none."""
    identity = identity_of(request)
    return "-" if identity is ANYBODY else quote(identity.name, safe="")


async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    response: web.StreamResponse
    try:
        response = await handler(request)
    except asyncio.CancelledError:
        raise  # the client has gone: nobody to answer, and the work below was cancelled by the same token
    except web.HTTPException as exception:
        response = http_exception_response(request, exception)
    except ConnectionError:
        raise  # the client went while it was being answered
    except Exception as error:
        response = error_response(error, request_id(request))
    if not response.prepared:
        response.headers["X-Request-Id"] = request_id(request)
    return response


def _route_of(request: web.Request) -> str:
    """The route's pattern, so that label values stay few whatever is asked for."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "unknown"
