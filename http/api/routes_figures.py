"""``GET /admin/figures``: what every node, gateway and shard of the cluster says of itself, for views that go on."""

from __future__ import annotations

from aiohttp import web

from filoray.http.server.gateway_services import Edge
from filoray.http.server.responses import success


class FiguresRoutes:
    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/admin/figures", self.figures)]

    async def figures(self, request: web.Request) -> web.Response:
        """Answered within a second whoever is away; who is, is named."""
        figures = await self._edge.services.figures.figures(self._edge.figures())
        return success(request, figures, self._edge.config.http.min_compressed_bytes)
