"""A gateway's query side: text in, one message to each node that has a part, one answer out.

Parsing, planning and finishing are the engine's; this decides whom to ask, waits for shards that are on
their way, and never answers with less than was asked without saying so.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from filoray.cluster.cluster_view import DatasetView
from filoray.cluster.config import QueryConfig
from filoray.cluster.errors import FilorayError, NotFound, StaleRoute, Unavailable
from filoray.cluster.shard_status import ACTIVE
from filoray.nodes.engine import wire
from filoray.nodes.engine.explain import explain
from filoray.nodes.engine.fragments import FragmentAnswers
from filoray.nodes.engine.label_table import LabelTable
from filoray.nodes.engine.planner import ExecPlan, finish, plan
from filoray.nodes.engine.query_params import CancelToken, EvalLimits, QueryParams
from filoray.nodes.metadata_codec import decode_batch, decode_labels, matchers_to_plain
from filoray.nodes.node_client import Reply
from filoray.nodes.promql.ast import Expr, LabelMatcher
from filoray.nodes.promql.parser import ParserOptions, parse
from filoray.nodes.protocol import Frames, Kind
from filoray.nodes.requests import (
    MetadataRequest,
    MetricMetadata,
    Names,
    QueryOutcome,
    QueryRequest,
    RawSeriesAnswer,
    RunningQuery,
    SeriesAnswer,
)
from filoray.nodes.routing import Route, ShardEpochs, route
from filoray.nodes.series_batch import SeriesBatch
from filoray.nodes.sharding import shards_for_matchers
from filoray.nodes.view_holder import ViewHolder
from filoray.nodes.write_service import metadata_shard

T = TypeVar("T")
Selectors = Sequence[tuple[LabelMatcher, ...]]

_INLINE_REPLY_BYTES_MAX = 256 * 1024
"""Answers up to this size are put together on the event loop: a thread's hand-over would cost more."""


@dataclass(slots=True)
class _Running:
    id: str
    request: QueryRequest
    started_s: float
    started_ms: int
    task: asyncio.Task[object]
    token: CancelToken
    canceled_by_user: bool = False


