"""What the coordinator's dispatcher needs of a store: to read what is remembered, to make something durable.

The MetaStore is one; the simulator has another, which may be slow, full or failing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from filoray.cluster.config.dataset import DatasetConfig
from filoray.cluster.control.coordinator_core import Remembered
from filoray.cluster.control.coordinator_effects import (
    Durable,
    PersistMachine,
    PersistNodeCount,
    PersistOpened,
    PersistProcess,
    PersistRestart,
)
from filoray.cluster.control.membership import PersistIncarnation
from filoray.cluster.control.node_keeper import KnownProcess
from filoray.cluster.control.shard_map import ShardMap
from filoray.cluster.control.shard_messages import ForgetDataset, PersistDataset, PersistDrained, PersistShardMap
from filoray.cluster.control.shard_table import RestoredState
from filoray.cluster.data_plane_keys import KeyPair
from filoray.cluster.node_protocol import NodeProcessId
from filoray.cluster.store.meta_store import NodeRow


class CoordinatorStore(Protocol):
    """Of the MetaStore; every ``put`` is durable when it returns."""

    def next_generation(self) -> int: ...
    def gateway_keys(self) -> KeyPair: ...
    def nodes(self) -> dict[str, NodeRow]: ...
    def restored_state(self, members: dict[str, int]) -> RestoredState: ...
    def opened_shards(self) -> dict[tuple[str, int], int]: ...
    def put_opened(self, opened: Mapping[tuple[str, int], int]) -> None: ...
    def put_dataset(self, config: DatasetConfig, *, is_deleting: bool) -> None: ...
    def forget_dataset(self, name: str) -> None: ...
    def put_shard_map(self, shard_map: ShardMap) -> None: ...
    def node_count(self) -> int | None: ...
    def put_node_count(self, count: int) -> None: ...
    def restart_left(self) -> tuple[NodeProcessId, ...]: ...
    def put_restart(self, left: tuple[NodeProcessId, ...]) -> None: ...
    def put_drained(self, node: str, *, is_drained: bool) -> None: ...
    def put_machine(self, node: str, address: str) -> None: ...
    def put_incarnation(self, node: str, incarnation: int) -> None: ...
    def put_process(self, node: str, pid: int | None, pid_started_s: float | None) -> None: ...


def remember(store: CoordinatorStore) -> Remembered:
    """What a coordinator that begins on ``store`` knows; any earlier one can write there no more."""
    generation = store.next_generation()  # first: what is read afterwards stays so
    rows = store.nodes()
    incarnations = {name: row.incarnation for name, row in rows.items()}
    return Remembered(
        generation=generation,
        gateway_keys=store.gateway_keys(),
        incarnations=incarnations,
        restart_left=store.restart_left(),
        node_count=store.node_count(),
        processes={name: KnownProcess(row.pid, row.pid_started_s) for name, row in rows.items()},
        opened=store.opened_shards(),
        shards=store.restored_state(incarnations),
    )


def persist(store: CoordinatorStore, what: Durable) -> None:
    """Returns when it is durable."""
    match what:
        case PersistDataset(config, is_deleting):
            store.put_dataset(config, is_deleting=is_deleting)
        case ForgetDataset(dataset):
            store.forget_dataset(dataset)
        case PersistShardMap(shard_map):
            store.put_shard_map(shard_map)
        case PersistDrained(node, is_drained):
            store.put_drained(node, is_drained=is_drained)
        case PersistMachine(node, address):
            store.put_machine(node, address)
        case PersistIncarnation(node, incarnation):
            store.put_incarnation(node, incarnation)
        case PersistProcess(node, pid, pid_started_s):
            store.put_process(node, pid, pid_started_s)
        case PersistNodeCount(count):
            store.put_node_count(count)
        case PersistRestart(left):
            store.put_restart(left)
        case PersistOpened(generations):
            store.put_opened(generations)
