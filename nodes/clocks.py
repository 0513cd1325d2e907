"""The two clocks that a shard is told of: one that never jumps, and the calendar."""

from __future__ import annotations

import time


def steady_ms() -> int:
    """Counted from anywhere, by the time that passes, without jumps; what a machine sleeps is left out."""
    return time.monotonic_ns() // 1_000_000


def wall_ms() -> int:
    """Since 1970, as the machine believes; it may jump."""
    return time.time_ns() // 1_000_000
