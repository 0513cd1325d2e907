"""Carries record containers to the owners of their shards and comes back when every log has them.

To a dataset whose shards read a Kafka topic it produces them instead, and comes back when the broker has them.

A container whose owner went, moved or does not know a series is sent again inside the request's deadline:
writing the same sample twice is a no-op, so a lost acknowledgement costs nothing.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

import numpy as np

from filoray.cluster.cluster_view import DatasetView
from filoray.cluster.config.dataset import DatasetConfig
from filoray.cluster.config.dataset_limits import NO_FILES, DatasetLimits
from filoray.cluster.errors import BadData, FilorayError, QueryTimeout, StaleRoute, Unavailable
from filoray.cluster.process.clocks import LatestCalendar
from filoray.http.fanout.requests import WriteRequest
from filoray.http.fanout.retrying import Retrying, soonest
from filoray.http.fanout.routing import ShardEpochs, missing_text, route
from filoray.http.fanout.view_holder import ViewHolder
from filoray.nodes.data.metric_metadata import MetricMetadata, metadata_shard
from filoray.nodes.data.write_outcome import RefusalReason, UnknownSeries, WriteOutcome
from filoray.nodes.memstore.refusal_text import out_of_bounds_text
from filoray.nodes.streams.record_batches import without_later_samples
from filoray.nodes.streams.sources import WritePath, write_path
from filoray.nodes.streams.topic_writers import TopicWriters
from filoray.nodes.wire.protocol import Kind, error_named
from filoray.nodes.wire.request_bodies import MetricEntries, write_body
from filoray.nodes.wire.write_reply import Refused, ShardWriteReply, decode_write_reply


@dataclass(slots=True)
class _Progress:
    """One request's state: what is still to be acknowledged, and what came of the rest."""

    request: WriteRequest
    retrying: Retrying
    waiting: dict[int, bytes] = field(default_factory=dict)
    outcome: WriteOutcome = field(default_factory=WriteOutcome)
    problems: list[FilorayError] = field(default_factory=list)
    """Why some of ``waiting`` were not taken in the last round."""


