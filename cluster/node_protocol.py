"""What the coordinator and a node say to each other, over Ray.

The coordinator calls (``NodeOrders``); the node answers, and reports in batches by
``coordinator.shard_events(node, incarnation, reports)``.

An order may arrive late: after a hang, or because it was given twice. So each says what it is for and touches nothing
else: an epoch, which no other assignment of that shard has, or a dataset's generation, which no other of that name has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from filoray.cluster.addresses import NodeAddress
from filoray.cluster.config.dataset import DatasetConfig
from filoray.cluster.control.copy_set import FollowedShard, InSyncProposed, ShardCopies
from filoray.cluster.control.shard_status import ShardEvent, ShardStatus
from filoray.cluster.process.process_identity import ProcessIdentity

ShardEpoch = tuple[int, int]
"""(shard, epoch)."""

NodeProcessId = tuple[str, int]
"""(node, incarnation)."""

CONTROL_GROUP = "control"
"""Ray concurrency group of heartbeats and announcements: a long order never delays them."""

WATCH_GROUP = "watch"
"""Ray concurrency group of the call that never returns: when it fails, the process is gone."""


@dataclass(frozen=True, slots=True)
class HeldShard:
    """A shard that a node holds, as it says itself. ``is_follower``: a copy that it neither answers nor writes from."""

    dataset: str
    shard: int
    epoch: int
    status: ShardStatus
    is_follower: bool = False


@dataclass(frozen=True, slots=True)
class Peer:
    """Where another node listens; ``endpoint`` and ``public_key`` as in NodeAnnouncement."""

    node: str
    incarnation: int
    address: NodeAddress
    endpoint: str = ""
    public_key: bytes = b""


@dataclass(frozen=True, slots=True)
class StoredCopies:
    """Copies of shards of a data set that a node has on its machine, whoever knows of them.

    ``cluster_id``: of the cluster that set the data set up; "" where nothing says it (an earlier release).
    """

    dataset: str
    generation: int
    shards: tuple[int, ...]
    cluster_id: str = ""


@dataclass(frozen=True, slots=True)
class NodeAnnouncement:
    """Who a node is and what it holds. ``ray_node_id`` tells whether its process is on the coordinator's machine.

    ``public_key``: that of its socket, which is at ``address``; or ``endpoint``: the private one of its machine.

    ``process``: for whoever has to end it. ``clock_ms``: what the clock of its lease reads. ``stored``: what copies it
    finds on its machine, where that is its own.
    """

    node: str
    incarnation: int
    address: NodeAddress
    pid: int
    ray_node_id: str
    shards: tuple[HeldShard, ...] = ()
    public_key: bytes = b""
    endpoint: str = ""
    process: ProcessIdentity | None = None
    clock_ms: int = 0
    stored: tuple[StoredCopies, ...] = ()


@dataclass(frozen=True, slots=True)
class LeaseGrant:
    """``from_ms``: what the node's own clock read when it last said so. The node's ``lease`` module has the reasons."""

    from_ms: int
    duration_ms: int


@dataclass(frozen=True, slots=True)
class HeartbeatAnswer:
    """``unfit``: why the node should be replaced though it answers (a thread of its own has ended or is stuck), or "".

    ``clock_ms``: what the clock of its lease reads.
    """

    unfit: str = ""
    clock_ms: int = 0


@dataclass(frozen=True, slots=True)
class ShardReport:
    """What became of a shard that was started at ``epoch``, or what its leader proposes."""

    dataset: str
    shard: int
    epoch: int
    event: ShardEvent | InSyncProposed


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """What to start as a node: the class is imported by its path, in the node's own process only.

    The class is called as ``cls(name=…, incarnation=…, config=ServerConfig, port=…, gateway_keys=…)`` and follows
    NodeOrders. ``gateway_keys``: of those whom an encrypted node may answer, and as whom it asks others.
    """

    class_path: str = "filoray.nodes.host.node.Node"


class NodeOrders(Protocol):
    """The methods of a node. All may be called again with the same arguments without harm."""

    def start(self) -> NodeAnnouncement:
        """Listen; returns when requests would be answered. Raises what kept it from that."""

    def announce(self) -> NodeAnnouncement: ...

    def start_shards(self, config: DatasetConfig, shards: Sequence[ShardEpoch], opened: Sequence[int]) -> None:
        """Open those shards in the background and report how it goes. Returns at once.

        ``opened``: those that were Active before; what they stored must be there, or they are in Error.
        """

    def follow_shards(self, config: DatasetConfig, shards: Sequence[FollowedShard]) -> None:
        """Have copies of those shards, as the leaders at these epochs make them. Returns at once."""

    def drop_copies(self, dataset: str, generation: int, shards: Sequence[FollowedShard]) -> None:
        """Close those copies, if they were not ordered later, and delete their files; returns when that is done."""

    def tell_copies(self, dataset: str, copies: Sequence[ShardCopies], peers: Sequence[Peer]) -> None:
        """To the leader of those shards: which copies there are. ``peers``: those of their nodes that are members."""

    def stop_shards(self, dataset: str, shards: Sequence[ShardEpoch]) -> None:
        """Flush and close those that are held at that epoch; returns when that is done."""

    def delete_shards(self, dataset: str, generation: int, shards: Sequence[int]) -> None:
        """Close what is open of that generation and delete its files of those shards; returns when that is done."""

    def heartbeat(self, grant: LeaseGrant, coordinator: str) -> HeartbeatAnswer:
        """``coordinator``: the name of the one that asks, to which reports go from now on."""

    def wait_until_death(self) -> None:
        """Never returns."""

    def shutdown(self) -> None:
        """Flush and close everything, stop listening."""
