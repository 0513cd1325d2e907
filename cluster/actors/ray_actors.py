"""What the coordinator does to other actors, over Ray: start, call, watch, kill, push. No decisions.

The tests of the coordinator's own logic put another implementation of ``ActorPort`` in its place.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import ray
from ray.actor import ActorHandle

from filoray.cluster.actor_names import SEED_DISCOVERY, gateway_index, node_actor_name
from filoray.cluster.actors.coordinator_actor import make_coordinator
from filoray.cluster.actors.gateway_actors import make_gateway, only_on
from filoray.cluster.actors.node_actor import CONCURRENCY_GROUPS, NodeActor
from filoray.cluster.addresses import is_any_interface
from filoray.cluster.cluster_view import ClusterView
from filoray.cluster.config.dataset import DatasetConfig
from filoray.cluster.config.server_config import ServerConfig
from filoray.cluster.control.coordinator_effects import MachineList
from filoray.cluster.control.copy_set import FollowedShard, ShardCopies
from filoray.cluster.control.machine_placement import Machine, Placement
from filoray.cluster.data_plane_keys import KeyPair
from filoray.cluster.node_protocol import HeartbeatAnswer, LeaseGrant, NodeAnnouncement, NodeSpec, Peer, ShardEpoch
from filoray.cluster.process.observed_clock import finished_within
from filoray.cluster.process.process_identity import ProcessIdentity, process_name, started_after_boot_s

logger = logging.getLogger(__name__)

_GONE_POLL_S = 0.01
_GONE_WARNING_S = 5.0
_KILL_THERE_TIMEOUT_S = 3.0
_KILL_ELSEWHERE_TIMEOUT_S = 5.0
"""Neither a machine that cannot be reached nor a GCS that does not answer is waited for: leases end."""
_CONNECT_TIMEOUT_S = 1.0
_HEAD_RESOURCE = "node:__internal_head__"  # Ray's own word for it
_GATEWAY_TIMEOUT_S = 5.0
_TICK_TOLERANCE_S = 0.005


class ActorCallFailed(Exception):
    """A call to an actor failed; the text is what matters of Ray's."""


class ActorPort(Protocol):
    """Nodes are named by (slot, incarnation). Calls raise ActorCallFailed, ValueError (no such actor), TimeoutError."""

    async def launch(
        self, node: str, incarnation: int, port: int, gateway_keys: KeyPair, machine: str, timeout_s: float
    ) -> NodeAnnouncement: ...
    async def adopt(self, node: str, incarnation: int, timeout_s: float) -> NodeAnnouncement: ...
    async def heartbeat(self, node: str, incarnation: int, grant: LeaseGrant, timeout_s: float) -> HeartbeatAnswer: ...
    async def wait_until_death(self, node: str, incarnation: int) -> str: ...
    async def start_shards(
        self,
        node: str,
        incarnation: int,
        config: DatasetConfig,
        shards: Sequence[ShardEpoch],
        opened: Sequence[int],
    ) -> None: ...
    async def follow_shards(
        self, node: str, incarnation: int, config: DatasetConfig, shards: Sequence[FollowedShard]
    ) -> None: ...
    async def drop_copies(
        self, node: str, incarnation: int, dataset: str, generation: int, shards: Sequence[FollowedShard]
    ) -> None: ...
    async def tell_copies(
        self,
        node: str,
        incarnation: int,
        dataset: str,
        copies: Sequence[ShardCopies],
        peers: Sequence[Peer],
    ) -> None: ...
    async def stop_shards(self, node: str, incarnation: int, dataset: str, shards: Sequence[ShardEpoch]) -> None: ...
    async def delete_shards(
        self, node: str, incarnation: int, dataset: str, generation: int, shards: Sequence[int]
    ) -> None: ...
    async def shutdown(self, node: str, incarnation: int, timeout_s: float) -> None: ...
    async def kill(self, node: str, incarnation: int, pid: int | None, pid_started_s: float | None) -> bool: ...
    def process_started_s(self, announcement: NodeAnnouncement) -> float | None: ...
    async def push_view(self, gateway: str, view: ClusterView, timeout_s: float) -> None: ...
    async def push_members(self, addresses: Sequence[str], timeout_s: float) -> None: ...
    async def machines(self, timeout_s: float) -> MachineList: ...
    async def place_gateway(self, gateway: str, machine: str) -> None: ...
    async def place_standby(self, machine: str) -> None: ...


