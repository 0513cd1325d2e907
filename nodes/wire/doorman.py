"""Who comes in at a node's TCP socket: those who have the cluster's key, over few connections, with little time.

libzmq asks here (ZAP) during each handshake. Before it, a stranger may open a connection and send one frame, of the
size that the socket allows; a handshake that takes long is ended, and connections beyond a number are cut at once.
Those that are open stay: gateways and nodes keep theirs.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from contextlib import suppress

import zmq
from zmq.auth.thread import ThreadAuthenticator
from zmq.utils.monitor import parse_monitor_message

from filoray.cluster.data_plane_keys import KeyPair

logger = logging.getLogger(__name__)


class Doorman:
    """Makes ``guarded`` a CURVE server at ``port`` with keys of its own. Call before it is bound."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        guarded: zmq.Socket[bytes],
        gateways_key: bytes,
        port: int,
        connections_max: int,
    ) -> None:
        self.keys = KeyPair.generate()
        self._wanted = gateways_key
        self._port = port
        self._connections_max = connections_max
        self._open: set[int] = set()
        self._authenticator = ThreadAuthenticator(context)
        self._authenticator.start()
        self._authenticator.configure_curve_callback(credentials_provider=self)
        guarded.curve_server = True
        guarded.curve_publickey, guarded.curve_secretkey = self.keys.public, self.keys.secret
        self.monitor = guarded.get_monitor_socket(zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED)

    @property
    def thread(self) -> threading.Thread:
        thread = self._authenticator.thread
        assert thread is not None, "it was started"
        return thread

    def callback(self, domain: str, key: bytes) -> bool:
        """The authenticator's question; ``key`` is Z85 text, proven to be the client's."""
        return key == self._wanted

    def watch_connections(self) -> None:
        """Count those that open and end, and cut those that are too many. On the socket's thread."""
        while True:
            try:
                event = parse_monitor_message(self.monitor.recv_multipart(zmq.NOBLOCK))
            except zmq.Again:
                return
            descriptor = event["value"]
            if event["event"] == zmq.EVENT_DISCONNECTED:
                self._open.discard(descriptor)
            elif len(self._open) < self._connections_max:
                self._open.add(descriptor)
            else:
                self._cut(descriptor)

    def _cut(self, descriptor: int) -> None:
        """libzmq sees the end of the connection and forgets it. The descriptor may be another thing's by now."""
        with suppress(OSError):
            copy = os.dup(descriptor)
            try:
                connection = socket.socket(fileno=copy)
            except OSError:
                os.close(copy)
                return
            with connection:
                if connection.getsockname()[1] == self._port:
                    logger.debug("a connection beyond %d is cut", self._connections_max)
                    connection.shutdown(socket.SHUT_RDWR)

    def stop(self) -> None:
        self.monitor.close(0)
        self._authenticator.stop()
