"""Whatever reaches a node's data plane is answered or dropped by itself, and the node goes on serving everybody else.

``FILORAY_FUZZ_SECONDS`` makes it go on for that long, from a random seed that it prints.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import orjson
import pytest
from shards import NOW_MS, container

from filoray.cluster.config import default_server_config
from filoray.cluster.dataset import parse_dataset_config
from filoray.cluster.errors import BadData, FilorayError
from filoray.nodes.engine import wire
from filoray.nodes.engine.planner import plan
from filoray.nodes.engine.query_params import QueryParams
from filoray.nodes.promql.parser import parse
from filoray.nodes.protocol import Frames, Kind, MalformedRequest, ReplyHeader, RequestHeader
from filoray.nodes.request_handler import RequestHandler
from filoray.nodes.shard_host import ShardHost
from filoray.nodes.transport import Responder

SECONDS = float(os.environ.get("FILORAY_FUZZ_SECONDS", "0"))
MESSAGES = 3_000
DATASET = "d"
SHARDS = ((0, 1), (1, 1))
QUERIES = (
    "up",
    "rate(up[5m])",
    "sum by (job) (up)",
    "topk(2, up)",
    "quantile(0.5, up)",
    "count_values('v', up)",
    "abs(up @ 5)",
)
SELECTORS = [[["__name__", "=~", ".+"]]]
BODIES: dict[Kind, Any] = {
    Kind.WRITE: None,
    Kind.QUERY: None,
    Kind.SERIES: [SELECTORS, 0, NOW_MS, 0, None],
    Kind.NAMES: [SELECTORS, 0, NOW_MS, 5, None],
    Kind.VALUES: [SELECTORS, 0, NOW_MS, 0, "job"],
    Kind.RAW: [SELECTORS, 0, NOW_MS, 0, None],
    Kind.PUT_METADATA: [[["up", "gauge", "Is it up?", ""]], [["x", "counter", "", "s"]]],
    Kind.METADATA: ["up", 10],
    Kind.CANCEL: None,
}
ODD: tuple[Any, ...] = (
    None, True, 0, -1, 1, 2**31, 2**63 - 1, -(2**63), 2**64 - 1, 1.5, float("nan"), "", "up", "x" * 500, "é\udc80",
    b"", b"\xff" * 9, [], {}, [[]], {"a": 1}, {1: []}, [["a", "=~", "("]], [["a", "=~", "(x+x+)+y"]], ["=", "=", "="],
    msgpack.Timestamp(1, 2), msgpack.ExtType(5, b"x"), [[[[[[[[[]]]]]]]]],
)  # fmt: skip


class Node:
    """A shard host behind a request handler, and the replies that would go over the socket."""

    def __init__(self, data_dir: Path) -> None:
        config = default_server_config()
        body = {
            "dataset": DATASET,
            "num-shards": 2,
            "min-num-nodes": 1,
            "sourcefactory": "filoray.nodes.streams.LogStreamFactory",
            "sourceconfig": {},
        }
        dataset = parse_dataset_config(
            orjson.dumps(body).decode(), DATASET, store_defaults=config.store, spread_default=0, place="here"
        )
        self.host = ShardHost(data_dir, lambda *_: None)
        self.host.start_shards(dataset, SHARDS)
        self.handler = RequestHandler(self.host, config, 1)
        self._replies: dict[int, tuple[ReplyHeader, Frames]] = {}
        self._changed = threading.Condition()

    def check_size(self, frames: Frames) -> None:
        """Any will do."""

    def send(self, identity: bytes, frames: Frames) -> None:
        header = ReplyHeader.decode(bytes(frames[0]))
        with self._changed:
            assert header.request_id not in self._replies, "answered twice"
            self._replies[header.request_id] = (header, frames[1:])
            self._changed.notify_all()

    def receive(self, message: Frames) -> int | None:
        """As the transport does with what came in; returns the id that an answer must come to."""
        try:
            header = RequestHeader.decode(bytes(message[0]))
        except MalformedRequest:
            return None
        if header.request_id in self._replies:
            return None
        responder = Responder(self, b"gateway", header.request_id)  # type: ignore[arg-type]
        try:
            self.handler.dispatch(header, message[1:], responder)
        except FilorayError as error:
            responder.fail(error)
        return None if header.kind is Kind.CANCEL else header.request_id

    def reply(self, request_id: int) -> tuple[ReplyHeader, Frames]:
        with self._changed:
            assert self._changed.wait_for(lambda: request_id in self._replies, 60), "no answer"
            return self._replies[request_id]

    def forget(self) -> None:
        with self._changed:
            self._replies.clear()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path)
    deadline_s = time.monotonic() + 30
    while any(hosted.shard is None for hosted in node.host.held()):
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    yield node
    node.handler.close()
    node.host.close()


def good(source: random.Random, request_id: int, kind: Kind) -> Frames:
    frames: Frames = []
    if kind is Kind.WRITE:
        frames = [container([({"__name__": "up", "job": f"j{source.randint(0, 9)}"}, [(NOW_MS, 1.0)])]) for _ in SHARDS]
    elif kind is Kind.QUERY:
        expr = parse(source.choice(QUERIES))
        frames = [wire.encode_fragments(plan(expr, QueryParams.instant(NOW_MS)).fragments)]
    return [RequestHeader(request_id, kind, 1, DATASET, SHARDS, 30_000, BODIES[kind]).encode(), *frames]


def odd(source: random.Random, plain: Any) -> Any:
    """``plain`` with one part of it, at any depth, replaced, doubled or left out."""
    if isinstance(plain, list) and plain and source.random() < 0.8:
        at = source.randrange(len(plain))
        changed = list(plain)
        match source.randrange(6):
            case 0:
                del changed[at]
            case 1:
                changed.insert(at, source.choice(ODD))
            case _:
                changed[at] = odd(source, changed[at])
        return changed
    return source.choice(ODD)


def damaged(source: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(source.randint(1, 4)):
        at = source.randrange(len(changed) + 1)
        match source.randrange(3):
            case 0 if at < len(changed):
                changed[at] = source.choice((0, 1, 0x7F, 0x80, 0xC1, 0xDD, 0xFF, source.randrange(256)))
            case 1:
                del changed[at : at + source.randint(1, 9)]
            case _:
                changed[at:at] = source.randbytes(source.randint(1, 4))
    return bytes(changed)


def repacked(source: random.Random, data: bytes, request_id: int) -> bytes:
    plain = odd(source, msgpack.unpackb(data, unicode_errors="surrogatepass", strict_map_key=False))
    if isinstance(plain, list) and plain and type(plain[0]) is int and source.random() < 0.9:
        plain[0] = request_id
    try:
        return msgpack.packb(plain, unicode_errors="surrogatepass")
    except (OverflowError, ValueError):
        return b"\xc1"


def message(source: random.Random, request_id: int) -> Frames:
    frames = good(source, request_id, source.choice(list(Kind)))
    if source.random() < 0.3:
        frames[0] = damaged(source, bytes(frames[0]))
    elif source.random() < 0.6:
        frames[0] = repacked(source, bytes(frames[0]), request_id)
    for at in range(1, len(frames)):
        if source.random() < 0.5:
            is_plan = len(frames) == 2 and source.random() < 0.5
            frames[at] = (
                repacked(source, bytes(frames[at]), request_id) if is_plan else damaged(source, bytes(frames[at]))
            )
    match source.randrange(20):
        case 0:
            frames.append(source.randbytes(50))
        case 1 if len(frames) > 1:
            frames.pop()
    return frames


@pytest.mark.timeout(SECONDS + 300)
def test_any_message_is_answered_or_dropped_and_disturbs_nobody(node: Node) -> None:
    seed = random.SystemRandom().randrange(2**32) if SECONDS else 1
    print(f"seed {seed}")
    source = random.Random(seed)
    end_s = time.monotonic() + SECONDS
    sent = answered = 0
    while sent < MESSAGES or time.monotonic() < end_s:
        sent += 1
        frames = message(source, sent)
        where = f"seed {seed} message {sent}: {[bytes(frame)[:300] for frame in frames]}"
        try:
            request_id = node.receive(frames)
            if request_id is None:
                continue
            header, _ = node.reply(request_id)
        except Exception as error:
            raise AssertionError(where) from error
        answered += 1
        # A plan of the right types that no gateway makes may fail while it is evaluated; all else is refused by name.
        is_plan = RequestHeader.decode(bytes(frames[0])).kind is Kind.QUERY
        assert is_plan or header.error is None or header.error[0] != "FilorayError", f"{header.error} to {where}"
        if sent % 500 == 0:
            node.forget()
    assert answered > sent / 4  # else the door was shut, and nothing was tried
    node.forget()
    for kind in (
        Kind.WRITE,
        Kind.QUERY,
        Kind.SERIES,
        Kind.NAMES,
        Kind.VALUES,
        Kind.RAW,
        Kind.PUT_METADATA,
        Kind.METADATA,
    ):
        assert node.receive(good(source, 10_000_000 + kind, kind)) is not None
        header, _ = node.reply(10_000_000 + kind)
        assert header.error is None, header.error


def test_the_good_messages_are_good() -> None:
    source = random.Random(1)
    for kind in Kind:
        RequestHeader.decode(bytes(good(source, 7, kind)[0]))
    with pytest.raises(BadData):
        RequestHeader.decode(b"\xc1")
