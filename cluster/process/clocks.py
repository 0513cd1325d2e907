"""The clocks: one that never jumps, one that goes on while the machine sleeps, and the calendar."""

from __future__ import annotations

import time

_SLEEPLESS = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def steady_ms() -> int:
    """Counted from anywhere, by the time that passes, without jumps; what a machine sleeps is left out."""
    return time.monotonic_ns() // 1_000_000


def sleepless_ms() -> int:
    """Milliseconds of a clock that goes on while the machine sleeps, where there is one."""
    return time.clock_gettime_ns(_SLEEPLESS) // 1_000_000


def wall_ms() -> int:
    """Since 1970, as the machine believes; it may jump."""
    return time.time_ns() // 1_000_000


class LatestCalendar:
    """The calendar, but never behind what it said before and the time that passed since: it may have been set back."""

    def __init__(self) -> None:
        self._latest_ms, self._steady_ms = wall_ms(), steady_ms()

    def now_ms(self) -> int:
        now_ms = steady_ms()
        self._latest_ms, self._steady_ms = max(wall_ms(), self._latest_ms + now_ms - self._steady_ms), now_ms
        return self._latest_ms