class FanOutWriteService:
    """WriteService over a gateway's ViewHolder."""

    def __init__(self, views: ViewHolder, timeout_ms: int, limits: DatasetLimits = NO_FILES) -> None:
        self._views = views
        self._timeout_ms = timeout_ms
        self._topics = TopicWriters(timeout_ms, limits)
        self._calendar = LatestCalendar()
        views.on_update(lambda view: self._topics.keep_only(view.datasets))

    async def write(self, request: WriteRequest) -> WriteOutcome:
        """See WriteService. Raises DatasetUnknown, Unavailable when the deadline passes before all is durable, and

        BadData for a dataset whose source is read only.
        """
        deadline_s = time.monotonic() + self._timeout_ms / 1000
        config = self._current(request).config
        progress = _Progress(request, Retrying(self._views, deadline_s))
        match write_path(config):
            case WritePath.REFUSED:
                raise BadData(f"dataset {config.name} is fed by {config.source_factory} and takes no remote writes")
            case WritePath.TOPIC:
                progress.outcome = await self._produce(config, request)
            case WritePath.SHARDS:
                progress.waiting = {shard: container.encode() for shard, container in request.containers.items()}
        while progress.waiting:
            version = self._views.view.version
            await self._send_waiting(progress)
            problems = progress.problems if progress.waiting else []
            if problems and not await progress.retrying.is_worthwhile(soonest(problems), version):
                raise Unavailable(
                    f"not all samples could be stored within {self._timeout_ms} ms: {problems[0].message}"
                )
        await self._put_metadata(request, progress.retrying)
        return progress.outcome

    async def close(self) -> None:
        """Let what is on its way to Kafka arrive."""
        await self._topics.close()

    async def _produce(self, config: DatasetConfig, request: WriteRequest) -> WriteOutcome:
        """Every container with all its part keys, as whoever reads the topic later knows no series.

        What the shards would refuse for its time is refused here: nobody hears of what they do later.
        """
        outcome = WriteOutcome()
        complete = {
            shard: request.with_keys(shard, np.arange(container.series_count, dtype=np.int32))
            for shard, container in request.containers.items()
        }
        if config.store.max_future_ms is not None:
            now_ms = self._calendar.now_ms()
            limit_ms = now_ms + config.store.max_future_ms
            for shard, container in complete.items():
                later = np.flatnonzero(container.timestamps > limit_ms)
                if len(later):
                    complete[shard] = without_later_samples(container, limit_ms)
                    outcome.refuse(RefusalReason.OUT_OF_BOUNDS, len(later))
                    time_ms, value = int(container.timestamps[later[0]]), float(container.values[later[0]])
                    outcome.example = out_of_bounds_text(time_ms, value, now_ms, config.store.max_future_ms)
        produced = {shard: container for shard, container in complete.items() if container.sample_count}
        outcome.accepted = await self._topics.produce(config, produced)
        return outcome

    def _current(self, request: WriteRequest) -> DatasetView:
        """Raises DatasetUnknown, and Unavailable if another dataset has taken the name."""
        current = self._views.dataset(request.dataset)
        if current.config.generation != request.generation:
            raise Unavailable(
                f"dataset {request.dataset} was set up anew while samples waited for its shards; send them again"
            )
        return current

    async def _send_waiting(self, progress: _Progress) -> None:
        """One round: every waiting container to its owner, if there is one."""
        progress.problems = []
        chosen = route(self._current(progress.request).shard_map, progress.waiting)
        if chosen.missing:
            progress.problems.append(StaleRoute(missing_text(progress.request.dataset, chosen.missing)))
        sends = [self._send_to_node(node, pairs, progress) for node, pairs in chosen.by_node.items()]
        if len(sends) == 1:
            await sends[0]
        else:
            await asyncio.gather(*sends)

    async def _send_to_node(self, node: str, pairs: ShardEpochs, progress: _Progress) -> None:
        frames: list[bytes | memoryview] = [progress.waiting[shard] for shard, _ in pairs]
        try:
            client = self._views.client(node)
            dataset, left_ms = progress.request.dataset, progress.retrying.left_ms
            reply = await client.request(Kind.WRITE, dataset, pairs, left_ms, frames=frames)
        except (StaleRoute, QueryTimeout) as error:
            progress.problems.append(error)
            return
        for (shard, _), shard_reply in zip(pairs, decode_write_reply(reply.body), strict=True):
            _take(shard, shard_reply, progress)

    async def _put_metadata(self, request: WriteRequest, retrying: Retrying) -> None:
        """What is known of metrics lives on the shard that the metric's name hashes to. Sent again as samples are."""
        waiting: dict[int, list[MetricMetadata]] = {}
        count = self._current(request).config.num_shards
        for entry in request.metadata:
            kept = entry.shortened()
            if kept is not None:
                waiting.setdefault(metadata_shard(entry.metric, count), []).append(kept)
        while waiting:
            version = self._views.view.version
            problems = await self._put_waiting(self._current(request), waiting, retrying)
            if waiting and not await retrying.is_worthwhile(soonest(problems), version):
                told = "; ".join(problem.message for problem in problems)
                raise Unavailable(f"not all metadata could be stored within {self._timeout_ms} ms: {told}")

    async def _put_waiting(
        self, current: DatasetView, waiting: dict[int, list[MetricMetadata]], retrying: Retrying
    ) -> list[FilorayError]:
        """One round; takes what is stored out of ``waiting`` and returns why the rest is not."""
        dataset = current.config.name
        chosen = route(current.shard_map, waiting)
        problems: list[FilorayError] = []
        if chosen.missing:
            problems.append(StaleRoute(missing_text(dataset, chosen.missing)))

        async def put(node: str, pairs: ShardEpochs) -> None:
            body = write_body(Kind.PUT_METADATA, MetricEntries([waiting[shard] for shard, _ in pairs]))
            try:
                await self._views.client(node).request(Kind.PUT_METADATA, dataset, pairs, retrying.left_ms, body)
            except (StaleRoute, QueryTimeout) as error:
                problems.append(error)
                return
            for shard, _ in pairs:
                del waiting[shard]

        await asyncio.gather(*(put(node, pairs) for node, pairs in chosen.by_node.items()))
        return problems


def _take(shard: int, reply: ShardWriteReply, progress: _Progress) -> None:
    match reply:
        case WriteOutcome():
            del progress.waiting[shard]
            progress.outcome.add(reply)
        case UnknownSeries(series):
            progress.waiting[shard] = progress.request.with_keys(shard, series).encode()
        case Refused(error_class, message):
            error: FilorayError = error_named(error_class, message)
            if not isinstance(error, StaleRoute):
                raise error
            progress.problems.append(error)
