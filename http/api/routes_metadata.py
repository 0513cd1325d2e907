"""Series, label names, label values and metric metadata.

``/api/v1/label/{name}/values`` without a prefix asks the node beside the gateway and no other, as FiloDB's contract
says, and is 404 for a label that node does not index; under ``/promql/{dataset}`` it is cluster-wide and,
as Prometheus's, empty for an unknown label.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from aiohttp import web

from filoray.cluster.errors import BadData
from filoray.http.access.route_access import PREFIXES
from filoray.http.api.dataset_choice import choose_dataset
from filoray.http.api.json_encoding import label_sets_json
from filoray.http.api.routes_query import TRUNCATED
from filoray.http.api.selector_parameters import read_selectors
from filoray.http.fanout.requests import MetadataRequest, Names
from filoray.http.server.answer_sizes import labels_bytes
from filoray.http.server.gateway_services import Edge
from filoray.http.server.parameters import MAX_TIME_MS, MIN_TIME_MS, Parameters, invalid_parameter
from filoray.http.server.request_context import client_of, request_id
from filoray.http.server.responses import enveloped, json_body, json_stream, success, success_body
from filoray.nodes.data.label_table import LabelTable
from filoray.nodes.data.metric_metadata import MetricMetadata
from filoray.nodes.promql.go_numbers import parse_int64
from filoray.nodes.promql.quoting import is_valid_label_name, quote

_SORTED_INLINE_MAX = 1_000
_ESCAPED_RUNE = re.compile(r"_([0-9A-Fa-f]{1,6})_|__")


class MetadataRoutes:
    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._service = edge.services.metadata
        self._min_compressed_bytes = edge.config.http.min_compressed_bytes

    def routes(self) -> list[web.RouteDef]:
        routes = [
            web.get("/api/v1/label/{name}/values", self.local_label_values),
            web.get("/promql/{dataset}/api/v1/label/{name}/values", self.label_values),
        ]
        for prefix in PREFIXES:
            for path, handler in (("series", self.series), ("labels", self.label_names)):
                routes += [web.get(f"{prefix}/{path}", handler), web.post(f"{prefix}/{path}", handler)]
            routes.append(web.get(f"{prefix}/metadata", self.metadata))
        return routes

    async def series(self, request: web.Request) -> web.StreamResponse:
        parameters = await self._parameters(request)
        limit = parameters.limit()
        asked = await self._request(request, parameters, limit, selectors_needed=True)
        client = client_of(request)
        with self._edge.unsent.answer(client) as unsent:
            async with self._edge.metadata.slot(self._timeout_ms(asked), client) as left_ms:
                answer = await self._service.series(asked)
                labels = answer.labels
                warnings = answer.warnings
                if labels.count <= _SORTED_INLINE_MAX:
                    labels = _sorted(labels)
                else:
                    labels = await asyncio.to_thread(_sorted, labels)
                await unsent.take(labels_bytes(labels), left_ms)
            if limit and labels.count > limit:
                labels = labels.take(np.arange(limit))
                warnings = _with_truncation(warnings)
            pieces = enveloped(label_sets_json(labels), warnings, partial=answer.partial)
            return await json_stream(request, pieces, labels.count, self._min_compressed_bytes, unsent)

    async def label_names(self, request: web.Request) -> web.StreamResponse:
        parameters = await self._parameters(request)
        limit = parameters.limit()
        asked = await self._request(request, parameters, limit)
        return await self._names(request, self._timeout_ms(asked), limit, partial(self._service.label_names, asked))

    async def label_values(self, request: web.Request) -> web.StreamResponse:
        name = _label_name(request)
        parameters = await self._parameters(request)
        limit = self._values_limit(parameters)
        asked = await self._request(request, parameters, limit)
        return await self._names(
            request, self._timeout_ms(asked), limit, partial(self._service.label_values, name, asked)
        )

    async def local_label_values(self, request: web.Request) -> web.StreamResponse:
        name = _label_name(request)
        parameters = await self._parameters(request)
        limit = self._values_limit(parameters)
        asked = await self._request(request, parameters, limit)
        return await self._names(
            request, self._timeout_ms(asked), limit, partial(self._service.local_label_values, name, asked)
        )

    async def metadata(self, request: web.Request) -> web.StreamResponse:
        parameters = await self._parameters(request)
        limit = _metadata_limit(parameters, "limit")
        per_metric = _metadata_limit(parameters, "limit_per_metric")
        dataset = await choose_dataset(request, parameters, self._edge.services)
        if limit == 0:
            return success(request, {}, self._min_compressed_bytes)

        async def answer() -> Mapping[str, Any]:
            entries = await self._service.metrics(dataset, parameters.text("metric"), max(0, limit))
            return {"data": _by_metric(entries, limit, per_metric)}

        return await self._answer(request, self._edge.config.query.timeout_ms, answer)

    def _timeout_ms(self, asked: MetadataRequest) -> int:
        configured_ms = self._edge.config.query.timeout_ms
        return min(asked.timeout_ms or configured_ms, configured_ms)

    def _values_limit(self, parameters: Parameters) -> int:
        """The smaller of what is asked for and what is configured; 0 means none of either."""
        limits = [limit for limit in (parameters.limit(), self._edge.config.query.label_values_limit) if limit]
        return min(limits, default=0)

    async def _request(
        self, request: web.Request, parameters: Parameters, limit: int, *, selectors_needed: bool = False
    ) -> MetadataRequest:
        # Prometheus looks at match[] before the times where it is needed, which decides who complains first.
        if selectors_needed and not parameters.all("match[]"):
            raise BadData("no match[] parameter provided")
        start_ms = parameters.time_ms_or("start", MIN_TIME_MS)
        end_ms = parameters.time_ms_or("end", MAX_TIME_MS)
        timeout_ms = parameters.optional_duration_ms("timeout")
        if timeout_ms is not None and timeout_ms <= 0:
            raise invalid_parameter("timeout", "a timeout must be positive")
        return MetadataRequest(
            dataset=await choose_dataset(request, parameters, self._edge.services),
            selectors=read_selectors(parameters, self._edge.parser_options, needed=selectors_needed),
            start_ms=start_ms,
            end_ms=end_ms,
            limit=limit + 1 if limit else 0,  # one more tells whether there are more
            timeout_ms=timeout_ms,
            allow_partial=parameters.flag("allowPartialResults"),
            request_id=request_id(request),
        )

    async def _names(
        self, request: web.Request, timeout_ms: int, limit: int, ask: Callable[[], Awaitable[Names]]
    ) -> web.StreamResponse:
        async def answer() -> Mapping[str, Any]:
            found = await ask()
            values, warnings = found.values, found.warnings
            if limit and len(values) > limit:
                values, warnings = values[:limit], _with_truncation(warnings)
            return {"data": list(values), "partial": found.partial, "warnings": warnings}

        return await self._answer(request, timeout_ms, answer)

    async def _answer(
        self, request: web.Request, timeout_ms: int, ask: Callable[[], Awaitable[Mapping[str, Any]]]
    ) -> web.StreamResponse:
        """An envelope with ``data`` and what else ``ask`` gives when its turn has come."""
        client = client_of(request)
        with self._edge.unsent.answer(client) as unsent:
            async with self._edge.metadata.slot(timeout_ms, client) as left_ms:
                body = success_body(**await ask())
                await unsent.take(len(body), left_ms)
            return await json_body(request, body, self._min_compressed_bytes, unsent)

    async def _parameters(self, request: web.Request) -> Parameters:
        return await Parameters.read(request, self._edge.form_bytes_max)


def _sorted(labels: LabelTable) -> LabelTable:
    return labels.take(labels.sorted_rows())


def _with_truncation(warnings: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*warnings, TRUNCATED)))


def _label_name(request: web.Request) -> str:
    """The path's label; Prometheus's ``U__`` escaping (for names that do not fit a path) undone. Raises BadData."""
    name = request.match_info["name"]
    if name.startswith("U__"):
        try:
            name = _ESCAPED_RUNE.sub(lambda found: chr(int(found[1], 16)) if found[1] else "_", name[3:])
        except (ValueError, OverflowError):
            raise BadData(f"invalid label name: {quote(name)}") from None
    if not is_valid_label_name(name):
        raise BadData(f"invalid label name: {quote(name)}")
    return name


def _metadata_limit(parameters: Parameters, name: str) -> int:
    """-1: no limit, as in Prometheus."""
    text = parameters.text(name)
    if not text:
        return -1
    try:
        return parse_int64(text)
    except ValueError:
        raise BadData(f"{name} must be a number") from None


def _by_metric(entries: Sequence[MetricMetadata], limit: int, per_metric: int) -> dict[str, list[dict[str, str]]]:
    answer: dict[str, list[dict[str, str]]] = {}
    for entry in entries:
        if entry.metric not in answer and 0 <= limit <= len(answer):
            continue
        found = answer.setdefault(entry.metric, [])
        if per_metric <= 0 or len(found) < per_metric:
            found.append({"type": entry.type, "help": entry.help, "unit": entry.unit})
    return answer
