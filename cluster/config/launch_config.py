"""How a cluster comes up, stays up and stays even: the ``seed``, ``supervisor`` and ``balance`` blocks, declared.

``conf/filoray-defaults.conf`` has the defaults and the reasons.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from filoray.cluster.config.setting import Duration, Flag, Integer


@dataclass(frozen=True, slots=True)
class SeedConfig:
    """When a first cluster forms, and how long a launch waits for it."""

    seed_node_count: Annotated[int, Integer("seed-node-count", minimum=1)]
    form_wait_ms: Annotated[int, Duration("form-wait")]
    timeout_ms: Annotated[int, Duration("timeout", minimum=100)]
    stall_timeout_ms: Annotated[int, Duration("stall-timeout", minimum=100)]


@dataclass(frozen=True, slots=True)
class BalanceConfig:
    """When and how fast healthy shards move so that every node has as many as any other."""

    rebalance: Annotated[bool, Flag("rebalance")]
    wait_ms: Annotated[int, Duration("wait")]
    moves_max: Annotated[int, Integer("moves-max", minimum=1)]
    warm_up_timeout_ms: Annotated[int, Duration("warm-up-timeout")]


@dataclass(frozen=True, slots=True)
class SupervisorConfig:
    """What the process outside Ray takes for dead, and how often it brings Ray back."""

    check_interval_ms: Annotated[int, Duration("check-interval", minimum=10)]
    hang_timeout_ms: Annotated[int, Duration("hang-timeout", minimum=2000)]
    actor_hang_timeout_ms: Annotated[int, Duration("actor-hang-timeout", minimum=2000)]
    restart_backoff_ms: Annotated[int, Duration("restart-backoff", minimum=1)]
    restart_backoff_max_ms: Annotated[int, Duration("restart-backoff-max", minimum=1)]
    restarts_max: Annotated[int, Integer("restarts-max", minimum=1)]
    restarts_period_ms: Annotated[int, Duration("restarts-period", minimum=1000)]
