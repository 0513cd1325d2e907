"""The coordinator in its process: its public methods are what others may ask of it, each an event for the core.

What is to be done is decided by the CoordinatorCore and carried out by the dispatcher over the ``RealWorld``; here is
no ``if`` about shards or nodes. Over Ray this is wrapped by ``coordinator_actor.py``; Ray is behind ``ActorPort``.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import cast

from filoray.cluster.actors.ray_actors import ActorPort
from filoray.cluster.actors.real_world import RealWorld
from filoray.cluster.cluster_view import ClusterView
from filoray.cluster.config.server_config import ServerConfig
from filoray.cluster.control.coordinator_dispatcher import CoordinatorDispatcher
from filoray.cluster.control.coordinator_effects import AnswerValue
from filoray.cluster.control.coordinator_events import (
    CoordinatorEvent,
    DeletionOrdered,
    DrainOrdered,
    MoveOrdered,
    ReadyAsked,
    RequestId,
    RollingRestartOrdered,
    ScaleOrdered,
    SetUpOrdered,
    ShardsReported,
    ShutdownOrdered,
    StartOrdered,
    StopOrdered,
    UndrainOrdered,
    ViewAsked,
)
from filoray.cluster.control.launch_report import ReadyReport
from filoray.cluster.control.machine_placement import Placement
from filoray.cluster.control.patience import Patience
from filoray.cluster.node_protocol import ShardReport
from filoray.cluster.store.meta_store import MetaStore


def _end_process() -> None:
    os._exit(1)


class Coordinator:
    """Belongs to one event loop; ``start`` must be called on it first.

    ``may_act``: whether it leads, where another coordinator stands by.
    """

    def __init__(
        self,
        config: ServerConfig,
        store: MetaStore,
        actors: ActorPort,
        abort: Callable[[], None] = _end_process,
        patience: Patience | None = None,
        placement: Placement | None = None,
        may_act: Callable[[], bool] = lambda: True,
    ) -> None:
        self._world = RealWorld(config, store, actors, abort, may_act)
        self._dispatcher = CoordinatorDispatcher(config, self._world, patience, placement)
        self._requests = itertools.count(1)
        self._shutdown: asyncio.Future[AnswerValue] | None = None

    def start(self) -> None:
        """Adopt what lives, launch what does not, and keep watching."""
        self._dispatcher.start()

    # ---- the protocol: operators

    async def setup_dataset(self, name: str, text: str) -> None:
        """Set a dataset up. Returns when its shards are Active and every gateway knows, or after some seconds.

        Raises BadData, DatasetExists.
        """
        await self._ask(lambda request: SetUpOrdered(request, name, text))

    async def delete_dataset(self, name: str) -> None:
        """Remove a dataset and its files; returns when they are gone.

        Again while they are not gone yet, it waits for that. Raises DatasetUnknown; Unavailable, naming what is still
        there, after some seconds: the deletion then goes on by itself.
        """
        await self._ask(lambda request: DeletionOrdered(request, name))

    async def start_shards(self, dataset: str, address: str, shards: Sequence[int]) -> None:
        """Give unowned shards to the node at ``address`` (its FiloDB form). Raises DatasetUnknown, BadData."""
        await self._ask(lambda request: StartOrdered(request, dataset, address, tuple(shards)))

    async def stop_shards(self, dataset: str, shards: Sequence[int]) -> None:
        """Take shards from their owners; returns when those have closed them.

        Raises DatasetUnknown, BadData; Unavailable if an owner did not close one within some seconds: nobody asks it
        for the shard any more, but no other node gets it before.
        """
        await self._ask(lambda request: StopOrdered(request, dataset, tuple(shards)))

    async def move_shards(self, dataset: str, node: str, shards: Sequence[int]) -> None:
        """Have shards go to ``node`` (its name or FiloDB address); returns when they are Active there.

        Raises DatasetUnknown, BadData; Unavailable if they are not after some seconds: the move then goes on by itself.
        """
        await self._ask(lambda request: MoveOrdered(request, dataset, node, tuple(shards)))

    async def drain_node(self, node: str) -> None:
        """It is to have no shards: they move away, and it gets none. Raises BadData if they have nowhere to go."""
        await self._ask(lambda request: DrainOrdered(request, node))

    async def undrain_node(self, node: str) -> None:
        """It may have shards again. Raises BadData if it is not drained."""
        await self._ask(lambda request: UndrainOrdered(request, node))

    async def scale(self, count: int) -> None:
        """There are to be so many nodes. Raises BadData if fewer could not hold all shards."""
        await self._ask(lambda request: ScaleOrdered(request, count))

    def surplus_nodes(self) -> tuple[str, ...]:
        """Those that are to go and have not gone yet."""
        return self._dispatcher.core.scaling.surplus

    def absent_nodes(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Nodes that will be members soon; and a text for each that is away until its machine is back."""
        launch = self._dispatcher.core.launch
        return launch.missing(), launch.away()

    async def restart_nodes(self) -> None:
        """Begin a rolling restart. Raises Unavailable while one is under way."""
        await self._ask(RollingRestartOrdered)

    def restart_state(self) -> tuple[tuple[str, ...], str]:
        """The nodes that a rolling restart has still to replace, and why the last ended before its time, or ""."""
        restart = self._dispatcher.core.restart
        return tuple(node for node, _ in restart.left), restart.problem

    def story(self, dataset: str, shard: int) -> tuple[str, ...]:
        """What happened to a shard and why, oldest first."""
        return tuple(
            f"{datetime.fromtimestamp(line.at_ms / 1000, UTC).isoformat(timespec='milliseconds')} {line.text}"
            for line in self._dispatcher.core.story(dataset, shard)
        )

    # ---- the protocol: other actors and the launcher

    async def view(self) -> ClusterView:
        """The present view; after a restart only when it is known who lives."""
        return cast(ClusterView, await self._ask(ViewAsked))

    async def subscribe(self, gateway: str) -> ClusterView:
        """The present view; later ones are pushed to the gateway."""
        return cast(ClusterView, await self._ask(lambda request: ViewAsked(request, gateway)))

    def members(self) -> tuple[str, ...]:
        """Addresses of the members, sorted."""
        return self._dispatcher.core.members()

    def shard_events(self, node: str, incarnation: int, reports: Sequence[ShardReport]) -> None:
        """A node says what became of its shards, in order."""
        self._dispatcher.take(ShardsReported(node, incarnation, reports))

    async def ready(self) -> ReadyReport:
        """Return when all nodes are members and nothing more becomes of any shard, or will for now.

        Raises FilorayError with the cause if a node does not come up or a configured dataset cannot be set up,
        Unavailable if nodes are missing after ``seed.timeout``. Datasets that are not wholly served are the report's.
        """
        return cast(ReadyReport, await self._ask(ReadyAsked))

    async def shutdown(self) -> None:
        """Let every node flush and close, then end them. The coordinator does nothing more afterwards.

        There is one shutdown, however often it is asked for: each who asks is answered when it is done.
        """
        if self._shutdown is None:
            self._shutdown = self._order(ShutdownOrdered)
        await asyncio.shield(self._shutdown)

    async def _ask(self, event: Callable[[RequestId], CoordinatorEvent]) -> AnswerValue:
        return await self._order(event)

    def _order(self, event: Callable[[RequestId], CoordinatorEvent]) -> asyncio.Future[AnswerValue]:
        """Where the answer will be."""
        request = next(self._requests)
        answer = self._world.expect_answer(request)
        self._dispatcher.take(event(request))
        return answer
