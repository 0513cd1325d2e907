"""A ShardManager that is fed events, and what is to be seen of it."""

from __future__ import annotations

from filoray.cluster.config.dataset import LOG_STREAM_FACTORY, DatasetConfig
from filoray.cluster.config.server_config import default_server_config
from filoray.cluster.control.shard_manager import ShardManager
from filoray.cluster.control.shard_messages import (
    DatasetSetUp,
    ManagerCommand,
    ManagerEvent,
    MemberJoined,
    MembersJoined,
    ShardReported,
)
from filoray.cluster.control.shard_status import IngestionStarted, ShardEvent, StatusKind
from filoray.cluster.node_protocol import ShardReport


def config(
    name: str = "metrics", num_shards: int = 4, min_num_nodes: int = 2, source_factory: str = LOG_STREAM_FACTORY
) -> DatasetConfig:
    store = default_server_config().store
    return DatasetConfig(name, "gauge", num_shards, min_num_nodes, source_factory, 1, {}, store)


def joined(*nodes: str, incarnation: int = 1) -> MembersJoined:
    return MembersJoined(tuple(MemberJoined(node, incarnation) for node in nodes))


def feed(manager: ShardManager, *events: ManagerEvent) -> list[ManagerCommand]:
    commands: list[ManagerCommand] = []
    for now_ms, event in enumerate(events):
        commands += manager.handle(event, now_ms)
        manager.check_invariants()
    return commands


def owners(manager: ShardManager, name: str = "metrics") -> list[str | None]:
    return [entry.node for entry in manager.shard_map(name).shards]


def kinds(manager: ShardManager, name: str = "metrics") -> list[str]:
    return [entry.status.kind.value.removeprefix("ShardStatus") for entry in manager.shard_map(name).shards]


def report(node: str, shard: int, event: ShardEvent, epoch: int = 1, incarnation: int = 1) -> ShardReported:
    return ShardReported(node, incarnation, ShardReport("metrics", shard, epoch, event))


def running(node_count: int = 3, dataset: DatasetConfig | None = None) -> ShardManager:
    """A cluster with ``dataset``, or "metrics", on it, all Active."""
    manager = ShardManager()
    feed(manager, joined(*(f"node-{index}" for index in range(node_count))), DatasetSetUp(dataset or config()))
    settle(manager)
    return manager


def settle(manager: ShardManager) -> None:
    """Whoever has a shard of "metrics" says that it is Active."""
    for entry in manager.shard_map("metrics").shards:
        if entry.node is not None and entry.status.kind is not StatusKind.ACTIVE:
            incarnation = manager.members[entry.node]
            feed(manager, report(entry.node, entry.shard, IngestionStarted(), entry.epoch, incarnation))
