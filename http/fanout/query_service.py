"""A gateway's query side: text in, one message to each node that has a part, one answer out.

Parsing, planning and finishing are the engine's; this decides whom to ask, waits for shards that are on
their way, and never answers with less than was asked without saying so.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from filoray.cluster.cluster_view import DatasetView
from filoray.cluster.config.server_config import QueryConfig
from filoray.cluster.control.shard_status import ACTIVE
from filoray.cluster.errors import BadData, FilorayError, NotFound, StaleRoute, Unavailable
from filoray.http.fanout.requests import (
    MetadataRequest,
    Names,
    QueryOutcome,
    QueryRequest,
    RawSeriesAnswer,
    RunningQuery,
    SeriesAnswer,
)
from filoray.http.fanout.retrying import Retrying
from filoray.http.fanout.routing import Route, ShardEpochs, missing_text, route
from filoray.http.fanout.text_work import INLINE_TEXT_CHARACTERS_MAX, run_text_work
from filoray.http.fanout.view_holder import ViewHolder
from filoray.nodes.data.label_table import LabelTable
from filoray.nodes.data.metric_metadata import MetricMetadata, metadata_shard
from filoray.nodes.data.part_key import shards_for_matchers
from filoray.nodes.data.series_batch import SeriesBatch
from filoray.nodes.engine.evaluate.fragments import FragmentAnswers
from filoray.nodes.engine.plan.explain import explain
from filoray.nodes.engine.plan.finishing import finish
from filoray.nodes.engine.plan.planner import ExecPlan, plan
from filoray.nodes.engine.query_params import CancelToken, EvalLimits, QueryParams, QueryResult
from filoray.nodes.promql.ast import Expr, LabelMatcher, ValueType
from filoray.nodes.promql.codec import matchers_to_plain
from filoray.nodes.promql.options import ParserOptions
from filoray.nodes.promql.parser import parse
from filoray.nodes.promql.types import value_type
from filoray.nodes.wire import fragment_codec as wire
from filoray.nodes.wire.node_client import Reply
from filoray.nodes.wire.protocol import Frames, Kind

T = TypeVar("T")
Selectors = Sequence[tuple[LabelMatcher, ...]]

_LIMIT_MAX = 1 << 31
"""More than there can be of anything; keeps any number that a client writes within the wire's integers."""

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


@dataclass(frozen=True, slots=True)
class _Question:
    """What one node is asked: ``shards`` are (shard, epoch) pairs, ``fragments`` indices into the plan's."""

    node: str
    shards: ShardEpochs
    body: object = None
    frames: Frames | None = None
    fragments: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class _Answered:
    """``missing``: shard to why it could not be asked."""

    plan: ExecPlan
    questions: Sequence[_Question]
    replies: Sequence[Reply]
    missing: Mapping[int, str]


