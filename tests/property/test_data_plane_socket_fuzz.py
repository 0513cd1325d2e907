"""Messages that no gateway sends, to a real node's socket, handler and shards: it answers or drops them, and serves on.

How long, and from which seed, ``fuzzing`` says.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import orjson
import pytest
import zmq
from fuzzing import rounds
from shards import container
from waiting import wait_until

from filoray.cluster.config.dataset import parse_dataset_config
from filoray.cluster.config.server_config import default_server_config
from filoray.cluster.control.shard_status import StatusKind
from filoray.cluster.data_plane_keys import KeyPair
from filoray.cluster.process.thread_watch import ThreadWatch
from filoray.nodes.engine.plan.planner import plan
from filoray.nodes.engine.query_params import QueryParams
from filoray.nodes.host.request_handler import RequestHandler
from filoray.nodes.host.shard_host import ShardHost
from filoray.nodes.promql.parser import parse
from filoray.nodes.wire import fragment_codec as wire
from filoray.nodes.wire.protocol import Kind, ReplyHeader, RequestHeader
from filoray.nodes.wire.transport import TransportLimits, TransportServer

HOST = "127.0.0.1"
MESSAGES = 1_000
STRANGERS = 200
KEYS = KeyPair.generate()
ODD = [0, -1, 1 << 31, 1 << 63, 1.5, float("nan"), "", "x" * 300, b"", b"\xff", [], {}, None, True, [[]], {"a": 1}]


class Node:
    def __init__(self, data_dir: Path, key: bytes | None) -> None:
        limits = TransportLimits(connections=STRANGERS // 4)  # one that was not counted out would take a place for good
        self.host = ShardHost("node-0", data_dir, lambda *report: None)
        self.handler = RequestHandler(self.host, default_server_config(), incarnation=1)
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            self.port = int(probe.getsockname()[1])
        self.server = TransportServer(HOST, self.port, self.handler.dispatch, key, limits)
        self.watch = ThreadWatch(30_000)
        self.watch.watch(self.handler.overdue)
        self.server.watch_with(self.watch)
        self.host.watch_with(self.watch)
        body = {
            "dataset": "d", "num-shards": 1, "min-num-nodes": 1,
            "sourcefactory": "filoray.nodes.streams.LogStreamFactory", "sourceconfig": {},
        }  # fmt: skip
        self.host.start_shards(parse_dataset_config(orjson.dumps(body).decode(), "d"), [(0, 1)])
        copied = {**body, "dataset": "copied", "num-replicas": 2}
        self.host.follow_shards(parse_dataset_config(orjson.dumps(copied).decode(), "copied"), [(0, 1, 1)])
        wait_until(lambda: any(held.status.kind is StatusKind.ACTIVE for held in self.host.held()), "the shard is open")

    def close(self) -> None:
        self.server.close()
        self.handler.close()
        self.host.close()


@pytest.fixture
def private(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path, None)
    yield node
    node.close()


@pytest.fixture
def public(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path, KEYS.public)
    yield node
    node.close()


def good_messages() -> list[list[bytes]]:
    """One of each kind, as gateways send them, the header decoded."""
    selectors = [[["__name__", "=", "up"]], [["job", "=~", "a.*"]]]
    exec_plan = plan(
        parse("sum by (job) (rate(up[5m]))"), QueryParams.range(0, 600_000, 60_000), lambda chosen: True, query=""
    )
    bodies: list[tuple[Kind, Any, list[bytes]]] = [
        (Kind.WRITE, None, [container([({"__name__": "up", "job": "a"}, [(1_000, 1.0)])])]),
        (Kind.QUERY, None, [wire.encode_fragments(exec_plan.fragments)]),
        (Kind.SERIES, [selectors, 0, 2_000, 0, None], []),
        (Kind.NAMES, [[], 0, 2_000, 5, None], []),
        (Kind.VALUES, [selectors, 0, 2_000, 0, "job"], []),
        (Kind.RAW, [selectors, 0, 2_000, 0, None], []),
        (Kind.PUT_METADATA, [[["up", "gauge", "is it", ""]]], []),
        (Kind.METADATA, ["up", 0], []),
        (Kind.FIGURES, None, []),
        (Kind.CANCEL, None, []),
    ]

    def header(kind: Kind, body: Any) -> RequestHeader:
        return RequestHeader(1, kind, 1, "d", () if kind is Kind.FIGURES else ((0, 1),), 30_000, body)

    return [[header(kind, body).encode(), *frames] for kind, body, frames in bodies]


def leaders_messages() -> list[list[bytes]]:
    """One of each, as leaders of shards send them, to a shard that is followed here."""
    bodies: list[tuple[Kind, Any, list[bytes]]] = [
        (Kind.SYNC, [0, 9, 1, 0, []], []),
        (Kind.SYNC, [0, 9, 2, 0, []], [b"a piece"]),
        (Kind.SYNC, [0, 9, 3, 0, [["up", "gauge", "is it", ""]]], []),
        (Kind.SYNC, [0, 9, 4, 7, []], []),
        (Kind.REPLICATE, [0, [[9, 1, 2]]], [b"an entry", b"another"]),
        (Kind.CHECK, [0, 1, 9, 1 << 20], []),
    ]
    return [
        [RequestHeader(1, kind, 1, "copied", ((0, 1),), 30_000, body).encode(), *frames]
        for kind, body, frames in bodies
    ]


def spoilt(chosen: random.Random, frames: list[bytes]) -> list[bytes]:
    """One or more things of a message are otherwise."""
    frames = list(frames)
    for _ in range(chosen.randint(1, 3)):
        place = chosen.randrange(len(frames))
        match chosen.choice(["value", "value", "bytes", "cut", "frames"]):
            case "value" if frames[place]:
                frames[place] = with_another_value(chosen, frames[place])
            case "bytes" if frames[place]:
                data = bytearray(frames[place])
                data[chosen.randrange(len(data))] = chosen.randrange(256)
                frames[place] = bytes(data)
            case "cut":
                frames[place] = frames[place][: chosen.randrange(len(frames[place]) + 1)]
            case _:
                frames.insert(place + 1, chosen.randbytes(chosen.randrange(50)))
    return frames


def with_another_value(chosen: random.Random, data: bytes) -> bytes:
    try:
        tree = msgpack.unpackb(data, unicode_errors="surrogatepass")
    except Exception:  # a container, or spoilt before
        return data
    holder = tree
    while isinstance(holder, list) and holder:
        index = chosen.randrange(len(holder))
        if not isinstance(holder[index], list) or not holder[index] or chosen.random() < 0.3:
            holder[index] = chosen.choice(ODD)
            break
        holder = holder[index]
    return msgpack.packb(tree, unicode_errors="surrogatepass")


def answer_to(client: zmq.Socket, request: RequestHeader, frames: list[bytes]) -> ReplyHeader:
    client.send_multipart([request.encode(), *frames])
    while True:
        assert client.poll(30_000), "no answer"
        reply = ReplyHeader.decode(client.recv_multipart()[0])
        if reply.request_id == request.request_id:
            return reply


def test_a_node_answers_whatever_messages_it_is_sent(private: Node) -> None:
    messages = good_messages()
    all_messages = [*messages, *leaders_messages()]
    with zmq.Context() as context, context.socket(zmq.DEALER) as client:
        client.linger = 0
        client.connect(private.server.endpoint)
        for number, chosen in enumerate(rounds(MESSAGES)):
            client.send_multipart(spoilt(chosen, chosen.choice(all_messages)))
            while client.poll(0):
                error = ReplyHeader.decode(client.recv_multipart()[0]).error
                assert error is None or error[0] != "FilorayError", f"round {number}: {error}"
            if number % 200 == 0:
                assert private.watch.problem() == ""
        for request_id, message in enumerate(messages[:-1], 1 << 40):
            good = RequestHeader.decode(message[0])
            good = RequestHeader(request_id, good.kind, 1, "d", good.shards, 30_000, good.body)
            reply = answer_to(client, good, message[1:])
            assert reply.error is None, (good.kind, reply.error)
    assert private.watch.problem() == ""
    # A reply leaves a moment before its request is counted out.
    handler = private.handler
    kinds = (handler._open_writes, handler._open_queries, handler._open_entries)
    wait_until(lambda: not any(kind._count for kind in kinds), "all are counted out")


def test_a_node_outlives_whatever_bytes_strangers_send_to_its_port(public: Node) -> None:
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x01" + b"CURVE".ljust(20, b"\0") + b"\0" + bytes(31)
    hello = b"\x04\xc8\x05HELLO\x01\x00" + bytes(72 + 32 + 8 + 80)
    for chosen in rounds(STRANGERS):
        data = bytearray(greeting + hello)
        for _ in range(chosen.randint(0, 4)):
            data[chosen.randrange(len(data))] = chosen.randrange(256)
        sent = bytes(data[: chosen.randrange(len(data) + 1)]) + chosen.randbytes(chosen.randrange(300))
        with socket.create_connection((HOST, public.port), timeout=10) as stranger:
            stranger.sendall(sent)
    with zmq.Context() as context, context.socket(zmq.DEALER) as client:
        client.linger = 0
        client.curve_serverkey = public.server.public_key
        client.curve_publickey, client.curve_secretkey = KEYS.public, KEYS.secret
        client.connect(f"tcp://{HOST}:{public.port}")
        client.send_multipart([b"no message"])
        header = RequestHeader(5, Kind.METADATA, 1, "d", ((0, 1),), 30_000, ["", 0]).encode()
        client.send_multipart([len(header).to_bytes(8, "little"), header])
        assert client.poll(30_000), "no answer"
        assert ReplyHeader.decode(client.recv_multipart()[1]) == ReplyHeader(5, None, [])
        doorman = public.server._doorman
        assert doorman is not None
        wait_until(lambda: len(doorman._open) <= 1, lambda: f"{len(doorman._open)} are counted, and one is open")
    assert public.watch.problem() == ""
