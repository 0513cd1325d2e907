"""How both ends of a TCP connection notice that the other is out of reach.

A machine that is cut off sends no end of a connection. Left to itself TCP tries again, ever more rarely, for a quarter
of an hour; and what was sent into a cut goes on only at the next of those tries, however long the cut is over. So the
kernel is to give a connection up whose other end acknowledges nothing for a while (``TCP_USER_TIMEOUT``, RFC 5482), to
ask for such signs where nothing is sent (keepalive), and a new connection is tried for steadily.

ZeroMQ's own heartbeats would also find ends that hang, which the coordinator does, but take an end behind a slow cable
for gone: an answer to them has to wait for all that was sent before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import zmq

from filoray.cluster.config.node_config import NodeConfig

HANDSHAKE_MS = 3_000
"""Making a connection takes some round trips; nobody holds a half-made one longer."""
_SIGNS_MIN = 4
"""Asked for before an end is given up: a single one may be lost on its way."""


@dataclass(frozen=True, slots=True)
class TcpWatch:
    """An end of which nothing is heard for ``timeout_ms``, though it was asked to say something, is gone."""

    timeout_ms: int = 5_000

    @classmethod
    def of_config(cls, node: NodeConfig) -> Self:
        return cls(node.heartbeat_timeout_ms)

    def watch(self, tcp_socket: zmq.Socket[bytes]) -> None:
        """Call before it is bound or connected."""
        ask_each_s = max(self.timeout_ms // (1_000 * _SIGNS_MIN), 1)
        for option, value in (
            (zmq.TCP_MAXRT, self.timeout_ms),
            (zmq.TCP_KEEPALIVE, 1),
            (zmq.TCP_KEEPALIVE_IDLE, ask_each_s),
            (zmq.TCP_KEEPALIVE_INTVL, ask_each_s),
            (zmq.HANDSHAKE_IVL, HANDSHAKE_MS),
            (zmq.CONNECT_TIMEOUT, HANDSHAKE_MS),
        ):
            tcp_socket.setsockopt(option, value)
