"""Statuses of shards in reports: the same colours and words in all of them."""

from __future__ import annotations

from dataclasses import dataclass

from filoray.cluster.control.shard_status import StatusKind
from filoray.cluster.report.time_chart import Segment

_DATASET_CHARACTERS = 14
"""Of the name of a dataset beside a band."""


@dataclass(frozen=True, slots=True)
class StatusSpan:
    """A shard had that status, and belonged to that node ("": to none). ``epoch``: None where it is not known."""

    from_ms: int
    to_ms: int
    status: StatusKind
    node: str
    epoch: int | None = None

    def segment(self) -> Segment:
        name = status_name(self.status)
        owner = f" at {self.node}" if self.node else ""
        epoch = f", epoch {self.epoch}" if self.node and self.epoch is not None else ""
        title = f"{self.from_ms / 1000:.3f} to {self.to_ms / 1000:.3f} s: {name}{owner}{epoch}"
        return Segment(self.from_ms, self.to_ms, status_class(self.status), title, self.node or name)


def status_name(status: StatusKind) -> str:
    return status.value.removeprefix("ShardStatus")


def status_class(status: StatusKind) -> str:
    """Of ``page.css``."""
    return f"s-{status_name(status).lower()}"


def shard_label(dataset: str, shard: int) -> str:
    return f"{dataset[:_DATASET_CHARACTERS]} {shard}"


STATUS_LEGEND = [(status_class(kind), status_name(kind)) for kind in StatusKind]
