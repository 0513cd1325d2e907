"""What a node does with data-plane requests: whom it refuses, and how many it keeps waiting."""

from __future__ import annotations

import dataclasses
import threading
from typing import Any

import msgpack
import pytest
from waiting import wait_until

from filoray.cluster.config.server_config import default_server_config
from filoray.cluster.errors import BadData, TooManyRequests
from filoray.nodes.data.write_outcome import WriteOutcome
from filoray.nodes.host.request_handler import OpenRequests, RequestHandler
from filoray.nodes.wire.protocol import Frames, Kind, ReplyHeader, RequestHeader
from filoray.nodes.wire.transport import Responder

LIMIT = 3


class Host:
    """Keeps writes until they are let go, and reads waiting until then."""

    def __init__(self) -> None:
        self.pending: list[Any] = []
        self.open = threading.Event()

    def submit(self, dataset: str, shards: Any, containers: Any, pending: Any) -> None:
        self.pending.append(pending)

    def readable(self, dataset: str, shards: Any) -> list[Any]:
        return []

    def metadata_files(self, dataset: str, shards: Any) -> list[Any]:
        assert self.open.wait(30)
        return []


class Server:
    """Takes the replies."""

    def __init__(self) -> None:
        self.replies: list[ReplyHeader] = []
        self.arrived = threading.Semaphore(0)

    def send(self, identity: bytes, frames: Frames) -> None:
        self.replies.append(ReplyHeader.decode(bytes(frames[0])))
        self.arrived.release()


class Node:
    def __init__(self) -> None:
        config = default_server_config()
        config = dataclasses.replace(config, node=dataclasses.replace(config.node, max_queued_requests=LIMIT))
        self.host, self.server = Host(), Server()
        self.handler = RequestHandler(self.host, config, incarnation=5)  # type: ignore[arg-type]
        self._request_id = 0

    def ask(self, kind: Kind, incarnation: int = 5, containers: int = 1, timeout_ms: int = 30_000) -> None:
        self._request_id += 1
        body = ["", 0] if kind is Kind.METADATA else None
        header = RequestHeader(self._request_id, kind, incarnation, "timeseries", ((0, 1),), timeout_ms, body)
        responder = Responder(self.server, b"gateway", self._request_id)  # type: ignore[arg-type]
        self.handler.dispatch(header, [b""] * containers if kind is Kind.WRITE else [], responder)

    def errors(self) -> list[str | None]:
        return [reply.error[0] if reply.error else None for reply in self.server.replies]


@pytest.fixture
def node():
    node = Node()
    yield node
    node.host.open.set()
    node.handler.close()


def test_writes_beyond_the_limit_are_refused_until_some_are_answered(node: Node) -> None:
    for _ in range(LIMIT):
        node.ask(Kind.WRITE)
    with pytest.raises(TooManyRequests, match=r"has 3 writes .* filoray\.node\.max-queued-requests = 3"):
        node.ask(Kind.WRITE)
    node.host.pending[0].set(0, WriteOutcome(1))
    node.ask(Kind.WRITE)
    assert len(node.host.pending) == LIMIT + 1
    assert node.errors() == [None]


def test_queries_beyond_the_limit_are_refused_and_do_not_count_as_writes(node: Node) -> None:
    for _ in range(LIMIT):
        node.ask(Kind.METADATA)
    with pytest.raises(TooManyRequests, match="has 3 queries"):
        node.ask(Kind.METADATA)
    node.ask(Kind.WRITE)
    node.host.open.set()
    for _ in range(LIMIT):
        assert node.server.arrived.acquire(timeout=30)
    node.ask(Kind.METADATA)
    assert node.server.arrived.acquire(timeout=30)
    assert node.errors() == [None] * (LIMIT + 1)


def test_requests_for_another_incarnation_are_refused_and_take_no_room(node: Node) -> None:
    for _ in range(LIMIT + 1):
        node.ask(Kind.WRITE, incarnation=4)
        node.ask(Kind.METADATA, incarnation=6)
    assert node.errors() == ["StaleRoute"] * 2 * (LIMIT + 1)
    assert node.host.pending == []


