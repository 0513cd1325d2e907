"""What a node says of itself: what was done is counted where it was done, and it is told when all else is busy."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from in_process_node import InProcessNode
from shards import container
from waiting import wait_until

from filoray.cluster.config.dataset import parse_dataset_config
from filoray.cluster.config.server_config import default_server_config
from filoray.cluster.control.shard_status import StatusKind
from filoray.cluster.errors import BadData, StaleRoute
from filoray.nodes.data.matching import LabelMatcher, MatchOp
from filoray.nodes.data.node_figures import NodeFigures, ShardFigures
from filoray.nodes.host.request_handler import RequestHandler
from filoray.nodes.host.shard_host import ShardHost
from filoray.nodes.wire.figures_reply import decode_node_figures, encode_node_figures
from filoray.nodes.wire.protocol import Kind
from filoray.nodes.wire.request_bodies import MetadataQuestion, write_body

CONFIG = parse_dataset_config(
    orjson.dumps({
        "dataset": "d", "num-shards": 2, "min-num-nodes": 1, "sourceconfig": {},
        "sourcefactory": "filoray.nodes.streams.LogStreamFactory",
    }).decode(),
    "d",
)  # fmt: skip
UP = (LabelMatcher("__name__", MatchOp.EQUAL, "up"),)
ALL_UP = write_body(Kind.RAW, MetadataQuestion([UP], 0, 1 << 40, 0))
LABELS = write_body(Kind.NAMES, MetadataQuestion([], 0, 1 << 40, 0))


class Node:
    """One whose shards hold nothing yet."""

    def __init__(self, data_dir: Path, epoch: int = 1) -> None:
        self.epoch = epoch
        self.host = ShardHost("node-0", data_dir, lambda *report: None)
        self.handler = RequestHandler(self.host, default_server_config(), incarnation=1)
        self.client = InProcessNode(self.handler)
        self.host.start_shards(CONFIG, [(0, epoch), (1, epoch)])
        wait_until(lambda: {held.status.kind for held in self.host.held()} == {StatusKind.ACTIVE}, "they are open")

    async def ask(self, kind: Kind, shard: int, body: Any = None, frames: Any = None) -> object:
        return (await self.client.request(kind, "d", ((shard, self.epoch),), 30_000, body, frames)).body

    async def write(self, shard: int, *samples: tuple[int, float], job: str = "a") -> None:
        await self.ask(Kind.WRITE, shard, None, [container([({"__name__": "up", "job": job}, samples)])])

    async def figures(self) -> NodeFigures:
        return decode_node_figures((await self.client.request(Kind.FIGURES, "", (), 30_000)).body)

    async def shard(self, number: int) -> ShardFigures:
        (found,) = [shard for shard in (await self.figures()).shards if shard.shard == number]
        return found

    def close(self) -> None:
        self.handler.close()
        self.host.close()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path)
    yield node
    node.close()


async def test_a_shard_counts_what_it_took_and_refused(node: Node) -> None:
    empty = await node.shard(0)
    assert (empty.dataset, empty.epoch, empty.series, empty.newest_sample_ms, empty.stream_lag) == (
        "d",
        1,
        0,
        None,
        None,
    )
    await node.write(0, (1_000, 1.0), (2_000, 2.0))
    await node.write(0, (2_000, 2.0), (3_000, 3.0))  # the first is there already
    await node.write(0, (3_000, 4.0))  # another value at a stored time
    await node.write(0, (9_000, 1.0), job="b")
    full = await node.shard(0)
    assert (full.samples_accepted, full.samples_refused) == (5, 1)
    assert (full.series, full.unflushed_samples, full.newest_sample_ms) == (2, 4, 9_000)
    assert full.log_bytes > 0
    assert full.memory_bytes > empty.memory_bytes
    assert (await node.shard(1)).samples_accepted == 0


async def test_a_flush_shows(node: Node) -> None:
    await node.write(0, *[(1_000 + i, float(i)) for i in range(300)])
    (shard,) = node.host.readable("d", [(0, 1)])
    node.host.threads.run(lambda: shard.flush_all(2_000)).result(10)
    flushed = await node.shard(0)
    assert (flushed.unflushed_samples, flushed.log_bytes, flushed.newest_sample_ms) == (0, 0, 1_299)
    assert flushed.stored_bytes > 0
    assert flushed.read_bytes == 0
    await node.ask(Kind.RAW, 0, ALL_UP)
    read = await node.shard(0)
    assert read.selects == 1
    assert 0 < read.read_bytes <= flushed.stored_bytes


async def test_a_node_counts_its_requests_by_what_they_are(node: Node) -> None:
    await node.write(0, (1_000, 1.0))
    await node.ask(Kind.RAW, 0, ALL_UP)
    await node.ask(Kind.RAW, 1, ALL_UP)
    await node.ask(Kind.NAMES, 0, LABELS)
    # A reply leaves a moment before its request is counted out.
    wait_until(lambda: not node.handler._open_queries.count, "all are counted out")
    figures = await node.figures()
    requests = figures.requests
    assert (requests.writes_answered, requests.queries_answered, requests.metadata_answered) == (1, 2, 1)
    assert (requests.writes_waiting, requests.reads_running, requests.reads_waiting) == (0, 0, 0)
    assert (figures.incarnation, figures.process.pid) == (1, os.getpid())
    assert figures.process.resident_bytes > 1 << 20


async def test_what_was_recovered_is_not_counted_as_taken_anew(tmp_path: Path) -> None:
    first = Node(tmp_path)
    await first.write(0, (1_000, 1.0), (2_000, 2.0))
    first.close()
    second = Node(tmp_path, epoch=2)
    found = await second.shard(0)
    assert (found.samples_accepted, found.series, found.unflushed_samples, found.epoch) == (0, 1, 2, 2)
    assert found.newest_sample_ms == 2_000
    second.close()


async def test_figures_are_told_while_all_threads_are_busy_and_say_so(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = default_server_config().node.query_threads
    let_go = threading.Event()
    monkeypatch.setattr(node.handler._host, "readable", lambda *shards: let_go.wait(30) and [])
    node.host.threads.run(lambda: let_go.wait(30))
    waiting = [node.client.request(Kind.NAMES, "d", ((0, 1),), 30_000, LABELS) for _ in range(threads + 2)]
    tasks = [asyncio.ensure_future(one) for one in waiting]
    await asyncio.sleep(0)
    write = asyncio.ensure_future(node.write(0, (1_000, 1.0)))
    await asyncio.sleep(0)
    wait_until(lambda: len(node.handler._running) == threads, "all threads have begun")
    figures = await node.figures()
    assert (figures.requests.reads_running, figures.requests.reads_waiting) == (threads, 2)
    assert (figures.requests.writes_waiting, figures.ingest_queue) == (1, 1)
    let_go.set()
    await asyncio.gather(*tasks, write)


async def test_another_incarnation_has_other_figures(node: Node) -> None:
    node.handler._incarnation = 2
    with pytest.raises(StaleRoute, match="incarnation 1 was asked, this is 2"):
        await node.figures()


@pytest.mark.parametrize("spoil", [list.clear, list.pop, lambda plain: plain[1].pop(), lambda plain: plain[4][0].pop()])
async def test_what_are_no_figures_is_said_so(node: Node, spoil: Any) -> None:
    plain = encode_node_figures(await node.figures())
    spoil(plain)
    with pytest.raises(BadData, match="malformed"):
        decode_node_figures(plain)
