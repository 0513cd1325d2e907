"""A gateway's query side: text in, one message to each node that has a part, one answer out.

Parsing, planning and finishing are the engine's, waiting for shards that are on their way is ``asking``'s; this decides
which node gets which fragments of the plan.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from filoray.cluster.cluster_view import DatasetView
from filoray.cluster.config.request_config import QueryConfig
from filoray.cluster.errors import BadData
from filoray.http.fanout.asking import Asking, Question, partial_warning, refuse_missing
from filoray.http.fanout.requests import QueryOutcome, QueryRequest, RunningQuery
from filoray.http.fanout.routing import Selectors, route_selectors
from filoray.http.fanout.running_queries import RunningQueries
from filoray.http.fanout.text_work import INLINE_TEXT_CHARACTERS_MAX, run_text_work
from filoray.http.fanout.view_holder import ViewHolder
from filoray.nodes.data.cancel_token import CancelToken
from filoray.nodes.engine.fragments import FragmentAnswers
from filoray.nodes.engine.plan.explain import explain
from filoray.nodes.engine.plan.finishing import finish
from filoray.nodes.engine.plan.planner import ExecPlan, plan
from filoray.nodes.engine.query_params import EvalLimits, EvaluationOptions, QueryParams, QueryResult
from filoray.nodes.promql.ast import Expr, ValueType
from filoray.nodes.promql.options import ParserOptions
from filoray.nodes.promql.parser import parse
from filoray.nodes.promql.types import value_type
from filoray.nodes.wire import fragment_codec as wire
from filoray.nodes.wire.node_client import Reply
from filoray.nodes.wire.protocol import Kind

T = TypeVar("T")

_INLINE_REPLY_BYTES_MAX = 256 * 1024
"""Answers up to this size are put together on the event loop: a thread's hand-over would cost more."""


@dataclass(frozen=True, slots=True)
class _Part:
    """What one node has to evaluate: ``fragments`` are indices into the plan's."""

    question: Question
    fragments: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Answered:
    """``missing``: shard to why it could not be asked."""

    plan: ExecPlan
    parts: Sequence[_Part]
    replies: Sequence[Reply]
    missing: Mapping[int, str]


