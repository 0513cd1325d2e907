"""What a process of ours uses of the machine, as it says itself: how long it has run, CPU time, memory."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

import psutil

from filoray.cluster.process.clocks import steady_ms


@dataclass(frozen=True, slots=True)
class ProcessFigures:
    """``uptime_ms``: by a clock that never jumps, so that two of them tell the time that passed between.

    ``cpu_ms``: of all threads, user and system.
    """

    pid: int
    uptime_ms: int
    cpu_ms: int
    resident_bytes: int


class OwnProcess:
    """This process, from when this is made."""

    def __init__(self) -> None:
        self._began_ms = steady_ms()
        self._process = psutil.Process()

    def figures(self) -> ProcessFigures:
        return ProcessFigures(
            os.getpid(),
            steady_ms() - self._began_ms,
            time.process_time_ns() // 1_000_000,
            int(self._process.memory_info().rss),
        )
