"""What happened while a scenario was played, with times in ms since it began: what a report shows."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from filoray.cluster.chaos.operations import Operation, Outcome
from filoray.cluster.control.shard_status import StatusKind


class MarkKind(Enum):
    FAULT = "fault"
    REMEDY = "remedy"
    ORDER = "order"
    LOAD = "load"
    EXPECTATION = "expectation"


@dataclass(frozen=True, slots=True)
class Mark:
    """A step as it was done. ``remark``: what came of it, if it was not simply done."""

    kind: MarkKind
    line: int
    text: str
    begun_ms: int
    ended_ms: int
    remark: str = ""
    is_failure: bool = False

    def __str__(self) -> str:
        seconds = f"{self.begun_ms / 1000:>9.3f} s"
        return f"{seconds}  line {self.line:<3} {self.text}" + (f"  ({self.remark})" if self.remark else "")


@dataclass(frozen=True, slots=True)
class StatusSeen:
    """From then on a shard had that status, and belonged to that node ("": to none)."""

    at_ms: int
    dataset: str
    shard: int
    status: StatusKind
    node: str


@dataclass(frozen=True, slots=True)
class Call:
    """An operation without what was in it."""

    client: str
    is_write: bool
    begun_ms: int
    ended_ms: int
    outcome: Outcome

    @classmethod
    def of(cls, operation: Operation, *, is_write: bool) -> Call:
        return cls(operation.client, is_write, operation.begun_ms, operation.ended_ms, operation.outcome)


@dataclass(slots=True)
class Timeline:
    marks: list[Mark] = field(default_factory=list)
    statuses: list[StatusSeen] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    end_ms: int = 0

    def excerpt(self, lines: int = 15) -> list[str]:
        """The last marks and changes of status in words, in order of time."""
        marks = [(mark.begun_ms, str(mark)) for mark in self.marks]
        changes = [
            (seen.at_ms, f"{seen.at_ms / 1000:>9.3f} s           {seen.dataset} shard {seen.shard}: "
                         f"{seen.status.value.removeprefix('ShardStatus')} {seen.node}".rstrip())
            for seen in self.statuses
        ]  # fmt: skip
        return [text for _, text in sorted(marks + changes, key=lambda one: one[0])[-lines:]]
