"""What a scenario acts on: a cluster of either world, and the clients that load it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from filoray.cluster.chaos.actions import Deed
from filoray.cluster.chaos.operations import Operation, Write
from filoray.cluster.chaos.timeline import StatusSeen
from filoray.cluster.control.shard_status import StatusKind


@dataclass(frozen=True, slots=True)
class NodeShards:
    """A member, and how many shards it has of each data set."""

    index: int
    is_drained: bool
    shards: Mapping[str, int]


class ScenarioDriver(Protocol):
    """Nodes are named by index. Of load it says what it does to the ``Witness`` that it was made with."""

    @property
    def poll_ms(self) -> int:
        """How closely expectations are to be looked at."""

    def now_ms(self) -> int:
        """Since the scenario began."""

    def advance(self, duration_ms: int) -> None:
        """Let that much time pass."""

    def perform(self, deed: Deed) -> str:
        """Why it could not be done now, or "". Only what the stage allows is asked for."""

    def statuses(self) -> dict[str, list[StatusKind]]:
        """Data set to its shards' present statuses, as a gateway would show them."""

    def passed(self, dataset: str, shard: int) -> set[StatusKind]:
        """The statuses that a shard came to since the last deed, those that it had for a moment only among them."""

    def members(self) -> frozenset[int]:
        """Indices of nodes that are members, as a gateway would show them."""

    def nodes(self) -> list[NodeShards]:
        """The members, as a gateway would show them; none where nobody tells."""

    def lacking_copies(self) -> list[str] | None:
        """A text for each shard that has fewer copies in sync than its data set asks for; None: nobody tells."""

    def is_restarting(self) -> bool:
        """Whether a rolling restart is under way, or nobody tells."""

    def read_everything(self) -> str:
        """Have all that was written so far read once more, as ordinary reads. Why that could not be done, or ""."""


def lacking_text(dataset: str, shard: int, in_sync: int, replicas: int) -> str:
    return f"{in_sync} of {replicas} copies of {dataset} shard {shard} are in sync"


class Witness(Protocol):
    """Who is told of everything; may be told by any thread."""

    def begins(self, write: Write, now_ms: int) -> None: ...
    def ended(self, operation: Operation) -> None: ...
    def saw(self, seen: StatusSeen) -> None: ...
