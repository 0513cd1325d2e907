"""What a simulated node has to tell the coordinator of its shards: in order, one batch at a time, until it is taken."""

from __future__ import annotations

from collections.abc import Callable

from filoray.cluster.node_protocol import ShardReport
from filoray.cluster.simulation.world import Action

Batch = tuple[ShardReport, ...]


class ReportOutbox:
    """``send``: a batch to the coordinator. ``later``: when a batch that was lost may be sent again."""

    def __init__(self, send: Callable[[Batch], None], later: Callable[[Action], None]) -> None:
        self._send = send
        self._later = later
        self._waiting: list[ShardReport] = []
        self._on_its_way: Batch = ()

    def put(self, report: ShardReport) -> None:
        self._waiting.append(report)
        self._send_next()

    def taken(self, batch: Batch) -> None:
        if batch is self._on_its_way:
            self._on_its_way = ()
            self._send_next()

    def lost(self, batch: Batch) -> None:
        """It is sent again, unless it was taken meanwhile."""
        if batch and batch is self._on_its_way:
            self._later(lambda: self._send(batch) if batch is self._on_its_way else None)

    def lost_all(self) -> None:
        self.lost(self._on_its_way)

    def _send_next(self) -> None:
        if self._waiting and not self._on_its_way:
            self._on_its_way, self._waiting = tuple(self._waiting), []
            self._send(self._on_its_way)