class FanOutQueryService:
    """QueryService over a gateway's ViewHolder."""

    def __init__(self, views: ViewHolder, config: QueryConfig) -> None:
        self._views = views
        self._asking = Asking(views)
        self._config = config
        self._parser_options = ParserOptions.of_config(config)
        self._limits = EvalLimits(config.max_samples, config.max_series, config.max_result_bytes)
        self._running = RunningQueries()

    async def query(self, request: QueryRequest) -> QueryOutcome:
        timeout_ms = min(request.timeout_ms or self._config.timeout_ms, self._config.timeout_ms)
        token = CancelToken(timeout_ms)
        with self._running.entered(request, token):
            # Kernels look at the token's flag and at no clock.
            expiry = asyncio.get_running_loop().call_later(timeout_ms / 1000, token.expire)
            try:
                return await self._query(request, timeout_ms, token)
            finally:
                expiry.cancel()

    def running(self) -> Sequence[RunningQuery]:
        return self._running.listed()

    def cancel(self, query_id: str) -> bool:
        return self._running.cancel(query_id)

    async def _query(self, request: QueryRequest, timeout_ms: int, token: CancelToken) -> QueryOutcome:
        deadline_s = time.monotonic() + timeout_ms / 1000
        self._views.dataset(request.dataset)
        expr = await self._text_work(request, lambda: self._parsed(request))
        params = self._params(request)

        async def attempt(dataset: DatasetView) -> _Answered:
            def planned() -> tuple[ExecPlan, list[_Part], dict[int, str]]:
                exec_plan = self._plan(dataset, expr, params, request)
                return exec_plan, *_parts(dataset, exec_plan, request.spread)

            exec_plan, parts, missing = await self._text_work(request, planned)
            refuse_missing(request.dataset, missing, allow_partial=request.allow_partial)
            questions = [part.question for part in parts]
            replies = await self._asking.ask_all(Kind.QUERY, request.dataset, questions, deadline_s)
            return _Answered(exec_plan, parts, replies, missing)

        answered = await self._asking.attempts(request.dataset, deadline_s, attempt)
        size_bytes = sum(len(frame) for reply in answered.replies for frame in reply.frames)
        if size_bytes <= _INLINE_REPLY_BYTES_MAX and len(request.query) <= INLINE_TEXT_CHARACTERS_MAX:
            answers, result = self._finish(answered, token)
        else:
            answers, result = await asyncio.to_thread(self._finish, answered, token)
        warnings, infos = result.annotations.render(request.query)
        warnings = (*partial_warning(request.dataset, answered.missing), *warnings)
        stats = _stats_tree(answered, answers, result) if request.wants_stats else None
        return QueryOutcome(result, warnings, infos, bool(answered.missing), stats)

    def _finish(self, answered: _Answered, token: CancelToken) -> tuple[list[FragmentAnswers], QueryResult]:
        answers = [wire.decode_answers(reply.frames) for reply in answered.replies]
        asked = [part.fragments for part in answered.parts]
        return answers, finish(answered.plan, answers, self._limits, token, asked)

    async def explain(self, request: QueryRequest) -> list[str]:
        dataset = self._views.dataset(request.dataset)
        nodes = self._views.view.nodes

        def explained() -> list[str]:
            exec_plan = self._plan(dataset, self._parsed(request), self._params(request), request)
            parts, _ = _parts(dataset, exec_plan, request.spread)
            node_shards = {
                str(nodes[part.question.node].address): tuple(shard for shard, _ in part.question.shards)
                for part in parts
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
        options = EvaluationOptions(
            request.lookback_ms or self._config.lookback_ms,
            wants_stats=request.wants_stats,
            delayed_names=self._config.delayed_name_removal,
        )
        default_step_ms = self._config.default_step_ms
        if not request.is_range:
            return QueryParams.instant(request.start_ms, options, default_step_ms=default_step_ms)
        start_ms, end_ms, step_ms = request.start_ms, request.end_ms, request.step_ms
        return QueryParams.range(start_ms, end_ms, step_ms, options, default_step_ms=default_step_ms)

    def _plan(self, dataset: DatasetView, expr: Expr, params: QueryParams, request: QueryRequest) -> ExecPlan:
        def colocated(selectors: Selectors) -> bool:
            chosen = route_selectors(dataset, selectors, request.spread)
            return len(chosen.by_node) == 1 and not chosen.missing

        return plan(expr, params, colocated, query=request.query)


def _parts(dataset: DatasetView, exec_plan: ExecPlan, spread: int | None) -> tuple[list[_Part], dict[int, str]]:
    """One part per node: the fragments whose series it may have, over the shards that may have them."""
    shards: dict[str, dict[int, int]] = {}
    fragments: dict[str, list[int]] = {}
    missing: dict[int, str] = {}
    for index, fragment in enumerate(exec_plan.fragments):
        chosen = route_selectors(dataset, fragment.selectors, spread)
        missing.update(chosen.missing)
        for node, pairs in chosen.by_node.items():
            shards.setdefault(node, {}).update(pairs)
            fragments.setdefault(node, []).append(index)
    parts = [
        _Part(
            Question(
                node,
                tuple(sorted(pairs.items())),
                frames=[wire.encode_fragments([exec_plan.fragments[index] for index in fragments[node]])],
            ),
            tuple(fragments[node]),
        )
        for node, pairs in shards.items()
    ]
    return parts, missing


def _stats_tree(answered: _Answered, answers: Sequence[FragmentAnswers], result: QueryResult) -> dict[str, object]:
    """``stats=all``: what each node read, sent and how long it took, and the gateway's own stages."""
    nodes = [
        {
            "node": part.question.node,
            "shards": [shard for shard, _ in part.question.shards],
            "bytesMoved": sum(len(frame) for frame in reply.frames),
            "wallMs": reply.body,
            "stages": answer.stats.to_json() if answer.stats else None,
        }
        for part, reply, answer in zip(answered.parts, answered.replies, answers, strict=True)
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
