"""How a node keeps the copies of the shards that it leads."""

from __future__ import annotations

from dataclasses import dataclass, field

from filoray.cluster.control.leader_copies import CopyLimits
from filoray.cluster.data_plane_keys import KeyPair
from filoray.nodes.host.replication.copy_check import CheckPace
from filoray.nodes.wire.tcp_watch import TcpWatch

_MESSAGE_BYTES_MAX = 1 << 30
_COPY_RATE_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class ReplicationSettings:
    """``message_bytes_max``: of one message to another node. ``limits``: how long who is waited for.

    ``copy_rate_bytes``: that each session may send in a second of what there was when it began. ``check_pace``: of the
    slow check that followers have on disk what is led here; None: there is none.

    ``keys``: that prove to encrypted nodes that they may be asked; None: nodes are not encrypted. ``tcp_watch``: with
    nodes over TCP.
    """

    message_bytes_max: int = _MESSAGE_BYTES_MAX
    limits: CopyLimits = field(default_factory=CopyLimits)
    copy_rate_bytes: int = _COPY_RATE_BYTES
    check_pace: CheckPace | None = None
    keys: KeyPair | None = None
    tcp_watch: TcpWatch = field(default_factory=TcpWatch)
