"""The Ray actor around the Coordinator: its public methods are the protocol, one line each.

The coordinator runs on an event loop of its own, which starts with the process: a coordinator that Ray restarts is at
work again without being told. ``start_coordinators`` is how a launcher makes it.

Every process that has a handle of the actor imports this module, so it imports the coordinator only where it runs.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import ray
from ray.actor import ActorHandle

from filoray.cluster.actor_names import COORDINATOR
from filoray.cluster.actors.gateway_actors import only_on
from filoray.cluster.cluster_view import ClusterView
from filoray.cluster.config.server_config import ServerConfig
from filoray.cluster.control.machine_placement import Machine, Placement, coordinator_machines, first_placement
from filoray.cluster.errors import NotLeading, Unavailable
from filoray.cluster.node_protocol import NodeSpec, ShardReport
from filoray.cluster.process.directory_lock import DirectoryInUse, DirectoryLock
from filoray.cluster.process.process_log import log_to_file

if TYPE_CHECKING:
    from filoray.cluster.actors.candidate import Candidate
    from filoray.cluster.actors.coordinator import Coordinator
    from filoray.cluster.control.launch_report import ReadyReport
    from filoray.cluster.store.meta_store import MetaStore

logger = logging.getLogger(__name__)

_STORE_RETRY_S = 1

T = TypeVar("T")


class CoordinatorActor:
    """Detached, restarted by Ray. FilorayErrors come back as causes of RayTaskErrors.

    Named ``coordinator``; or, where there are two, ``coordinator-0`` and ``coordinator-1``, of which one leads. The
    other refuses everything with NotLeading, and imports meanwhile what it would need.
    """

    def __init__(self, config: ServerConfig, node_spec: NodeSpec, placement: Placement, name: str) -> None:
        log_to_file(config.data_dir, name)
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="coordinator", daemon=True).start()
        self._coordinator: Coordinator | None = None
        self._candidate: Candidate | None = None
        try:
            # Whatever its store: two clusters in one directory would open the same shards' files. A supervisor looks at
            # the lock of the first, and there may be a file system under several machines.
            lock = COORDINATOR if name == config.coordinators[0] else name
            self._lock = DirectoryLock(config.data_dir, lock)
            if config.has_standby:
                self._stand(config, node_spec, placement, name)
            else:
                self._lead(config, node_spec, placement, name)
        except (Unavailable, DirectoryInUse):
            if not ray.get_runtime_context().was_current_actor_reconstructed:
                raise  # the launcher says so
            # Ray gives up an actor whose constructor raises, but starts one anew whose process ends.
            logger.exception("the coordinator's store is away; starting anew in %d s", _STORE_RETRY_S)
            time.sleep(_STORE_RETRY_S)
            os._exit(1)

    def _stand(self, config: ServerConfig, node_spec: NodeSpec, placement: Placement, name: str) -> None:
        """Return at once, and lead as soon as it may."""
        from filoray.cluster.actors.candidate import Candidate
        from filoray.cluster.store.leader_store import LeaderStore

        lease_ms, url = config.coordinator_lease_ms, config.meta_store_url
        assert url is not None, "a standby reaches the store too"
        LeaderStore(url, lease_ms).close()  # the launcher hears of a store that cannot be reached
        self._candidate = Candidate(
            name,
            lease_ms,
            lambda: LeaderStore(url, lease_ms),
            lambda: self._lead(config, node_spec, placement, name),
            _end_process,
        )
        self._candidate.start()

    def _lead(self, config: ServerConfig, node_spec: NodeSpec, placement: Placement, name: str) -> None:
        from filoray.cluster.store.meta_store import MetaStore
        from filoray.cluster.store.store_claim import claim

        store = MetaStore.open(config.meta_store_url, config.data_dir)
        claim(store, config)
        if not config.has_standby and not ray.get_runtime_context().was_current_actor_reconstructed:
            store.forget_node_count()  # the launch says how many
        begun = self._begin(config, store, node_spec, placement, name)
        self._coordinator = asyncio.run_coroutine_threadsafe(begun, self._loop).result()

    async def _begin(
        self, config: ServerConfig, store: MetaStore, node_spec: NodeSpec, placement: Placement, name: str
    ) -> Coordinator:
        from filoray.cluster.actors.coordinator import Coordinator
        from filoray.cluster.actors.ray_actors import RayActors

        actors = RayActors(config, node_spec, placement, name)
        may_act = self._candidate.may_act if self._candidate is not None else lambda: True
        coordinator = Coordinator(config, store, actors, placement=placement, may_act=may_act)
        coordinator.start()
        return coordinator

    # ---- operators

    async def setup_dataset(self, name: str, text: str) -> None:
        await self._run(self._leading().setup_dataset(name, text))

    async def delete_dataset(self, name: str) -> None:
        await self._run(self._leading().delete_dataset(name))

    async def start_shards(self, dataset: str, address: str, shards: Sequence[int]) -> None:
        await self._run(self._leading().start_shards(dataset, address, shards))

    async def stop_shards(self, dataset: str, shards: Sequence[int]) -> None:
        await self._run(self._leading().stop_shards(dataset, shards))

    async def move_shards(self, dataset: str, node: str, shards: Sequence[int]) -> None:
        await self._run(self._leading().move_shards(dataset, node, shards))

    async def drain_node(self, node: str) -> None:
        await self._run(self._leading().drain_node(node))

    async def undrain_node(self, node: str) -> None:
        await self._run(self._leading().undrain_node(node))

    async def scale(self, count: int) -> None:
        await self._run(self._leading().scale(count))

    async def surplus_nodes(self) -> tuple[str, ...]:
        return await self._call(self._leading().surplus_nodes)

    async def absent_nodes(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        return await self._call(self._leading().absent_nodes)

    async def restart_nodes(self) -> None:
        await self._run(self._leading().restart_nodes())

    async def restart_state(self) -> tuple[tuple[str, ...], str]:
        return await self._call(self._leading().restart_state)

    async def story(self, dataset: str, shard: int) -> tuple[str, ...]:
        return await self._call(lambda: self._leading().story(dataset, shard))

    # ---- nodes, gateways, launcher

    async def shard_events(self, node: str, incarnation: int, reports: Sequence[ShardReport]) -> None:
        await self._call(lambda: self._leading().shard_events(node, incarnation, reports))

    async def view(self) -> ClusterView:
        return await self._run(self._leading().view())

    async def subscribe(self, gateway: str) -> ClusterView:
        return await self._run(self._leading().subscribe(gateway))

    async def members(self) -> tuple[str, ...]:
        return await self._call(self._leading().members)

    async def ready(self) -> ReadyReport:
        return await self._run(self._leading().ready())

    async def shutdown(self) -> None:
        await self._run(self._leading().shutdown())
        if self._candidate is not None:
            self._candidate.release()

    async def ping(self) -> int:
        """This process' id."""
        return os.getpid()

    async def machine(self) -> str:
        """Ray's id of the one it runs on."""
        return str(ray.get_runtime_context().get_node_id())

    # ---- to the coordinator's loop, in the order in which calls arrive

    def _leading(self) -> Coordinator:
        if self._coordinator is None:
            raise NotLeading("this coordinator stands by")
        return self._coordinator

    async def _call(self, function: Callable[[], T]) -> T:
        async def on_loop() -> T:
            return function()

        return await self._run(on_loop())

    async def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))


