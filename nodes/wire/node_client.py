"""A gateway's end of the data plane: one DEALER socket per node incarnation, on the gateway's event loop.

The socket is drained in batches from the loop's reader callback (zmq.asyncio costs several times as
much per message). A lost connection fails what waits for an answer at once, so that callers
route anew without waiting for a timeout or for the coordinator's word. So does a node that does not know the
gateway's keys, or that has others than the gateway was told.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import zmq
from zmq.utils.monitor import parse_monitor_message

from filoray.cluster.addresses import NodeAddress
from filoray.cluster.data_plane_keys import KeyPair
from filoray.cluster.errors import BadData, ConnectionLost, QueryTimeout, StaleRoute
from filoray.nodes.wire import message_pieces
from filoray.nodes.wire.protocol import TIMEOUT_MS_MAX, Frames, Kind, ReplyHeader, RequestHeader
from filoray.nodes.wire.tcp_watch import TcpWatch
from filoray.nodes.wire.transport import ZERO_COPY_BYTES_MIN, check_message_size

logger = logging.getLogger(__name__)

_CONNECTION_LOST = (
    zmq.EVENT_DISCONNECTED
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)

_DEFAULT_TCP_WATCH = TcpWatch()
_CONNECT_S = 1.0
"""A connection takes milliseconds, also to a machine far away."""
_CONNECT_LOOK_S = 0.003


@dataclass(frozen=True, slots=True)
class Reply:
    body: object
    frames: Frames


class NodeClient(Protocol):
    """One node incarnation as a gateway sees it."""

    async def request(
        self,
        kind: Kind,
        dataset: str,
        shards: tuple[tuple[int, int], ...],
        timeout_ms: int,
        body: object = None,
        frames: Frames | None = None,
    ) -> Reply:
        """The node's answer.

        Raises the FilorayError the node raised, StaleRoute if the node has gone or holds other epochs,
        ConnectionLost if the connection broke, and QueryTimeout when ``timeout_ms`` pass.

        Cancelling the awaiting task stops the work on the node.
        """
        ...

    def close(self) -> None: ...


class ZmqNodeClient:
    """NodeClient over a private socket of this machine or over TCP. Belongs to the event loop that made it.

    ``lost``: told whenever a connection that there was is lost, also while nothing waits for an answer.

    ``endpoint``: the private socket; "": TCP at the node's address, where ``node_key`` is the node's public key, and
    ``gateway_keys`` prove to it that it may be asked from here. ``message_bytes_max``: of one message, either way.
    ``tcp_watch``: with a node over TCP.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        address: NodeAddress,
        incarnation: int,
        endpoint: str = "",
        node_key: bytes = b"",
        gateway_keys: KeyPair | None = None,
        message_bytes_max: int = 1 << 30,
        tcp_watch: TcpWatch = _DEFAULT_TCP_WATCH,
        lost: Callable[[], None] = lambda: None,
    ) -> None:
        self._address = address
        self._lost = lost
        self._incarnation = incarnation
        self._loop = asyncio.get_running_loop()
        self._request_ids = itertools.count(1)
        self._pending: dict[int, asyncio.Future[Reply]] = {}
        self._closed = False
        self._is_connected = False
        self._drain_is_due = False
        self._socket = context.socket(zmq.DEALER)
        for option in (zmq.LINGER, zmq.SNDHWM, zmq.RCVHWM):
            self._socket.setsockopt(option, 0)
        self._socket.setsockopt(zmq.RECONNECT_IVL, 20)
        # Messages are for a node that is there: those for one that cannot be reached would pile up in the socket.
        self._socket.setsockopt(zmq.IMMEDIATE, 1)
        self._message_bytes_max = message_bytes_max
        self._is_in_pieces = not endpoint
        self._socket.setsockopt(
            zmq.MAXMSGSIZE, message_pieces.FRAME_BYTES_MAX if self._is_in_pieces else message_bytes_max
        )
        if self._is_in_pieces:
            tcp_watch.watch(self._socket)
        if node_key and gateway_keys is not None:
            self._socket.curve_serverkey = node_key
            self._socket.curve_publickey, self._socket.curve_secretkey = gateway_keys.public, gateway_keys.secret
        self._monitor = self._socket.get_monitor_socket(_CONNECTION_LOST | zmq.EVENT_HANDSHAKE_SUCCEEDED)
        self._socket.connect(endpoint or address.endpoint)
        self._socket_fd = int(self._socket.getsockopt(zmq.FD))
        self._monitor_fd = int(self._monitor.getsockopt(zmq.FD))
        self._loop.add_reader(self._socket_fd, self._drain)
        self._loop.add_reader(self._monitor_fd, self._drain_monitor)
        # libzmq signals a descriptor only after somebody found the socket empty: without this look, a first lost
        # connection would go unnoticed.
        self._drain_monitor()

    async def request(
        self,
        kind: Kind,
        dataset: str,
        shards: tuple[tuple[int, int], ...],
        timeout_ms: int,
        body: object = None,
        frames: Frames | None = None,
    ) -> Reply:
        if self._closed:
            raise StaleRoute(f"node {self._address} has gone")
        request_id = next(self._request_ids)
        node_timeout_ms = min(timeout_ms, TIMEOUT_MS_MAX)
        header = RequestHeader(request_id, kind, self._incarnation, dataset, shards, node_timeout_ms, body)
        future: asyncio.Future[Reply] = self._loop.create_future()
        self._pending[request_id] = future
        is_sent = False
        try:
            message = self._message([header.encode(), *(frames or [])])
            async with asyncio.timeout(timeout_ms / 1000):
                if not self._send(message):
                    await self._send_when_connected(message, future)
                is_sent = True
                return await future
        except TimeoutError:
            if not is_sent:
                raise ConnectionLost(f"there is no connection to node {self._address}") from None
            self._cancel(request_id)
            raise QueryTimeout(f"node {self._address} gave no answer within {timeout_ms} ms") from None
        except asyncio.CancelledError:
            self._cancel(request_id)
            raise
        finally:
            self._pending.pop(request_id, None)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._socket_fd)
        self._loop.remove_reader(self._monitor_fd)
        self._socket.disable_monitor()
        self._monitor.close(0)
        self._socket.close(0)
        self._fail_pending()

    def _cancel(self, request_id: int) -> None:
        if not self._closed:
            header = RequestHeader(request_id, Kind.CANCEL, self._incarnation, "", (), 0)
            self._send(self._message([header.encode()]))  # a node that is not there has forgotten it already

    def _message(self, frames: Frames) -> Frames:
        check_message_size(frames, self._message_bytes_max)
        return message_pieces.cut(frames) if self._is_in_pieces else frames

    async def _send_when_connected(self, message: Frames, future: asyncio.Future[Reply]) -> None:
        """Raises ConnectionLost if that takes long. Returns without if ``future`` is done meanwhile."""
        give_up_s = self._loop.time() + _CONNECT_S
        while not (future.done() or self._send(message)):
            if self._loop.time() > give_up_s:
                raise ConnectionLost(f"there is no connection to node {self._address}")
            await asyncio.sleep(_CONNECT_LOOK_S)

    def _send(self, message: Frames) -> bool:
        """False while there is no connection.

        By what the monitor says: libzmq tells of a lost connection before it takes its pipe down, and what went into
        the pipe between would be answered by nobody.
        """
        if not self._is_connected:
            self._drain_monitor()
            if not self._is_connected:
                return False
        large = any(len(frame) > ZERO_COPY_BYTES_MIN for frame in message[1:])
        try:
            self._socket.send_multipart(message, zmq.NOBLOCK, copy=not large)
        except zmq.Again:
            return False
        # The FD is edge-triggered, and a send may have consumed the edge of an arrived message.
        if not self._drain_is_due and int(self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            self._drain_is_due = True
            self._loop.call_soon(self._drain)
        return True

    def _drain(self) -> None:
        self._drain_is_due = False
        while not self._closed:
            try:
                received = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            frames: Frames = [frame.buffer for frame in received]
            try:
                if self._is_in_pieces:
                    frames = message_pieces.joined(frames, self._message_bytes_max)
                self._take(bytes(frames[0]), frames[1:])
            except BadData as error:  # the others wait for theirs
                logger.error("node %s: %s", self._address, error.message)

    def _take(self, encoded: bytes, frames: Frames) -> None:
        header = ReplyHeader.decode(encoded)
        future = self._pending.get(header.request_id)
        if future is None or future.done():
            return
        try:
            header.raise_error()
        except Exception as error:
            future.set_exception(error)
        else:
            future.set_result(Reply(header.body, frames))

    def _drain_monitor(self) -> None:
        while not self._closed:
            try:
                event = parse_monitor_message(self._monitor.recv_multipart(zmq.NOBLOCK))
            except zmq.Again:
                return
            was_connected, self._is_connected = self._is_connected, event["event"] == zmq.EVENT_HANDSHAKE_SUCCEEDED
            if not self._is_connected:
                self._fail_pending()
                if was_connected:
                    self._lost()

    def _fail_pending(self) -> None:
        for future in list(self._pending.values()):
            if not future.done():
                future.set_exception(ConnectionLost(f"the connection to node {self._address} was lost"))
