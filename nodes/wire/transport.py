"""A node's data-plane server: a ROUTER socket at the node's address, served by one thread.

The thread only moves messages: it hands each request to ``dispatch`` and sends the replies that any
thread gives to ``Responder.reply``. What a request means is the request handler's business.

Nobody comes in but the gateways, and nodes that lead shards of which this one has copies. Where all is on one machine
the socket is a file in a directory that only this user enters (``private_sockets``), and the node's port is only held,
so that it is nobody else's: nothing listens there. Between machines it is a TCP socket that is encrypted and asks for
the key that gateways and nodes share (CURVE). Whoever has none may
send one small frame and has little time for it; of connections there is a limited number (``doorman``).
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import zmq

from filoray.cluster.errors import BadData, FilorayError, LimitExceeded
from filoray.cluster.process.thread_watch import Beat, ThreadWatch
from filoray.nodes.wire import message_pieces
from filoray.nodes.wire.doorman import Doorman
from filoray.nodes.wire.private_sockets import new_socket_path
from filoray.nodes.wire.protocol import Frames, MalformedRequest, ReplyHeader, RequestHeader
from filoray.nodes.wire.tcp_watch import TcpWatch

logger = logging.getLogger(__name__)

ZERO_COPY_BYTES_MIN = 64 * 1024
"""Below this, copying a frame is cheaper than zmq's bookkeeping of a shared one (pyzmq's own advice)."""


@dataclass(frozen=True, slots=True)
class Responder:
    """Where a request's reply goes. ``reply`` may be called from any thread, once."""

    server: TransportServer
    identity: bytes
    request_id: int

    @property
    def client_request(self) -> tuple[bytes, int]:
        """Names the request among those of all clients."""
        return (self.identity, self.request_id)

    def reply(self, body: object = None, frames: Frames | None = None) -> None:
        """Raises LimitExceeded if the message would be larger than one may be; then ``fail`` is still to be called."""
        self.server.send(self.identity, [ReplyHeader(self.request_id, None, body).encode(), *(frames or [])])

    def fail(self, error: Exception) -> None:
        self.server.send(self.identity, [ReplyHeader.of_error(self.request_id, error).encode()])


Dispatch = Callable[[RequestHeader, Frames, Responder], None]


@dataclass(frozen=True, slots=True)
class TransportLimits:
    """``message_bytes``: of one message, either way. ``connections``: open at once where strangers can reach it."""

    message_bytes: int = 1 << 30
    connections: int = 512


_DEFAULT_LIMITS = TransportLimits()
_DEFAULT_TCP_WATCH = TcpWatch()


