"""The gateway's write side over views that change while samples wait."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest
from shards import container

from filoray.cluster.addresses import NodeAddress
from filoray.cluster.cluster_view import ClusterView, DatasetView, NodeInfo
from filoray.cluster.config.dataset import LOG_STREAM_FACTORY, DatasetConfig
from filoray.cluster.config.server_config import default_server_config
from filoray.cluster.control.shard_map import ShardEntry, ShardMap
from filoray.cluster.control.shard_status import ShardStatus, StatusKind
from filoray.cluster.errors import StaleRoute, Unavailable
from filoray.http.fanout.requests import WriteRequest
from filoray.http.fanout.view_holder import ViewHolder
from filoray.http.fanout.write_service import FanOutWriteService
from filoray.nodes.data.metric_metadata import MetricMetadata
from filoray.nodes.data.record_container import RecordContainer
from filoray.nodes.data.write_outcome import WriteOutcome
from filoray.nodes.wire.node_client import Reply
from filoray.nodes.wire.protocol import Kind
from filoray.nodes.wire.write_reply import encode_write_reply

NODE = NodeInfo("node-0", 1, NodeAddress("127.0.0.1", 2552), "node-0#1", 1)
CONFIG = DatasetConfig("d", "g", 4, 1, LOG_STREAM_FACTORY, 1, {}, default_server_config().store)
SAMPLES = RecordContainer.decode(container([({"__name__": "up"}, [(1, 1.0)])]))


def view(version: int, config: DatasetConfig, kind: StatusKind) -> ClusterView:
    node = "node-0" if kind is StatusKind.ACTIVE else None
    entries = tuple(ShardEntry(shard, ShardStatus(kind), node, version) for shard in range(config.num_shards))
    return ClusterView(version, {"node-0": NODE}, {config.name: DatasetView(config, ShardMap("d", version, entries))})


class Node:
    """Takes everything and remembers to which shards it was sent."""

    def __init__(self) -> None:
        self.shards: list[tuple[tuple[int, int], ...]] = []

    async def request(
        self, kind: Kind, dataset: str, shards: Any, timeout_ms: int, body: Any = None, frames: Any = None
    ) -> Reply:
        self.shards.append(shards)
        return Reply(encode_write_reply([WriteOutcome(1)] * len(shards)), [])

    def close(self) -> None:
        pass


@pytest.mark.parametrize(("num_shards", "generation"), [(8, 1), (4, 1), (4, 0)])
def test_samples_that_waited_go_to_no_other_data_set_of_that_name(num_shards: int, generation: int) -> None:
    """Its shards may be others: the sender sends again, and they are routed by the new map."""
    node = Node()

    async def write() -> Any:
        views = ViewHolder(view(1, CONFIG, StatusKind.DOWN), lambda info: node)
        service = FanOutWriteService(views, 10_000)
        writing = asyncio.ensure_future(
            service.write(WriteRequest("d", 0, {3: SAMPLES}, lambda shard, series: SAMPLES))
        )
        await asyncio.sleep(0)
        assert not writing.done()
        later = dataclasses.replace(CONFIG, num_shards=num_shards, generation=generation)
        views.update(view(2, later, StatusKind.ACTIVE))
        return await writing

    if generation:
        with pytest.raises(Unavailable, match="dataset d was set up anew while samples waited"):
            asyncio.run(write())
        assert node.shards == []
    else:
        assert asyncio.run(write()).accepted == 1
        assert node.shards == [((3, 2),)]


def test_samples_that_were_decoded_for_a_former_data_set_are_not_sent() -> None:
    node = Node()

    async def write() -> None:
        views = ViewHolder(view(1, dataclasses.replace(CONFIG, generation=3), StatusKind.ACTIVE), lambda info: node)
        service = FanOutWriteService(views, 10_000)
        await service.write(WriteRequest("d", 2, {3: SAMPLES}, lambda shard, series: SAMPLES))

    with pytest.raises(Unavailable, match="set up anew"):
        asyncio.run(write())
    assert node.shards == []


class StaleAtFirst(Node):
    """Refuses the route of the first view, as a node does whose shards went elsewhere; remembers what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Any] = []

    async def request(
        self, kind: Kind, dataset: str, shards: Any, timeout_ms: int, body: Any = None, frames: Any = None
    ) -> Reply:
        if any(epoch < 2 for _, epoch in shards):
            raise StaleRoute("these shards went elsewhere")
        self.told += body
        return Reply(None, [])


@pytest.mark.parametrize("first", [StatusKind.ACTIVE, StatusKind.DOWN])
def test_metadata_that_meets_a_stale_route_is_sent_again(first: StatusKind) -> None:
    node = StaleAtFirst()
    metadata = [MetricMetadata(f"m{index}_total", "counter", "Help.", "") for index in range(20)]

    async def write() -> None:
        views = ViewHolder(view(1, CONFIG, first), lambda info: node)
        service = FanOutWriteService(views, 10_000)
        writing = asyncio.ensure_future(
            service.write(WriteRequest("d", 0, {}, lambda shard, series: SAMPLES, metadata))
        )
        for _ in range(5):
            await asyncio.sleep(0)
        assert not writing.done()
        views.update(view(2, CONFIG, StatusKind.ACTIVE))
        await writing

    asyncio.run(write())
    assert sorted(name for entries in node.told for name, *_ in entries) == sorted(entry.metric for entry in metadata)


def test_metadata_that_finds_no_owner_in_time_is_said_to_be_not_stored() -> None:
    async def write() -> None:
        metadata = [MetricMetadata("up", "gauge", "", "")]
        views = ViewHolder(view(1, CONFIG, StatusKind.ACTIVE), lambda info: StaleAtFirst())
        service = FanOutWriteService(views, 50)
        await service.write(WriteRequest("d", 0, {}, lambda shard, series: SAMPLES, metadata))

    with pytest.raises(Unavailable, match="not all metadata could be stored within 50 ms: these shards went elsewhere"):
        asyncio.run(write())
