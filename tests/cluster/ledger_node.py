"""A small but real node for the coordinator's tests: every shard it takes over is a file that lists its owners."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path

import ray

from filoray.cluster.actor_names import COORDINATOR
from filoray.cluster.addresses import NodeAddress
from filoray.cluster.config.dataset import DatasetConfig, storage_name
from filoray.cluster.config.server_config import ServerConfig
from filoray.cluster.control.shard_status import (
    IngestionStarted,
    RecoveryInProgress,
    RecoveryStarted,
    ShardStatus,
    StatusKind,
)
from filoray.cluster.data_plane_keys import KeyPair
from filoray.cluster.node_protocol import (
    HeartbeatAnswer,
    HeldShard,
    LeaseGrant,
    NodeAnnouncement,
    ShardEpoch,
    ShardReport,
)


class LedgerNode:
    """Every shard it takes over becomes a file that lists its owners: ``<data-dir>/<dataset>/shard-<n>.owners``."""

    def __init__(self, name: str, incarnation: int, config: ServerConfig, port: int, gateway_keys: KeyPair) -> None:
        self._identity = (name, incarnation)
        self._config = config
        self._address = NodeAddress(config.node.host, port)
        self._held: dict[tuple[str, int], int] = {}
        if (config.data_dir / f"refuse-{name}").exists():
            raise OSError(f"port {port} is taken")

    def start(self) -> NodeAnnouncement:
        return self.announce()

    def announce(self) -> NodeAnnouncement:
        active = ShardStatus(StatusKind.ACTIVE)
        held = tuple(HeldShard(name, shard, epoch, active) for (name, shard), epoch in self._held.items())
        ray_node_id = ray.get_runtime_context().get_node_id()
        return NodeAnnouncement(*self._identity, self._address, os.getpid(), ray_node_id, held)

    def start_shards(self, config: DatasetConfig, shards: Sequence[ShardEpoch], opened: Sequence[int]) -> None:
        reports: list[ShardReport] = []
        for shard, epoch in shards:
            path = self._path(config.storage_name, shard)
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a") as owners:
                owners.write(f"{self._identity[0]}#{self._identity[1]} {epoch}\n")
            self._held[config.name, shard] = epoch
            events = (RecoveryStarted(), RecoveryInProgress(50), IngestionStarted())
            reports += [ShardReport(config.name, shard, epoch, event) for event in events]
        coordinator = ray.get_actor(COORDINATOR, self._config.namespace)
        coordinator.shard_events.remote(*self._identity, tuple(reports))

    def stop_shards(self, dataset: str, shards: Sequence[ShardEpoch]) -> None:
        for shard, epoch in shards:
            if self._held.get((dataset, shard)) == epoch:
                del self._held[dataset, shard]

    def delete_shards(self, dataset: str, generation: int, shards: Sequence[int]) -> None:
        for shard in shards:
            self._held.pop((dataset, shard), None)
            self._path(storage_name(dataset, generation), shard).unlink(missing_ok=True)

    def heartbeat(self, grant: LeaseGrant, coordinator: str) -> HeartbeatAnswer:
        unfit = self._config.data_dir / f"unfit-{self._identity[0]}#{self._identity[1]}"
        return HeartbeatAnswer(unfit.read_text() if unfit.exists() else "")

    def wait_until_death(self) -> None:
        threading.Event().wait()

    def shutdown(self) -> None:
        (self._config.data_dir / f"closed-{self._identity[0]}").touch()

    def _path(self, dataset: str, shard: int) -> Path:
        return self._config.data_dir / dataset / f"shard-{shard}.owners"


class ViewSink:
    """Takes the coordinator's views as a gateway does."""

    def __init__(self) -> None:
        self._views: list[object] = []

    def update_view(self, view: object) -> None:
        self._views.append(view)

    def views(self) -> list[object]:
        return self._views
