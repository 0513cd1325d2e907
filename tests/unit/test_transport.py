"""A node's socket and a gateway's client of it, over TCP: answers, errors, lost connections, keys."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import zmq

from filoray.cluster.addresses import NodeAddress
from filoray.cluster.data_plane_keys import KeyPair
from filoray.cluster.errors import ExecutionError, FilorayError, QueryTimeout, StaleRoute
from filoray.nodes.node_client import ZmqNodeClient
from filoray.nodes.protocol import Frames, Kind, ReplyHeader, RequestHeader
from filoray.nodes.transport import Dispatch, Responder, TransportServer

HOST = "127.0.0.1"
LONG_MS = 30_000
GATEWAYS = KeyPair.generate()


def echo(header: RequestHeader, frames: Frames, responder: Responder) -> None:
    responder.reply(header.body, [bytes(frame) for frame in frames])


class Silent:
    """Keeps what it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[RequestHeader, Responder]] = []
        self.arrived = threading.Semaphore(0)

    def __call__(self, header: RequestHeader, frames: Frames, responder: Responder) -> None:
        self.asked.append((header, responder))
        self.arrived.release()

    async def wait_for(self, count: int) -> None:
        for _ in range(count):
            assert await asyncio.to_thread(self.arrived.acquire, True, 30)


@contextmanager
def serving(dispatch: Dispatch, gateways_key: bytes | None = None) -> Iterator[tuple[TransportServer, NodeAddress]]:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as probe:
        port = probe.bind_to_random_port(f"tcp://{HOST}")
    server = TransportServer(HOST, port, dispatch, gateways_key)
    try:
        yield server, NodeAddress(HOST, port)
    finally:
        server.close()


@contextmanager
def client_of(address: NodeAddress, node_key: bytes = b"", keys: KeyPair | None = None) -> Iterator[ZmqNodeClient]:
    context = zmq.Context()
    client = ZmqNodeClient(context, address, 1, node_key, keys)
    try:
        yield client
    finally:
        client.close()
        context.term()


async def ask(client: ZmqNodeClient, body: object = None, frames: Frames | None = None, timeout_ms: int = LONG_MS):
    return await client.request(Kind.QUERY, "timeseries", ((0, 1),), timeout_ms, body, frames)


async def test_requests_and_their_frames_come_back_in_any_number() -> None:
    with serving(echo) as (server, address), client_of(address) as client:
        assert server.public_key == b""
        replies = await asyncio.gather(*(ask(client, i, [b"a" * i, b"b" * 100_000]) for i in range(200)))
        assert [reply.body for reply in replies] == list(range(200))
        assert [len(reply.frames[0]) for reply in replies] == list(range(200))
        assert all(bytes(reply.frames[1]) == b"b" * 100_000 for reply in replies)


async def test_an_error_of_the_node_is_raised_at_the_gateway() -> None:
    def fail(header: RequestHeader, frames: Frames, responder: Responder) -> None:
        raise ExecutionError("too much") if header.body == "known" else KeyError("unexpected")

    with serving(fail) as (_, address), client_of(address) as client:
        with pytest.raises(ExecutionError, match="too much"):
            await ask(client, "known")
        with pytest.raises(FilorayError, match="KeyError: 'unexpected'"):
            await ask(client, "unknown")


async def test_a_timeout_and_a_caller_who_gave_up_cancel_the_work_on_the_node() -> None:
    silent = Silent()
    with serving(silent) as (_, address), client_of(address) as client:
        with pytest.raises(QueryTimeout, match="within 50 ms"):
            await ask(client, timeout_ms=50)
        asking = asyncio.create_task(ask(client))
        await silent.wait_for(3)
        asking.cancel()
        await silent.wait_for(1)
        assert [header.kind for header, _ in silent.asked] == [Kind.QUERY, Kind.CANCEL, Kind.QUERY, Kind.CANCEL]
        requests = [responder.client_request for _, responder in silent.asked]
        assert requests[0] == requests[1] != requests[2] == requests[3]


