"""All that can happen to a coordinator: what goes into the CoordinatorCore.

Three kinds: what others ask of it or tell it (operators, nodes, gateways, the launcher), what became of an effect
(``coordinator_dispatcher.py`` has the table), and what it wanted to be reminded of.

Each event has the id of its cause. One that comes from outside has none yet and is given one by the core; whatever
follows from it, over any number of effects and reminders, keeps it, so that the log can be read by cause.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from filoray.cluster.config.dataset import DatasetConfig
from filoray.cluster.control.machine_placement import Machine
from filoray.cluster.control.shard_messages import (
    DeleteShards,
    DropCopies,
    FollowShards,
    StartShards,
    StopShards,
    TellCopies,
)
from filoray.cluster.errors import FilorayError
from filoray.cluster.node_protocol import HeartbeatAnswer, NodeAnnouncement, ShardReport

RequestId = int
"""Whoever asks and waits for an answer gives one, from 1, to be used once."""

ShardOrder = StartShards | FollowShards | DropCopies | TellCopies | StopShards | DeleteShards


@dataclass(frozen=True, slots=True)
class Moment:
    """``observed_ms``: what silence is measured by; time in which this process did not run is not in it.

    ``calendar_ms``: for people. ``absent_ms``: how much was not counted so far.
    """

    observed_ms: int
    calendar_ms: int
    absent_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CoordinatorEvent:
    cause: str = field(default="", compare=False)


# ---- asked and told


@dataclass(frozen=True, slots=True)
class Started(CoordinatorEvent):
    """The coordinator begins: adopt what lives, launch what does not."""


@dataclass(frozen=True, slots=True)
class SetUpOrdered(CoordinatorEvent):
    """Answered when the dataset's shards are Active and every gateway knows, or after some seconds."""

    request: RequestId
    dataset: str
    text: str


@dataclass(frozen=True, slots=True)
class DeletionOrdered(CoordinatorEvent):
    """Answered when all files of the dataset are gone. Again while they are not gone yet, it waits for that."""

    request: RequestId
    dataset: str


@dataclass(frozen=True, slots=True)
class StartOrdered(CoordinatorEvent):
    """Unowned shards are to go to the node at ``address`` (its FiloDB form)."""

    request: RequestId
    dataset: str
    address: str
    shards: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class StopOrdered(CoordinatorEvent):
    """Shards are to be taken from their owners; answered when those have closed them."""

    request: RequestId
    dataset: str
    shards: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class MoveOrdered(CoordinatorEvent):
    """Shards are to go to a node, by name or by ``akka://`` address; answered when they are Active there."""

    request: RequestId
    dataset: str
    node: str
    shards: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class DrainOrdered(CoordinatorEvent):
    """A node is to have no shards; answered when that is durable. Its shards then move one after the other."""

    request: RequestId
    node: str


@dataclass(frozen=True, slots=True)
class UndrainOrdered(CoordinatorEvent):
    """A node may have shards again."""

    request: RequestId
    node: str


@dataclass(frozen=True, slots=True)
class RollingRestartOrdered(CoordinatorEvent):
    """Every node is to be drained, replaced and refilled, one after the other; answered when that is durable."""

    request: RequestId


@dataclass(frozen=True, slots=True)
class ScaleOrdered(CoordinatorEvent):
    """There are to be so many nodes; answered when that is durable. Those that are too many are emptied first."""

    request: RequestId
    count: int


@dataclass(frozen=True, slots=True)
class ViewAsked(CoordinatorEvent):
    """Answered with the present view; after a restart only when it is known who lives.

    ``subscriber``: the gateway that wants later views too, or "".
    """

    request: RequestId
    subscriber: str = ""


@dataclass(frozen=True, slots=True)
class ReadyAsked(CoordinatorEvent):
    """Answered with a ReadyReport when nothing more becomes of any shard, or will for now."""

    request: RequestId


@dataclass(frozen=True, slots=True)
class ShutdownOrdered(CoordinatorEvent):
    """Every node is to flush, close and end; answered when that is done, the last thing that this coordinator does."""

    request: RequestId


@dataclass(frozen=True, slots=True)
class ShardsReported(CoordinatorEvent):
    """A node says what became of its shards, in order."""

    node: str
    incarnation: int
    reports: Sequence[ShardReport]


# ---- what became of an effect


@dataclass(frozen=True, slots=True)
class SourceConfigRead(CoordinatorEvent):
    request: RequestId
    config: DatasetConfig


@dataclass(frozen=True, slots=True)
class SourceConfigRefused(CoordinatorEvent):
    request: RequestId
    error: FilorayError


@dataclass(frozen=True, slots=True)
class NodeAnswered(CoordinatorEvent):
    """A launched node is up, or one that is to be adopted lives. ``pid_started_s``: None if it is elsewhere."""

    announcement: NodeAnnouncement
    pid_started_s: float | None


