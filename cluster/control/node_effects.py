"""What a node can do: the NodeCore's effects, each to be carried out in the order in which they come.

What takes time ends in an event, which each names here. None may be carried out later than one that follows it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from filoray.cluster.config.dataset import DatasetConfig
from filoray.cluster.control.copy_set import CopySet
from filoray.cluster.control.node_events import OpeningId, RequestId, SlotKey
from filoray.cluster.control.shard_status import ShardEvent
from filoray.cluster.node_protocol import Peer


@dataclass(frozen=True, slots=True)
class OpenShard:
    """Open it when there is a thread for it: ends in Opened, OpeningFailed, or as EndOpening says.

    On the way OpeningProgressed and OpeningOverdue. ``was_open``: here or elsewhere, so what it stored must be there.

    ``is_follower``: it is to be a copy. What is stored of it is not opened before its leader asks for that: Opened at
    once, and whatever the leader sends for that epoch is taken from then on.
    """

    config: DatasetConfig
    shard: int
    epoch: int
    opening: OpeningId
    was_open: bool
    is_follower: bool = False

    @property
    def key(self) -> SlotKey:
        return self.config.name, self.shard


@dataclass(frozen=True, slots=True)
class AbandonOpening:
    """Take the shard from it if it waits for its source at this moment: OpeningAbandoned; else nothing happens."""

    key: SlotKey
    opening: OpeningId


@dataclass(frozen=True, slots=True)
class EndOpening:
    """It is wanted no more: it must not wait for its source again, and is abandoned if it does or has not begun.

    Ends in OpeningAbandoned, OpeningEnded, Opened or OpeningFailed.
    """

    key: SlotKey
    opening: OpeningId


@dataclass(frozen=True, slots=True)
class PromoteShard:
    """The copy that opening has is to lead from now on, at ``epoch``, as it is: ends in Opened or OpeningFailed.

    Nothing that its leader sends is taken any more. If no copy is open there, what is stored is opened.
    """

    key: SlotKey
    opening: OpeningId
    epoch: int
    was_open: bool


@dataclass(frozen=True, slots=True)
class TellCopies:
    """The shard, which is served, has these copies. ``peers``: where their nodes are."""

    key: SlotKey
    opening: OpeningId
    copies: CopySet
    peers: tuple[Peer, ...]


@dataclass(frozen=True, slots=True)
class ServeShard:
    """What that opening opened takes writes and answers queries from now on, and its source is followed."""

    key: SlotKey
    opening: OpeningId
    epoch: int


@dataclass(frozen=True, slots=True)
class CloseShard:
    """Whatever that opening opened, in part or whole, after what was written is stored: ends in Closed."""

    key: SlotKey
    opening: OpeningId


@dataclass(frozen=True, slots=True)
class DeleteFiles:
    """Of shards that are closed: ends in FilesDeleted. ``own_only``: this node's copies, and nobody else's files."""

    request: RequestId
    dataset: str
    generation: int
    shards: tuple[int, ...]
    own_only: bool = False


@dataclass(frozen=True, slots=True)
class FlushTurn:
    """``is_retry``: its last flush failed, so that it is to be told if a step goes well, also if none was due."""

    key: SlotKey
    opening: OpeningId
    is_retry: bool = False


@dataclass(frozen=True, slots=True)
class FlushInTurn:
    """From now on, one step of the first of these that has one due: FlushStepped if more is, FlushFailed."""

    turns: tuple[FlushTurn, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """Tell the coordinator what became of a shard."""

    key: SlotKey
    epoch: int
    event: ShardEvent


@dataclass(frozen=True, slots=True)
class AnswerRequest:
    """It is done, or not all of it could be: ``problem``."""

    request: RequestId
    problem: str = ""


@dataclass(frozen=True, slots=True)
class WakeAt:
    """A Tick at that time; one that was asked for earlier, for a later time, is not needed any more."""

    at_ms: int


@dataclass(frozen=True, slots=True)
class Note:
    """For the log: what goes wrong with a shard and what is done about it. ``level``: of ``logging``."""

    key: SlotKey
    text: str
    level: int = logging.WARNING


NodeEffect = (
    OpenShard
    | PromoteShard
    | TellCopies
    | AbandonOpening
    | EndOpening
    | ServeShard
    | CloseShard
    | DeleteFiles
    | FlushInTurn
    | Report
    | AnswerRequest
    | WakeAt
    | Note
)
