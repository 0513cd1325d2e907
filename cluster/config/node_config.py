"""A node's settings: the ``node`` block of the server's configuration, declared.

``conf/filoray-defaults.conf`` has the defaults and the reasons. How a shard keeps its data is ``store_config.py``'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from filoray.cluster.addresses import HIGHEST_PORT, is_loopback
from filoray.cluster.config.config_section import ConfigSection
from filoray.cluster.config.setting import Choice, Duration, Flag, Integer, Size, Text

Encryption = Literal["between-machines", "always", "never"]
"""Of the data plane's sockets. ``between-machines``: unless ``host`` says that all nodes are on this machine, where the
sockets are files that only this user can open."""


@dataclass(frozen=True, slots=True)
class NodeConfig:
    host: Annotated[str, Text("host")]
    port_base: Annotated[int, Integer("port-base", minimum=1, maximum=HIGHEST_PORT)]
    heartbeat_interval_ms: Annotated[int, Duration("heartbeat-interval", minimum=10)]
    heartbeat_timeout_ms: Annotated[int, Duration("heartbeat-timeout", minimum=20)]
    start_timeout_ms: Annotated[int, Duration("start-timeout", minimum=100)]
    restart_backoff_ms: Annotated[int, Duration("restart-backoff", minimum=1)]
    restart_backoff_max_ms: Annotated[int, Duration("restart-backoff-max", minimum=1)]
    shutdown_timeout_ms: Annotated[int, Duration("shutdown-timeout")]
    query_threads: Annotated[int, Integer("query-threads", minimum=1, maximum=256)]
    max_queued_requests: Annotated[int, Integer("max-queued-requests", minimum=1)]
    max_queued_bytes: Annotated[int, Size("max-queued-size", minimum=1)]
    max_message_bytes: Annotated[int, Size("max-message-size", minimum=1 << 20)]
    max_connections: Annotated[int, Integer("max-connections", minimum=1)]
    source_timeout_ms: Annotated[int, Duration("source-timeout", minimum=100)]
    follower_timeout_ms: Annotated[int, Duration("follower-timeout", minimum=100)]
    copy_rate_bytes: Annotated[int, Size("copy-rate", minimum=1 << 20)]
    replica_check_rate_bytes: Annotated[int | None, Size("replica-check-rate", minimum=64 << 10, is_optional=True)]
    stuck_timeout_ms: Annotated[int, Duration("stuck-timeout", minimum=1000)]
    lease_ms: Annotated[int, Duration("lease", minimum=1000)]
    encryption: Annotated[Encryption, Choice("encryption", get_args(Encryption))]
    is_spread_over_machines: Annotated[bool, Flag("spread-over-machines")]

    @property
    def is_encrypted(self) -> bool:
        return self.encryption == "always" or (self.encryption == "between-machines" and not is_loopback(self.host))

    def check(self, section: ConfigSection) -> None:
        if self.encryption == "never" and not is_loopback(self.host):
            raise section.error(
                "encryption",
                f"never, with host = {self.host!r}, would let whoever reaches a node's port read and write; "
                "between-machines encrypts and asks for keys, host = 127.0.0.1 keeps to this machine",
            )
        if self.is_spread_over_machines and is_loopback(self.host):
            raise section.error(
                "spread-over-machines",
                f"with host = {self.host!r} nodes on other machines could not be reached; host = 0.0.0.0 is every "
                "interface",
            )
        if self.heartbeat_timeout_ms < 2 * self.heartbeat_interval_ms:
            raise section.error("heartbeat-timeout", "it must be at least twice node.heartbeat-interval")
        if not is_loopback(self.host) and self.lease_ms < self.heartbeat_timeout_ms:
            raise section.error("lease", "it must be at least node.heartbeat-timeout, or healthy nodes would lose it")