class TransportServer:
    """Serves from the constructor on; raises OSError if the port is taken.

    ``gateways_key``: the public key that clients must have, and the socket is at ``host:port``; None: it is private.
    ``public_key``: the one that clients must expect, made for this process; empty where the socket is private.
    ``endpoint``: where that is then, as ZeroMQ writes it; empty where the address says it all.
    ``tcp_watch``: with those at the other ends of TCP connections.
    """

    def __init__(
        self,
        host: str,
        port: int,
        dispatch: Dispatch,
        gateways_key: bytes | None = None,
        limits: TransportLimits = _DEFAULT_LIMITS,
        tcp_watch: TcpWatch = _DEFAULT_TCP_WATCH,
    ) -> None:
        self._dispatch = dispatch
        self._limits = limits
        self._context = zmq.Context()
        self._doorman: Doorman | None = None
        self._held_port: socket.socket | None = None
        self._path: Path | None = None
        self.public_key, self.endpoint = b"", ""
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.SNDHWM, 0)
        self._socket.setsockopt(zmq.RCVHWM, 0)
        self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        try:
            if gateways_key is not None:
                self._doorman = Doorman(self._context, self._socket, gateways_key, port, limits.connections)
                self.public_key = self._doorman.keys.public
                self._socket.setsockopt(zmq.MAXMSGSIZE, message_pieces.FRAME_BYTES_MAX)
                tcp_watch.watch(self._socket)
                self._socket.bind(f"tcp://{host}:{port}")
            else:
                self._held_port = _bound(host, port)
                self._path = new_socket_path(f"node-{port}")
                self._socket.setsockopt(zmq.MAXMSGSIZE, limits.message_bytes)
                self.endpoint = f"ipc://{self._path}"
                self._socket.bind(self.endpoint)
        except zmq.ZMQError as error:
            self._release()
            raise OSError(error.errno, str(error)) from error
        except BaseException:
            self._release()
            raise
        self._outgoing: deque[tuple[bytes, Frames]] = deque()
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK)
        self._wake_lock = threading.Lock()
        """Or a late reply would write into what has the descriptor's number next, perhaps a shard's file."""
        self._stopping = False
        self.beat = Beat("data-plane")
        self._complaints = _Complaints()
        self._thread = threading.Thread(target=self._serve, name="data-plane", daemon=True)
        self._thread.start()

    def watch_with(self, watch: ThreadWatch) -> None:
        """Have it known when no message moves any more."""
        watch.watch_thread(self._thread, self.beat)
        if self._doorman is not None:
            watch.watch_thread(self._doorman.thread)

    def send(self, identity: bytes, frames: Frames) -> None:
        """Raises LimitExceeded: the client would cut the connection if it were sent more than its limit."""
        check_message_size(frames, self._limits.message_bytes)
        with self._wake_lock:
            if self._wake_fd >= 0:
                self._outgoing.append((identity, frames))
                os.eventfd_write(self._wake_fd, 1)

    def close(self) -> None:
        """Replies given before are sent on; the port is free afterwards. Twice is as once."""
        if self._stopping:
            return
        self._stopping = True
        os.eventfd_write(self._wake_fd, 1)
        self._thread.join(timeout=5)
        self._socket.close(linger=200)
        self._release()
        with self._wake_lock:
            os.close(self._wake_fd)
            self._wake_fd = -1

    def _release(self) -> None:
        self._socket.close()
        if self._doorman is not None:
            self._doorman.stop()
        self._context.term()
        if self._path is not None:
            self._path.unlink(missing_ok=True)
        if self._held_port is not None:
            self._held_port.close()

    def _serve(self) -> None:
        """Nothing that goes wrong with one message ends the loop; only ``close`` does."""
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._wake_fd, zmq.POLLIN)
        if self._doorman is not None:
            poller.register(self._doorman.monitor, zmq.POLLIN)
        while not self._stopping:
            self.beat.idle()
            try:
                ready = dict(poller.poll())
                self.beat.busy()
                if self._wake_fd in ready:
                    os.eventfd_read(self._wake_fd)
                    self._send_waiting()
                if self._socket in ready:
                    self._receive_waiting()
                if self._doorman is not None and self._doorman.monitor in ready:
                    self._doorman.watch_connections()
            except Exception:
                if not self._stopping:
                    self._complaints.log("the data plane goes on after an error", with_traceback=True)
        self._send_waiting()

    def _receive_waiting(self) -> None:
        while not self._stopping:
            try:
                identity, *frames = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            self.beat.busy()
            self._receive(identity.bytes, [frame.buffer for frame in frames])

    def _receive(self, identity: bytes, frames: Frames) -> None:
        try:
            if self._doorman is not None:
                frames = message_pieces.joined(frames, self._limits.message_bytes)
            header = RequestHeader.decode(bytes(frames[0]) if frames else b"")
        except BadData as error:
            self._complaints.log(f"a data-plane message that is no request: {error.message}")
            if isinstance(error, MalformedRequest) and error.request_id is not None:
                Responder(self, identity, error.request_id).fail(error)
            return
        responder = Responder(self, identity, header.request_id)
        try:
            self._dispatch(header, frames[1:], responder)
        except Exception as error:
            if not isinstance(error, FilorayError):
                self._complaints.log(f"a {header.kind.name} could not be taken", with_traceback=True)
            responder.fail(error)

    def _send_waiting(self) -> None:
        while self._outgoing:
            identity, frames = self._outgoing.popleft()
            try:
                if self._doorman is not None:
                    frames = message_pieces.cut(frames)
                large = any(len(frame) > ZERO_COPY_BYTES_MIN for frame in frames[1:])
                self._socket.send_multipart([identity, *frames], zmq.NOBLOCK, copy=not large)
            except zmq.ZMQError as error:
                # EHOSTUNREACH: the client has gone, and its reply with it.
                logger.debug("a reply could not be sent: %s", error)
            except Exception:
                self._complaints.log("a reply could not be sent", with_traceback=True)


class _Complaints:
    """Logs what strange messages do, at most once a second: whoever sends them shall not fill the disk."""

    def __init__(self) -> None:
        self._next_s = 0.0
        self._passed_over = 0

    def log(self, text: str, *, with_traceback: bool = False) -> None:
        """On the transport's thread."""
        now_s = time.monotonic()
        if now_s < self._next_s:
            self._passed_over += 1
            return
        more = f" (and {self._passed_over} others meanwhile)" if self._passed_over else ""
        logger.warning("%s%s", text, more, exc_info=with_traceback)
        self._next_s, self._passed_over = now_s + 1, 0


def check_message_size(frames: Frames, bytes_max: int) -> None:
    """Raises LimitExceeded if these are more than the other end takes."""
    size_bytes = sum(map(len, frames))
    if size_bytes > bytes_max:
        raise LimitExceeded(
            f"a message of {size_bytes} bytes between node and gateway exceeds "
            f"filoray.node.max-message-size = {bytes_max}"
        )


def _bound(host: str, port: int) -> socket.socket:
    """The port, held but not listened at: connections are refused. Raises OSError if it is another's."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    held = socket.socket(family, kind, protocol)
    try:
        try:
            held.bind(address)
        except OSError:
            # For a minute connections that are over stand in the way, of what listened here before. Whoever holds or
            # listens at the port is told from them by this option, which cannot come first: two may hold one with it.
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.bind(address)
    except OSError:
        held.close()
        raise
    return held
