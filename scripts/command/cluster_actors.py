"""The cluster's actors from the launcher's side: made, waited for, ended. The process must be connected to Ray."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError, RayTaskError

from filoray.cluster.actor_names import COORDINATOR, COORDINATORS, SEED_DISCOVERY, gateway_name, node_name
from filoray.cluster.actors.coordinator_actor import start_coordinators
from filoray.cluster.actors.gateway_actors import make_gateway, only_on
from filoray.cluster.actors.leading_coordinator import LeadingCoordinator
from filoray.cluster.actors.ray_actors import first_line, living_machines
from filoray.cluster.actors.seed_discovery import start_seed_discovery
from filoray.cluster.config.server_config import ServerConfig
from filoray.cluster.control.launch_report import ReadyReport
from filoray.cluster.control.machine_placement import Machine, Placement, first_placement, home_seats, homes_of
from filoray.cluster.errors import FilorayError, Unavailable
from filoray.cluster.store.meta_store import MetaStore
from filoray.command.kernel_warm_up import warm_up_kernels

_SHUTDOWN_TIMEOUT_S = 60
_CALL_TIMEOUT_S = 60
_KILL_TIMEOUT_S = 10
_LEADER_LEASES = 3
_LEADER_START_S = 30
_LEADER_TIMEOUT_S = 5
_LEADER_POLL_S = 0.1
_KILL_POLL_S = 0.05


class ClusterActors:
    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._placement = _placement(config)
        self._has_name = False
        self._leader = LeadingCoordinator(config.coordinators, config.namespace)
        self._coordinators: list[Any] = []
        self._gateways: list[Any] = []

    @property
    def config(self) -> ServerConfig:
        return self._config

    @property
    def left_out_machine_count(self) -> int:
        """Machines of this Ray that get no nodes because the shards' files are here."""
        return len(living_machines()) - 1 if self._placement.is_bound else 0

    def prepare_other_machines(self) -> None:
        """Fill their kernels' compile caches, once each, before several actors would do so at the same time."""
        others = {machine.id for machine in self._placement.seats if machine.id != self._placement.home.id}
        warm_up = ray.remote(num_cpus=0)(warm_up_kernels)
        calls = [warm_up.options(scheduling_strategy=only_on(machine)).remote() for machine in sorted(others)]
        try:
            ray.get(calls)
        except RayError as error:
            raise FilorayError(f"another machine of this Ray cannot run filoray: {first_line(error)}") from None

    def take_name(self) -> None:
        """Raises FilorayError if the cluster's name is in use."""
        with self._name_is_free():
            start_seed_discovery(self._config)
        self._has_name = True

    def start(self) -> None:
        """Make the other actors; returns before they are ready. Raises FilorayError if their names are in use."""
        with self._name_is_free():
            self._coordinators = start_coordinators(self._config, placement=self._placement)
            self._gateways = [
                make_gateway(self._config, index, seat.id) for index, seat in enumerate(self._placement.seats)
            ]

    @contextlib.contextmanager
    def _name_is_free(self) -> Iterator[None]:
        try:
            yield
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
            report = self._ready_report()
        except RayTaskError as error:
            raise FilorayError(str(error.cause or error)) from None
        except (RayActorError, GetTimeoutError) as error:
            raise FilorayError(f"the cluster's actors did not come up: {_said(error)}") from None
        return report, urls

    def _ready_report(self) -> ReadyReport:
        if len(self._config.coordinators) == 1:
            (coordinator,) = self._coordinators
            alone: ReadyReport = ray.get(coordinator.ready.remote(), timeout=self._timeout_s())
            return alone
        ray.get([coordinator.ping.remote() for coordinator in self._coordinators], timeout=self._timeout_s())
        self._wait_for_a_leader()
        report: ReadyReport = self._leader.ask("ready", timeout_s=self._timeout_s())
        return report

    def _wait_for_a_leader(self) -> None:
        """One takes the lead at once, or when the lease of one that ended without a word is over."""
        deadline_s = time.monotonic() + _LEADER_LEASES * self._config.coordinator_lease_ms / 1000 + _LEADER_START_S
        while True:
            try:
                self._leader.ask("members", timeout_s=_LEADER_TIMEOUT_S)
            except Unavailable as error:
                if time.monotonic() > deadline_s:
                    raise Unavailable(f"{error.message}; another cluster may use {self._config.store_name}") from None
                time.sleep(_LEADER_POLL_S)
            else:
                return

    # ---- of a cluster that runs

    def scale(self, count: int) -> None:
        """Raises FilorayError if fewer nodes could not hold all shards, or one that is to go has them and is away."""
        self._ask_leader("scale", count)

    def surplus_nodes(self) -> tuple[str, ...]:
        """Those that are to go and have not gone yet."""
        left: tuple[str, ...] = self._ask_leader("surplus_nodes")
        return left

    def absent_nodes(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Nodes that will be members soon; and a text for each that is away until its machine is back."""
        absent: tuple[tuple[str, ...], tuple[str, ...]] = self._ask_leader("absent_nodes")
        return absent

    def add_gateway(self, index: int) -> str:
        """Its URL, when it serves; one that was made before counts. On many machines the coordinator makes it."""
        deadline_s = time.monotonic() + _CALL_TIMEOUT_S
        while (gateway := _gateway(index)) is None:
            if self._placement.is_bound:
                gateway = make_gateway(self._config, index, self._placement.home.id)
                break
            if time.monotonic() > deadline_s:
                raise FilorayError(f"{gateway_name(index)} was not made within {_CALL_TIMEOUT_S} s")
            time.sleep(_LEADER_POLL_S)
        url: str = _answer(gateway.start.remote())
        return url

    def _ask_leader(self, method: str, *arguments: object) -> Any:
        """Raises FilorayError as the coordinator did, or that none leads."""
        try:
            self._leader.find(_LEADER_TIMEOUT_S)
            return self._leader.ask(method, *arguments, timeout_s=_CALL_TIMEOUT_S)
        except RayTaskError as error:
            raise FilorayError(str(error.cause or error)) from None

    def end_gateway(self, index: int) -> None:
        """It finishes what runs."""
        _shut_down_gateway(index)
        _kill(gateway_name(index))

    # ---- the end

    def kill(self) -> None:
        """End all actors that ``start`` made and those made by them; not those of another cluster of the same name."""
        if self._has_name:
            kill_actors(self._config.node_count)

    def _timeout_s(self) -> float:
        return self._config.seed.timeout_ms / 1000 + 30


def running_config() -> ServerConfig:
    """That of the cluster that runs, but for the number of its nodes."""
    gateway = _gateway(0)
    if gateway is None:  # for a moment, when its machine was lost
        raise FilorayError(f"{gateway_name(0)} is not there; try again when it is")
    config: ServerConfig = _answer(gateway.config.remote())
    return config


def _answer(reference: Any) -> Any:
    """Raises FilorayError as the actor did, or that it does not answer."""
    try:
        return ray.get(reference, timeout=_CALL_TIMEOUT_S)
    except RayTaskError as error:
        raise FilorayError(str(error.cause or error)) from None
    except (RayActorError, GetTimeoutError) as error:
        raise FilorayError(f"an actor does not answer: {first_line(error)}") from None


def _said(error: Exception) -> str:
    """What an actor's constructor raised, without Ray's tale of it and the name of our class."""
    last = str(error).strip().rpartition("\n")[2]
    name, _, text = last.partition(": ")
    return text if name.startswith("filoray.") else first_line(error)


def _placement(config: ServerConfig) -> Placement:
    machines, here = living_machines(), ray.get_runtime_context().get_node_id()
    home = next(machine for machine in machines if machine.id == here)
    # A node elsewhere must be reachable, and find the shards that it takes over.
    placed = first_placement(config.node_count, home, machines, is_bound=config.is_bound)
    if not config.keeps_nodes_at_home:
        return placed
    homes = [_known_homes(config, home).get(node_name(index)) for index in range(config.node_count)]
    return replace(placed, seats=tuple(home_seats(placed.seats, homes, machines)))


def _known_homes(config: ServerConfig, here: Machine) -> dict[str, str]:
    """Of nodes of this cluster that there were before, whose files are there."""
    store = MetaStore.open(config.meta_store_url, config.data_dir)
    try:
        state = store.restored_state({})
        return homes_of(state.machines, {*store.nodes(), *state.nodes_with_copies}, here)
    finally:
        store.close()


def stop_actors(gateway_count: int) -> None:
    """Gateways finish what runs, nodes flush and close, then all are ended."""
    for index in range(gateway_count):
        _shut_down_gateway(index)
    try:
        names = [name for name in (COORDINATOR, *COORDINATORS) if name in ray.util.list_named_actors()]
        namespace = ray.get_runtime_context().namespace
        leader = LeadingCoordinator(names, namespace)
        leader.find(_LEADER_TIMEOUT_S)
        leader.ask("shutdown", timeout_s=_SHUTDOWN_TIMEOUT_S)
    finally:
        kill_actors(gateway_count)


def _gateway(index: int) -> Any:
    """None: there is none."""
    try:
        return ray.get_actor(gateway_name(index))
    except ValueError:
        return None


def _shut_down_gateway(index: int) -> None:
    with contextlib.suppress(ValueError, ray.exceptions.RayError):
        ray.get(ray.get_actor(gateway_name(index)).shutdown.remote(), timeout=_SHUTDOWN_TIMEOUT_S)


def kill_actors(gateway_count: int) -> None:
    """End all actors of the namespace; the coordinators first, so that they make no new nodes meanwhile."""
    for name in [COORDINATOR, *COORDINATORS, SEED_DISCOVERY, *(gateway_name(index) for index in range(gateway_count))]:
        _kill(name)
    deadline_s = time.monotonic() + _KILL_TIMEOUT_S
    while (names := ray.util.list_named_actors()) and time.monotonic() < deadline_s:
        for name in names:
            if "#" in name:  # each incarnation of a node is an actor
                _kill(name)
        time.sleep(_KILL_POLL_S)


def _kill(name: str) -> None:
    with contextlib.suppress(ValueError):
        ray.kill(ray.get_actor(name), no_restart=True)