class FanOutQueryService:
    """QueryService over a gateway's ViewHolder. ``local_node``: the node beside this gateway."""

    def __init__(self, views: ViewHolder, config: QueryConfig, local_node: str) -> None:
        self._views = views
        self._config = config
        self._local_node = local_node
        self._parser_options = ParserOptions.of_config(config)
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
            self._free_id(request.request_id),
            request,
            time.monotonic(),
            int(time.time() * 1000),
            task,
            token,
        )
        self._running[running.id] = running
        # Kernels look at the token's flag and at no clock.
        expiry = asyncio.get_running_loop().call_later(timeout_ms / 1000, token.expire)
        try:
            return await self._query(request, timeout_ms, token)
        except asyncio.CancelledError:
            token.cancel()
            if running.canceled_by_user:
                task.uncancel()
                token.check()
            raise
        finally:
            expiry.cancel()
            del self._running[running.id]

    async def _query(self, request: QueryRequest, timeout_ms: int, token: CancelToken) -> QueryOutcome:
        deadline_s = time.monotonic() + timeout_ms / 1000
        self._views.dataset(request.dataset)
        expr = await self._text_work(request, lambda: self._parsed(request))
        params = self._params(request)

        async def attempt(dataset: DatasetView) -> _Answered:
            def planned() -> tuple[ExecPlan, list[_Question], dict[int, str]]:
                exec_plan = self._plan(dataset, expr, params, request)
                return exec_plan, *self._questions(dataset, exec_plan, request.spread)

            exec_plan, questions, missing = await self._text_work(request, planned)
            _refuse_missing(request.dataset, missing, allow_partial=request.allow_partial)
            replies = await self._ask_all(Kind.QUERY, request.dataset, questions, deadline_s)
            return _Answered(exec_plan, questions, replies, missing)

        answered = await self._attempts(request.dataset, deadline_s, attempt)
        size_bytes = sum(len(frame) for reply in answered.replies for frame in reply.frames)
        if size_bytes <= _INLINE_REPLY_BYTES_MAX and len(request.query) <= INLINE_TEXT_CHARACTERS_MAX:
            answers, result = self._finish(answered, token)
        else:
            answers, result = await asyncio.to_thread(self._finish, answered, token)
        warnings, infos = result.annotations.render(request.query)
        warnings = (*_partial_warning(request.dataset, answered.missing), *warnings)
        stats = _stats_tree(answered, answers, result) if request.wants_stats else None
        return QueryOutcome(result, warnings, infos, bool(answered.missing), stats)

    def _finish(self, answered: _Answered, token: CancelToken) -> tuple[list[FragmentAnswers], QueryResult]:
        answers = [wire.decode_answers(reply.frames) for reply in answered.replies]
        asked = [question.fragments for question in answered.questions]
        return answers, finish(answered.plan, answers, self._limits, token, asked)

    def _questions(
        self, dataset: DatasetView, exec_plan: ExecPlan, spread: int | None
    ) -> tuple[list[_Question], dict[int, str]]:
        """One question per node: the fragments whose series it may have, over the shards that may have them."""
        shards: dict[str, dict[int, int]] = {}
        fragments: dict[str, list[int]] = {}
        missing: dict[int, str] = {}
        for index, fragment in enumerate(exec_plan.fragments):
            chosen = self._route(dataset, fragment.selectors, spread)
            missing.update(chosen.missing)
            for node, pairs in chosen.by_node.items():
                shards.setdefault(node, {}).update(pairs)
                fragments.setdefault(node, []).append(index)
        questions = [
            _Question(
                node,
                tuple(sorted(pairs.items())),
                frames=[wire.encode_fragments([exec_plan.fragments[index] for index in fragments[node]])],
                fragments=tuple(fragments[node]),
            )
            for node, pairs in shards.items()
        ]
        return questions, missing

    async def explain(self, request: QueryRequest) -> list[str]:
        dataset = self._views.dataset(request.dataset)
        nodes = self._views.view.nodes

        def explained() -> list[str]:
            exec_plan = self._plan(dataset, self._parsed(request), self._params(request), request)
            questions, _ = self._questions(dataset, exec_plan, request.spread)
            node_shards = {
                str(nodes[question.node].address): tuple(shard for shard, _ in question.shards)
                for question in questions
            }
            return explain(exec_plan, node_shards, request.dataset)

        return await self._text_work(request, explained)

    @staticmethod
    async def _text_work(request: QueryRequest, act: Callable[[], T]) -> T:
        return act() if len(request.query) <= INLINE_TEXT_CHARACTERS_MAX else await run_text_work(act)

    def _parsed(self, request: QueryRequest) -> Expr:
        """Raises BadData, also for a type that has no values at steps."""
        expr = parse(request.query, self._parser_options)
        found = value_type(expr)
        if request.is_range and found not in (ValueType.SCALAR, ValueType.VECTOR):
            raise BadData(f'invalid expression type "{found.value}" for range query, must be Scalar or instant Vector')
        return expr

    def _params(self, request: QueryRequest) -> QueryParams:
        params = (
            QueryParams.range(request.start_ms, request.end_ms, request.step_ms)
            if request.is_range
            else QueryParams.instant(request.start_ms)
        )
        return replace(
            params,
            lookback_ms=request.lookback_ms or self._config.lookback_ms,
            default_step_ms=self._config.default_step_ms,
            wants_stats=request.wants_stats,
            delayed_names=self._config.delayed_name_removal,
        )

    def _plan(self, dataset: DatasetView, expr: Expr, params: QueryParams, request: QueryRequest) -> ExecPlan:
        def colocated(selectors: Selectors) -> bool:
            chosen = self._route(dataset, selectors, request.spread)
            return len(chosen.by_node) == 1 and not chosen.missing

        return plan(expr, params, colocated, query=request.query)

    def _route(self, dataset: DatasetView, selectors: Selectors, spread: int | None) -> Route:
        config = dataset.config
        # A narrower spread than the data were written with would miss series without a word.
        used_spread = max(config.spread, spread or 0)
        shards: set[int] = set()
        for matchers in selectors:
            shards.update(shards_for_matchers(matchers, config.num_shards, used_spread))
        return route(dataset.shard_map, sorted(shards))

    # ---- asking nodes

    async def _attempts(
        self, dataset_name: str, deadline_s: float, attempt: Callable[[DatasetView], Awaitable[T]]
    ) -> T:
        """Try by the newest view until it works or the deadline passes."""
        retrying = Retrying(self._views, deadline_s)
        while True:
            version = self._views.view.version
            try:
                return await attempt(self._views.dataset(dataset_name))
            except (StaleRoute, _MissingShards) as error:
                if not await retrying.is_worthwhile(error, version):
                    raise Unavailable(error.message) from None

    async def _ask_all(
        self, kind: Kind, dataset: str, questions: Sequence[_Question], deadline_s: float
    ) -> list[Reply]:
        """Every question's reply, in order. The first failure, or the caller's cancellation, stops the others."""

        async def ask(question: _Question) -> Reply:
            left_ms = max(1, int((deadline_s - time.monotonic()) * 1000))
            client = self._views.client(question.node)
            return await client.request(kind, dataset, question.shards, left_ms, question.body, question.frames)

        if len(questions) == 1:
            return [await ask(questions[0])]
        tasks = [asyncio.ensure_future(ask(question)) for question in questions]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()

    # ---- labels and raw series

    async def _ask_metadata(
        self, kind: Kind, request: MetadataRequest, extra: object = None
    ) -> tuple[list[Reply], tuple[str, ...]]:
        timeout_ms = min(request.timeout_ms or self._config.timeout_ms, self._config.timeout_ms)
        deadline_s = time.monotonic() + timeout_ms / 1000
        body = _metadata_body(request, extra)

        async def attempt(dataset: DatasetView) -> tuple[list[Reply], tuple[str, ...]]:
            chosen = self._route(dataset, request.selectors or [()], None)
            _refuse_missing(request.dataset, chosen.missing, allow_partial=request.allow_partial)
            questions = [_Question(node, pairs, body) for node, pairs in chosen.by_node.items()]
            replies = await self._ask_all(kind, request.dataset, questions, deadline_s)
            return replies, _partial_warning(request.dataset, chosen.missing)

        return await self._attempts(request.dataset, deadline_s, attempt)

    async def series(self, request: MetadataRequest) -> SeriesAnswer:
        replies, warnings = await self._ask_metadata(Kind.SERIES, request)
        batches = [_batch(reply) for reply in replies]
        labels = LabelTable.concat([batch.labels for batch in batches]) if batches else LabelTable.empty_sets(0)
        warnings = (*warnings, *dict.fromkeys(warning for batch in batches for warning in batch.warnings))
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
        timeout_ms = min(request.timeout_ms or self._config.timeout_ms, self._config.timeout_ms)
        deadline_s = time.monotonic() + timeout_ms / 1000

        async def attempt(dataset: DatasetView) -> Reply:
            pairs = tuple(
                (entry.shard, entry.epoch)
                for entry in dataset.shard_map.shards
                if entry.node == self._local_node and entry.status.kind is ACTIVE
            )
            if not pairs:
                raise NotFound(
                    f"the node beside this gateway ({self._local_node}) has no active shard of {request.dataset}"
                )
            question = _Question(self._local_node, pairs, _metadata_body(request, name))
            return (await self._ask_all(Kind.VALUES, request.dataset, [question], deadline_s))[0]

        reply = await self._attempts(request.dataset, deadline_s, attempt)
        names = _merged_names([reply], request.limit, ())
        if not names.values:
            raise NotFound(f"label {name} is not indexed on the node beside this gateway ({self._local_node})")
        return names

    async def read_raw(self, request: MetadataRequest) -> RawSeriesAnswer:
        selectors = request.selectors or [()]  # one that matches all series: a node reads by selectors
        replies, warnings = await self._ask_metadata(Kind.RAW, replace(request, selectors=selectors))
        batches = [_batch(reply) for reply in replies]
        if not batches:
            raise Unavailable(f"dataset {request.dataset}: no shard is available")
        batch = SeriesBatch.concat(batches)
        self._limits.check_series(batch.labels.count)
        self._limits.check_samples(len(batch.timestamps))
        return RawSeriesAnswer(batch, (*warnings, *batch.warnings), _is_partial(warnings))

    async def metadata(self, dataset: str, metric: str, limit: int) -> Sequence[MetricMetadata]:
        deadline_s = time.monotonic() + self._config.timeout_ms / 1000

        async def attempt(view: DatasetView) -> list[Reply]:
            count = len(view.shard_map.shards)
            chosen = route(view.shard_map, [metadata_shard(metric, count)] if metric else range(count))
            _refuse_missing(dataset, chosen.missing, allow_partial=False)
            body = [metric, min(limit, _LIMIT_MAX)]
            questions = [_Question(node, pairs, body) for node, pairs in chosen.by_node.items()]
            return await self._ask_all(Kind.METADATA, dataset, questions, deadline_s)

        replies = await self._attempts(dataset, deadline_s, attempt)
        return sorted(MetricMetadata(*fields) for reply in replies for fields in reply.body)

    # ---- what runs

    def running(self) -> Sequence[RunningQuery]:
        now_s = time.monotonic()
        return [
            RunningQuery(r.id, r.request.dataset, r.request.query, r.started_ms, int((now_s - r.started_s) * 1000))
            for r in self._running.values()
        ]

    def _free_id(self, wanted: str) -> str:
        """The request's id, told apart from those that run if a client uses one twice."""
        return wanted if wanted and wanted not in self._running else f"{wanted or 'query'}-{next(self._ids)}"

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


