"""The server's configuration of a simulated cluster."""

from __future__ import annotations

import dataclasses
import functools

from filoray.cluster.config.server_config import ServerConfig, default_server_config
from filoray.cluster.simulation.faults import FaultRates

HEARTBEATS_MISSED_MAX = 5
START_TIMEOUT_MS = 16_000
WARM_UP_TIMEOUT_MS = 5000
SHARDS_MAX = 1 << 21
"""Of all datasets of a cluster: more than any simulation asks for."""


@functools.lru_cache
def simulated_config(node_count: int, rates: FaultRates) -> ServerConfig:
    """Of nodes on one machine, or on many as ``rates`` has it."""
    default = default_server_config()
    node = dataclasses.replace(
        default.node,
        host="0.0.0.0" if rates.lease_ms else default.node.host,
        heartbeat_interval_ms=rates.heartbeat_ms,
        heartbeat_timeout_ms=HEARTBEATS_MISSED_MAX * rates.heartbeat_ms,
        start_timeout_ms=START_TIMEOUT_MS,
        restart_backoff_ms=100,
        restart_backoff_max_ms=2000,
        lease_ms=rates.lease_ms,
        is_spread_over_machines=rates.has_own_disks,
    )
    balance = dataclasses.replace(default.balance, warm_up_timeout_ms=WARM_UP_TIMEOUT_MS)
    seed = dataclasses.replace(default.seed, seed_node_count=1, form_wait_ms=10_000)
    is_in_database = rates.lease_ms and not rates.has_own_disks
    return dataclasses.replace(
        default,
        node_count=node_count,
        dataset_limits=dataclasses.replace(default.dataset_limits, max_shards=SHARDS_MAX),
        node=node,
        balance=balance,
        seed=seed,
        column_store_url="postgresql+psycopg://simulated" if is_in_database else None,
    )
