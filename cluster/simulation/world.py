"""Virtual time and the network of a simulated cluster: a queue of what is to happen, and channels that misbehave.

Everything runs in one thread; what happens at the same moment happens in the order in which it was planned. All chance
comes from one seeded ``Random``, so that a seed decides everything.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from filoray.cluster.simulation.faults import FaultRates

Action = Callable[[], object]

T = TypeVar("T")


class TraceLine(NamedTuple):
    """Put into words only when somebody reads it. ``cause``: the coordinator's id of what led to it, or ""."""

    at_ms: int
    text: str
    values: tuple[object, ...]
    cause: str = ""

    def __str__(self) -> str:
        return f"{self.at_ms:>8} {self.text % self.values if self.values else self.text}"


class SimulatedWorld:
    """``rates``: how often what goes wrong; may be set anew at any time. ``lines_max``: kept of what was done."""

    def __init__(self, seed: int, rates: FaultRates, lines_max: int | None = None) -> None:
        self.now_ms = 0
        self.calendar_ahead_ms = 0
        """Of the time that passes; somebody may set the calendar at any time."""
        self.rates = rates
        self._dice = random.Random(seed)
        self._random = self._dice.random
        self._queue: list[tuple[int, int, Action]] = []
        self._sequence = 0
        self._channel_free_ms: dict[tuple[str, str], int] = {}
        self.lines: deque[TraceLine] = deque(maxlen=lines_max)

    # ---- time

    def at(self, at_ms: int, action: Action) -> None:
        self._sequence += 1
        heapq.heappush(self._queue, (at_ms, self._sequence, action))

    def after(self, delay_ms: int, action: Action) -> None:
        self._sequence += 1
        heapq.heappush(self._queue, (self.now_ms + delay_ms, self._sequence, action))

    def advance(self, duration_ms: int) -> None:
        until_ms = self.now_ms + duration_ms
        queue, pop = self._queue, heapq.heappop
        while queue and queue[0][0] <= until_ms:
            self.now_ms, _, action = pop(queue)
            action()
        self.now_ms = until_ms

    @property
    def calendar_ms(self) -> int:
        return self.now_ms + self.calendar_ahead_ms

    # ---- chance

    def happens(self, rate: float) -> bool:
        return rate > 0 and self._random() < rate

    def between(self, low: int, high: int) -> int:
        """Both inclusive."""
        return low + int(self._random() * (high - low + 1))

    def one_of(self, choices: Sequence[T]) -> T:
        return choices[int(self._random() * len(choices))]

    def shuffled(self, actions: Sequence[Action]) -> list[Action]:
        return self._dice.sample(actions, len(actions))

    # ---- the network

    def send(self, sender: str, receiver: str, action: Action, delay_ms: int = 0, *, keeps_order: bool = False) -> None:
        """In the order sent between two ends, unless this one is overtaken. ``delay_ms``: before it leaves."""
        rates = self.rates
        arrival_ms = self.now_ms + delay_ms + 1 + int(self._random() * rates.latency_ms)
        if not keeps_order and rates.reorder and self._random() < rates.reorder:
            arrival_ms += self.between(0, rates.late_ms)
        else:
            channel = (sender, receiver)
            free_ms = self._channel_free_ms.get(channel, 0)
            if arrival_ms < free_ms:
                arrival_ms = free_ms
            self._channel_free_ms[channel] = arrival_ms
        self._sequence += 1
        heapq.heappush(self._queue, (arrival_ms, self._sequence, action))

    # ---- what was done

    def note(self, text: str, *values: object, cause: str = "") -> None:
        self.lines.append(TraceLine(self.now_ms, text, values, cause))

    @property
    def trace(self) -> list[str]:
        return [str(line) for line in self.lines]
