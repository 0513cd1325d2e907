"""The Ray actor class around a node: gives its methods their concurrency groups and imports the class where it runs.

The coordinator makes these, so that it need not import the data plane (and its compiled kernels) itself.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from typing import cast

import ray

from filoray.cluster.config.dataset import DatasetConfig
from filoray.cluster.config.server_config import ServerConfig
from filoray.cluster.control.copy_set import FollowedShard, ShardCopies
from filoray.cluster.data_plane_keys import KeyPair
from filoray.cluster.node_protocol import (
    CONTROL_GROUP,
    WATCH_GROUP,
    HeartbeatAnswer,
    LeaseGrant,
    NodeAnnouncement,
    NodeOrders,
    NodeSpec,
    Peer,
    ShardEpoch,
)
from filoray.cluster.process.process_log import log_to_file

CONCURRENCY_GROUPS = {CONTROL_GROUP: 2, WATCH_GROUP: 1}


class NodeActor:
    """``max_restarts=0``: a dead one is replaced by a new incarnation, which its callers hear of much sooner.

    Orders run one after the other, in the order they were given.
    """

    def __init__(
        self, spec: NodeSpec, name: str, incarnation: int, config: ServerConfig, port: int, gateway_keys: KeyPair
    ) -> None:
        log_to_file(config.data_dir, name)
        module, _, class_name = spec.class_path.rpartition(".")
        node_class = getattr(importlib.import_module(module), class_name)
        node = node_class(name=name, incarnation=incarnation, config=config, port=port, gateway_keys=gateway_keys)
        self._node = cast(NodeOrders, node)

    def start(self) -> NodeAnnouncement:
        return self._node.start()

    @ray.method(concurrency_group=CONTROL_GROUP)
    def announce(self) -> NodeAnnouncement:
        return self._node.announce()

    def start_shards(self, config: DatasetConfig, shards: Sequence[ShardEpoch], opened: Sequence[int]) -> None:
        self._node.start_shards(config, shards, opened)

    def follow_shards(self, config: DatasetConfig, shards: Sequence[FollowedShard]) -> None:
        self._node.follow_shards(config, shards)

    def drop_copies(self, dataset: str, generation: int, shards: Sequence[FollowedShard]) -> None:
        self._node.drop_copies(dataset, generation, shards)

    @ray.method(concurrency_group=CONTROL_GROUP)
    def tell_copies(self, dataset: str, copies: Sequence[ShardCopies], peers: Sequence[Peer]) -> None:
        self._node.tell_copies(dataset, copies, peers)

    def stop_shards(self, dataset: str, shards: Sequence[ShardEpoch]) -> None:
        self._node.stop_shards(dataset, shards)

    def delete_shards(self, dataset: str, generation: int, shards: Sequence[int]) -> None:
        self._node.delete_shards(dataset, generation, shards)

    @ray.method(concurrency_group=CONTROL_GROUP)
    def heartbeat(self, grant: LeaseGrant, coordinator: str) -> HeartbeatAnswer:
        return self._node.heartbeat(grant, coordinator)

    @ray.method(concurrency_group=CONTROL_GROUP)
    def ping(self) -> int:
        """This process' id."""
        return os.getpid()

    @ray.method(concurrency_group=WATCH_GROUP)
    def wait_until_death(self) -> None:
        self._node.wait_until_death()

    def shutdown(self) -> None:
        self._node.shutdown()
