"""A gateway's side of all that is asked without PromQL: series, label names and values, raw samples, metrics' types.

Each node is asked once for all of its shards; what is here merges the replies.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from filoray.cluster.cluster_view import DatasetView
from filoray.cluster.config.request_config import QueryConfig
from filoray.cluster.control.shard_status import ACTIVE
from filoray.cluster.errors import NotFound, Unavailable
from filoray.http.fanout.asking import Asking, Question, is_partial, partial_warning, refuse_missing
from filoray.http.fanout.requests import MetadataRequest, Names, RawSeriesAnswer, SeriesAnswer
from filoray.http.fanout.routing import route, route_selectors
from filoray.http.fanout.view_holder import ViewHolder
from filoray.nodes.data.label_table import LabelTable
from filoray.nodes.data.metric_metadata import MetricMetadata, metadata_shard
from filoray.nodes.data.series_batch import SeriesBatch
from filoray.nodes.engine.query_params import EvalLimits
from filoray.nodes.wire import fragment_codec as wire
from filoray.nodes.wire.node_client import Reply
from filoray.nodes.wire.protocol import Kind
from filoray.nodes.wire.reply_bodies import NamesReply, decode_metrics
from filoray.nodes.wire.request_bodies import MetadataQuestion, MetricQuestion

_LIMIT_MAX = 1 << 31
"""More than there can be of anything; keeps any number that a client writes within the wire's integers."""
_TRUNCATED = "results truncated due to limit"


class FanOutMetadataService:
    """MetadataService over a gateway's ViewHolder. ``local_node``: the node beside this gateway."""

    def __init__(self, views: ViewHolder, config: QueryConfig, local_node: str) -> None:
        self._asking = Asking(views)
        self._config = config
        self._local_node = local_node
        self._limits = EvalLimits(config.max_samples, config.max_series, config.max_result_bytes)

    async def series(self, request: MetadataRequest) -> SeriesAnswer:
        replies, warnings = await self._ask(Kind.SERIES, request)
        batches = [_batch(reply) for reply in replies]
        labels = LabelTable.concat([batch.labels for batch in batches]) if batches else LabelTable.empty_sets(0)
        warnings = (*warnings, *dict.fromkeys(warning for batch in batches for warning in batch.warnings))
        self._limits.check_series(labels.count)
        if request.limit and labels.count > request.limit:
            labels = labels.take(labels.sorted_rows()[: request.limit])
            warnings = (*warnings, _TRUNCATED)
        return SeriesAnswer(labels, warnings, is_partial(warnings))

    async def label_names(self, request: MetadataRequest) -> Names:
        replies, warnings = await self._ask(Kind.NAMES, request)
        return _merged_names(replies, request.limit, warnings)

    async def label_values(self, name: str, request: MetadataRequest) -> Names:
        replies, warnings = await self._ask(Kind.VALUES, request, name)
        return _merged_names(replies, request.limit, warnings)

    async def local_label_values(self, name: str, request: MetadataRequest) -> Names:
        """Of the shards of the node beside this gateway, as FiloDB's node-local endpoint answers."""
        deadline_s = self._deadline_s(request)

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
            question = Question(self._local_node, pairs, _asked(request, name))
            return (await self._asking.ask_all(Kind.VALUES, request.dataset, [question], deadline_s))[0]

        reply = await self._asking.attempts(request.dataset, deadline_s, attempt)
        names = _merged_names([reply], request.limit, ())
        if not names.values:
            raise NotFound(f"label {name} is not indexed on the node beside this gateway ({self._local_node})")
        return names

    async def read_raw(self, request: MetadataRequest) -> RawSeriesAnswer:
        selectors = request.selectors or [()]  # one that matches all series: a node reads by selectors
        replies, warnings = await self._ask(Kind.RAW, replace(request, selectors=selectors))
        batches = [_batch(reply) for reply in replies]
        if not batches:
            raise Unavailable(f"dataset {request.dataset}: no shard is available")
        batch = SeriesBatch.concat(batches)
        self._limits.check_series(batch.labels.count)
        self._limits.check_samples(len(batch.timestamps))
        return RawSeriesAnswer(batch, (*warnings, *batch.warnings), is_partial(warnings))

    async def metrics(self, dataset: str, metric: str, limit: int) -> Sequence[MetricMetadata]:
        deadline_s = time.monotonic() + self._config.timeout_ms / 1000

        async def attempt(view: DatasetView) -> list[Reply]:
            count = len(view.shard_map.shards)
            chosen = route(view.shard_map, [metadata_shard(metric, count)] if metric else range(count))
            refuse_missing(dataset, chosen.missing, allow_partial=False)
            asked = MetricQuestion(metric, min(limit, _LIMIT_MAX))
            questions = [Question(node, pairs, asked) for node, pairs in chosen.by_node.items()]
            return await self._asking.ask_all(Kind.METADATA, dataset, questions, deadline_s)

        replies = await self._asking.attempts(dataset, deadline_s, attempt)
        entries = [entry for reply in replies for entry in decode_metrics(reply.body)]
        return sorted(entries, key=MetricMetadata.as_row)  # a row each, not two for every comparison

    async def _ask(self, kind: Kind, request: MetadataRequest, name: str = "") -> tuple[list[Reply], tuple[str, ...]]:
        """Replies, and the warning of shards that are missing in them."""
        deadline_s = self._deadline_s(request)
        asked = _asked(request, name)

        async def attempt(dataset: DatasetView) -> tuple[list[Reply], tuple[str, ...]]:
            chosen = route_selectors(dataset, request.selectors or [()])
            refuse_missing(request.dataset, chosen.missing, allow_partial=request.allow_partial)
            questions = [Question(node, pairs, asked) for node, pairs in chosen.by_node.items()]
            replies = await self._asking.ask_all(kind, request.dataset, questions, deadline_s)
            return replies, partial_warning(request.dataset, chosen.missing)

        return await self._asking.attempts(request.dataset, deadline_s, attempt)

    def _deadline_s(self, request: MetadataRequest) -> float:
        timeout_ms = min(request.timeout_ms or self._config.timeout_ms, self._config.timeout_ms)
        return time.monotonic() + timeout_ms / 1000


def _asked(request: MetadataRequest, name: str) -> MetadataQuestion:
    return MetadataQuestion(request.selectors, request.start_ms, request.end_ms, min(request.limit, _LIMIT_MAX), name)


def _batch(reply: Reply) -> SeriesBatch:
    (result,) = wire.decode_answers(reply.frames).results
    assert isinstance(result, SeriesBatch)
    return result


def _merged_names(replies: Sequence[Reply], limit: int, warnings: tuple[str, ...]) -> Names:
    found = [NamesReply.decode(reply.body) for reply in replies]
    merged = sorted(set().union(*(names.texts for names in found)))
    warnings = (*warnings, *dict.fromkeys(warning for names in found for warning in names.warnings))
    if limit and len(merged) > limit:
        merged = merged[:limit]
        warnings = (*warnings, _TRUNCATED)
    return Names(merged, warnings, is_partial(warnings))
