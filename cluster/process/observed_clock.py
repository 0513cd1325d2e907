"""Monotonic time less the time in which this process did not run: what silence of others may be measured by.

A process that was stopped (SIGSTOP, a suspended machine, a swapped-out or starved host) finds, when it goes on, that
nobody has been heard of for as long as it was away. That says nothing about the others. Whoever judges others by their
silence therefore looks at this clock often; of a gap between two looks it counts ``gap_ms_max`` and no more.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_SLICE_S = 0.25


def monotonic_ms() -> int:
    return time.monotonic_ns() // 1_000_000


class ObservedClock:
    """Look at it at least once in ``gap_ms_max``. ``source``: monotonic milliseconds. Belongs to one thread."""

    def __init__(self, gap_ms_max: int, source: Callable[[], int] = monotonic_ms) -> None:
        assert gap_ms_max > 0
        self._gap_ms_max = gap_ms_max
        self._source = source
        self._looked_ms = source()
        self._now_ms = self._looked_ms
        self.absent_ms = 0
        """All that was not counted so far."""

    def now_ms(self) -> int:
        """Grows like the source, but for the time in which nobody looked."""
        looked_ms = self._source()
        gap_ms = looked_ms - self._looked_ms
        counted_ms = min(gap_ms, self._gap_ms_max)
        self._looked_ms = looked_ms
        self._now_ms += counted_ms
        self.absent_ms += gap_ms - counted_ms
        return self._now_ms


async def finished_within(future: asyncio.Future[T], timeout_s: float | None) -> bool:
    """Wait for ``future``; False if it is not done after ``timeout_s`` in which this process ran. Never cancels it."""
    remaining_s = timeout_s
    while not future.done():
        # In slices: a stop of this process makes one of them end early, whatever its length.
        slice_s = None if remaining_s is None else min(_SLICE_S, remaining_s)
        await asyncio.wait({future}, timeout=slice_s)
        if remaining_s is not None and slice_s is not None:
            remaining_s -= slice_s
            if remaining_s <= 0:
                break
    return future.done()
