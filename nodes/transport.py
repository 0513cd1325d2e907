"""A node's data-plane server: a ROUTER socket at the node's address, served by one thread.

The thread only moves messages: it hands each request to ``dispatch`` and sends the replies that any
thread gives to ``Responder.reply``. What a request means is the request handler's business.

Between machines the socket is encrypted (CURVE) and takes connections only from who has the gateways' key.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import zmq
from zmq.auth.thread import ThreadAuthenticator

from filoray.cluster.data_plane_keys import KeyPair
from filoray.cluster.errors import FilorayError
from filoray.nodes.protocol import Frames, MalformedRequest, ReplyHeader, RequestHeader
from filoray.nodes.thread_watch import Beat, ThreadWatch

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
        header = ReplyHeader(self.request_id, None, body).encode()
        self.server.send(self.identity, [header, *(frames or [])])

    def fail(self, error: Exception) -> None:
        self.server.send(self.identity, [ReplyHeader.of_error(self.request_id, error).encode()])


Dispatch = Callable[[RequestHeader, Frames, Responder], None]


class TransportServer:
    """Listens at ``host:port`` from the constructor on; raises OSError-like zmq.ZMQError if the port is taken.

    ``gateways_key``: the public key that clients must have; None: not encrypted, for whoever can reach it.
    ``public_key``: the one that clients must expect, made for this process; empty where it is not encrypted.
    """

    def __init__(self, host: str, port: int, dispatch: Dispatch, gateways_key: bytes | None = None) -> None:
        self._dispatch = dispatch
        self._context = zmq.Context()
        self._doorman = _Doorman(self._context, gateways_key) if gateways_key is not None else None
        self.public_key = self._doorman.keys.public if self._doorman is not None else b""
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.SNDHWM, 0)
        self._socket.setsockopt(zmq.RCVHWM, 0)
        self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        if self._doorman is not None:
            self._doorman.guard(self._socket)
        try:
            self._socket.bind(f"tcp://{host}:{port}")
        except zmq.ZMQError:
            self._socket.close()
            self._end_context()
            raise
        self._outgoing: deque[tuple[bytes, Frames]] = deque()
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK)
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
        self._end_context()
        os.close(self._wake_fd)

    def _end_context(self) -> None:
        if self._doorman is not None:
            self._doorman.stop()
        self._context.term()

    def _serve(self) -> None:
        """Nothing that goes wrong with one message ends the loop; only ``close`` does."""
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._wake_fd, zmq.POLLIN)
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
        if not frames:
            return
        try:
            header = RequestHeader.decode(bytes(frames[0]))
        except MalformedRequest as error:
            self._complaints.log(f"a data-plane message that is no request: {error.message}")
            if error.request_id is not None:
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
                large = any(len(frame) >= ZERO_COPY_BYTES_MIN for frame in frames[1:])
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


class _Doorman:
    """Lets in who has the gateways' key: libzmq asks it (ZAP) during each handshake."""

    def __init__(self, context: zmq.Context, gateways_key: bytes) -> None:
        self.keys = KeyPair.generate()
        self._wanted = gateways_key
        self._authenticator = ThreadAuthenticator(context)
        self._authenticator.start()
        self._authenticator.configure_curve_callback(credentials_provider=self)

    def guard(self, socket: zmq.Socket) -> None:
        socket.curve_server = True
        socket.curve_publickey, socket.curve_secretkey = self.keys.public, self.keys.secret

    def callback(self, domain: str, key: bytes) -> bool:
        """The authenticator's question; ``key`` is Z85 text, proven to be the client's."""
        return key == self._wanted

    @property
    def thread(self) -> threading.Thread:
        thread = self._authenticator.thread
        assert thread is not None, "it was started"
        return thread

    def stop(self) -> None:
        self._authenticator.stop()
