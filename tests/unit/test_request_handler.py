"""What a node does with data-plane requests: whom it refuses, and how many it keeps waiting."""

from __future__ import annotations

import dataclasses
import threading
from typing import Any

import pytest

from filoray.cluster.config import default_server_config
from filoray.cluster.errors import BadData, TooManyRequests
from filoray.nodes.protocol import Frames, Kind, ReplyHeader, RequestHeader
from filoray.nodes.request_handler import RequestHandler
from filoray.nodes.transport import Responder
from filoray.nodes.write_reply import Stored

LIMIT = 3


class Host:
    """Keeps writes until they are let go, and reads waiting until then."""

    def __init__(self) -> None:
        self.pending: list[Any] = []
        self.open = threading.Event()

    def submit(self, dataset: str, shards: Any, containers: Any, pending: Any) -> None:
        self.pending.append(pending)

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

    def ask(self, kind: Kind, incarnation: int = 5, containers: int = 1) -> None:
        self._request_id += 1
        header = RequestHeader(self._request_id, kind, incarnation, "timeseries", ((0, 1),), 30_000, ["", 0])
        responder = Responder(self.server, b"gateway", self._request_id)  # type: ignore[arg-type]
        self.handler.dispatch(header, [b""] * containers, responder)

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
    node.host.pending[0].set(0, Stored(1, {}, ""))
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


def test_a_write_without_its_containers_is_refused_and_takes_no_room(node: Node) -> None:
    for _ in range(LIMIT + 1):
        with pytest.raises(BadData, match="a container for each of its shards"):
            node.ask(Kind.WRITE, containers=2)
    node.ask(Kind.WRITE)