@dataclass(frozen=True, slots=True)
class NodeAbsent(CoordinatorEvent):
    """A launched node did not come up, or one that was to be adopted was not there."""

    node: str
    incarnation: int
    problem: str


@dataclass(frozen=True, slots=True)
class HeartbeatHeard(CoordinatorEvent):
    node: str
    incarnation: int
    answer: HeartbeatAnswer


@dataclass(frozen=True, slots=True)
class HeartbeatMissed(CoordinatorEvent):
    node: str
    incarnation: int
    problem: str


@dataclass(frozen=True, slots=True)
class NodeDied(CoordinatorEvent):
    node: str
    incarnation: int
    obituary: str


@dataclass(frozen=True, slots=True)
class WatchFailed(CoordinatorEvent):
    """Which says nothing of the node."""

    node: str
    incarnation: int
    problem: str


@dataclass(frozen=True, slots=True)
class NodeKilled(CoordinatorEvent):
    """All was done to end its process; ``is_seen``: and it was seen to have ended."""

    node: str
    incarnation: int
    is_seen: bool


@dataclass(frozen=True, slots=True)
class KillFailed(CoordinatorEvent):
    node: str
    incarnation: int
    problem: str


@dataclass(frozen=True, slots=True)
class NodeClosed(CoordinatorEvent):
    """A node was told to flush and close. ``problem``: why it is not known to have done so, or ""."""

    node: str
    incarnation: int
    problem: str = ""


@dataclass(frozen=True, slots=True)
class MachinesSeen(CoordinatorEvent):
    """Those of this Ray that can be reached. ``here``: the id of the coordinator's own."""

    machines: tuple[Machine, ...]
    here: str


@dataclass(frozen=True, slots=True)
class MachinesUnknown(CoordinatorEvent):
    problem: str


@dataclass(frozen=True, slots=True)
class GatewayPlaced(CoordinatorEvent):
    """It is on the machine where it was to be."""

    gateway: str


@dataclass(frozen=True, slots=True)
class GatewayNotPlaced(CoordinatorEvent):
    gateway: str
    problem: str


@dataclass(frozen=True, slots=True)
class StandbyPlaced(CoordinatorEvent):
    """``problem``: why it is not known to be on that machine, or ""."""

    machine: str
    problem: str = ""


@dataclass(frozen=True, slots=True)
class OrderDone(CoordinatorEvent):
    order: ShardOrder


@dataclass(frozen=True, slots=True)
class OrderFailed(CoordinatorEvent):
    """Whether it was carried out is not known."""

    order: ShardOrder
    problem: str


@dataclass(frozen=True, slots=True)
class ViewTaken(CoordinatorEvent):
    gateway: str
    version: int


@dataclass(frozen=True, slots=True)
class ViewRefused(CoordinatorEvent):
    """A gateway did not say that it took the view."""

    gateway: str
    version: int
    problem: str


@dataclass(frozen=True, slots=True)
class MembersTold(CoordinatorEvent):
    """The seed discovery was told the members. ``problem``: why it is not known to have taken them, or ""."""

    problem: str = ""


@dataclass(frozen=True, slots=True)
class StoreFailed(CoordinatorEvent):
    """Something that must be durable is not: what this coordinator has in memory is ahead of its store."""

    problem: str


# ---- reminders


@dataclass(frozen=True, slots=True)
class Ticked(CoordinatorEvent):
    """Time passed."""


@dataclass(frozen=True, slots=True)
class PublishDue(CoordinatorEvent):
    """All that changed at once has changed."""


@dataclass(frozen=True, slots=True)
class GatewayDue(CoordinatorEvent):
    """A gateway that took no view may be asked again."""

    gateway: str


@dataclass(frozen=True, slots=True)
class LookDue(CoordinatorEvent):
    """Machines may have come or gone."""


@dataclass(frozen=True, slots=True)
class NodeMisplaced(CoordinatorEvent):
    """It is to move to the machine at ``address``, as that makes nodes more even."""

    node: str
    incarnation: int
    address: str


@dataclass(frozen=True, slots=True)
class PlacingDue(CoordinatorEvent):
    """A gateway that could not be put beside its node may be tried again."""

    gateway: str


@dataclass(frozen=True, slots=True)
class HeartbeatDue(CoordinatorEvent):
    node: str
    incarnation: int


@dataclass(frozen=True, slots=True)
class WatchDue(CoordinatorEvent):
    node: str
    incarnation: int


@dataclass(frozen=True, slots=True)
class KillDue(CoordinatorEvent):
    node: str
    incarnation: int


@dataclass(frozen=True, slots=True)
class OrderDue(CoordinatorEvent):
    """An order that failed may be given again."""

    order: ShardOrder


@dataclass(frozen=True, slots=True)
class PatienceEnded(CoordinatorEvent):
    """A request has waited long enough for the ``wait``-th thing it waits for."""

    request: RequestId
    wait: int
