"""When a cluster's Ray is brought back, and when no more: decisions of the supervisor, without clock or process.

``HangWatch`` tells which processes stand still; ``Restarts`` how long to wait before the next try and when to give up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

P = TypeVar("P", bound=Hashable)


@dataclass(frozen=True, slots=True)
class SupervisionLimits:
    """Times in ms. At most ``restarts_max`` restarts within any ``restarts_period_ms``."""

    check_interval_ms: int
    hang_timeout_ms: int
    actor_hang_timeout_ms: int
    restarts_max: int
    restarts_period_ms: int
    backoff_ms: int
    backoff_max_ms: int
    start_timeout_ms: int


class HangWatch(Generic[P]):
    """A process stands still if a number that grows while it runs did not for ``timeout_ms`` of watching.

    Only time in which the watcher itself ran counts: after a machine was suspended, nothing has moved for hours.
    """

    def __init__(self, timeout_ms: int, interval_ms: int) -> None:
        self._timeout_ms = timeout_ms
        self._step_max_ms = 2 * interval_ms
        self._seen: dict[P, tuple[int, int]] = {}
        """Last number, and for how long it has been that."""
        self._last_ms: int | None = None

    def observe(self, numbers: Mapping[P, int], now_ms: int) -> list[P]:
        """Those that stand still now, of ``numbers`` by process."""
        elapsed_ms = 0 if self._last_ms is None else min(now_ms - self._last_ms, self._step_max_ms)
        self._last_ms = now_ms
        seen = {}
        for process, number in numbers.items():
            before, still_ms = self._seen.get(process, (None, 0))
            seen[process] = (number, still_ms + elapsed_ms if number == before else 0)
        self._seen = seen
        return [process for process, (_, still_ms) in seen.items() if still_ms >= self._timeout_ms]


class Restarts:
    """How often Ray was brought back. The first restart is at once; each further one within the period waits longer."""

    def __init__(self, limits: SupervisionLimits) -> None:
        self._limits = limits
        self._began_ms: deque[int] = deque()

    def next_at_ms(self, now_ms: int) -> int | None:
        """When the next restart may begin, at the earliest ``now_ms``; None: there were too many, give up."""
        limits = self._limits
        while self._began_ms and now_ms - self._began_ms[0] >= limits.restarts_period_ms:
            self._began_ms.popleft()
        count = len(self._began_ms)
        if count == 0:
            return now_ms
        if count >= limits.restarts_max:
            return None
        pause_ms = min(limits.backoff_ms << min(count - 1, 30), limits.backoff_max_ms)
        return max(now_ms, self._began_ms[-1] + pause_ms)

    def begun(self, now_ms: int) -> None:
        self._began_ms.append(now_ms)
