"""A gateway before one real node: connections that break, shards that are being opened, and what is asked again."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
import zmq
from cut_proxy import CutProxy
from shards import container
from waiting import wait_until

from filoray.cluster.addresses import NodeAddress
from filoray.cluster.cluster_view import ClusterView, DatasetView, NodeInfo
from filoray.cluster.config.dataset import DatasetConfig, parse_dataset_config
from filoray.cluster.config.server_config import default_server_config
from filoray.cluster.control.shard_map import ShardEntry, ShardMap
from filoray.cluster.control.shard_status import IngestionStarted, ShardEvent, ShardStatus, StatusKind
from filoray.cluster.data_plane_keys import KeyPair
from filoray.cluster.errors import (
    CopiesJoining,
    EpochDiffers,
    FilorayError,
    ShardNotHere,
    ShardOpening,
    StaleRoute,
    Unavailable,
)
from filoray.http.fanout.metadata_service import FanOutMetadataService
from filoray.http.fanout.query_service import FanOutQueryService
from filoray.http.fanout.requests import MetadataRequest, QueryRequest, WriteRequest
from filoray.http.fanout.view_holder import ViewHolder
from filoray.http.fanout.write_service import FanOutWriteService
from filoray.nodes.data.metric_metadata import MetricMetadata
from filoray.nodes.data.record_container import RecordContainer
from filoray.nodes.host.opening import Opening
from filoray.nodes.host.request_handler import RequestHandler
from filoray.nodes.host.shard_host import ShardHost
from filoray.nodes.host.shard_opener import ShardOpener
from filoray.nodes.memstore.chunks.chunk_reader import ChunkReader
from filoray.nodes.memstore.shard import Shard
from filoray.nodes.wire.node_client import ZmqNodeClient
from filoray.nodes.wire.protocol import Frames, Kind, RequestHeader
from filoray.nodes.wire.transport import Responder, TransportServer

HOST = "127.0.0.1"
KEYS = KeyPair.generate()
TIMEOUT_MS = 8_000
"""Of every request; a connection is back after 20 ms."""
SAMPLES = RecordContainer.decode(container([({"__name__": "up"}, [(1_000, 1.0)])]))


def dataset_config(num_shards: int = 1) -> DatasetConfig:
    body = {
        "dataset": "d", "num-shards": num_shards, "min-num-nodes": 1,
        "sourcefactory": "filoray.nodes.streams.LogStreamFactory", "sourceconfig": {},
    }  # fmt: skip
    return parse_dataset_config(orjson.dumps(body).decode(), "d")


class OneNode:
    """A node's host, handler and socket; a proxy before it; a gateway's services by a view that does not change."""

    def __init__(self, data_dir: Path) -> None:
        self.opened = threading.Event()
        self.host = ShardHost("node-0", data_dir, self._report)
        self.config = default_server_config()
        self.handler = RequestHandler(self.host, self.config, incarnation=1)
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            port = int(probe.getsockname()[1])
        self.server = TransportServer(HOST, port, self._dispatch, KEYS.public)
        self.proxy = CutProxy(port)
        self.swallows: set[Kind] = set()
        """The next request of each of these kinds gets no answer."""
        self.swallowed = threading.Semaphore(0)
        self.asked: list[Kind] = []
        self.asked_for_views = 0

    def _report(self, dataset: str, shard: int, epoch: int, event: ShardEvent) -> None:
        if isinstance(event, IngestionStarted):
            self.opened.set()

    def _dispatch(self, header: RequestHeader, frames: Frames, responder: Responder) -> None:
        if header.kind is not Kind.CANCEL:
            self.asked.append(header.kind)
            if header.kind in self.swallows:
                self.swallows.remove(header.kind)
                self.swallowed.release()
                return
        self.handler.dispatch(header, frames, responder)

    def connect(self) -> None:
        """On the event loop."""
        self.context = zmq.Context()
        self.views = ViewHolder(self.view(epoch=1), self._client)

        def count() -> None:
            self.asked_for_views += 1

        self.views.ask_anew_with(count)
        query = replace(self.config.query, timeout_ms=TIMEOUT_MS)
        self.queries = FanOutQueryService(self.views, query)
        self.metadata = FanOutMetadataService(self.views, query, "node-0")
        self.writes = FanOutWriteService(self.views, TIMEOUT_MS)

    def view(self, epoch: int) -> ClusterView:
        entry = ShardEntry(0, ShardStatus(StatusKind.ACTIVE), "node-0", epoch)
        return ClusterView(
            epoch,
            {"node-0": NodeInfo("node-0", 1, NodeAddress(HOST, self.proxy.port), "a", 1, self.server.public_key)},
            {"d": DatasetView(dataset_config(), ShardMap("d", 1, (entry,)))},
            KEYS,
        )

    def _client(self, info: NodeInfo) -> ZmqNodeClient:
        return ZmqNodeClient(self.context, info.address, info.incarnation, info.endpoint, info.public_key, KEYS)

    async def start_shard(self) -> None:
        self.host.start_shards(dataset_config(), [(0, 1)])
        assert await asyncio.to_thread(self.opened.wait, 20)

    def move_shard(self, epoch: int) -> None:
        """It is closed, and opened as by a next owner of that epoch. Not on the event loop."""
        self.host.stop_shards("d", [(0, epoch - 1)])
        self.host.start_shards(dataset_config(), [(0, epoch)])

    def close(self) -> None:
        self.views.close()
        self.context.term()
        self.server.close()
        self.handler.close()
        self.host.close()


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[OneNode]:
    node = OneNode(tmp_path)
    with node.proxy:
        node.connect()
        yield node
        node.close()


async def write(node: OneNode) -> object:
    metadata = [MetricMetadata("up", "gauge", "is it", "")]
    return (
        await node.writes.write(WriteRequest("d", 0, {0: SAMPLES}, lambda shard, series: SAMPLES, metadata))
    ).accepted


async def query(node: OneNode) -> object:
    outcome = await node.queries.query(QueryRequest("d", "up", 1_000, 1_000, 0, is_range=False))
    assert outcome.result.frame is not None
    return outcome.result.frame.values.tolist()


async def metadata(node: OneNode) -> object:
    return [entry.metric for entry in await node.metadata.metrics("d", "", 0)]


def names(service: Callable[..., Any], *arguments: object) -> Callable[[OneNode], Any]:
    async def ask(node: OneNode) -> object:
        return list((await service(node.metadata, *arguments, MetadataRequest("d", (), 0, 2_000))).values)

    return ask


REQUESTS = {
    "write": (Kind.WRITE, write, 1),
    "a write's metadata": (Kind.PUT_METADATA, write, 1),
    "query": (Kind.QUERY, query, [[1.0]]),
    "metadata": (Kind.METADATA, metadata, ["up"]),
    "label names": (Kind.NAMES, names(FanOutMetadataService.label_names), ["__name__"]),
    "label values": (Kind.VALUES, names(FanOutMetadataService.label_values, "__name__"), ["up"]),
    "values of the node beside": (Kind.VALUES, names(FanOutMetadataService.local_label_values, "__name__"), ["up"]),
}


@pytest.mark.parametrize(("kind", "ask", "answer"), REQUESTS.values(), ids=REQUESTS)
async def test_a_reset_connection_to_a_healthy_node_fails_nothing(
    node: OneNode, kind: Kind, ask: Callable[[OneNode], Any], answer: object
) -> None:
    await node.start_shard()
    assert await write(node) == 1
    for _ in range(2):
        node.swallows = {kind}
        asking = asyncio.create_task(ask(node))
        assert await asyncio.to_thread(node.swallowed.acquire, True, 20)
        node.proxy.reset_all()
        assert await asking == answer
    assert node.asked_for_views == 0, "the view is as right as before"


async def test_a_node_that_never_answers_again_fails_at_the_deadline(node: OneNode) -> None:
    await node.start_shard()
    node.writes._timeout_ms = 300
    node.proxy.is_open = False  # connections are closed as soon as they are there
    with pytest.raises(Unavailable, match="not all samples could be stored within 300 ms"):
        await write(node)


async def test_a_write_waits_on_the_same_view_until_enough_copies_are_in_sync(
    node: OneNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    await node.start_shard()
    refusals = [CopiesJoining("d shard 0: 1 copies are in sync"), CopiesJoining("d shard 0: 1 copies are in sync")]
    appends = Shard.append

    def append_when_enough(shard: Shard, *arguments: Any) -> object:
        if refusals:
            raise refusals.pop()
        return appends(shard, *arguments)

    monkeypatch.setattr(Shard, "append", append_when_enough)
    assert await write(node) == 1
    assert node.asked.count(Kind.WRITE) == 3
    assert node.asked_for_views == 0


@pytest.mark.parametrize(("ask", "answer"), [(write, 1), (query, [])], ids=["write", "query"])
async def test_a_shard_that_is_being_opened_is_waited_for_on_the_same_view(
    node: OneNode, ask: Callable[[OneNode], Any], answer: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, opens = threading.Event(), ShardOpener.open

    def open_slowly(opener: ShardOpener, *arguments: Any) -> None:
        assert go_on.wait(20)
        opens(opener, *arguments)

    monkeypatch.setattr(ShardOpener, "open", open_slowly)
    node.host.start_shards(dataset_config(), [(0, 1)])
    asking = asyncio.create_task(ask(node))
    while len(node.asked) < 3:
        await asyncio.sleep(0.001)
    assert not asking.done()
    go_on.set()
    assert await asking == answer
    assert node.asked_for_views == 0
    assert len(node.asked) < 100, "it waits between its questions"


async def test_a_query_whose_shard_moves_while_its_chunks_are_read_is_answered_by_the_next_owner(
    node: OneNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    await node.start_shard()
    assert await write(node) == 1
    (shard,), flushed = node.host.shards.readable("d", [(0, 1)]), threading.Event()
    node.host.threads.run(lambda: (shard.flush_all(1_000_000), flushed.set()))
    assert await asyncio.to_thread(flushed.wait, 20)
    await asyncio.to_thread(node.move_shard, 2)  # what it opens has no chunks in memory
    node.views.update(node.view(epoch=2))
    loop, reads = asyncio.get_running_loop(), ChunkReader._from_store

    def read_when_it_has_moved(reader: ChunkReader, *arguments: Any) -> object:
        monkeypatch.setattr(ChunkReader, "_from_store", reads)
        node.move_shard(3)
        loop.call_soon_threadsafe(node.views.update, node.view(epoch=3))
        return reads(reader, *arguments)

    monkeypatch.setattr(ChunkReader, "_from_store", read_when_it_has_moved)
    assert await query(node) == [[1.0]]
    assert ChunkReader._from_store is reads, "chunks were read"


def test_errors_of_shards_that_cannot_be_asked_tell_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, go_on = threading.Event(), threading.Event()
    host = ShardHost("node-0", tmp_path, lambda dataset, shard, epoch, event: opened.set() if shard == 1 else None)
    opens = ShardOpener.open

    def open_all_but_one(self: ShardOpener, opening: Opening, *arguments: Any) -> None:
        if opening.order.shard == 2:
            go_on.wait(20)
        if opening.order.shard == 3:
            raise OSError("no such disk")
        opens(self, opening, *arguments)

    monkeypatch.setattr(ShardOpener, "open", open_all_but_one)
    host.start_shards(dataset_config(4), [(1, 7), (2, 7), (3, 7)])
    assert opened.wait(20)
    wait_until(lambda: any(held.status.kind is StatusKind.ERROR for held in host.held()), "one cannot be opened")
    wait_until(lambda: any(held.status.kind is StatusKind.ACTIVE for held in host.held()), "one is open")
    for shard, epoch, kind, text in [
        (0, 7, ShardNotHere, "dataset d shard 0 at epoch 7: not held here"),
        (1, 6, EpochDiffers, "dataset d shard 1 at epoch 6: held at epoch 7 here"),
        (1, 8, EpochDiffers, "dataset d shard 1 at epoch 8: held at epoch 7 here"),
        (2, 7, ShardOpening, "dataset d shard 2 at epoch 7: being opened here"),
        (3, 7, StaleRoute, "dataset d shard 3 at epoch 7: not open here: OSError: no such disk"),
    ]:
        with pytest.raises(FilorayError) as raised:
            host.readable("d", [(shard, epoch)])
        assert type(raised.value) is kind
        assert text in raised.value.message
    assert len(host.readable("d", [(1, 7)])) == 1
    go_on.set()
    host.close()