def start_coordinators(
    config: ServerConfig, node_spec: NodeSpec | None = None, placement: Placement | None = None
) -> list[ActorHandle[Any]]:
    """Make the cluster's coordinator on the Ray that this process is connected to, and one that stands by for it.

    The one that leads makes the nodes: ``ready`` says when they are there. Without a ``placement`` all are on this
    machine. ``config.data_dir`` must be absolute.
    """
    assert config.data_dir.is_absolute(), "actors have other working directories than the launcher"
    home = Machine(ray.get_runtime_context().get_node_id())
    placement = placement or first_placement(config.node_count, home, [home], is_bound=True)
    if config.has_standby:  # who leads may have been made long after the launch
        _forget_node_count(config)
    machines = coordinator_machines({*placement.seats, placement.home}) if config.has_standby else [placement.home]
    spec = node_spec or NodeSpec()
    return [
        make_coordinator(config, spec, placement, name, machine.id)
        for name, machine in zip(config.coordinators, machines, strict=False)
    ]


def _forget_node_count(config: ServerConfig) -> None:
    """A launch says how many nodes there are, whatever the last one was told while it ran."""
    from filoray.cluster.store.meta_store import MetaStore

    store = MetaStore.open(config.meta_store_url, config.data_dir)
    store.forget_node_count()
    store.close()


def make_coordinator(
    config: ServerConfig, node_spec: NodeSpec, placement: Placement, name: str, machine: str
) -> ActorHandle[Any]:
    """On the machine of that id. Raises ValueError if its name is in use."""
    # Alone, with a store that other machines reach too, it is for Ray to start it on any of them.
    is_anywhere = config.meta_store_url is not None and not config.has_standby
    actor_class: Any = ray.remote(CoordinatorActor)
    options = actor_class.options(
        name=name, namespace=config.namespace, lifetime="detached", num_cpus=0, max_restarts=-1,
        scheduling_strategy="DEFAULT" if is_anywhere else only_on(machine),
    )  # fmt: skip
    handle: ActorHandle[Any] = options.remote(config, node_spec, placement, name)
    return handle


def _end_process(problem: str) -> None:
    logger.critical("this coordinator ends, and Ray starts it anew: %s", problem)
    logging.shutdown()
    os._exit(1)