class RayActors:
    """``ActorPort`` over Ray, in the cluster's namespace. ``name``: this coordinator's."""

    def __init__(self, config: ServerConfig, spec: NodeSpec, placement: Placement, name: str) -> None:
        self._config = config
        self._spec = spec
        self._placement = placement
        self._name = name
        self._handles: dict[str, ActorHandle[Any]] = {}
        self._elsewhere: dict[str, NodeAnnouncement] = {}
        self._listing: asyncio.Future[list[_RayNode]] | None = None
        """One at a time: it does not come back while Ray's GCS is away."""

    # ---- nodes

    async def launch(
        self, node: str, incarnation: int, port: int, gateway_keys: KeyPair, machine: str, timeout_s: float
    ) -> NodeAnnouncement:
        """On ``machine``; "": at home."""
        name = node_actor_name(node, incarnation)
        actor_class = ray.remote(concurrency_groups=CONCURRENCY_GROUPS)(NodeActor)  # type: ignore[call-overload]  # Ray knows it
        handle = await asyncio.to_thread(
            actor_class.options(
                name=name,
                namespace=self._config.namespace,
                lifetime="detached",
                num_cpus=0,
                max_restarts=0,
                scheduling_strategy=only_on(machine or self._placement.home.id),
            ).remote,
            self._spec,
            node,
            incarnation,
            self._config,
            port,
            gateway_keys,
        )
        self._handles[name] = handle
        return cast(NodeAnnouncement, await completed(handle.start.remote(), timeout_s))

    async def adopt(self, node: str, incarnation: int, timeout_s: float) -> NodeAnnouncement:
        handle = await self._handle(node_actor_name(node, incarnation))
        return cast(NodeAnnouncement, await completed(handle.announce.remote(), timeout_s))

    async def heartbeat(self, node: str, incarnation: int, grant: LeaseGrant, timeout_s: float) -> HeartbeatAnswer:
        handle = await self._node(node, incarnation)
        return cast(HeartbeatAnswer, await completed(handle.heartbeat.remote(grant, self._name), timeout_s))

    async def wait_until_death(self, node: str, incarnation: int) -> str:
        """Returns, once the process is dead, what Ray says of it.

        Raises ActorCallFailed if the call was lost, with a connection, while the process may live.
        """
        try:
            await completed((await self._node(node, incarnation)).wait_until_death.remote(), None)
        except (ActorCallFailed, ValueError) as error:
            if isinstance(error.__cause__, ray.exceptions.ActorUnavailableError):
                raise
            return str(error)
        return "its watch ended"

    async def start_shards(
        self,
        node: str,
        incarnation: int,
        config: DatasetConfig,
        shards: Sequence[ShardEpoch],
        opened: Sequence[int],
    ) -> None:
        await completed((await self._node(node, incarnation)).start_shards.remote(config, shards, opened), None)

    async def follow_shards(
        self, node: str, incarnation: int, config: DatasetConfig, shards: Sequence[FollowedShard]
    ) -> None:
        await completed((await self._node(node, incarnation)).follow_shards.remote(config, shards), None)

    async def drop_copies(
        self, node: str, incarnation: int, dataset: str, generation: int, shards: Sequence[FollowedShard]
    ) -> None:
        await completed((await self._node(node, incarnation)).drop_copies.remote(dataset, generation, shards), None)

    async def tell_copies(
        self,
        node: str,
        incarnation: int,
        dataset: str,
        copies: Sequence[ShardCopies],
        peers: Sequence[Peer],
    ) -> None:
        await completed((await self._node(node, incarnation)).tell_copies.remote(dataset, copies, peers), None)

    async def stop_shards(self, node: str, incarnation: int, dataset: str, shards: Sequence[ShardEpoch]) -> None:
        await completed((await self._node(node, incarnation)).stop_shards.remote(dataset, shards), None)

    async def delete_shards(
        self, node: str, incarnation: int, dataset: str, generation: int, shards: Sequence[int]
    ) -> None:
        await completed((await self._node(node, incarnation)).delete_shards.remote(dataset, generation, shards), None)

    async def shutdown(self, node: str, incarnation: int, timeout_s: float) -> None:
        await completed((await self._node(node, incarnation)).shutdown.remote(), timeout_s)

    async def kill(self, node: str, incarnation: int, pid: int | None, pid_started_s: float | None) -> bool:
        """Returns when all was done to end the process; True if it is certainly gone.

        Ray alone cannot be trusted with a stopped process: it forgets an actor when it has sent word to its machine. So
        the process is also killed by its id, which its start time guards against reuse: from here, or by a task on
        its machine. False: that machine could not be reached, or Ray's GCS.
        """
        name = node_actor_name(node, incarnation)
        if pid is None or pid_started_s is None:  # it never announced itself, or runs on another machine
            limit_s = _KILL_ELSEWHERE_TIMEOUT_S if self._config.lease_ms else None
            try:
                async with asyncio.timeout(limit_s):
                    await self._kill_by_name(name)
                    await self._until_forgotten(name)
                    return await self._kill_there(name)
            except TimeoutError:
                logger.warning("Ray did not end a node in time; its lease will node=%s", name)
                return False
        await self._kill_by_name(name)
        waited_s = 0.0
        process = _process(pid, pid_started_s)
        while process is not None and process.is_running():
            process.send(signal.SIGKILL)
            waited_s = await _pause(waited_s, f"{name} with pid {pid}")
        return True

    async def _kill_by_name(self, name: str) -> None:
        try:
            handle = await self._handle(name)
            await asyncio.to_thread(ray.kill, handle, no_restart=True)
        except ValueError:
            pass  # Ray has buried it already
        finally:
            self._handles.pop(name, None)

    async def _until_forgotten(self, name: str) -> None:
        waited_s = 0.0
        while await self._is_known(name):
            waited_s = await _pause(waited_s, name)

    async def _kill_there(self, name: str) -> bool:
        """On its own machine; False if it did not announce to this coordinator, or that machine does not answer."""
        announcement = self._elsewhere.pop(name, None)
        if announcement is None or announcement.process is None:
            return False
        there = only_on(announcement.ray_node_id)
        task = ray.remote(num_cpus=0, max_retries=0)(_end_process).options(scheduling_strategy=there)
        try:
            return bool(await completed(task.remote(announcement.process), _KILL_THERE_TIMEOUT_S))
        except (ActorCallFailed, TimeoutError) as error:
            logger.warning("it is not known whether a process has ended node=%s error=%s", name, error)
            return False

    def process_started_s(self, announcement: NodeAnnouncement) -> float | None:
        """Start time of the announced process if it is on this machine, in seconds after the machine's own start."""
        if announcement.ray_node_id != ray.get_runtime_context().get_node_id():
            self._elsewhere[node_actor_name(announcement.node, announcement.incarnation)] = announcement
            return None
        return started_after_boot_s(announcement.pid)

    # ---- others

    async def push_view(self, gateway: str, view: ClusterView, timeout_s: float) -> None:
        await self._call(gateway, "update_view", view, timeout_s)

    async def push_members(self, addresses: Sequence[str], timeout_s: float) -> None:
        await self._call(SEED_DISCOVERY, "update_members", tuple(addresses), timeout_s)

    async def machines(self, timeout_s: float) -> MachineList:
        """Those that Ray knows and whose raylet takes connections: Ray itself believes in a lost one for a minute."""
        if self._listing is None:
            self._listing = asyncio.ensure_future(asyncio.to_thread(_ray_nodes))
        listed = await asyncio.wait_for(asyncio.shield(self._listing), timeout_s)
        self._listing = None
        answering = await asyncio.gather(*(_takes_connections(*row.raylet) for row in listed))
        machines = tuple(row.machine for row, answers in zip(listed, answering, strict=True) if answers)
        return MachineList(machines, ray.get_runtime_context().get_node_id())

    async def place_gateway(self, gateway: str, machine: str) -> None:
        if not await self._is_at(gateway, machine, self._end_in_order):
            await asyncio.to_thread(make_gateway, self._config, gateway_index(gateway), machine)

    async def place_standby(self, machine: str) -> None:
        (name,) = (name for name in self._config.coordinators if name != self._name)
        if not await self._is_at(name, machine):
            standby = await asyncio.to_thread(
                make_coordinator, self._config, self._spec, self._placement, name, machine
            )
            # One whose beginning fails is not there, and Ray does not try again.
            await completed(standby.ping.remote(), self._config.node.start_timeout_ms / 1000)

    async def _is_at(
        self, name: str, machine: str, end_in_order: Callable[[ActorHandle[Any]], Awaitable[None]] | None = None
    ) -> bool:
        """Whether the actor of that name is on that machine; if not it is nowhere any more."""
        try:
            handle = await self._handle(name)
            found = await self._machine_of(handle)
            if found == machine:
                return True
            if found is not None and end_in_order is not None:
                await end_in_order(handle)
        except ValueError:
            return False  # it is nowhere
        await self._kill_by_name(name)
        await self._until_forgotten(name)
        return False

    async def _machine_of(self, actor: ActorHandle[Any]) -> object:
        """None: it does not answer."""
        try:
            return await completed(actor.machine.remote(), _GATEWAY_TIMEOUT_S)
        except (ActorCallFailed, TimeoutError):
            return None

    async def _end_in_order(self, gateway: ActorHandle[Any]) -> None:
        """It finishes what it does, as far as it has time for that."""
        try:
            await completed(
                gateway.shutdown.remote(), self._config.http.shutdown_timeout_ms / 1000 + _GATEWAY_TIMEOUT_S
            )
        except (ActorCallFailed, TimeoutError) as error:
            logger.warning("a gateway did not close in order error=%s", error)

    async def _call(self, name: str, method: str, argument: object, timeout_s: float) -> None:
        handle = await self._handle(name)
        try:
            await completed(getattr(handle, method).remote(argument), timeout_s)
        except ActorCallFailed:
            self._handles.pop(name, None)
            raise

    async def _node(self, node: str, incarnation: int) -> ActorHandle[Any]:
        return await self._handle(node_actor_name(node, incarnation))

    async def _handle(self, name: str) -> ActorHandle[Any]:
        """Raises ValueError if there is no such actor."""
        handle = self._handles.get(name)
        if handle is None:
            handle = await asyncio.to_thread(ray.get_actor, name, self._config.namespace)
            self._handles[name] = handle
        return handle

    async def _is_known(self, name: str) -> bool:
        try:
            await asyncio.to_thread(ray.get_actor, name, self._config.namespace)
        except ValueError:
            return False
        return True


