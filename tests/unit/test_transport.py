"""A node's socket and a gateway's client of it: answers, errors, lost connections, keys, and strangers at the door."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import zmq

from filoray.cluster.addresses import NodeAddress
from filoray.cluster.data_plane_keys import KeyPair
from filoray.cluster.errors import (
    BadData,
    ConnectionLost,
    ExecutionError,
    FilorayError,
    LimitExceeded,
    QueryTimeout,
    StaleRoute,
)
from filoray.nodes.wire.message_pieces import PIECE_BYTES, joined
from filoray.nodes.wire.node_client import ZmqNodeClient
from filoray.nodes.wire.private_sockets import new_socket_path
from filoray.nodes.wire.protocol import TIMEOUT_MS_MAX, Frames, Kind, ReplyHeader, RequestHeader
from filoray.nodes.wire.tcp_watch import HANDSHAKE_MS
from filoray.nodes.wire.transport import Dispatch, Responder, TransportLimits, TransportServer

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


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(
    dispatch: Dispatch, gateways_key: bytes | None = None, limits: TransportLimits | None = None
) -> Iterator[tuple[TransportServer, NodeAddress]]:
    port = free_port()
    server = TransportServer(HOST, port, dispatch, gateways_key, limits or TransportLimits())
    try:
        yield server, NodeAddress(HOST, port)
    finally:
        server.close()


@contextmanager
def client_of(
    address: NodeAddress, node_key: bytes = b"", keys: KeyPair | None = None, endpoint: str = ""
) -> Iterator[ZmqNodeClient]:
    context = zmq.Context()
    client = ZmqNodeClient(context, address, 1, endpoint, node_key, keys)
    try:
        yield client
    finally:
        client.close()
        context.term()


async def ask(client: ZmqNodeClient, body: object = None, frames: Frames | None = None, timeout_ms: int = LONG_MS):
    return await client.request(Kind.QUERY, "timeseries", ((0, 1),), timeout_ms, body, frames)


async def test_requests_and_their_frames_come_back_in_any_number() -> None:
    with serving(echo) as (server, address), client_of(address, endpoint=server.endpoint) as client:
        assert server.public_key == b""
        replies = await asyncio.gather(*(ask(client, i, [b"a" * i, b"b" * 100_000]) for i in range(200)))
        assert [reply.body for reply in replies] == list(range(200))
        assert [len(reply.frames[0]) for reply in replies] == list(range(200))
        assert all(bytes(reply.frames[1]) == b"b" * 100_000 for reply in replies)


async def test_an_error_of_the_node_is_raised_at_the_gateway() -> None:
    def fail(header: RequestHeader, frames: Frames, responder: Responder) -> None:
        raise ExecutionError("too much") if header.body == "known" else KeyError("unexpected")

    with serving(fail) as (server, address), client_of(address, endpoint=server.endpoint) as client:
        with pytest.raises(ExecutionError, match="too much"):
            await ask(client, "known")
        with pytest.raises(FilorayError, match="KeyError: 'unexpected'"):
            await ask(client, "unknown")


async def test_a_timeout_and_a_caller_who_gave_up_cancel_the_work_on_the_node() -> None:
    silent = Silent()
    with serving(silent) as (server, address), client_of(address, endpoint=server.endpoint) as client:
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
    with serving(silent) as (server, address), client_of(address, endpoint=server.endpoint) as client:
        asking = [asyncio.create_task(ask(client)) for _ in range(3)]
        await silent.wait_for(3)
        server.close()
        for task in asking:
            with pytest.raises(StaleRoute, match=r"the connection to node .* was lost"):
                await task
    with pytest.raises(StaleRoute, match="has gone"):
        await ask(client)


async def test_nothing_is_sent_from_the_word_of_a_lost_connection_to_that_of_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """libzmq says so a moment before it takes its pipe down; what is sent between would wait for its timeout."""
    arrived: list[object] = []

    def note(header: RequestHeader, frames: Frames, responder: Responder) -> None:
        arrived.append(header.body)
        responder.reply(header.body)

    context = zmq.Context()
    with (
        context.socket(zmq.PAIR) as words,
        context.socket(zmq.PAIR) as monitor,
        serving(note) as (server, address),
        client_of(address, endpoint=server.endpoint) as client,
    ):
        words.bind("inproc://words")
        monitor.connect("inproc://words")
        assert (await ask(client, "before")).body == "before"
        with monkeypatch.context() as patch:
            patch.setattr(client, "_monitor", monitor)
            words.send_multipart([struct.pack("=HI", zmq.EVENT_DISCONNECTED, 0), b""])
            client._drain_monitor()
            for timeout_ms in (30_000, 20):  # whichever ends first, the patience for connections or the request's time
                with pytest.raises(ConnectionLost, match="there is no connection"):
                    await ask(client, "between", timeout_ms=timeout_ms)
            words.send_multipart([struct.pack("=HI", zmq.EVENT_HANDSHAKE_SUCCEEDED, 0), b""])
            assert (await ask(client, "after")).body == "after"
    context.term()
    assert arrived == ["before", "after"]


@pytest.mark.parametrize("key", [None, GATEWAYS.public], ids=["private", "keys"])
async def test_requests_to_a_node_that_is_not_there_fail_soon_and_do_not_pile_up(key: bytes | None) -> None:
    arrived: list[object] = []

    def note(header: RequestHeader, frames: Frames, responder: Responder) -> None:
        arrived.append(header.body)
        responder.reply(header.body)

    with (
        serving(note, key) as (server, address),
        client_of(address, server.public_key, GATEWAYS if key else None, server.endpoint) as client,
    ):
        assert (await ask(client, "before")).body == "before"
        server.close()
        with contextlib.suppress(StaleRoute):
            await ask(client, "as it ends")
        asking = [ask(client, i, [bytes(100_000)]) for i in range(20)]
        results = await asyncio.gather(*asking, return_exceptions=True)
        assert {type(result) for result in results} == {ConnectionLost}
        if key is None:  # the one that takes its place finds nothing that was meant for the first
            stand_in = zmq.Context()
            with stand_in.socket(zmq.ROUTER) as router:
                router.linger = 0
                router.bind(server.endpoint)
                later = asyncio.create_task(ask(client, "for the other"))
                assert await asyncio.to_thread(router.poll, LONG_MS)
                assert RequestHeader.decode(router.recv_multipart()[1]).body == "for the other"
                later.cancel()
            stand_in.term()
    assert arrived == ["before"]


async def test_a_timeout_longer_than_any_is_one_for_the_node() -> None:
    def timeout_of(header: RequestHeader, frames: Frames, responder: Responder) -> None:
        responder.reply(header.timeout_ms)

    with serving(timeout_of) as (server, address), client_of(address, endpoint=server.endpoint) as client:
        assert (await ask(client, timeout_ms=1 << 40)).body == TIMEOUT_MS_MAX


async def test_what_is_no_request_is_dropped_and_disturbs_nobody() -> None:
    with (
        serving(echo) as (server, address),
        client_of(address, endpoint=server.endpoint) as client,
        zmq.Context() as context,
    ):
        with context.socket(zmq.DEALER) as stranger:
            stranger.linger = 0
            stranger.connect(server.endpoint)
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

    with serving(echo, GATEWAYS.public) as (server, address):
        listener = await asyncio.start_server(overhear, HOST, 0)
        between = NodeAddress(HOST, listener.sockets[0].getsockname()[1])
        with client_of(between, server.public_key, GATEWAYS) as client:
            assert (await ask(client, "my password")).body == "my password"
        listener.close()
    assert len(b"".join(seen)) > 100
    assert b"my password" not in b"".join(seen)


@pytest.mark.parametrize("key", [None, GATEWAYS.public], ids=["private", "keys"])
@pytest.mark.parametrize("holder_key", [None, GATEWAYS.public], ids=["held", "listening"])
def test_a_taken_port_is_an_error_that_leaves_nothing(key: bytes | None, holder_key: bytes | None) -> None:
    with serving(echo, holder_key) as (_, address):
        before = threading.active_count()
        with pytest.raises(OSError, match="Address already in use"):
            TransportServer(HOST, address.port, echo, key)
        assert threading.active_count() == before


def test_connections_that_are_over_keep_no_node_from_its_port() -> None:
    with socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection((HOST, port)) as client:
            listener.accept()[0].close()  # who closes first waits, at this port, for what may still be on its way
            assert client.recv(1) == b""
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind((HOST, port))
    with contextlib.closing(TransportServer(HOST, port, echo)):
        pass


# ---- who is not let in


def test_on_one_machine_nothing_listens_at_the_port_and_only_this_user_enters_the_sockets_directory() -> None:
    with serving(echo) as (server, address):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((HOST, address.port), timeout=5)
        path = Path(server.endpoint.removeprefix("ipc://"))
        assert path.is_socket()
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert path.parent.stat().st_uid == os.geteuid()
    assert not path.exists()


def test_sockets_that_killed_nodes_left_are_removed_and_living_ones_are_not() -> None:
    name = f"node-test-{os.getpid()}"
    dead, living, new_of_another = new_socket_path(name), new_socket_path(name), new_socket_path(f"other-{os.getpid()}")
    with contextlib.ExitStack() as stack:
        for path in (dead, living, new_of_another):
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(str(path))
            listener.listen()
            if path != living:
                listener.close()
        fresh = new_socket_path(name)
        assert [path.exists() for path in (dead, living, new_of_another, fresh)] == [False, True, True, False]
        os.utime(new_of_another, (0, 0))
        os.utime(living, (0, 0))
        new_socket_path(name)
        assert [path.exists() for path in (living, new_of_another)] == [True, False]
    living.unlink()


@pytest.mark.parametrize("kind", ["open to others", "a link", "a file"])
def test_a_directory_that_others_may_enter_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    planted = tmp_path / f"filoray-{os.geteuid()}"
    if kind == "open to others":
        planted.mkdir()
        planted.chmod(0o777)
    elif kind == "a link":
        (tmp_path / "theirs").mkdir(mode=0o700)
        planted.symlink_to(tmp_path / "theirs")
    else:
        planted.touch(mode=0o700)
    used = new_socket_path("node-1").parent
    assert used != planted
    assert stat.S_IMODE(used.lstat().st_mode) == 0o700


def greeting() -> bytes:
    """What a ZMTP 3.1 peer that wants CURVE says first."""
    return b"\xff" + bytes(8) + b"\x7f" + b"\x03\x01" + b"CURVE".ljust(20, b"\0") + b"\0" + bytes(31)


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize(
    "frame_head",
    [
        b"\x06" + (1 << 40).to_bytes(8, "big"),  # a long command
        b"\x02" + (1 << 40).to_bytes(8, "big"),  # a long message
        b"\x03" + (1 << 62).to_bytes(8, "big"),  # one with more to come
    ],
)
@pytest.mark.parametrize("greets", [True, False], ids=["after a greeting", "at once, as ZMTP 1.0"])
def test_a_stranger_who_sends_a_frame_without_end_is_cut_off(frame_head: bytes, greets: bool) -> None:
    with serving(echo, GATEWAYS.public) as (_, address):
        before_bytes, sent_bytes, piece = resident_bytes(), 0, bytes(1 << 20)
        with (
            socket.create_connection((HOST, address.port), timeout=20) as stranger,
            contextlib.suppress(ConnectionResetError, BrokenPipeError),
        ):
            stranger.sendall((greeting() if greets else b"") + frame_head)
            while sent_bytes < 512 << 20:
                sent_bytes += stranger.send(piece)
        assert sent_bytes < 64 << 20, "what the kernel's buffers hold, and no more"
        assert resident_bytes() - before_bytes < 100 << 20


async def test_a_stranger_who_sends_nothing_is_cut_off_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    assert HANDSHAKE_MS <= 5_000
    monkeypatch.setattr("filoray.nodes.wire.tcp_watch.HANDSHAKE_MS", 200)
    with serving(echo, GATEWAYS.public) as (_, address):
        for first in (b"", greeting(), greeting() + b"\x06" + (60_000).to_bytes(8, "big") + bytes(100)):
            reader, writer = await asyncio.open_connection(HOST, address.port)
            writer.write(first)
            await asyncio.wait_for(reader.read(-1), 25)
            writer.close()


async def test_connections_beyond_the_limit_are_cut_and_the_gateways_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("filoray.nodes.wire.tcp_watch.HANDSHAKE_MS", 600_000)  # so that nothing else cuts them
    with serving(echo, GATEWAYS.public, TransportLimits(connections=5)) as (server, address):
        with client_of(address, server.public_key, GATEWAYS) as client:
            assert (await ask(client, "first")).body == "first"
            strangers = [await asyncio.open_connection(HOST, address.port) for _ in range(30)]
            ends = {asyncio.create_task(reader.read(-1)) for reader, _ in strangers}
            while len(ends) > 4:
                done, ends = await asyncio.wait(ends, timeout=20, return_when=asyncio.FIRST_COMPLETED)
                assert done, f"{len(ends)} of 30 are open"
            assert (await ask(client, "still there")).body == "still there"
            for _, writer in strangers:
                writer.close()
        with client_of(address, server.public_key, GATEWAYS) as client:
            assert (await ask(client, "in a place that was given back")).body
        for task in ends:
            task.cancel()


# ---- sizes


@pytest.mark.parametrize("key", [None, GATEWAYS.public], ids=["private", "keys"])
async def test_messages_of_every_size_come_as_they_went(key: bytes | None) -> None:
    sizes = [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES, 5_000_001]
    with (
        serving(echo, key) as (server, address),
        client_of(address, server.public_key, GATEWAYS if key else None, server.endpoint) as client,
    ):
        frames: Frames = [os.urandom(size) for size in sizes]
        reply = await ask(client, "x" * 200_000, frames)
        assert reply.body == "x" * 200_000
        assert [bytes(frame) for frame in reply.frames] == frames


@pytest.mark.parametrize("key", [None, GATEWAYS.public], ids=["private", "keys"])
async def test_a_message_that_is_too_long_is_an_error_that_names_the_key(key: bytes | None) -> None:
    def grow(header: RequestHeader, frames: Frames, responder: Responder) -> None:
        responder.reply("grown", [bytes(int(header.body))])

    limits = TransportLimits(message_bytes=1 << 20)
    with serving(grow, key, limits) as (server, address):
        context = zmq.Context()
        client = ZmqNodeClient(
            context, address, 1, server.endpoint, server.public_key, GATEWAYS if key else None, limits.message_bytes
        )
        for body, frames in ((2 << 20, []), (0, [bytes(2 << 20)])):
            with pytest.raises(LimitExceeded, match=r"filoray\.node\.max-message-size = 1048576"):
                await ask(client, body, frames)
        assert len((await ask(client, 100_000)).frames[0]) == 100_000
        client.close()
        context.term()


@pytest.mark.parametrize(
    "pieces",
    [
        [],
        [b""],
        [b"1234567"],
        [struct.pack("<Q", 5)],
        [struct.pack("<Q", 5), b"1234"],
        [struct.pack("<Q", 1), b"1", b"2"],
        [struct.pack("<Q", 1 << 63), b"1"],
        [struct.pack("<QQ", 1, 1), b"1"],
    ],
)
def test_pieces_that_fit_no_message_are_bad_data(pieces: list[bytes]) -> None:
    with pytest.raises(BadData):
        joined(pieces, 1 << 30)


def test_a_reply_after_the_end_goes_nowhere() -> None:
    """Not into the file that has the descriptor's number next."""
    with serving(echo) as (server, _):
        descriptor = server._wake_fd
    read, write = os.pipe2(os.O_NONBLOCK)
    read = os.dup(read)  # which may have had that number
    os.dup2(write, descriptor)
    Responder(server, b"gateway", 1).reply("late")
    with pytest.raises(BlockingIOError):
        os.read(read, 8)
    for one in {read, write, descriptor}:
        os.close(one)


def test_keys_are_not_shown() -> None:
    assert GATEWAYS.secret.decode() not in repr(GATEWAYS)
    assert KeyPair.generate() != GATEWAYS
