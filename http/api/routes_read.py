"""Prometheus remote read: the request's body in, raw samples out, streamed as they are encoded."""

from __future__ import annotations

import logging

from aiohttp import web

from filoray.cluster.errors import BadData
from filoray.http.access.route_access import PREFIXES
from filoray.http.api.dataset_choice import choose_dataset
from filoray.http.remote.remote_read import RemoteReadAnswer, RemoteReadLimits, answer_remote_read
from filoray.http.server.bodies import content_encoding, read_raw_body
from filoray.http.server.byte_budgets import UnsentAnswer
from filoray.http.server.gateway_services import Edge
from filoray.http.server.parameters import Parameters
from filoray.http.server.request_context import client_of, request_id
from filoray.http.server.responses import send_pieces
from filoray.nodes.promql.regex import RegexError

_log = logging.getLogger("filoray.http")


class ReadRoutes:
    """A read counts as a query: it holds one of their slots until its samples are here."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._services = edge.services

    def routes(self) -> list[web.RouteDef]:
        return [web.post(f"{prefix}/read", self.read) for prefix in PREFIXES]

    async def read(self, request: web.Request) -> web.StreamResponse:
        dataset = await choose_dataset(request, Parameters.of_query(request), self._services)
        config = self._edge.config.query
        limits = RemoteReadLimits(answer_bytes_max=config.max_result_bytes)
        encoding = content_encoding(request) or None
        body = await read_raw_body(request, limits.request_bytes_max, "a remote read request may have")
        client = client_of(request)
        with self._edge.unsent.answer(client) as unsent:
            async with self._edge.queries.slot(config.timeout_ms, client) as left_ms:
                try:
                    answer = await answer_remote_read(
                        body, encoding, self._services.metadata, dataset, limits, request_id(request)
                    )
                except RegexError as error:
                    raise BadData(f"remote read: {error}") from None
                await unsent.take(answer.held_bytes, left_ms)
            for warning in answer.warnings:
                _log.warning("remote read request_id=%s dataset=%s warning=%s", request_id(request), dataset, warning)
            return await _send(request, answer, unsent)


async def _send(request: web.Request, answer: RemoteReadAnswer, unsent: UnsentAnswer) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": answer.content_type})
    response.headers["X-Request-Id"] = request_id(request)
    if answer.content_encoding is not None:
        response.headers["Content-Encoding"] = answer.content_encoding
    await send_pieces(request, response, iter(answer.frames), unsent)
    return response