def living_machines() -> list[Machine]:
    """Those that Ray thinks alive."""
    return [row.machine for row in _ray_nodes()]


def reachable_host(host: str) -> str:
    """What to tell others of a host that something listens on here: for every interface, the one that Ray knows."""
    address: Callable[[], str] = ray.util.get_node_ip_address
    return address() if is_any_interface(host) else host


async def completed(reference: ray.ObjectRef[Any], timeout_s: float | None) -> object:
    """The value of an actor call; raises ActorCallFailed or TimeoutError. A late answer is dropped quietly.

    Time in which this process itself did not run does not count.
    """
    future = asyncio.wrap_future(reference.future())
    if not await finished_within(future, timeout_s):
        future.add_done_callback(lambda late: late.cancelled() or late.exception())
        raise TimeoutError(f"no answer within {timeout_s} s")
    try:
        return future.result()
    except ray.exceptions.RayError as error:
        raise ActorCallFailed(first_line(error)) from error


def first_line(error: BaseException) -> str:
    """What matters of Ray's long texts: our own error if it was one, else the line that says most."""
    cause = getattr(error, "cause", None) or error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return lines[-1] if isinstance(error, ray.exceptions.ActorDiedError) and "Error" in lines[-1] else lines[0]


@dataclass(frozen=True, slots=True)
class _RayNode:
    """``raylet``: host and port where its raylet listens."""

    machine: Machine
    raylet: tuple[str, int]