def malformed_messages(count: int) -> list[Frames]:
    """Requests whose header is in order as far as its fields go alone, and wrong for their kind."""
    kinds = [kind for kind in Kind if kind is not Kind.CANCEL]
    return [
        [msgpack.packb([i + 1, int(kinds[i % len(kinds)]), 5, "timeseries", [[0, 1]], 1000, {"no": "body"}])]
        for i in range(count)
    ]


def test_malformed_requests_are_answered_and_take_no_room(node: Node) -> None:
    messages = malformed_messages(10 * LIMIT)
    for frames in messages:
        header = RequestHeader.decode(bytes(frames[0]))
        responder = Responder(node.server, b"gateway", header.request_id)  # type: ignore[arg-type]
        with pytest.raises(BadData):
            node.handler.dispatch(header, frames[1:], responder)
    for _ in range(LIMIT):
        node.ask(Kind.WRITE)
        node.ask(Kind.METADATA)
    with pytest.raises(TooManyRequests):
        node.ask(Kind.METADATA)


def test_a_query_whose_fragments_are_none_is_answered_and_takes_no_room(node: Node) -> None:
    for i in range(3 * LIMIT):
        header = RequestHeader(i, Kind.QUERY, 5, "timeseries", ((0, 1),), 30_000)
        node.handler.dispatch(header, [b"\xc1"], Responder(node.server, b"gateway", i))  # type: ignore[arg-type]
        assert node.server.arrived.acquire(timeout=30)
    assert node.errors() == ["BadData"] * 3 * LIMIT


def test_what_fails_while_it_is_queued_takes_no_room(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise RuntimeError("the thread pool is closed")

    with monkeypatch.context() as patch:
        patch.setattr(node.host, "submit", fail)
        patch.setattr(node.handler._pool, "submit", fail)
        for _ in range(LIMIT + 1):
            for kind in (Kind.WRITE, Kind.METADATA):
                with pytest.raises(RuntimeError):
                    node.ask(kind)
    node.ask(Kind.WRITE)
    node.ask(Kind.METADATA)


def test_writes_beyond_the_bytes_are_refused_but_one_alone_is_taken() -> None:
    writes = OpenRequests("writes", 10, 100)
    writes.begin(1_000)
    with pytest.raises(
        TooManyRequests, match=r"1000 bytes to answer, and 1 more .* filoray\.node\.max-queued-size = 100"
    ):
        writes.begin(1)
    writes.end(1_000)
    for _ in range(2):
        writes.begin(50)
    with pytest.raises(TooManyRequests):
        writes.begin(1)


def test_a_node_whose_query_threads_are_all_at_what_timed_out_says_so(node: Node) -> None:
    threads = default_server_config().node.query_threads
    a_minute_before = -60.0  # so that nothing need be waited for
    for _ in range(threads):
        assert node.handler.overdue(a_minute_before) is None
        node.ask(Kind.METADATA)
    said = wait_until(lambda: node.handler.overdue(a_minute_before), "all threads have begun")
    assert said.startswith(f"all {threads} query threads work on queries that timed out")
    assert node.handler.overdue(3600) is None


def test_what_waited_for_a_thread_until_its_time_was_up_is_no_work_of_that_thread(node: Node, monkeypatch: Any) -> None:
    running: list[int] = []
    send = node.server.send
    monkeypatch.setattr(node.server, "send", lambda *reply: (running.append(len(node.handler._running)), send(*reply)))
    node.ask(Kind.METADATA, timeout_ms=0)
    assert node.server.arrived.acquire(timeout=30)
    assert (node.errors(), running) == (["QueryTimeout"], [0])


def test_a_write_without_its_containers_is_refused_and_takes_no_room(node: Node) -> None:
    for _ in range(LIMIT + 1):
        with pytest.raises(BadData, match="a container for each of its shards"):
            node.ask(Kind.WRITE, containers=2)
    node.ask(Kind.WRITE)
