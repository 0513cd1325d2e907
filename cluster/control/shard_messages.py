"""What goes into the ShardManager (events) and what comes out of it (commands).

Commands are carried out in the order given: a Persist command must be durable before the next is looked at, which is
what makes an epoch durable before a node hears of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from filoray.cluster.config.dataset import DatasetConfig
from filoray.cluster.control.copy_set import FollowedShard, ShardCopies
from filoray.cluster.control.shard_map import ShardMap
from filoray.cluster.node_protocol import HeldShard, ShardEpoch, ShardReport, StoredCopies


@dataclass(frozen=True, slots=True)
class DatasetSetUp:
    """An operator sets up a dataset. Refused with DatasetExists, or Unavailable while an old one is being deleted."""

    config: DatasetConfig


@dataclass(frozen=True, slots=True)
class DatasetDeleted:
    """An operator removes a dataset with its data. Refused with DatasetUnknown."""

    dataset: str


@dataclass(frozen=True, slots=True)
class ShardsDeleted:
    """A node removed the files that it was told to."""

    node: str
    incarnation: int
    dataset: str
    generation: int = 0


@dataclass(frozen=True, slots=True)
class ShardsReleased:
    """A node that was told to stop those shards holds them no more at those epochs."""

    node: str
    incarnation: int
    dataset: str
    shards: tuple[ShardEpoch, ...]


@dataclass(frozen=True, slots=True)
class MemberJoined:
    """A node is up, or is still there after the coordinator itself came back. ``held``: what it says it holds.

    ``machine``: the address of its machine. ``stored``: the copies that it found there, where that is its own.
    """

    node: str
    incarnation: int
    held: tuple[HeldShard, ...] = ()
    machine: str = ""
    stored: tuple[StoredCopies, ...] = ()


@dataclass(frozen=True, slots=True)
class MembersJoined:
    """Nodes that join at one moment, so that shards spread over all of them."""

    members: tuple[MemberJoined, ...]


@dataclass(frozen=True, slots=True)
class MemberLost:
    """A node is taken for dead. Its process may still run, so its shards stay where they are until MemberGone."""

    node: str
    incarnation: int
    cause: str


@dataclass(frozen=True, slots=True)
class MemberGone:
    """The process of a lost node certainly ended: its shards may be handed on."""

    node: str
    incarnation: int


@dataclass(frozen=True, slots=True)
class ShardReported:
    """A node says what became of a shard it was given."""

    node: str
    incarnation: int
    report: ShardReport


@dataclass(frozen=True, slots=True)
class ShardsStarted:
    """An operator gives unowned shards to a node. Refused all or nothing: with BadData, or with Unavailable while a

    former owner may still hold one.
    """

    dataset: str
    node: str
    shards: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ShardsStopped:
    """An operator takes shards from their owners. Refused with BadData, all or nothing."""

    dataset: str
    shards: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ShardsMoved:
    """An operator has shards go to another node, wherever they are. Refused all or nothing, with BadData."""

    dataset: str
    node: str
    shards: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class NodeDrained:
    """A node is to have no shards. Refused with BadData if there is no room for them elsewhere.

    ``keeps_copies``: it will be back soon, so that copies which do not lead stay on it.
    """

    node: str
    keeps_copies: bool = False


@dataclass(frozen=True, slots=True)
class NodeUndrained:
    """A node may have shards again."""

    node: str


@dataclass(frozen=True, slots=True)
class SpreadDue:
    """Shards may be moved so that the map becomes even, and drained nodes empty: at most ``moves_max`` at once.

    ``evens_out``: the former too; else only drained nodes are made empty. ``now_ms``: by a clock that only goes on.
    ``warm_up_ms``: for how long a node may follow a shard that moves there before it is handed over without that.
    """

    moves_max: int
    evens_out: bool = True
    now_ms: int = 0
    warm_up_ms: int = 30_000


ManagerEvent = (
    DatasetSetUp
    | DatasetDeleted
    | ShardsDeleted
    | ShardsReleased
    | MembersJoined
    | MemberLost
    | MemberGone
    | ShardReported
    | ShardsStarted
    | ShardsStopped
    | ShardsMoved
    | NodeDrained
    | NodeUndrained
    | SpreadDue
)


@dataclass(frozen=True, slots=True)
class PersistDataset:
    """Remember the dataset; ``is_deleting``: its files are still to be removed."""

    config: DatasetConfig
    is_deleting: bool = False


@dataclass(frozen=True, slots=True)
class ForgetDataset:
    """Nothing is left of the dataset but its epochs, which must never be used again."""

    dataset: str


@dataclass(frozen=True, slots=True)
class PersistDrained:
    """Remember that the node is to have no shards, or that it may have some again."""

    node: str
    is_drained: bool


@dataclass(frozen=True, slots=True)
class PersistShardMap:
    """Remember owners and epochs."""

    shard_map: ShardMap


@dataclass(frozen=True, slots=True)
class StartShards:
    node: str
    incarnation: int
    config: DatasetConfig
    shards: tuple[ShardEpoch, ...]


@dataclass(frozen=True, slots=True)
class FollowShards:
    """The node is to have copies of those shards, as the leaders at these epochs make them."""

    node: str
    incarnation: int
    config: DatasetConfig
    shards: tuple[FollowedShard, ...]


@dataclass(frozen=True, slots=True)
class DropCopies:
    """The node is to close its copies of those shards and delete their files; not what it was told to have later."""

    node: str
    incarnation: int
    dataset: str
    shards: tuple[FollowedShard, ...]
    generation: int


@dataclass(frozen=True, slots=True)
class TellCopies:
    """To the leader of those shards: which copies there are now, and who is in sync."""

    node: str
    incarnation: int
    dataset: str
    copies: tuple[ShardCopies, ...]


@dataclass(frozen=True, slots=True)
class StopShards:
    """The shell answers with ShardsReleased when the node did it."""

    node: str
    incarnation: int
    dataset: str
    shards: tuple[ShardEpoch, ...]


@dataclass(frozen=True, slots=True)
class DeleteShards:
    """The shell answers with ShardsDeleted when the node did it."""

    node: str
    incarnation: int
    dataset: str
    shards: tuple[int, ...]
    generation: int = 0


@dataclass(frozen=True, slots=True)
class PublishShardMap:
    """Tell the gateways. ``shard_map`` None: the dataset is no more."""

    dataset: str
    shard_map: ShardMap | None


ManagerCommand = (
    PersistDataset
    | ForgetDataset
    | PersistDrained
    | PersistShardMap
    | StartShards
    | FollowShards
    | DropCopies
    | TellCopies
    | StopShards
    | DeleteShards
    | PublishShardMap
)


@dataclass(frozen=True, slots=True)
class StoryLine:
    """One thing that happened to a shard, and why. ``cause``: the id by which the log tells of the same."""

    at_ms: int
    text: str
    cause: str = field(default="", compare=False)