async def test_a_connection_that_is_lost_fails_what_waits_for_an_answer() -> None:
    silent = Silent()
    with serving(silent) as (server, address), client_of(address) as client:
        asking = [asyncio.create_task(ask(client)) for _ in range(3)]
        await silent.wait_for(3)
        server.close()
        for task in asking:
            with pytest.raises(StaleRoute, match=r"the connection to node .* was lost"):
                await task
    with pytest.raises(StaleRoute, match="has gone"):
        await ask(client)


async def test_what_is_no_request_is_dropped_and_disturbs_nobody() -> None:
    with serving(echo) as (_, address), client_of(address) as client, zmq.Context() as context:
        with context.socket(zmq.DEALER) as stranger:
            stranger.linger = 0
            stranger.connect(address.endpoint)
            for parts in ([b""], [b"\xff" * 100], [b"\x93\x01\x02\x03"], [b"\xc1"], [b"\x97" + b"\xc0" * 7, b"x"]):
                stranger.send_multipart(parts)
            stranger.send(RequestHeader(9, Kind.QUERY, 1, "timeseries", (), 1000, "last").encode())
            answers = []
            for _ in range(2):
                assert await asyncio.to_thread(stranger.poll, LONG_MS)
                answers.append(ReplyHeader.decode(stranger.recv_multipart()[0]))
            assert [(answer.request_id, answer.error and answer.error[0], answer.body) for answer in answers] == [
                (1, "BadData", None),  # the one that says which request it is
                (9, None, "last"),
            ]
        assert (await ask(client, "good")).body == "good"


async def test_an_encrypted_node_answers_who_has_the_gateways_keys() -> None:
    with serving(echo, GATEWAYS.public) as (server, address), client_of(address, server.public_key, GATEWAYS) as client:
        assert len(server.public_key) == 40
        reply = await ask(client, "secret", [b"x" * 1_000_000])
        assert (reply.body, len(reply.frames[0])) == ("secret", 1_000_000)


@pytest.mark.parametrize(
    ("node_key", "keys"),
    [
        (lambda server: server.public_key, KeyPair.generate()),
        (lambda server: KeyPair.generate().public, GATEWAYS),
        (lambda server: b"", None),
    ],
    ids=["another client's keys", "another node's key", "no keys"],
)
async def test_an_encrypted_node_answers_nobody_else(
    node_key: Callable[[TransportServer], bytes], keys: KeyPair | None
) -> None:
    with (
        serving(echo, GATEWAYS.public) as (server, address),
        client_of(address, node_key(server), keys) as stranger,
        client_of(address, server.public_key, GATEWAYS) as client,
    ):
        with pytest.raises(StaleRoute):
            await ask(stranger)
        assert (await ask(client, "good")).body == "good"


async def test_what_an_encrypted_node_sends_cannot_be_read_on_the_way() -> None:
    seen: list[bytes] = []

    async def overhear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_connection(HOST, address.port)

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while piece := await source.read(65536):
                seen.append(piece)
                sink.write(piece)

        await asyncio.gather(pump(reader, upstream_writer), pump(upstream_reader, writer))

    for key in (None, GATEWAYS.public):
        seen.clear()
        with serving(echo, key) as (server, address):
            listener = await asyncio.start_server(overhear, HOST, 0)
            between = NodeAddress(HOST, listener.sockets[0].getsockname()[1])
            with client_of(between, server.public_key, GATEWAYS) as client:
                assert (await ask(client, "my password")).body == "my password"
            listener.close()
        assert (b"my password" in b"".join(seen)) is (key is None)


def test_a_taken_port_is_an_error_that_leaves_nothing(recwarn: pytest.WarningsRecorder) -> None:
    with serving(echo) as (_, address):
        before = threading.active_count()
        for key in (None, GATEWAYS.public):
            with pytest.raises(zmq.ZMQError, match="Address already in use"):
                TransportServer(HOST, address.port, echo, key)
        assert threading.active_count() == before


def test_keys_are_not_shown() -> None:
    assert GATEWAYS.secret.decode() not in repr(GATEWAYS)
    assert KeyPair.generate() != GATEWAYS
