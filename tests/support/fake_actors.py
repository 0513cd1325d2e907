"""The coordinator's ActorPort over nodes that are objects in the same event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from filoray.cluster.actors.coordinator import Coordinator
from filoray.cluster.addresses import NodeAddress
from filoray.cluster.cluster_view import ClusterView
from filoray.cluster.config.dataset import DatasetConfig
from filoray.cluster.control.coordinator_effects import MachineList
from filoray.cluster.control.copy_set import FollowedShard, ShardCopies
from filoray.cluster.control.shard_status import IngestionStarted, RecoveryStarted, ShardEvent, ShardStatus, StatusKind
from filoray.cluster.data_plane_keys import KeyPair
from filoray.cluster.node_protocol import (
    HeartbeatAnswer,
    HeldShard,
    LeaseGrant,
    NodeAnnouncement,
    Peer,
    ShardEpoch,
    ShardReport,
)


@dataclass
class FakeNode:
    """``blocked``: orders that are not carried out while the event is not set, by method name."""

    name: str
    incarnation: int
    held: dict[tuple[str, int], int] = field(default_factory=dict)
    blocked: dict[str, asyncio.Event] = field(default_factory=dict)
    orders: list[tuple[object, ...]] = field(default_factory=list)
    death: asyncio.Event = field(default_factory=asyncio.Event)

    async def take(self, *order: object) -> None:
        if (gate := self.blocked.get(str(order[0]))) is not None:
            await gate.wait()
        self.orders.append(order)


class FakeActors:
    def __init__(self) -> None:
        self.nodes: dict[tuple[str, int], FakeNode] = {}
        self.coordinator: Coordinator | None = None
        self.views: list[ClusterView] = []
        self.killed: list[tuple[str, int, int | None]] = []
        self.grants: dict[tuple[str, int], list[LeaseGrant]] = {}
        self.sees_the_end = True
        self.stored_epochs: dict[tuple[str, int], int] = {}
        self.was_open: dict[tuple[str, int, int], bool] = {}
        """What the shards' files say, by storage name and shard."""

    async def launch(
        self, node: str, incarnation: int, port: int, gateway_keys: KeyPair, machine: str, timeout_s: float
    ) -> NodeAnnouncement:
        self.nodes[node, incarnation] = FakeNode(node, incarnation)
        return self._announcement(node, incarnation)

    def _announcement(self, node: str, incarnation: int) -> NodeAnnouncement:
        active = ShardStatus(StatusKind.ACTIVE)
        held = self.nodes[node, incarnation].held
        shards = tuple(HeldShard(*key, epoch, active) for key, epoch in held.items())
        port = 2552 + int(node.rpartition("-")[2])
        return NodeAnnouncement(node, incarnation, NodeAddress("127.0.0.1", port), 7, "here", shards, clock_ms=1000)

    async def adopt(self, node: str, incarnation: int, timeout_s: float) -> NodeAnnouncement:
        if (node, incarnation) not in self.nodes:
            raise ValueError("no such actor")
        return self._announcement(node, incarnation)

    async def heartbeat(self, node: str, incarnation: int, grant: LeaseGrant, timeout_s: float) -> HeartbeatAnswer:
        await asyncio.sleep(0)
        grants = self.grants.setdefault((node, incarnation), [])
        grants.append(grant)
        return HeartbeatAnswer(clock_ms=1000 + len(grants))

    async def wait_until_death(self, node: str, incarnation: int) -> str:
        await self.nodes[node, incarnation].death.wait()
        return "it died"

    async def start_shards(
        self,
        node: str,
        incarnation: int,
        config: DatasetConfig,
        shards: Sequence[ShardEpoch],
        opened: Sequence[int],
    ) -> None:
        process = self.nodes[node, incarnation]
        await process.take("start", config, tuple(shards))
        for shard, epoch in shards:
            self.was_open[config.storage_name, shard, epoch] = shard in opened
            process.held[config.name, shard] = epoch
            self._report(process, config.name, shard, epoch, self._opened(config, shard, epoch))

    def _opened(self, config: DatasetConfig, shard: int, epoch: int) -> Sequence[ShardEvent]:
        self.stored_epochs[config.storage_name, shard] = epoch
        return (RecoveryStarted(), IngestionStarted())

    def _report(self, process: FakeNode, dataset: str, shard: int, epoch: int, events: Sequence[ShardEvent]) -> None:
        assert self.coordinator is not None
        reports = [ShardReport(dataset, shard, epoch, event) for event in events]
        self.coordinator.shard_events(process.name, process.incarnation, reports)

    async def follow_shards(
        self, node: str, incarnation: int, config: DatasetConfig, shards: Sequence[FollowedShard]
    ) -> None:
        await self.nodes[node, incarnation].take("follow", config, tuple(shards))

    async def drop_copies(
        self, node: str, incarnation: int, dataset: str, generation: int, shards: Sequence[FollowedShard]
    ) -> None:
        await self.nodes[node, incarnation].take("drop", dataset, generation, tuple(shards))

    async def tell_copies(
        self, node: str, incarnation: int, dataset: str, copies: Sequence[ShardCopies], peers: Sequence[Peer]
    ) -> None:
        await self.nodes[node, incarnation].take("copies", dataset, tuple(copies), tuple(peers))

    async def stop_shards(self, node: str, incarnation: int, dataset: str, shards: Sequence[ShardEpoch]) -> None:
        process = self.nodes[node, incarnation]
        await process.take("stop", dataset, tuple(shards))
        for shard, epoch in shards:
            if process.held.get((dataset, shard)) == epoch:
                del process.held[dataset, shard]

    async def delete_shards(
        self, node: str, incarnation: int, dataset: str, generation: int, shards: Sequence[int]
    ) -> None:
        await self.nodes[node, incarnation].take("delete", dataset, generation, tuple(shards))

    async def shutdown(self, node: str, incarnation: int, timeout_s: float) -> None:
        pass

    async def kill(self, node: str, incarnation: int, pid: int | None, pid_started_s: float | None) -> bool:
        self.killed.append((node, incarnation, pid))
        process = self.nodes.pop((node, incarnation), None)
        if process is not None:
            process.death.set()
        return self.sees_the_end

    def process_started_s(self, announcement: NodeAnnouncement) -> float | None:
        return 1.0

    async def push_view(self, gateway: str, view: ClusterView, timeout_s: float) -> None:
        self.views.append(view)

    async def push_members(self, addresses: Sequence[str], timeout_s: float) -> None:
        pass

    async def machines(self, timeout_s: float) -> MachineList:
        raise AssertionError("one machine is not looked at")

    async def place_standby(self, machine: str) -> None:
        raise AssertionError("on one machine nobody stands by")

    async def place_gateway(self, gateway: str, machine: str) -> None:
        raise AssertionError("gateways of one machine stay there")
