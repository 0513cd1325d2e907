"""What clients of a scenario ask, in whichever world: writers have series of their own, readers read writers in turn.

A writer sends one sample of each of its series, all with one time, ``WRITE_INTERVAL_MS`` after it sent the last or as
soon as that one's outcome is known. A reader asks for the last ``READ_WINDOW_MS`` of one writer's series, then for the
next one's. Whoever gets no good answer goes to the next gateway.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from filoray.cluster.chaos.actions import StartWriting
from filoray.cluster.chaos.operations import Read, Write

WRITE_INTERVAL_MS = 200
READ_INTERVAL_MS = 200
READ_WINDOW_MS = 20_000
LATE_MS = 10_000
"""A request without an answer for so long is given up; its outcome is unknown."""


@dataclass(slots=True)
class Writer:
    """``first_ms``: the time of its first sample, 0 before."""

    name: str
    dataset: str
    series: tuple[str, ...]
    count: int = 0
    first_ms: int = 0
    last_ms: int = 0

    def next_write(self, now_ms: int) -> Write:
        """Of the present, but never of the same time twice."""
        self.last_ms = max(now_ms, self.last_ms + 1)
        self.first_ms = self.first_ms or self.last_ms
        self.count += 1
        return Write(self.series, self.last_ms, float(self.count))

    def last_window(self, now_ms: int) -> Read:
        until_ms = max(now_ms, self.last_ms)
        return Read(self.series, until_ms - READ_WINDOW_MS, until_ms)

    def everything(self) -> list[Read]:
        """In windows that are not larger than others."""
        starts = range(self.first_ms - 1, self.last_ms, READ_WINDOW_MS) if self.count else ()
        return [Read(self.series, after_ms, min(self.last_ms, after_ms + READ_WINDOW_MS)) for after_ms in starts]


def make_writers(load: StartWriting, first: int) -> list[Writer]:
    """``first``: the number of the first one. Together they send ``load.samples_per_s``, or a few more."""
    each = math.ceil(load.samples_per_s * WRITE_INTERVAL_MS / 1000 / load.writers)
    return [
        Writer(name, load.dataset, tuple(f"{name}/{number}" for number in range(each)))
        for name in (f"writer-{first + index}" for index in range(load.writers))
    ]


@dataclass(slots=True)
class Turns:
    """Whom a client asks next. ``first``: where it begins, so that clients are spread."""

    count: int
    first: int

    @property
    def present(self) -> int:
        return self.first % self.count

    def go_on(self) -> None:
        self.first += 1


def writer_to_read(writers: Sequence[Writer], turn: int) -> Writer | None:
    return writers[turn % len(writers)] if writers else None
