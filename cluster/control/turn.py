"""What the CoordinatorCore is doing now: when, what for, and the effects so far. Its parts share one of these."""

from __future__ import annotations

import logging

from filoray.cluster.control.coordinator_effects import Effect, Remind, Say
from filoray.cluster.control.coordinator_events import CoordinatorEvent, Moment


class Turn:
    """``generation``: of the coordinator; causes are numbered within it, so that no two lives have the same."""

    def __init__(self, generation: int, moment: Moment) -> None:
        self._generation = generation
        self._causes = 0
        self._effects: list[Effect] = []
        self.now_ms = moment.observed_ms
        self.calendar_ms = moment.calendar_ms
        self.absent_ms = moment.absent_ms
        self.cause = ""

    def begin(self, event: CoordinatorEvent, moment: Moment) -> None:
        """``event`` has a cause if it follows from something; else it is one."""
        self.now_ms, self.calendar_ms, self.absent_ms = moment.observed_ms, moment.calendar_ms, moment.absent_ms
        self.cause = event.cause
        if not self.cause:
            self._causes += 1
            self.cause = f"{self._generation}.{self._causes}"

    def end(self) -> list[Effect]:
        """The effects since ``begin``."""
        effects, self._effects = self._effects, []
        return effects

    def emit(self, effect: Effect) -> None:
        self._effects.append(effect)

    def remind(self, delay_ms: int, event: CoordinatorEvent) -> None:
        self.emit(Remind(delay_ms, event, cause=self.cause))

    def say(self, text: str, *values: object, level: int = logging.INFO) -> None:
        self.emit(Say(text, values, level, cause=self.cause))

    def warn(self, text: str, *values: object) -> None:
        self.say(text, *values, level=logging.WARNING)
