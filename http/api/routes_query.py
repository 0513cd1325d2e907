"""PromQL over HTTP: instant and range queries, what runs, and the endpoints that only read a query's text.

https://prometheus.io/docs/prometheus/latest/querying/api/, with FiloDB's parameters ``explainOnly``, ``spread``,
``verbose``, ``histogramMap`` and ``allowPartialResults``. Every endpoint answers under ``/api/v1`` and under
``/promql/{dataset}/api/v1``.
"""

from __future__ import annotations

import dataclasses
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from aiohttp import web

from filoray.cluster.errors import BadData, NotFound, QueryTimeout
from filoray.http.access.request_access import check_dataset, may_read
from filoray.http.access.route_access import PREFIXES
from filoray.http.api.dataset_choice import choose_dataset
from filoray.http.api.json_encoding import point_count, result_json
from filoray.http.fanout.requests import QueryOutcome, QueryRequest
from filoray.http.fanout.text_work import INLINE_TEXT_CHARACTERS_MAX, run_text_work
from filoray.http.server.answer_sizes import result_bytes
from filoray.http.server.byte_budgets import UnsentAnswer
from filoray.http.server.gateway_services import Edge
from filoray.http.server.parameters import (
    MAX_TIME_MS,
    MIN_TIME_MS,
    Parameters,
    invalid_parameter,
    parse_duration_parameter_ms,
)
from filoray.http.server.request_context import client_of, request_id
from filoray.http.server.responses import enveloped, json_body, json_stream, query_data, success, success_body
from filoray.nodes.promql.ast import Expr
from filoray.nodes.promql.json_tree import json_tree
from filoray.nodes.promql.parser import parse
from filoray.nodes.promql.pretty_printer import pretty

_Answer = TypeVar("_Answer")

TRUNCATED = "results truncated due to limit"


