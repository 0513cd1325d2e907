"""The seed discovery: knows the members, for ``/__members`` and for nodes that look for a cluster to join.

The coordinator tells it of every change. Killed and restarted by Ray, it asks the coordinator; while neither is there,
gateways answer from their last view. Which nodes are members is the Membership's decision.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import Any

import ray
from ray.actor import ActorHandle

from filoray.cluster.actor_names import SEED_DISCOVERY
from filoray.cluster.actors.leading_coordinator import LeadingCoordinator
from filoray.cluster.config.server_config import ServerConfig
from filoray.cluster.errors import Unavailable

_ASK_TIMEOUT_S = 2.0


class SeedDiscovery:
    """Named ``seed-discovery``, detached, restarted by Ray."""

    def __init__(self, config: ServerConfig) -> None:
        self._coordinator = LeadingCoordinator(config.coordinators, config.namespace)
        self._members: tuple[str, ...] | None = None
        self._lock = threading.Lock()

    def members(self) -> tuple[str, ...]:
        """Addresses of the members, sorted. Raises Unavailable while nobody has told it."""
        with self._lock:
            if self._members is None:
                self._members = self._ask()
            return self._members

    def update_members(self, addresses: Sequence[str]) -> None:
        """From the coordinator, after each change."""
        with self._lock:
            self._members = tuple(addresses)

    def ping(self) -> int:
        """This process' id."""
        return os.getpid()

    def _ask(self) -> tuple[str, ...]:
        try:
            answer: tuple[str, ...] = self._coordinator.ask("members", timeout_s=_ASK_TIMEOUT_S)
        except (Unavailable, ray.exceptions.RayError) as error:
            raise Unavailable(f"the members are not known yet: {error}") from None
        return answer


def start_seed_discovery(config: ServerConfig) -> ActorHandle[Any]:
    """Make the cluster's seed discovery on the Ray that this process is connected to."""
    actor_class: Any = ray.remote(SeedDiscovery)
    options = actor_class.options(
        name=SEED_DISCOVERY, namespace=config.namespace, lifetime="detached", num_cpus=0, max_restarts=-1
    )
    handle: ActorHandle[Any] = options.remote(config)
    return handle
