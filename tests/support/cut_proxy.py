"""A TCP proxy before a server that cuts connections: around a COMMIT of PostgreSQL, or all at once when told to.

Told of another server, it leads there from then on.
"""

from __future__ import annotations

import contextlib
import enum
import select
import socket
import struct
import threading

# Simple query ('Q') messages carry their text.
_COMMIT = b"COMMIT"


class Cut(enum.Enum):
    """When the next connection that commits is cut."""

    NEVER = "never"
    BEFORE_COMMIT = "the server never sees the commit"
    AFTER_COMMIT = "the client never sees its answer"


class CutProxy:
    """Use as a context manager. ``cut`` says what happens at the next COMMIT; it is NEVER again after that.

    ``is_open`` False: new connections are closed at once.
    ``server_port``: where a connection goes at its first byte (browsers open some ahead of their requests).
    ``connected``: the ports that they went to.
    """

    def __init__(self, server_port: int) -> None:
        self.server_port = server_port
        self.connected: list[int] = []
        self.cut = Cut.NEVER
        self.closes_after_cut = False
        self.is_open = True
        self._clients: set[socket.socket] = set()

    def __enter__(self) -> CutProxy:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.is_open = False
        self._listener.close()

    def reset_all(self) -> None:
        """Every connection ends with a reset; new ones are taken."""
        for client in list(self._clients):
            with contextlib.suppress(OSError):
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.shutdown(socket.SHUT_RD)  # wakes the relay, which closes it

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.is_open:
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()
            else:
                client.close()

    def _serve(self, client: socket.socket) -> None:
        self._clients.add(client)
        with client, contextlib.suppress(OSError):
            if client.recv(1, socket.MSG_PEEK):
                port = self.server_port
                with socket.create_connection(("127.0.0.1", port)) as server:
                    self.connected.append(port)
                    self._relay(client, server)
        self._clients.discard(client)

    def _relay(self, client: socket.socket, server: socket.socket) -> None:
        while True:
            readable, _, _ = select.select([client, server], [], [])
            for source in readable:
                data = source.recv(1 << 16)
                if not data:
                    return
                if source is client and _COMMIT in data and self.cut is not Cut.NEVER:
                    cut, self.cut = self.cut, Cut.NEVER
                    self.is_open = not self.closes_after_cut
                    if cut is Cut.AFTER_COMMIT:
                        server.sendall(data)
                        server.recv(1 << 16)  # the answer: it has happened
                    return
                (server if source is client else client).sendall(data)
