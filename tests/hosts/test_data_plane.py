"""The data plane over cables that are cut and slow: who is out of reach is given up soon, who is slow is not."""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq
from hosts import Hosts

from filoray.cluster.addresses import NodeAddress
from filoray.cluster.data_plane_keys import KeyPair
from filoray.cluster.errors import ConnectionLost
from filoray.nodes.wire.node_client import ZmqNodeClient
from filoray.nodes.wire.protocol import Frames, Kind, RequestHeader
from filoray.nodes.wire.tcp_watch import TcpWatch
from filoray.nodes.wire.transport import Responder, TransportServer

PORT = 4000
TIMEOUT_MS = 120_000
"""Of every request: an answer or an error that comes earlier came for another reason."""
SOON = TcpWatch(timeout_ms=1_000)


class Node:
    """A node's socket on the host ``two``, asked from ``one``. ``asked``: by what it has not answered yet."""

    def __init__(self, hosts: Hosts, watch: TcpWatch) -> None:
        keys = KeyPair.generate()
        address = NodeAddress(hosts["two"].address, PORT)
        self.asked: queue.Queue[Responder] = queue.Queue()
        self.losses = 0
        with hosts["two"].network():
            self._server = TransportServer(address.host, PORT, self._dispatch, keys.public, tcp_watch=watch)
        with hosts["one"].network():  # the context's thread, which connects, is made with its first socket
            self._context = zmq.Context()
            self._client = ZmqNodeClient(
                self._context, address, 1, "", self._server.public_key, keys, tcp_watch=watch, lost=self._lose
            )

    def _lose(self) -> None:
        self.losses += 1

    def _dispatch(self, header: RequestHeader, frames: Frames, responder: Responder) -> None:
        if header.body == "wait":
            self.asked.put(responder)
        elif header.kind is not Kind.CANCEL:
            responder.reply(header.body, [bytes(frame) for frame in frames])

    async def ask(self, body: str, frames: Frames | None = None) -> Frames:
        return (await self._client.request(Kind.QUERY, "timeseries", ((0, 1),), TIMEOUT_MS, body, frames)).frames

    async def ask_until_there(self) -> None:
        async with asyncio.timeout(TIMEOUT_MS / 1000):
            while True:
                with contextlib.suppress(ConnectionLost):
                    await self.ask("echo")
                    return

    def close(self) -> None:
        self._client.close()
        self._context.term()
        self._server.close()


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    with Hosts(tmp_path, ["one", "two"]) as made:
        yield made


@pytest.mark.parametrize(
    "directions",
    [[("one", "two"), ("two", "one")], [("one", "two")], [("two", "one")]],
    ids=["both", "it hears nothing", "it is not heard"],
)
async def test_who_waits_for_a_node_that_is_cut_off_hears_of_it_and_finds_it_again(
    hosts: Hosts, directions: list[tuple[str, str]]
) -> None:
    with contextlib.closing(Node(hosts, SOON)) as node:
        await node.ask_until_there()
        waiting = asyncio.create_task(node.ask("wait"))
        await asyncio.to_thread(node.asked.get, timeout=30)
        for source, target in directions:
            hosts.cut(source, target)
        with pytest.raises(ConnectionLost):  # though nothing was being sent any more
            await waiting
        assert node.losses == 1
        with pytest.raises(ConnectionLost):
            await node.ask("echo")
        hosts.heal()
        await node.ask_until_there()
        assert node.losses == 1


async def test_what_is_being_sent_into_a_cut_is_given_up_too(hosts: Hosts) -> None:
    with contextlib.closing(Node(hosts, SOON)) as node:
        await node.ask_until_there()
        hosts.cut("one", "two")
        with pytest.raises(ConnectionLost):
            await node.ask("echo", [os.urandom(3_000_000)])
        hosts.heal()
        await node.ask_until_there()


async def test_a_cable_that_needs_longer_for_a_message_than_anybody_may_be_silent_carries_it(hosts: Hosts) -> None:
    with contextlib.closing(Node(hosts, TcpWatch())) as node:
        await node.ask_until_there()
        hosts.slow("two", "2mbit")
        sent = os.urandom(2_000_000)  # eight seconds each way
        first, last = await asyncio.gather(node.ask("echo", [sent]), node.ask("echo"))
        assert (bytes(first[0]), list(last)) == (sent, [])
        assert node.losses == 0
