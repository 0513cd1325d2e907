"""What a gateway needs to route: the members and every dataset's shard map, at one moment.

The coordinator pushes one after each change; a gateway keeps the newest (by ``version``) and goes on with it while the
coordinator is away. Picklable: it travels over Ray.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from filoray.cluster.addresses import NodeAddress
from filoray.cluster.config.dataset import DatasetConfig
from filoray.cluster.control.shard_map import ShardMap
from filoray.cluster.data_plane_keys import KeyPair


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """A living member. ``name`` is its slot ("node-0"), ``incarnation`` grows with each new process in that slot.

    ``public_key``: that of its socket, which is at ``address``; or ``endpoint``: the private one of its machine.

    ``is_drained``: it is to have no shards.
    """

    name: str
    incarnation: int
    address: NodeAddress
    actor_name: str
    pid: int
    public_key: bytes = b""
    endpoint: str = ""
    is_drained: bool = False


@dataclass(frozen=True, slots=True)
class DatasetView:
    config: DatasetConfig
    shard_map: ShardMap


@dataclass(frozen=True, slots=True)
class ClusterView:
    """``version`` grows with every change, over restarts of the coordinator too.

    ``gateway_keys``: what a gateway proves to an encrypted node with that it is one. ``gateways``: the names of all.
    """

    version: int
    nodes: Mapping[str, NodeInfo] = field(default_factory=dict)
    datasets: Mapping[str, DatasetView] = field(default_factory=dict)
    gateway_keys: KeyPair | None = None
    gateways: tuple[str, ...] = ()


_NUMBER_SHIFT = 32


def first_version(number: int) -> int:
    """Of the views of the coordinator of that number (its generation): higher than any of one before."""
    return number << _NUMBER_SHIFT


def newest_view(held: ClusterView, offered: ClusterView) -> ClusterView:
    """What a gateway that is offered a view goes by: views may overtake each other, and an older one is ignored."""
    return offered if offered.version > held.version else held
