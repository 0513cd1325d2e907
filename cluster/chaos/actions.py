"""What a step of a scenario can do, one record each. ``language.py`` has how it is written, ``worlds.py`` who plays it.

Nodes and gateways are named by index. An action on shards has its data set with it: the last that was named before.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from filoray.cluster.actor_names import COORDINATOR, SEED_DISCOVERY, gateway_name, node_name
from filoray.cluster.control.shard_status import StatusKind


class Part(Enum):
    NODE = "node"
    GATEWAY = "gateway"
    COORDINATOR = "coordinator"
    SEED = "seed"
    RAYLET = "raylet"


@dataclass(frozen=True, slots=True)
class Target:
    """A process of the cluster. ``index``: of nodes and gateways."""

    part: Part
    index: int = 0

    @property
    def actor(self) -> str:
        """Its name among the cluster's processes."""
        match self.part:
            case Part.NODE:
                return node_name(self.index)
            case Part.GATEWAY:
                return gateway_name(self.index)
            case Part.COORDINATOR:
                return COORDINATOR
            case Part.SEED:
                return SEED_DISCOVERY
            case Part.RAYLET:
                return "raylet"

    def __str__(self) -> str:
        is_one_of_many = self.part in (Part.NODE, Part.GATEWAY)
        return f"{self.part.value} {self.index}" if is_one_of_many else self.part.value


# ---- faults


@dataclass(frozen=True, slots=True)
class Kill:
    target: Target


@dataclass(frozen=True, slots=True)
class Hang:
    target: Target


@dataclass(frozen=True, slots=True)
class Resume:
    target: Target


class Direction(Enum):
    BOTH = "both"
    FROM_TARGET = "from the target"
    TO_TARGET = "to the target"


@dataclass(frozen=True, slots=True)
class Cut:
    """The machine of a node or gateway from the coordinator. ``lost``: which messages do not arrive."""

    target: Target
    lost: Direction = Direction.BOTH


@dataclass(frozen=True, slots=True)
class Heal:
    target: Target


@dataclass(frozen=True, slots=True)
class SlowLinks:
    """Each message takes up to ``latency_ms``."""

    latency_ms: int


@dataclass(frozen=True, slots=True)
class RestoreLinks:
    pass


@dataclass(frozen=True, slots=True)
class FillDisk:
    pass


@dataclass(frozen=True, slots=True)
class FreeDisk:
    pass


@dataclass(frozen=True, slots=True)
class SlowDisk:
    """Each write to a disk takes up to ``delay_ms`` longer."""

    delay_ms: int


@dataclass(frozen=True, slots=True)
class RestoreDisk:
    pass


@dataclass(frozen=True, slots=True)
class LoseDisk:
    """The node's process ends, and all copies of shards that it has are gone."""

    node: int


@dataclass(frozen=True, slots=True)
class JumpClock:
    """The calendar of all machines is set that far ahead of the right time; below 0: behind it."""

    ahead_ms: int


Fault: TypeAlias = Kill | Hang | Cut | SlowLinks | FillDisk | SlowDisk | LoseDisk | JumpClock
Remedy: TypeAlias = Resume | Heal | RestoreLinks | FreeDisk | RestoreDisk


# ---- orders of an operator


@dataclass(frozen=True, slots=True)
class SetUp:
    dataset: str
    num_shards: int
    min_num_nodes: int
    num_replicas: int = 1


@dataclass(frozen=True, slots=True)
class Delete:
    dataset: str


@dataclass(frozen=True, slots=True)
class StopShard:
    dataset: str
    shard: int


@dataclass(frozen=True, slots=True)
class StartShard:
    dataset: str
    shard: int
    node: int


@dataclass(frozen=True, slots=True)
class MoveShard:
    dataset: str
    shard: int
    node: int


@dataclass(frozen=True, slots=True)
class Drain:
    """The node is to have no shards."""

    node: int


@dataclass(frozen=True, slots=True)
class Undrain:
    node: int


@dataclass(frozen=True, slots=True)
class RollingRestart:
    """Begins; each node is emptied, replaced and filled again, one after the other."""


@dataclass(frozen=True, slots=True)
class Scale:
    """There are to be ``nodes`` nodes, at most as many as the scenario begins with; the last ones go."""

    nodes: int


Order: TypeAlias = SetUp | Delete | StopShard | StartShard | MoveShard | Drain | Undrain | RollingRestart | Scale


# ---- load


@dataclass(frozen=True, slots=True)
class StartWriting:
    dataset: str
    samples_per_s: int
    writers: int


@dataclass(frozen=True, slots=True)
class StartQuerying:
    dataset: str
    readers: int


@dataclass(frozen=True, slots=True)
class StopWriting:
    pass


@dataclass(frozen=True, slots=True)
class StopQuerying:
    pass


Load: TypeAlias = StartWriting | StartQuerying | StopWriting | StopQuerying

Deed: TypeAlias = Fault | Remedy | Order | Load
"""What a driver does when it is told."""


# ---- the course of a scenario, and what is expected of the cluster


@dataclass(frozen=True, slots=True)
class Wait:
    duration_ms: int


@dataclass(frozen=True, slots=True)
class Every:
    """``deed`` None: a fault that is drawn each time, and remedied before the next."""

    interval_ms: int
    duration_ms: int
    deed: Fault | Remedy | Order | None


@dataclass(frozen=True, slots=True)
class ExpectAll:
    """Every shard of every data set."""

    status: StatusKind
    within_ms: int


@dataclass(frozen=True, slots=True)
class ExpectShard:
    dataset: str
    shard: int
    status: StatusKind
    within_ms: int


@dataclass(frozen=True, slots=True)
class ExpectNode:
    """That it is a member, or none."""

    node: int
    is_up: bool
    within_ms: int


@dataclass(frozen=True, slots=True)
class ExpectEmpty:
    """That the node has no shard."""

    node: int
    within_ms: int


@dataclass(frozen=True, slots=True)
class ExpectEven:
    """Every shard is Active; of no data set has a node two shards more than another; drained nodes have none."""

    within_ms: int


@dataclass(frozen=True, slots=True)
class ExpectInSync:
    """Every shard has as many copies in sync as its data set asks for."""

    within_ms: int


@dataclass(frozen=True, slots=True)
class ExpectRestarted:
    """No rolling restart is under way any more."""

    within_ms: int


@dataclass(frozen=True, slots=True)
class ExpectNoneLost:
    """All that was acknowledged is read once more, and is there."""


@dataclass(frozen=True, slots=True)
class ExpectNoneShort:
    """No answer so far lacked what was acknowledged before it was asked, or had what nobody wrote."""


Expectation: TypeAlias = (
    ExpectAll
    | ExpectShard
    | ExpectNode
    | ExpectEmpty
    | ExpectEven
    | ExpectInSync
    | ExpectRestarted
    | ExpectNoneLost
    | ExpectNoneShort
)

Action: TypeAlias = Deed | Wait | Every | Expectation