def _metadata_body(request: MetadataRequest, name: object) -> list[object]:
    """As ``request_bodies`` has it."""
    selectors = [matchers_to_plain(matchers) for matchers in request.selectors]
    return [selectors, request.start_ms, request.end_ms, min(request.limit, _LIMIT_MAX), name]


def _refuse_missing(dataset: str, missing: Mapping[int, str], *, allow_partial: bool) -> None:
    if missing and not allow_partial:
        raise _MissingShards(missing_text(dataset, missing))


def _partial_warning(dataset: str, missing: Mapping[int, str]) -> tuple[str, ...]:
    return (f"partial result: {missing_text(dataset, missing)}",) if missing else ()


def _batch(reply: Reply) -> SeriesBatch:
    (result,) = wire.decode_answers(reply.frames).results
    assert isinstance(result, SeriesBatch)
    return result


def _is_partial(warnings: Sequence[str]) -> bool:
    return any(warning.startswith("partial result") for warning in warnings)


def _merged_names(replies: Sequence[Reply], limit: int, warnings: tuple[str, ...]) -> Names:
    """Each reply's body: texts, and what to warn of."""
    merged = sorted(set().union(*(reply.body[0] for reply in replies)) if replies else ())
    warnings = (*warnings, *dict.fromkeys(warning for reply in replies for warning in reply.body[1]))
    if limit and len(merged) > limit:
        merged = merged[:limit]
        warnings = (*warnings, "results truncated due to limit")
    return Names(merged, warnings, _is_partial(warnings))


def _stats_tree(answered: _Answered, answers: Sequence[FragmentAnswers], result: QueryResult) -> dict[str, object]:
    """``stats=all``: what each node read, sent and how long it took, and the gateway's own stages."""
    nodes = [
        {
            "node": question.node,
            "shards": [shard for shard, _ in question.shards],
            "bytesMoved": sum(len(frame) for frame in reply.frames),
            "wallMs": reply.body,
            "stages": answer.stats.to_json() if answer.stats else None,
        }
        for question, reply, answer in zip(answered.questions, answered.replies, answers, strict=True)
    ]
    # The nodes work at the same time, the gateway after them.
    at_nodes = sum(answer.stats.peak_samples for answer in answers if answer.stats)
    at_gateway = result.stats.peak_samples if result.stats else 0
    return {
        "totalQueryableSamples": sum(answer.stats.total_samples for answer in answers if answer.stats),
        "peakSamples": max(at_nodes, at_gateway),
        "nodes": nodes,
        "gateway": result.stats.to_json() if result.stats else None,
    }