class QueryRoutes:
    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._service = edge.services.query
        self._min_compressed_bytes = edge.config.http.min_compressed_bytes

    def routes(self) -> list[web.RouteDef]:
        routes = [web.get("/api/v1/queries", self.running), web.delete("/api/v1/queries/{id}", self.cancel)]
        for prefix in PREFIXES:
            for path, handler in (
                ("query", self.instant),
                ("query_range", self.range),
                ("format_query", self.format_query),
                ("parse_query", self.parse_query),
            ):
                routes += [web.get(f"{prefix}/{path}", handler), web.post(f"{prefix}/{path}", handler)]
        return routes

    async def instant(self, request: web.Request) -> web.StreamResponse:
        parameters = await self._parameters(request)
        time_ms = _query_time("time", parameters.time_ms_or("time", int(time.time() * 1000)))
        return await self._answer(request, parameters, time_ms, time_ms, 0)

    async def range(self, request: web.Request) -> web.StreamResponse:
        parameters = await self._parameters(request)
        start_ms = _query_time("start", parameters.time_ms("start"))
        end_ms = _query_time("end", parameters.time_ms("end"))
        if end_ms < start_ms:
            raise invalid_parameter("end", "end timestamp must not be before start time")
        step_ms = parameters.duration_ms("step")
        if step_ms <= 0:
            raise invalid_parameter(
                "step", "zero or negative query resolution step widths are not accepted. Try a positive integer"
            )
        points_max = self._edge.config.query.max_points_per_series
        if (end_ms - start_ms) // step_ms > points_max:
            raise BadData(
                f"exceeded maximum resolution of {points_max:,} points per timeseries. "
                "Try decreasing the query resolution (?step=XX), or raise filoray.query.max-points-per-series"
            )
        return await self._answer(request, parameters, start_ms, end_ms, step_ms)

    async def _answer(
        self, request: web.Request, parameters: Parameters, start_ms: int, end_ms: int, step_ms: int
    ) -> web.StreamResponse:
        timeout_ms = self._timeout_ms(parameters)
        limit = parameters.limit()
        query = QueryRequest(
            dataset=await choose_dataset(request, parameters, self._edge.services),
            query=parameters.text("query"),
            start_ms=start_ms,
            end_ms=end_ms,
            step_ms=step_ms,
            is_range=step_ms > 0,
            timeout_ms=timeout_ms,
            lookback_ms=_lookback_ms(parameters),
            spread=_spread(parameters),
            allow_partial=parameters.flag("allowPartialResults"),
            wants_stats=bool(parameters.text("stats")) or parameters.flag("verbose"),
            request_id=self._query_id(request),
        )
        parameters.flag("histogramMap")  # there are float samples only: nothing to map, but a bad value is an error
        if parameters.flag("explainOnly"):
            return await self._explained(request, query, timeout_ms)
        client = client_of(request)
        with self._edge.unsent.answer(client) as unsent:
            began_s = time.monotonic()
            async with self._edge.queries.slot(timeout_ms, client) as left_ms:
                outcome, elapsed_s = await self._run(query, left_ms)
                # Before the next query may fill memory, this one's answer has its place there.
                await unsent.take(result_bytes(outcome.result), left_ms)
            queued_s = time.monotonic() - began_s - elapsed_s
            return await self._send(request, query, limit, outcome, queued_s, elapsed_s, unsent)

    async def _send(
        self,
        request: web.Request,
        query: QueryRequest,
        limit: int,
        outcome: QueryOutcome,
        queued_s: float,
        elapsed_s: float,
        unsent: UnsentAnswer,
    ) -> web.StreamResponse:
        result, warnings = outcome.result, outcome.warnings
        if limit and result.series_count > limit:
            result, warnings = result.truncated(limit), (*warnings, TRUNCATED)
        points = point_count(result)
        self._edge.metrics.result_points.inc(points)
        data = query_data(
            result_json(result, is_range=query.is_range),
            _stats(outcome.stats, queued_s, elapsed_s) if query.wants_stats else None,
        )
        pieces = enveloped(data, warnings, outcome.infos, partial=outcome.partial)
        return await json_stream(request, pieces, points, self._min_compressed_bytes, unsent)

    async def _run(self, query: QueryRequest, timeout_ms: int) -> tuple[QueryOutcome, float]:
        """The outcome, and the seconds it took."""
        began_s = time.monotonic()
        outcome = await self._worded(self._service.query(dataclasses.replace(query, timeout_ms=timeout_ms)))
        return outcome, time.monotonic() - began_s

    async def _explained(self, request: web.Request, query: QueryRequest, timeout_ms: int) -> web.StreamResponse:
        """Its turn is that of a query's text: the longest are planned for seconds, by threads that queries need too."""
        client = client_of(request)
        with self._edge.unsent.answer(client) as unsent:
            async with self._edge.metadata.slot(timeout_ms, client) as left_ms:
                body = success_body(await self._worded(self._service.explain(query)))
                await unsent.take(len(body), left_ms)
            return await json_body(request, body, self._min_compressed_bytes, unsent)

    @staticmethod
    async def _worded(answer: Awaitable[_Answer]) -> _Answer:
        """Whatever a service finds wrong with a request is in the query: the rest was checked here."""
        try:
            return await answer
        except BadData as error:
            raise invalid_parameter("query", error.message) from error

    def _timeout_ms(self, parameters: Parameters) -> int:
        configured_ms = self._edge.config.query.timeout_ms
        asked_ms = parameters.optional_duration_ms("timeout")
        if asked_ms is None:
            return configured_ms
        if asked_ms <= 0:
            raise QueryTimeout(f"query timed out: the request allowed it {asked_ms} ms")
        return min(asked_ms, configured_ms)

    def _query_id(self, request: web.Request) -> str:
        """The request's id, made unique among what runs: clients may send one id with many requests."""
        identity = request_id(request)
        if any(query.id == identity for query in self._service.running()):
            return f"{identity}-{secrets.token_hex(4)}"
        return identity

    # ---- what runs

    async def running(self, request: web.Request) -> web.Response:
        queries = [
            {
                "id": query.id,
                "dataset": query.dataset,
                "query": query.query,
                "startedAt": query.started_ms / 1000,
                "elapsedSeconds": query.elapsed_ms / 1000,
            }
            for query in self._service.running()
            if may_read(request, query.dataset)
        ]
        return success(request, queries, self._min_compressed_bytes)

    async def cancel(self, request: web.Request) -> web.Response:
        identity = request.match_info["id"]
        for query in self._service.running():
            if query.id == identity:
                check_dataset(request, query.dataset)
        if not self._service.cancel(identity):
            raise NotFound(f"no query {identity} runs on this gateway")
        return success(request, [], self._min_compressed_bytes)

    # ---- text only

    async def format_query(self, request: web.Request) -> web.StreamResponse:
        return await self._of_text(request, pretty)

    async def parse_query(self, request: web.Request) -> web.StreamResponse:
        return await self._of_text(request, json_tree)

    async def _of_text(self, request: web.Request, make: Callable[[Expr], object]) -> web.StreamResponse:
        """What ``make`` makes of the query's tree."""
        text = (await self._parameters(request)).text("query")
        client = client_of(request)

        def answer() -> bytes:
            return success_body(make(parse(text, self._edge.parser_options)), deep=True)

        with self._edge.unsent.answer(client) as unsent:
            try:
                if len(text) <= INLINE_TEXT_CHARACTERS_MAX:
                    body = answer()
                else:
                    async with self._edge.metadata.slot(self._edge.config.query.timeout_ms, client) as left_ms:
                        body = await run_text_work(answer)
                        await unsent.take(len(body), left_ms)
            except BadData as error:
                raise invalid_parameter("query", error.message) from error
            return await json_body(request, body, self._min_compressed_bytes, unsent)

    async def _parameters(self, request: web.Request) -> Parameters:
        return await Parameters.read(request, self._edge.form_bytes_max)


def _query_time(name: str, time_ms: int) -> int:
    if not MIN_TIME_MS < time_ms < MAX_TIME_MS:
        raise invalid_parameter(name, f"times must be between {MIN_TIME_MS // 1000} and {MAX_TIME_MS // 1000} seconds")
    return time_ms


def _lookback_ms(parameters: Parameters) -> int | None:
    text = parameters.text("lookback_delta")
    if not text:
        return None
    try:
        lookback_ms = parse_duration_parameter_ms(text)
    except ValueError as error:
        raise BadData(f"error parsing lookback delta duration: {error}") from None
    return lookback_ms if lookback_ms > 0 else None  # as Prometheus: not positive means the configured one


def _spread(parameters: Parameters) -> int | None:
    spread = parameters.optional_integer("spread")
    if spread is not None and not 0 <= spread <= 31:
        raise invalid_parameter("spread", f"{spread} is not between 0 and 31")
    return spread


def _stats(figures: Mapping[str, Any] | None, queued_s: float, elapsed_s: float) -> dict[str, Any]:
    """Prometheus's ``timings`` and ``samples`` of what is measured here, then the service's own figures."""
    own = dict(figures or {})
    samples = {"totalQueryableSamples": own.pop("totalQueryableSamples", 0), "peakSamples": own.pop("peakSamples", 0)}
    timings = {
        "evalTotalTime": elapsed_s,
        "execQueueTime": max(0.0, queued_s),
        "execTotalTime": elapsed_s + max(0.0, queued_s),
    }
    return {"timings": timings, "samples": samples, **own}
