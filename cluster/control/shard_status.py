"""The life of a shard: every status, every event, and the one table of what moves to what.

Rules of this file: everything about the life cycle is here, and it knows neither nodes nor datasets.

A shard begins *Unassigned*. The ShardManager gives it to a node (ShardAssignmentStarted): *Assigned*. The node
opens the shard's file and replays what was not flushed: RecoveryStarted, then RecoveryInProgress(percent) as it
goes: *Recovery(percent)*. When the shard takes writes and answers queries (IngestionStarted) it is *Active*. What
can go wrong: the node says why it cannot go on (IngestionError: *Error*, still assigned, queries and writes
refused); the node is lost (ShardDown: *Down*, to be assigned anew); an operator stops it (IngestionStopped:
*Stopped*, no owner until started again); the ShardManager takes it from its owner to give it to another
(HandoverStarted: *Unassigned*, until the owner has closed it). An owner that is lost before it acknowledged anything is
the same as one that is lost later, so every owned status takes ShardDown. An owner in *Error* may try again by itself
(RecoveryStarted, IngestionStarted). A new assignment may only follow a status without a living owner; *Error* keeps
its owner, hence it must be stopped, handed over or lost first.

An event that the table does not have for a status raises InvalidTransition and leaves the status as it was. Late
reports of former owners never get here: the ShardManager drops them by epoch.

Status texts are FiloDB's (``ShardStatusActive``, ``ShardStatusRecovery(42)``), because its clients read them.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class StatusKind(enum.Enum):
    """The statuses; values are FiloDB's names."""

    UNASSIGNED = "ShardStatusUnassigned"
    ASSIGNED = "ShardStatusAssigned"
    RECOVERY = "ShardStatusRecovery"
    ACTIVE = "ShardStatusActive"
    ERROR = "ShardStatusError"
    STOPPED = "ShardStatusStopped"
    DOWN = "ShardStatusDown"


@dataclass(frozen=True, slots=True)
class ShardStatus:
    """A status with what belongs to it. ``str()`` is FiloDB's form.

    ``progress_pct``: 0..100, only meaningful in RECOVERY. ``reason``: why, only in ERROR.
    """

    kind: StatusKind
    progress_pct: int = 0
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.kind.value}({self.progress_pct})" if self.kind is StatusKind.RECOVERY else self.kind.value


class ShardEvent:
    """Base of everything that can happen to a shard."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class ShardAssignmentStarted(ShardEvent):
    """The ShardManager chose an owner and its epoch is durable."""


@dataclass(frozen=True, slots=True)
class RecoveryStarted(ShardEvent):
    """The owner opened the shard's file and found something to replay."""


@dataclass(frozen=True, slots=True)
class RecoveryInProgress(ShardEvent):
    """The owner replayed ``progress_pct`` percent (0..100)."""

    progress_pct: int


@dataclass(frozen=True, slots=True)
class IngestionStarted(ShardEvent):
    """The shard takes writes and answers queries."""


@dataclass(frozen=True, slots=True)
class IngestionError(ShardEvent):
    """The owner cannot go on, and ``reason`` says why, for the operator.

    ``stored_epoch``: the higher epoch that the shard's store has, if that is why. ``is_unheard``: the owner did not say
    so; it could not be asked.
    """

    reason: str
    stored_epoch: int = 0
    is_unheard: bool = False


@dataclass(frozen=True, slots=True)
class IngestionStopped(ShardEvent):
    """The owner closed the shard because it was told to, or its source ended."""


@dataclass(frozen=True, slots=True)
class HandoverStarted(ShardEvent):
    """The ShardManager takes the shard from its owner; another node gets it when that has closed it."""


@dataclass(frozen=True, slots=True)
class ShardDown(ShardEvent):
    """The owner is lost."""


class InvalidTransition(Exception):
    """An event that a status does not take: a programmer's error or a peer that breaks the protocol."""

    def __init__(self, status: ShardStatus, event: ShardEvent) -> None:
        super().__init__(f"{type(event).__name__} is not possible in {status}")
        self.status = status
        self.event = event


UNASSIGNED, ASSIGNED, RECOVERY, ACTIVE, ERROR, STOPPED, DOWN = StatusKind

TRANSITIONS: dict[StatusKind, dict[type[ShardEvent], StatusKind]] = {
    UNASSIGNED: {ShardAssignmentStarted: ASSIGNED},
    ASSIGNED: {
        RecoveryStarted: RECOVERY,
        IngestionStarted: ACTIVE,
        IngestionError: ERROR,
        IngestionStopped: STOPPED,
        HandoverStarted: UNASSIGNED,
        ShardDown: DOWN,
    },
    RECOVERY: {
        RecoveryInProgress: RECOVERY,
        IngestionStarted: ACTIVE,
        IngestionError: ERROR,
        IngestionStopped: STOPPED,
        HandoverStarted: UNASSIGNED,
        ShardDown: DOWN,
    },
    ACTIVE: {IngestionError: ERROR, IngestionStopped: STOPPED, HandoverStarted: UNASSIGNED, ShardDown: DOWN},
    ERROR: {
        RecoveryStarted: RECOVERY,
        IngestionStarted: ACTIVE,
        IngestionError: ERROR,
        IngestionStopped: STOPPED,
        HandoverStarted: UNASSIGNED,
        ShardDown: DOWN,
    },
    STOPPED: {ShardAssignmentStarted: ASSIGNED},
    DOWN: {ShardAssignmentStarted: ASSIGNED, IngestionStopped: STOPPED},
}

OWNED = frozenset({ASSIGNED, RECOVERY, ACTIVE, ERROR})
"""The statuses in which some node holds the shard."""

EVENT_TYPES: tuple[type[ShardEvent], ...] = (
    ShardAssignmentStarted,
    RecoveryStarted,
    RecoveryInProgress,
    IngestionStarted,
    IngestionError,
    IngestionStopped,
    HandoverStarted,
    ShardDown,
)

INITIAL_STATUS = ShardStatus(UNASSIGNED)


def next_status(status: ShardStatus, event: ShardEvent) -> ShardStatus:
    """The status after ``event``; raises InvalidTransition when the table has no such move."""
    kind = TRANSITIONS[status.kind].get(type(event))
    if kind is None:
        raise InvalidTransition(status, event)
    if isinstance(event, RecoveryInProgress):
        return ShardStatus(kind, progress_pct=min(100, max(0, event.progress_pct)))
    return ShardStatus(kind, reason=event.reason) if isinstance(event, IngestionError) else ShardStatus(kind)


def parse_status(text: str) -> ShardStatus:
    """Read ``str(status)`` back (a reason is not in it); raises ValueError."""
    name, _, progress = text.partition("(")
    return ShardStatus(StatusKind(name), progress_pct=int(progress.rstrip(")")) if progress else 0)


def mermaid_diagram() -> str:
    """The table as a Mermaid state diagram: ARCHITECTURE.md shows this text, and a test keeps it fresh."""
    lines = ["stateDiagram-v2", f"    [*] --> {_short(INITIAL_STATUS.kind)}"]
    for kind, moves in TRANSITIONS.items():
        lines += [f"    {_short(kind)} --> {_short(after)}: {event.__name__}" for event, after in moves.items()]
    return "\n".join(lines) + "\n"


def _short(kind: StatusKind) -> str:
    return kind.value.removeprefix("ShardStatus")
