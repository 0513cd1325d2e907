"""The Ray actor around the Coordinator: its public methods are the protocol, one line each.

The coordinator runs on an event loop of its own, which starts with the process: a coordinator that Ray restarts is at
work again without being told. ``start_coordinator`` is how a launcher makes it.

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
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from filoray.cluster.actor_names import COORDINATOR
from filoray.cluster.actors.placement import Placement, place_nodes
from filoray.cluster.cluster_view import ClusterView
from filoray.cluster.config.server_config import ServerConfig
from filoray.cluster.errors import Unavailable
from filoray.cluster.node_protocol import NodeSpec, ShardReport
from filoray.cluster.process.directory_lock import DirectoryInUse, DirectoryLock
from filoray.cluster.process.process_log import log_to_file

if TYPE_CHECKING:
    from filoray.cluster.actors.coordinator import Coordinator
    from filoray.cluster.control.launch_report import ReadyReport
    from filoray.cluster.store.meta_store import MetaStore

logger = logging.getLogger(__name__)

_STORE_RETRY_S = 1

T = TypeVar("T")


class CoordinatorActor:
    """Named ``coordinator``, detached, restarted by Ray. FilorayErrors come back as causes of RayTaskErrors."""

    def __init__(self, config: ServerConfig, node_spec: NodeSpec, placement: Placement) -> None:
        from filoray.cluster.store.meta_store import MetaStore
        from filoray.cluster.store.store_claim import claim

        log_to_file(config.data_dir, COORDINATOR)
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="coordinator", daemon=True).start()
        try:
            # Whatever its store: two clusters in one directory would open the same shards' files.
            self._lock = DirectoryLock(config.data_dir, "coordinator")
            store = MetaStore.open(config.meta_store_url, config.data_dir)
            claim(store, config)
            if not ray.get_runtime_context().was_current_actor_reconstructed:
                store.forget_node_count()  # the launch says how many
            begun = asyncio.run_coroutine_threadsafe(self._begin(config, store, node_spec, placement), self._loop)
            self._coordinator = begun.result()
        except (Unavailable, DirectoryInUse):
            if not ray.get_runtime_context().was_current_actor_reconstructed:
                raise  # the launcher says so
            # Ray gives up an actor whose constructor raises, but starts one anew whose process ends.
            logger.exception("the coordinator's store is away; starting anew in %d s", _STORE_RETRY_S)
            time.sleep(_STORE_RETRY_S)
            os._exit(1)

    @staticmethod
    async def _begin(config: ServerConfig, store: MetaStore, node_spec: NodeSpec, placement: Placement) -> Coordinator:
        from filoray.cluster.actors.coordinator import Coordinator
        from filoray.cluster.actors.ray_actors import RayActors

        coordinator = Coordinator(config, store, RayActors(config, node_spec, placement))
        coordinator.start()
        return coordinator

    # ---- operators

    async def setup_dataset(self, name: str, text: str) -> None:
        await self._run(self._coordinator.setup_dataset(name, text))

    async def delete_dataset(self, name: str) -> None:
        await self._run(self._coordinator.delete_dataset(name))

    async def start_shards(self, dataset: str, address: str, shards: Sequence[int]) -> None:
        await self._run(self._coordinator.start_shards(dataset, address, shards))

    async def stop_shards(self, dataset: str, shards: Sequence[int]) -> None:
        await self._run(self._coordinator.stop_shards(dataset, shards))

    async def move_shards(self, dataset: str, node: str, shards: Sequence[int]) -> None:
        await self._run(self._coordinator.move_shards(dataset, node, shards))

    async def drain_node(self, node: str) -> None:
        await self._run(self._coordinator.drain_node(node))

    async def undrain_node(self, node: str) -> None:
        await self._run(self._coordinator.undrain_node(node))

    async def scale(self, count: int) -> None:
        await self._run(self._coordinator.scale(count))

    async def surplus_nodes(self) -> tuple[str, ...]:
        return await self._call(self._coordinator.surplus_nodes)

    async def restart_nodes(self) -> None:
        await self._run(self._coordinator.restart_nodes())

    async def restart_state(self) -> tuple[tuple[str, ...], str]:
        return await self._call(self._coordinator.restart_state)

    async def story(self, dataset: str, shard: int) -> tuple[str, ...]:
        return await self._call(lambda: self._coordinator.story(dataset, shard))

    # ---- nodes, gateways, launcher

    async def shard_events(self, node: str, incarnation: int, reports: Sequence[ShardReport]) -> None:
        await self._call(lambda: self._coordinator.shard_events(node, incarnation, reports))

    async def view(self) -> ClusterView:
        return await self._run(self._coordinator.view())

    async def subscribe(self, gateway: str) -> ClusterView:
        return await self._run(self._coordinator.subscribe(gateway))

    async def members(self) -> tuple[str, ...]:
        return await self._call(self._coordinator.members)

    async def ready(self) -> ReadyReport:
        return await self._run(self._coordinator.ready())

    async def shutdown(self) -> None:
        await self._run(self._coordinator.shutdown())

    async def ping(self) -> int:
        """This process' id."""
        return os.getpid()

    # ---- to the coordinator's loop, in the order in which calls arrive

    async def _call(self, function: Callable[[], T]) -> T:
        async def on_loop() -> T:
            return function()

        return await self._run(on_loop())

    async def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))


def start_coordinator(
    config: ServerConfig, node_spec: NodeSpec | None = None, placement: Placement | None = None
) -> ActorHandle[Any]:
    """Make the cluster's coordinator on the Ray that this process is connected to; it makes the nodes.

    Without a ``placement`` all are on this machine. ``await``/``ray.get`` its ``ready.remote()`` next.
    ``config.data_dir`` must be absolute.
    """
    assert config.data_dir.is_absolute(), "actors have other working directories than the launcher"
    home = ray.get_runtime_context().get_node_id()
    placement = placement or place_nodes(config.node_count, home, [home], is_bound=True)
    # Its own store is a file in the data directory, unless it is a database that other machines reach too.
    where = NodeAffinitySchedulingStrategy(placement.home, soft=config.meta_store_url is not None)
    actor_class: Any = ray.remote(CoordinatorActor)
    options = actor_class.options(
        name=COORDINATOR, namespace=config.namespace, lifetime="detached", num_cpus=0, max_restarts=-1,
        scheduling_strategy=where,
    )  # fmt: skip
    handle: ActorHandle[Any] = options.remote(config, node_spec or NodeSpec(), placement)
    return handle
