"""Before every handler, and before a body is read: is the request for this server, and may whoever asks do this?

A shell around ``origin_policy``, ``authentication`` and ``access_policy``. The Host header and who asks are checked on
everything, known or not; what an endpoint needs beyond that (``route_access``) is checked around its handler. Headers
that keep browsers from guessing, framing and running things are on every answer.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

from aiohttp import hdrs, web
from aiohttp.typedefs import Middleware

from filoray.cluster.config.http_config import HttpConfig
from filoray.cluster.errors import Forbidden
from filoray.http.access.access_policy import ANYBODY
from filoray.http.access.origin_policy import CorsPolicy, HostPolicy, check_same_origin
from filoray.http.access.request_access import access_of, identity_of, set_access, set_identity
from filoray.http.access.route_access import Scope, route_access
from filoray.http.access.tls import has_name
from filoray.http.access.web_config_file import WebConfigFile
from filoray.http.server.request_context import Handler

_NOTHING_RUNS = "default-src 'none'; frame-ancestors 'none'"


class RequestGuard:
    """One for each application. ``middleware`` goes innermost, ``protect`` around every route."""

    def __init__(self, config: HttpConfig, access_file: WebConfigFile, announced_host: str = "") -> None:
        self._access_file = access_file
        self._check_interval_ms = config.web_config_check_interval_ms
        self._hosts = HostPolicy(config.host, config.allowed_hosts, {socket.gethostname(), announced_host})
        self._cors = CorsPolicy(config.cors_origin)

    @property
    def middleware(self) -> Middleware:
        @web.middleware
        async def at_the_door(request: web.Request, handler: Handler) -> web.StreamResponse:
            self._check_host(request)
            await self._ask_who(request)
            return await handler(request)

        return at_the_door

    def install(self, application: web.Application, routes: list[web.RouteDef]) -> None:
        """The routes, each behind its checks, with preflights for the query API."""
        application.on_response_prepare.append(self._add_headers)
        application.cleanup_ctx.append(self._watch_file)
        application.add_routes([self._protected(route) for route in routes])
        readable = {route.path for route in routes if route_access(route.method, route.path).is_query_api}
        application.add_routes([self._protected(web.options(path, _preflight)) for path in sorted(readable)])

    def _check_host(self, request: web.Request) -> None:
        given = request.headers.getall(hdrs.HOST, ())
        if len(given) > 1:
            raise Forbidden("a request is for one host: this one has several Host headers")
        if given:  # only programs leave it out; no browser does
            self._hosts.check(given[0], _local_address(request))

    async def _ask_who(self, request: web.Request) -> None:
        access = self._access_file.loaded
        if access.config.tls is not None and access.config.tls.client_sans:
            _check_certificate(request, access.config.tls.client_sans)
        resource = request.match_info.route.resource
        endpoint = None if resource is None else route_access(request.method, resource.canonical)
        if endpoint is not None:
            set_access(request, endpoint)  # before a refusal, so that a page that may read it can say what was wrong
        if endpoint is not None and endpoint.scope is Scope.OPEN:
            set_identity(request, ANYBODY)
        else:
            set_identity(request, await access.authenticator.identify(request.headers.get(hdrs.AUTHORIZATION)))

    async def _watch_file(self, application: web.Application) -> AsyncIterator[None]:
        watching = asyncio.create_task(self._access_file.watch(self._check_interval_ms))
        yield
        watching.cancel()

    def _protected(self, route: web.RouteDef) -> web.RouteDef:
        access, handler = route_access(route.method, route.path), route.handler

        async def checked(request: web.Request) -> web.StreamResponse:
            set_access(request, access)
            if access.changes_state:
                _check_page(request)
            if access.scope is Scope.CLUSTER:
                identity_of(request).check(access.role, None)
            elif access.scope is Scope.DATASET and "dataset" in request.match_info:
                identity_of(request).check(access.role, request.match_info["dataset"])
            answer: web.StreamResponse = await handler(request)
            return answer

        return web.RouteDef(route.method, route.path, checked, route.kwargs)

    async def _add_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        headers = response.headers
        headers["X-Content-Type-Options"] = "nosniff"
        headers.setdefault("Content-Security-Policy", _NOTHING_RUNS)
        headers.update(self._access_file.loaded.config.headers)
        access = access_of(request)
        origin = request.headers.get(hdrs.ORIGIN)
        if origin and access is not None and access.is_query_api:
            varies = headers.get(hdrs.VARY)
            headers.update(self._cors.headers(origin))
            if varies:
                headers[hdrs.VARY] = f"{varies}, Origin"


def _check_page(request: web.Request) -> None:
    headers = request.headers
    origins = headers.getall(hdrs.ORIGIN, ())
    sites = headers.getall("Sec-Fetch-Site", ())
    check_same_origin(
        request.scheme,
        headers.get(hdrs.HOST),
        ", ".join(origins) if origins else None,
        ", ".join(sites) if sites else None,
        f"{request.method} {request.path}",
    )


def _check_certificate(request: web.Request, names: tuple[str, ...]) -> None:
    certificate = request.transport.get_extra_info("peercert") if request.transport is not None else None
    if certificate and not has_name(certificate, names):
        raise Forbidden("none of the names in your certificate is in client_allowed_sans")


def _local_address(request: web.Request) -> str | None:
    name = request.transport.get_extra_info("sockname") if request.transport is not None else None
    return str(name[0]) if isinstance(name, tuple) and name else None


async def _preflight(request: web.Request) -> web.Response:
    return web.Response(status=204)