def _ray_nodes() -> list[_RayNode]:
    rows = ray.nodes()  # type: ignore[no-untyped-call]  # Ray's own
    return [
        _RayNode(
            Machine(row["NodeID"], row["NodeManagerAddress"], _HEAD_RESOURCE in row["Resources"]),
            (row["NodeManagerAddress"], row["NodeManagerPort"]),
        )
        for row in rows
        if row["Alive"]
    ]


async def _takes_connections(host: str, port: int) -> bool:
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(host, port), _CONNECT_TIMEOUT_S)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


def _end_process(process: ProcessIdentity) -> bool:
    """On the process's own machine, in a worker of its Ray node. Returns when it has ended."""
    while process.is_running():
        process.send(signal.SIGKILL)
        time.sleep(_GONE_POLL_S)
    return True


async def _pause(waited_s: float, what: str) -> float:
    await asyncio.sleep(_GONE_POLL_S)
    if waited_s // _GONE_WARNING_S != (waited_s + _GONE_POLL_S) // _GONE_WARNING_S:
        logger.warning("a killed process is still there process=%s waited_s=%.0f", what, waited_s)
    return waited_s + _GONE_POLL_S


def _process(pid: int, started_s: float) -> ProcessIdentity | None:
    """The actor's process that has that id if it started then; None if that one is gone.

    After a restart of the machine a stranger may have started at the same tick: it has not an actor's title.
    """
    found_s = started_after_boot_s(pid)
    is_it = found_s is not None and abs(found_s - started_s) < _TICK_TOLERANCE_S
    return ProcessIdentity.of(pid) if is_it and process_name(pid).startswith("ray::") else None
