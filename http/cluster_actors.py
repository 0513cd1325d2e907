"""The cluster's actors from the launcher's side: made, waited for, ended. The process must be connected to Ray."""

from __future__ import annotations

import contextlib
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError

from filoray.cluster.actor_names import COORDINATOR, SEED_DISCOVERY, gateway_name
from filoray.cluster.config import ServerConfig
from filoray.cluster.coordinator import ReadyReport
from filoray.cluster.coordinator_actor import start_coordinator
from filoray.cluster.errors import FilorayError
from filoray.cluster.seed_discovery import start_seed_discovery
from filoray.http.gateway import Gateway

_GATEWAY_CONCURRENCY = 4  # a call that waits for the server to start must not keep views waiting
_SHUTDOWN_TIMEOUT_S = 60


class ClusterActors:
    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._coordinator: Any = None
        self._gateways: list[Any] = []

    def start(self) -> None:
        """Make all actors; returns before they are ready. Raises FilorayError if the cluster's name is in use."""
        try:
            start_seed_discovery(self._config)
            self._coordinator = start_coordinator(self._config)
            self._gateways = [self._make_gateway(index) for index in range(self._config.node_count)]
        except ValueError as error:
            raise FilorayError(
                f"this Ray runs a cluster named {self._config.cluster_name} already ({error}); "
                "stop that one, or give this one another filoray.cluster-name"
            ) from None

    def wait_until_ready(self) -> tuple[ReadyReport, list[str]]:
        """All nodes are members, all shards settled, all gateways serve; the latter's URLs.

        Raises FilorayError with the first cause that kept it from that.
        """
        try:
            urls = ray.get([gateway.start.remote() for gateway in self._gateways], timeout=self._timeout_s())
            report = ray.get(self._coordinator.ready.remote(), timeout=self._timeout_s())
        except RayTaskError as error:
            raise FilorayError(str(error.cause or error)) from None
        except (RayActorError, GetTimeoutError) as error:
            raise FilorayError(f"the cluster's actors did not come up: {error}") from None
        return report, urls

    def kill(self) -> None:
        """End all actors of this cluster, whatever they do."""
        kill_actors(self._config.node_count)

    def _timeout_s(self) -> float:
        return self._config.seed.timeout_ms / 1000 + 30

    def _make_gateway(self, index: int) -> Any:
        options = ray.remote(Gateway).options(
            name=gateway_name(index),
            lifetime="detached",
            num_cpus=0,
            max_restarts=-1,
            max_concurrency=_GATEWAY_CONCURRENCY,
        )
        return options.remote(index, self._config)


def stop_actors(gateway_count: int) -> None:
    """Gateways finish what runs, nodes flush and close, then all are ended."""
    for index in range(gateway_count):
        with contextlib.suppress(ValueError, ray.exceptions.RayError):
            ray.get(ray.get_actor(gateway_name(index)).shutdown.remote(), timeout=_SHUTDOWN_TIMEOUT_S)
    try:
        ray.get(ray.get_actor(COORDINATOR).shutdown.remote(), timeout=_SHUTDOWN_TIMEOUT_S)
    finally:
        kill_actors(gateway_count)


def kill_actors(gateway_count: int) -> None:
    names = [COORDINATOR, SEED_DISCOVERY, *(gateway_name(index) for index in range(gateway_count))]
    nodes = [name for name in ray.util.list_named_actors() if "#" in name]  # each incarnation is an actor
    for name in [*names, *nodes]:
        with contextlib.suppress(ValueError):
            ray.kill(ray.get_actor(name), no_restart=True)