class FanOutQueryService:
    """QueryService over a gateway's ViewHolder. ``local_node``: the node beside this gateway."""

    def __init__(self, views: ViewHolder, config: QueryConfig, local_node: str) -> None:
        self._views = views
        self._config = config
        self._local_node = local_node
        self._parser_options = ParserOptions(
            experimental_functions=config.experimental_functions,
            duration_expressions=config.duration_expressions,
            extended_range_selectors=config.extended_range_selectors,
            max_query_bytes=config.max_query_bytes,
            max_depth=config.max_depth,
        )
        self._limits = EvalLimits(config.max_samples, config.max_series, config.max_result_bytes)
        self._running: dict[str, _Running] = {}
        self._ids = itertools.count(1)

    # ---- PromQL

    async def query(self, request: QueryRequest) -> QueryOutcome:
        timeout_ms = min(request.timeout_ms or self._config.timeout_ms, self._config.timeout_ms)
        token = CancelToken(timeout_ms)
        task = asyncio.current_task()
        assert task is not None
        running = _Running(
            request.request_id or f"query-{next(self._ids)}",
            request,
            time.monotonic(),
            int(time.time() * 1000),
            task,
            token,
        )
        self._running[running.id] = running
        try:
            return await self._query(request, timeout_ms, token)
        except asyncio.CancelledError:
            token.cancel()
            if running.canceled_by_user:
                task.uncancel()
                token.check()
            raise
        finally:
            del self._running[running.id]

    async def _query(self, request: QueryRequest, timeout_ms: int, token: CancelToken) -> QueryOutcome:
        deadline_s = time.monotonic() + timeout_ms / 1000
        self._views.dataset(request.dataset)
        expr = parse(request.query, self._parser_options)
        params = self._params(request)

        async def attempt(dataset: DatasetView) -> tuple[ExecPlan, list[FragmentAnswers], Route]:
            exec_plan = self._plan(dataset, expr, params, request.spread)
            chosen = self._route(dataset, [s for f in exec_plan.fragments for s in f.selectors], request.spread)
            frames: Frames = [wire.encode_fragments(exec_plan.fragments)]
            replies = await self._ask_all(
                Kind.QUERY, request.dataset, chosen, deadline_s, request.allow_partial, None, frames
            )
            return exec_plan, replies, chosen

        exec_plan, replies, chosen = await self._attempts(request.dataset, deadline_s, request.allow_partial, attempt)
        size_bytes = sum(len(frame) for _, reply in replies for frame in reply.frames)

        def finish_plan():
            answers = [wire.decode_answers(reply.frames) for _, reply in replies]
            return answers, finish(exec_plan, answers, self._limits, token)

        if size_bytes <= _INLINE_REPLY_BYTES_MAX:
            answers, result = finish_plan()
        else:
            answers, result = await asyncio.to_thread(finish_plan)
        warnings, infos = result.annotations.render(request.query)
        if chosen.missing:
            warnings = (f"partial result: {chosen.missing_text(request.dataset)}", *warnings)
        stats = None
        if request.wants_stats:
            stats = _stats_tree(result, replies, answers)
        return QueryOutcome(result, warnings, infos, bool(chosen.missing), stats)

    async def explain(self, request: QueryRequest) -> list[str]:
        dataset = self._views.dataset(request.dataset)
        expr = parse(request.query, self._parser_options)
        exec_plan = self._plan(dataset, expr, self._params(request), request.spread)
        chosen = self._route(dataset, [s for f in exec_plan.fragments for s in f.selectors], request.spread)
        node_shards = {
            str(self._views.view.nodes[node].address): tuple(shard for shard, _ in pairs)
            for node, pairs in chosen.by_node.items()
        }
        return explain(exec_plan, node_shards, request.dataset)

    def _params(self, request: QueryRequest) -> QueryParams:
        options = {
            "lookback_ms": request.lookback_ms or self._config.lookback_ms,
            "default_step_ms": self._config.default_step_ms,
            "wants_stats": request.wants_stats,
        }
        if request.is_range:
            return QueryParams.range(request.start_ms, request.end_ms, request.step_ms, **options)
        return QueryParams.instant(request.start_ms, **options)

    def _plan(self, dataset: DatasetView, expr: Expr, params: QueryParams, spread: int | None) -> ExecPlan:
        def colocated(selectors: Selectors) -> bool:
            chosen = self._route(dataset, selectors, spread)
            return len(chosen.by_node) == 1 and not chosen.missing

        return plan(expr, params, colocated)

    def _route(self, dataset: DatasetView, selectors: Selectors, spread: int | None) -> Route:
        config = dataset.config
        used_spread = config.spread if spread is None else spread
        shards: set[int] = set()
        for matchers in selectors:
            shards.update(shards_for_matchers(matchers, config.num_shards, used_spread))
        return route(dataset.shard_map, sorted(shards))

    # ---- asking nodes

    async def _attempts(
        self,
        dataset_name: str,
        deadline_s: float,
        allow_partial: bool,
        attempt: Callable[[DatasetView], Awaitable[T]],
    ) -> T:
        """Try by the newest view until it works or the deadline passes."""
        while True:
            version = self._views.view.version
            try:
                return await attempt(self._views.dataset(dataset_name))
            except (StaleRoute, _MissingShards) as error:
                left_s = deadline_s - time.monotonic()
                if left_s <= 0 or not await self._views.newer_than(version, left_s):
                    raise Unavailable(error.message) from None

    async def _ask_all(
        self,
        kind: Kind,
        dataset: str,
        chosen: Route,
        deadline_s: float,
        allow_partial: bool,
        body: object = None,
        frames: Frames | None = None,
    ) -> list[tuple[str, Reply]]:
        """The reply of every node of the route. Raises _MissingShards if a shard has no owner and less is not allowed."""
        if chosen.missing and not allow_partial:
            raise _MissingShards(chosen.missing_text(dataset))

        async def ask(node: str, pairs: ShardEpochs) -> tuple[str, Reply]:
            left_ms = max(1, int((deadline_s - time.monotonic()) * 1000))
            return node, await self._views.client(node).request(kind, dataset, pairs, left_ms, body, frames)

        if len(chosen.by_node) == 1:
            return [await ask(*next(iter(chosen.by_node.items())))]
        tasks = [asyncio.ensure_future(ask(node, pairs)) for node, pairs in chosen.by_node.items()]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            # One node's failure (or the client's going away) stops the work on the others.
            for task in tasks:
                task.cancel()

    # ---- labels and raw series

    async def _ask_metadata(
        self, kind: Kind, request: MetadataRequest, extra: object = None
    ) -> tuple[list[Reply], tuple[str, ...]]:
        timeout_ms = min(request.timeout_ms or self._config.timeout_ms, self._config.timeout_ms)
        deadline_s = time.monotonic() + timeout_ms / 1000
        body = [
            [matchers_to_plain(matchers) for matchers in request.selectors],
            request.start_ms,
            request.end_ms,
            request.limit,
            extra,
        ]

        async def attempt(dataset: DatasetView) -> tuple[list[tuple[str, Reply]], Route]:
            chosen = self._route(dataset, request.selectors or [()], None)
            replies = await self._ask_all(kind, request.dataset, chosen, deadline_s, request.allow_partial, body)
            return replies, chosen

        replies, chosen = await self._attempts(request.dataset, deadline_s, request.allow_partial, attempt)
        warnings = (f"partial result: {chosen.missing_text(request.dataset)}",) if chosen.missing else ()
        return [reply for _, reply in replies], warnings

    async def series(self, request: MetadataRequest) -> SeriesAnswer:
        replies, warnings = await self._ask_metadata(Kind.SERIES, request)
        tables = [decode_labels(reply.body, reply.frames) for reply in replies]
        labels = LabelTable.concat(tables) if tables else LabelTable.empty_sets(0)
        self._limits.check_series(labels.count)
        if request.limit and labels.count > request.limit:
            labels = labels.take(labels.sorted_rows()[: request.limit])
            warnings = (*warnings, "results truncated due to limit")
        return SeriesAnswer(labels, warnings, _is_partial(warnings))

    async def label_names(self, request: MetadataRequest) -> Names:
        replies, warnings = await self._ask_metadata(Kind.NAMES, request)
        return _merged_names(replies, request.limit, warnings)

    async def label_values(self, name: str, request: MetadataRequest) -> Names:
        replies, warnings = await self._ask_metadata(Kind.VALUES, request, name)
        return _merged_names(replies, request.limit, warnings)

    async def local_label_values(self, name: str, request: MetadataRequest) -> Names:
        """Of the shards of the node beside this gateway, as FiloDB's node-local endpoint answers."""
        shard_map = self._views.dataset(request.dataset).shard_map
        pairs = tuple(
            (e.shard, e.epoch) for e in shard_map.shards if e.node == self._local_node and e.status.kind is ACTIVE
        )
        if not pairs:
            raise NotFound(
                f"the node beside this gateway ({self._local_node}) has no active shard of {request.dataset}"
            )
        body = [
            [matchers_to_plain(matchers) for matchers in request.selectors],
            request.start_ms,
            request.end_ms,
            request.limit,
            name,
        ]
        timeout_ms = request.timeout_ms or self._config.timeout_ms
        reply = await self._views.client(self._local_node).request(
            Kind.VALUES, request.dataset, pairs, timeout_ms, body
        )
        names = _merged_names([reply], request.limit, ())
        if not names.values:
            raise NotFound(f"label {name} is not indexed on the node beside this gateway ({self._local_node})")
        return names

    async def read_raw(self, request: MetadataRequest) -> RawSeriesAnswer:
        replies, warnings = await self._ask_metadata(Kind.RAW, request)
        batches = [decode_batch(reply.body, reply.frames) for reply in replies]
        if not batches:
            raise Unavailable(f"dataset {request.dataset}: no shard is available")
        batch = SeriesBatch.concat(batches)
        self._limits.check_series(batch.labels.count)
        self._limits.check_samples(len(batch.timestamps))
        return RawSeriesAnswer(batch, (*warnings, *batch.warnings), _is_partial(warnings))

    async def metadata(self, dataset: str, metric: str, limit: int) -> Sequence[MetricMetadata]:
        deadline_s = time.monotonic() + self._config.timeout_ms / 1000

        async def attempt(view: DatasetView) -> list[tuple[str, Reply]]:
            count = len(view.shard_map.shards)
            shards = [metadata_shard(metric, count)] if metric else range(count)
            return await self._ask_all(
                Kind.METADATA, dataset, route(view.shard_map, shards), deadline_s, False, [metric, limit]
            )

        replies = await self._attempts(dataset, deadline_s, False, attempt)
        entries = sorted(MetricMetadata(*fields) for _, reply in replies for fields in reply.body)
        return entries

    # ---- what runs

    def running(self) -> Sequence[RunningQuery]:
        now_s = time.monotonic()
        return [
            RunningQuery(r.id, r.request.dataset, r.request.query, r.started_ms, int((now_s - r.started_s) * 1000))
            for r in self._running.values()
        ]

    def cancel(self, query_id: str) -> bool:
        running = self._running.get(query_id)
        if running is None:
            return False
        running.canceled_by_user = True
        running.token.cancel(f"query {query_id} was canceled")
        running.task.cancel()
        return True


class _MissingShards(FilorayError):
    """Shards without an owner that could be asked; never leaves this module."""


def _is_partial(warnings: Sequence[str]) -> bool:
    return any(warning.startswith("partial result") for warning in warnings)


def _merged_names(replies: Sequence[Reply], limit: int, warnings: tuple[str, ...]) -> Names:
    merged = sorted(set().union(*(reply.body for reply in replies)) if replies else ())
    if limit and len(merged) > limit:
        merged = merged[:limit]
        warnings = (*warnings, "results truncated due to limit")
    return Names(merged, warnings, _is_partial(warnings))


def _stats_tree(result, replies, answers) -> dict[str, object]:
    """``stats=all``: per node what it read, sent and how long it took, and the gateway's own stages."""
    nodes = [
        {
            "node": node,
            "bytesMoved": sum(len(frame) for frame in reply.frames),
            "wallMs": reply.body,
            "stages": answer.stats.to_json() if answer.stats else None,
        }
        for (node, reply), answer in zip(replies, answers, strict=True)
    ]
    return {
        "totalQueryableSamples": sum(answer.stats.total_samples for answer in answers if answer.stats),
        "nodes": nodes,
        "gateway": result.stats.to_json() if result.stats else None,
    }
