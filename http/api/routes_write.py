"""Prometheus remote write: checks the request's head and size, has it decoded, and answers when it is durable.

204 says that every sample is in its shard's log (or was there before). 400 says that some samples are refused, how many
and why; the rest is durable. Decoding is left to ``remote_write``, routing and waiting to the write service.
"""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from aiohttp import web

from filoray.cluster.config.dataset import DatasetConfig
from filoray.cluster.errors import BadData, ConfigError, QueryTimeout, Unavailable
from filoray.http.access.route_access import PREFIXES
from filoray.http.api.dataset_choice import choose_dataset, dataset_view
from filoray.http.fanout.requests import WriteRequest
from filoray.http.remote.remote_write import DecodedWrite
from filoray.http.remote.snappy_block import declared_length
from filoray.http.remote.write_answer import OUTCOME_HEADER, outcome_header, refusal_text
from filoray.http.server.bodies import BodyTimeout, UnsupportedMediaType, content_encoding, read_raw_body
from filoray.http.server.error_responses import error_response
from filoray.http.server.gateway_services import Edge
from filoray.http.server.parameters import Parameters
from filoray.http.server.request_context import client_of, request_id
from filoray.nodes.data.write_outcome import WriteOutcome

_PROTOBUF = "application/x-protobuf"
_MESSAGE_V1 = "prometheus.WriteRequest"
_decoding = ThreadPoolExecutor(max(2, os.cpu_count() or 1), "decode")
"""Threads that nothing else takes, be it queries that are finished or answers that are compressed."""
_INLINE_BODY_BYTES_MAX = 32 * 1024
_INLINE_DECODED_BYTES_MAX = 256 * 1024
"""Bodies up to this size are decoded on the event loop: a thread's hand-over would cost more."""


class WriteRoutes:
    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._services = edge.services
        self._config = edge.config.write

    def routes(self) -> list[web.RouteDef]:
        return [web.post(f"{prefix}/write", self.write) for prefix in PREFIXES]

    async def write(self, request: web.Request) -> web.Response:
        try:
            return await self._write(request)
        except (QueryTimeout, BodyTimeout, ConfigError) as error:
            # Nothing is wrong with the samples, and senders drop those that are answered with 4xx.
            raise Unavailable(error.message) from error

    async def _write(self, request: web.Request) -> web.Response:
        dataset = await choose_dataset(request, Parameters.of_query(request), self._services)
        check_media_type(request)
        client = client_of(request)
        with self._edge.pending_writes.share(client) as memory:
            # A slot is taken when the body is there: a slow sender keeps nobody else from writing.
            body = await read_raw_body(
                request, self._config.max_body_bytes, "filoray.write.max-body-size allows", memory
            )
            self._edge.metrics.write_bytes.labels(dataset).inc(len(body))
            async with self._edge.writes.slot(self._config.timeout_ms, client):
                config = (await dataset_view(dataset, self._services)).config
                with memory.holding(self._decompressed_bytes(body)):
                    decoded = await self._decode(config, body)
                memory.grow(held_bytes(decoded))
                outcome = await self._store(config, decoded, request_id(request))
        if not outcome.refused_count:
            return web.Response(status=204)
        answer = error_response(BadData(refusal_text(outcome)), request_id(request))
        answer.headers[OUTCOME_HEADER] = outcome_header(outcome)
        return answer

    def _decompressed_bytes(self, body: bytes) -> int:
        """What a body becomes for a moment; one that is declared too large is refused before."""
        return min(declared_length(body), self._config.max_decoded_bytes) if body else 0

    async def _decode(self, config: DatasetConfig, body: bytes) -> DecodedWrite:
        dataset = config.name
        decoder = self._services.remote_write_decoder
        if len(body) <= _INLINE_BODY_BYTES_MAX and self._decompressed_bytes(body) <= _INLINE_DECODED_BYTES_MAX:
            return decoder.decode(dataset, body, config.num_shards, config.spread)
        decode = partial(decoder.decode, dataset, body, config.num_shards, config.spread)
        return await asyncio.get_running_loop().run_in_executor(_decoding, decode)

    async def _store(self, config: DatasetConfig, decoded: DecodedWrite, identity: str) -> WriteOutcome:
        """Where samples are refused, those that are not are stored all the same."""
        dataset = config.name
        outcome = WriteOutcome()
        outcome.add(decoded.outcome)
        if decoded.containers or decoded.metadata:
            request = WriteRequest(
                dataset, config.generation, decoded.containers, decoded.with_keys, decoded.metadata, identity
            )
            outcome.add(await self._services.write.write(request))
            decoded.acknowledged()
        self._edge.metrics.samples_written.labels(dataset).inc(outcome.accepted)
        for reason, count in outcome.refused.items():
            self._edge.metrics.samples_refused.labels(dataset, reason).inc(count)
        return outcome


def check_media_type(request: web.Request) -> None:
    """Only snappy-compressed ``prometheus.WriteRequest`` (remote write 1.0) is read. Raises UnsupportedMediaType."""
    encoding = content_encoding(request)
    if encoding not in ("", "snappy"):
        raise UnsupportedMediaType(f"content encoding {encoding} is not read here; only snappy is")
    given = request.headers.get("Content-Type", "").strip()
    if not given:
        return  # remote write 1.0's first senders named none
    media_type, *parameters = (part.strip() for part in given.split(";"))
    if media_type.lower() != _PROTOBUF:
        raise UnsupportedMediaType(f"content type {given} is not read here; only {_PROTOBUF} is")
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "proto" and value.strip().strip('"') != _MESSAGE_V1:
            raise UnsupportedMediaType(
                f"message {value.strip()} is not read here; only {_MESSAGE_V1} (remote write 1.0) is"
            )


def held_bytes(decoded: DecodedWrite) -> int:
    """About what a decoded write takes in memory: its columns, and again the message they are sent as."""
    return 2 * sum(
        16 * container.sample_count + 20 * container.series_count + len(container.keys.data)
        for container in decoded.containers.values()
    )
