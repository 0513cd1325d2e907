"""What can happen to a node: the NodeCore's events.

Orders name the request that waits to be answered; what an opening, or the shard that it opened, has to say names the
opening, so that the word of a former one is known for what it is.
"""

from __future__ import annotations

from dataclasses import dataclass

from filoray.cluster.config.dataset import DatasetConfig
from filoray.cluster.control.copy_set import FollowedShard, ShardCopies
from filoray.cluster.node_protocol import Peer, ShardEpoch

SlotKey = tuple[str, int]
"""(dataset, shard)."""

RequestId = int
OpeningId = int
"""Grows from one opening of this node to the next, and is never used twice."""


# ---- orders


@dataclass(frozen=True, slots=True)
class StartOrdered:
    """``opened``: the shards that were open before, here or elsewhere: what they stored must be there."""

    request: RequestId
    config: DatasetConfig
    shards: tuple[ShardEpoch, ...]
    opened: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class FollowOrdered:
    """Have copies of the shards, as the leaders at these epochs make them."""

    request: RequestId
    config: DatasetConfig
    shards: tuple[FollowedShard, ...]


@dataclass(frozen=True, slots=True)
class DropOrdered:
    """Close the copies that were ordered before that, and delete their files here."""

    request: RequestId
    dataset: str
    generation: int
    shards: tuple[FollowedShard, ...]


@dataclass(frozen=True, slots=True)
class TellCopiesOrdered:
    """Of shards that this node leads at those epochs. ``peers``: their followers' nodes, those that are there."""

    request: RequestId
    dataset: str
    copies: tuple[ShardCopies, ...]
    peers: tuple[Peer, ...]


@dataclass(frozen=True, slots=True)
class StopOrdered:
    """Close those that are held at that epoch."""

    request: RequestId
    dataset: str
    shards: tuple[ShardEpoch, ...]


@dataclass(frozen=True, slots=True)
class DeleteOrdered:
    """Close what is held of that generation and delete its files, of held shards and others."""

    request: RequestId
    dataset: str
    generation: int
    shards: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ShutdownOrdered:
    """Close everything, and open nothing any more."""

    request: RequestId


# ---- openings


@dataclass(frozen=True, slots=True)
class OpeningProgressed:
    """``progress_pct``: 0..100, of what there is to recover."""

    key: SlotKey
    opening: OpeningId
    progress_pct: int


@dataclass(frozen=True, slots=True)
class Opened:
    key: SlotKey
    opening: OpeningId


@dataclass(frozen=True, slots=True)
class OpeningFailed:
    """``stored_epoch``: the higher epoch that the shard's store has, if that is why."""

    key: SlotKey
    opening: OpeningId
    reason: str
    stored_epoch: int = 0


@dataclass(frozen=True, slots=True)
class OpeningOverdue:
    """It has been waiting for one answer of its source for longer than it may."""

    key: SlotKey
    opening: OpeningId


@dataclass(frozen=True, slots=True)
class OpeningAbandoned:
    """The shard was taken from it. ``is_hanging``: its thread still waits for the source; else it had not begun."""

    key: SlotKey
    opening: OpeningId
    is_hanging: bool


@dataclass(frozen=True, slots=True)
class OpeningEnded:
    """It saw that it is wanted no more, and has closed what it had opened."""

    key: SlotKey
    opening: OpeningId


@dataclass(frozen=True, slots=True)
class OpeningCameBack:
    """The thread of an abandoned one."""

    key: SlotKey
    opening: OpeningId


# ---- shards, each by the opening that opened it


@dataclass(frozen=True, slots=True)
class SourceFailed:
    """The shard stays open; its source is tried again."""

    key: SlotKey
    opening: OpeningId
    reason: str


@dataclass(frozen=True, slots=True)
class SourceWentOn:
    key: SlotKey
    opening: OpeningId


@dataclass(frozen=True, slots=True)
class StoreDoubted:
    """Nobody knows what the shard's store has, or where it is."""

    key: SlotKey
    opening: OpeningId
    reason: str


@dataclass(frozen=True, slots=True)
class FlushStepped:
    """A step of flushing was done, or none was due. ``is_more_due``: at once."""

    key: SlotKey
    opening: OpeningId
    is_more_due: bool


@dataclass(frozen=True, slots=True)
class FlushFailed:
    key: SlotKey
    opening: OpeningId
    reason: str


@dataclass(frozen=True, slots=True)
class Closed:
    """Nothing of the shard is open any more. ``problem``: what closing it met, or ""."""

    key: SlotKey
    opening: OpeningId
    problem: str = ""


# ---- files and time


@dataclass(frozen=True, slots=True)
class FilesDeleted:
    """What the request asked to delete is gone, or not all of it: ``problem``."""

    request: RequestId
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


Order = StartOrdered | FollowOrdered | DropOrdered | TellCopiesOrdered | StopOrdered | DeleteOrdered | ShutdownOrdered
OpeningsWord = OpeningProgressed | Opened | OpeningFailed | OpeningOverdue | OpeningAbandoned | OpeningEnded
ShardsWord = SourceFailed | SourceWentOn | StoreDoubted | FlushStepped | FlushFailed | Closed
NodeEvent = Order | OpeningsWord | OpeningCameBack | ShardsWord | FilesDeleted | Tick
