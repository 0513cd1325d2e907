"""What every ingestion stream offers: opened at an offset, polled for record containers, told what is safe.

A stream is one shard's ordered source of record containers. Offsets ascend, with gaps allowed; what they count
is the stream's own affair (log rows, Kafka messages, lines of a file). Who reads it remembers how far it came:
a shard's checkpoints are the only truth, and reopening at one gives again all that was not stored.
Threads, retries and the shard's status are left to ``filoray.nodes.streams.consumer``.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from filoray.cluster.errors import Unavailable

logger = logging.getLogger(__name__)


class StreamFailed(Unavailable):
    """The source cannot be read now (broker gone, file missing); opening it again later may help."""


@dataclass(frozen=True, slots=True)
class StreamBatch:
    """One record container with all its part keys. ``offset``: of its last record; resuming there skips it."""

    container: bytes | memoryview
    offset: int


@dataclass(frozen=True, slots=True)
class StreamProblem:
    """Something in the source that is not data and was skipped. ``place``: where, e.g. ``metrics.csv line 17``."""

    place: str
    reason: str

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


class ProblemReport:
    """Counts what a stream skipped; keeps and logs the first examples and no more: a bad source is not a flood."""

    EXAMPLES_MAX = 20

    def __init__(self, source: str) -> None:
        self._source = source
        self.count = 0
        self.examples: deque[StreamProblem] = deque()

    def add(self, place: str, reason: str) -> None:
        self.count += 1
        if len(self.examples) < self.EXAMPLES_MAX:
            problem = StreamProblem(place, reason)
            self.examples.append(problem)
            logger.warning("%s: skipped %s", self._source, problem)
            if len(self.examples) == self.EXAMPLES_MAX:
                logger.warning("%s: further bad records are counted, not logged", self._source)


class IngestionStream(Protocol):
    """One shard's source. One thread at a time uses it."""

    problems: ProblemReport

    def poll(self, timeout_ms: int) -> Sequence[StreamBatch]:
        """The next containers, in order; empty if none came in time or the source has ended. Raises StreamFailed."""
        ...

    position: int
    """The last offset that polling has moved past, with data or without."""

    def end_offset(self) -> int | None:
        """Offset of the last record there is now, None for an empty source: what recovery reads up to."""
        ...

    def known_end(self) -> int | None:
        """As ``end_offset``, by what polling has brought along: asks nobody and never waits; None: not known yet."""
        ...

    @property
    def ended(self) -> bool:
        """The source is finite and all of it was polled."""
        ...

    def commit(self, offset: int) -> None:
        """All up to and with ``offset`` is durable in the column store and will not be asked for again."""
        ...

    def close(self) -> None: ...
