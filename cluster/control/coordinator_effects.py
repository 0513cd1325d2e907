"""All that a coordinator can do: what comes out of the CoordinatorCore.

The dispatcher carries effects out in the order given. A ``Persist`` is durable before the next one is looked at, which
is what makes an epoch durable before a node hears of it. Those of ``Call`` take time: each ends in one event, or
fails in one (``coordinator_dispatcher.py`` has the table). Each effect has the id of what caused it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from filoray.cluster.cluster_view import ClusterView
from filoray.cluster.config.dataset import DatasetConfig
from filoray.cluster.control.coordinator_events import CoordinatorEvent, RequestId, ShardOrder
from filoray.cluster.control.launch_report import ReadyReport
from filoray.cluster.control.machine_placement import Machine
from filoray.cluster.control.membership import PersistIncarnation
from filoray.cluster.control.shard_messages import ForgetDataset, PersistDataset, PersistDrained, PersistShardMap
from filoray.cluster.data_plane_keys import KeyPair
from filoray.cluster.errors import FilorayError
from filoray.cluster.node_protocol import HeartbeatAnswer, LeaseGrant, NodeAnnouncement, NodeProcessId, Peer


@dataclass(frozen=True, slots=True, kw_only=True)
class CoordinatorEffect:
    cause: str = field(default="", compare=False)


# ---- what must be durable


@dataclass(frozen=True, slots=True)
class PersistProcess:
    """Remember the process of the node's last incarnation; without ``pid``: that it is gone."""

    node: str
    pid: int | None = None
    pid_started_s: float | None = None


@dataclass(frozen=True, slots=True)
class PersistOpened:
    """Remember of (dataset, shard) the generation in which it was Active."""

    generations: Mapping[tuple[str, int], int]


@dataclass(frozen=True, slots=True)
class PersistRestart:
    """Remember which node processes a rolling restart has still to replace; none: no restart is under way."""

    left: tuple[NodeProcessId, ...]


@dataclass(frozen=True, slots=True)
class PersistNodeCount:
    """Remember how many nodes there are to be, whatever the launch said."""

    count: int


@dataclass(frozen=True, slots=True)
class PersistMachine:
    """Remember the address of the machine that the node is on for good; "": it has none any more."""

    node: str
    address: str


Durable = (
    PersistDataset
    | ForgetDataset
    | PersistDrained
    | PersistShardMap
    | PersistIncarnation
    | PersistProcess
    | PersistOpened
    | PersistRestart
    | PersistNodeCount
    | PersistMachine
)


@dataclass(frozen=True, slots=True)
class Persist(CoordinatorEffect):
    what: Durable


# ---- what takes time


@dataclass(frozen=True, slots=True)
class LaunchProcess(CoordinatorEffect):
    """``machine``: the id of the one it must run on; "": where the cluster was launched."""

    node: str
    incarnation: int
    port: int
    gateway_keys: KeyPair
    timeout_ms: int
    machine: str = ""


@dataclass(frozen=True, slots=True)
class AdoptProcess(CoordinatorEffect):
    """Ask a node that lived when the last coordinator ended to announce itself again."""

    node: str
    incarnation: int
    timeout_ms: int


@dataclass(frozen=True, slots=True)
class WatchProcess(CoordinatorEffect):
    """Ends with the process."""

    node: str
    incarnation: int


@dataclass(frozen=True, slots=True)
class SendHeartbeat(CoordinatorEffect):
    node: str
    incarnation: int
    grant: LeaseGrant
    timeout_ms: int


@dataclass(frozen=True, slots=True)
class KillProcess(CoordinatorEffect):
    """``pid`` and ``pid_started_s``: what is known of it; None: it never announced itself, or runs elsewhere."""

    node: str
    incarnation: int
    pid: int | None
    pid_started_s: float | None


@dataclass(frozen=True, slots=True)
class CloseNode(CoordinatorEffect):
    """Have it flush and close everything."""

    node: str
    incarnation: int
    timeout_ms: int


@dataclass(frozen=True, slots=True)
class GiveOrder(CoordinatorEffect):
    """``opened``: those of the shards to start that were Active before in this generation.

    ``peers``: of an order that tells of copies, where the nodes are that have them.
    """

    order: ShardOrder
    opened: tuple[int, ...] = ()
    peers: tuple[Peer, ...] = ()


@dataclass(frozen=True, slots=True)
class PushView(CoordinatorEffect):
    gateway: str
    view: ClusterView
    timeout_ms: int


@dataclass(frozen=True, slots=True)
class TellMembers(CoordinatorEffect):
    """To the seed discovery."""

    addresses: tuple[str, ...]
    timeout_ms: int


@dataclass(frozen=True, slots=True)
class LookAtMachines(CoordinatorEffect):
    """Which machines of this Ray are there, and can be reached."""

    timeout_ms: int


@dataclass(frozen=True, slots=True)
class PlaceGateway(CoordinatorEffect):
    """Make sure that it is on the machine of that id: one that is elsewhere ends, one that is nowhere is made."""

    gateway: str
    machine: str


@dataclass(frozen=True, slots=True)
class PlaceStandby(CoordinatorEffect):
    """Make sure that the other coordinator, which stands by, is on the machine of that id."""

    machine: str


@dataclass(frozen=True, slots=True)
class ReadSourceConfig(CoordinatorEffect):
    """Texts come from anybody and may take long to read."""

    request: RequestId
    dataset: str
    text: str


Call = (
    LaunchProcess
    | AdoptProcess
    | WatchProcess
    | SendHeartbeat
    | KillProcess
    | CloseNode
    | GiveOrder
    | PushView
    | TellMembers
    | LookAtMachines
    | PlaceGateway
    | PlaceStandby
    | ReadSourceConfig
)


@dataclass(frozen=True, slots=True)
class NodeProcess:
    """What a launch or an adoption ends with."""

    announcement: NodeAnnouncement
    pid_started_s: float | None


@dataclass(frozen=True, slots=True)
class MachineList:
    """What a look at the machines ends with. ``here``: the id of the one that looks."""

    machines: tuple[Machine, ...]
    here: str


CallResult = NodeProcess | HeartbeatAnswer | DatasetConfig | MachineList | str | bool | None


# ---- what is done at once


@dataclass(frozen=True, slots=True)
class Remind(CoordinatorEffect):
    """Give ``event`` back after ``delay_ms``; after 0, when what is being worked on is done."""

    delay_ms: int
    event: CoordinatorEvent


AnswerValue = ClusterView | ReadyReport | None


@dataclass(frozen=True, slots=True)
class Answer(CoordinatorEffect):
    request: RequestId
    value: AnswerValue = None


@dataclass(frozen=True, slots=True)
class Refuse(CoordinatorEffect):
    request: RequestId
    error: FilorayError


@dataclass(frozen=True, slots=True)
class Say(CoordinatorEffect):
    """A line for the log: ``text`` has %-places for ``values``, which are put in only where somebody reads it."""

    text: str
    values: tuple[object, ...] = ()
    level: int = logging.INFO


@dataclass(frozen=True, slots=True)
class Retire(CoordinatorEffect):
    """All is done: take no more events."""


@dataclass(frozen=True, slots=True)
class EndProcess(CoordinatorEffect):
    """At once, to be started anew from what is durable."""

    problem: str


Effect = Persist | Call | Remind | Answer | Refuse | Say | Retire | EndProcess
