"""The aiohttp application of one gateway: every route, over whatever services it is given."""

from __future__ import annotations

from aiohttp import web

from filoray.http.access.request_guard import RequestGuard
from filoray.http.access.web_config_file import WebConfigFile
from filoray.http.api.routes_admin import AdminRoutes
from filoray.http.api.routes_cluster import ClusterRoutes
from filoray.http.api.routes_figures import FiguresRoutes
from filoray.http.api.routes_metadata import MetadataRoutes
from filoray.http.api.routes_nodes import NodeRoutes
from filoray.http.api.routes_query import QueryRoutes
from filoray.http.api.routes_read import ReadRoutes
from filoray.http.api.routes_write import WriteRoutes
from filoray.http.fanout.requests import ClusterControl
from filoray.http.server.bodies import BODY_TIMEOUT_MS, hold_body_in
from filoray.http.server.byte_budgets import ByteBudget
from filoray.http.server.gateway_services import Edge, GatewayServices
from filoray.http.server.request_context import Handler, client_of, context_middleware
from filoray.http.server.responses import SEND_TIMEOUT_MS

EDGE = web.AppKey("edge", Edge)
"""Of an application, for whoever serves it."""

_PENDING_BODIES = web.AppKey("pending_bodies", ByteBudget)
_CONTROL = web.AppKey("control", ClusterControl)


def build_application(
    services: GatewayServices, access_file: WebConfigFile | None = None, announced_host: str = ""
) -> web.Application:
    """Routes, gates, metrics and error answers around ``services``. ``access_file`` None: nobody is asked who they are.

    ``announced_host``: by which others are told to ask this gateway.

    Serve it with ``handler_cancellation=True``: a client that goes away then cancels its handler, and with it the
    query on the nodes. Bodies are read and bounded by the routes, not by aiohttp.
    """
    edge = Edge(services)
    access_file = access_file or WebConfigFile(None)
    edge.metrics.follow(access_file)
    guard = RequestGuard(edge.config.http, access_file, announced_host)
    application = web.Application(
        middlewares=[context_middleware(edge.metrics), guard.middleware, _by_the_present_view, _with_room_for_bodies]
    )
    application[EDGE] = edge
    application[_PENDING_BODIES] = edge.pending_bodies
    application[BODY_TIMEOUT_MS] = edge.config.http.body_timeout_ms
    application[SEND_TIMEOUT_MS] = edge.config.http.send_timeout_ms
    groups = (
        AdminRoutes,
        FiguresRoutes,
        NodeRoutes,
        ClusterRoutes,
        QueryRoutes,
        MetadataRoutes,
        WriteRoutes,
        ReadRoutes,
    )
    application[_CONTROL] = services.control
    guard.install(application, [route for group in groups for route in group(edge).routes()])
    return application


@web.middleware
async def _by_the_present_view(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Data sets and shards are looked up in the view: a gateway that slept gets the present one first."""
    if request.path.startswith(("/api/", "/promql/")):
        await request.app[_CONTROL].settle()
    return await handler(request)


@web.middleware
async def _with_room_for_bodies(request: web.Request, handler: Handler) -> web.StreamResponse:
    with request.app[_PENDING_BODIES].share(client_of(request)) as memory:
        hold_body_in(request, memory)
        return await handler(request)
