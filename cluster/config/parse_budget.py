"""How much a configuration's text may cost to read: its size, what it expands to, its depth, its values and the time.

One Budget goes with one text through the JSON or HOCON reader, which ask it at every token and every step of a
substitution: whatever the text says, reading it ends, and soon. Another thread may end it earlier.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Annotated

from filoray.cluster.config.setting import Duration, Integer, Size
from filoray.cluster.errors import ConfigError
from filoray.cluster.units import PlainValue

_STEPS_PER_LOOK = 256
_WAY = 3  # a value may be made for others before it stands in the result


@dataclass(frozen=True, slots=True)
class ParseLimits:
    """``size_max``: bytes of the text, and characters of keys and values that come of it.

    What is given here holds for files of the operator's; for what is posted, the keys in ``filoray.datasets``.
    """

    size_max: Annotated[int, Size("max-config-size", minimum=1024, maximum=64 << 20)] = 1 << 20
    values_max: Annotated[int, Integer("max-config-values", minimum=100)] = 100_000
    depth_max: Annotated[int, Integer("max-config-depth", minimum=8, maximum=64)] = 64
    timeout_ms: Annotated[int, Duration("config-timeout", minimum=10)] = 5_000


class ReadingCanceled(Exception):
    """Nobody waits for the text's meaning any more."""


class ParseBudget:
    """``place``: what the text is called in errors. All methods but ``cancel`` belong to the reading thread."""

    def __init__(self, place: str, limits: ParseLimits) -> None:
        self.place = place
        self.limits = limits
        self._deadline_s = time.monotonic() + limits.timeout_ms / 1000
        self.steps = 0
        self._values = 0
        self._made_values = 0
        self._made_characters = 0
        self._is_canceled = False

    def cancel(self) -> None:
        """End the reading with ReadingCanceled, from any thread."""
        self._is_canceled = True

    def check_text(self, text: str) -> None:
        """Raises ConfigError if the text itself is too long."""
        if len(text) > self.limits.size_max or len(text.encode("utf-8", "surrogatepass")) > self.limits.size_max:
            raise self._over(f"the configuration is longer than {self.limits.size_max} bytes", "max-config-size")

    def step(self) -> None:
        """One token or one step of a substitution."""
        self.steps += 1
        if self.steps % _STEPS_PER_LOOK == 0:
            if self._is_canceled:
                raise ReadingCanceled
            if time.monotonic() > self._deadline_s:
                raise self._over(f"it took longer than {self.limits.timeout_ms} ms to read", "config-timeout")

    def add_value(self) -> None:
        """One value or key of the text."""
        self._values += 1
        if self._values > self.limits.values_max:
            raise self._over(f"it has more than {self.limits.values_max} values", "max-config-values")

    def work(self, values: int = 1, characters: int = 0) -> None:
        """So much was made by substitutions. What comes of it all is measured once, at the end; this bounds the way."""
        self.step()
        self._made_values += values
        self._made_characters += characters
        if self._made_values > _WAY * self.limits.values_max:
            raise self._too_many()
        if self._made_characters > _WAY * self.limits.size_max:
            raise self._too_large()

    def check_depth(self, depth: int) -> None:
        if depth > self.limits.depth_max:
            raise self._over(f"it is nested more than {self.limits.depth_max} deep", "max-config-depth")

    def check_result(self, value: PlainValue) -> None:
        """Measure what came of the text, everything as often as it stands there."""
        size = count = 0
        waiting = [(value, 0)]
        while waiting:
            value, depth = waiting.pop()
            self.step()
            self.check_depth(depth)
            count += 1
            if isinstance(value, dict):
                size += sum(map(len, value))
                for key in value:
                    self._check_characters(key)
                waiting += [(item, depth + 1) for item in value.values()]
            elif isinstance(value, list):
                waiting += [(item, depth + 1) for item in value]
            elif isinstance(value, str):
                size += len(value)
                self._check_characters(value)
            if size + count > self.limits.size_max:
                raise self._too_large()
            if count + len(waiting) > self.limits.values_max:
                raise self._too_many()

    def _check_characters(self, text: str) -> None:
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError:
                raise ConfigError(
                    f"{self.place}: {text[:40]!r} has half of a surrogate pair, which is no character"
                ) from None

    def _too_many(self) -> ConfigError:
        return self._over(f"it expands to more than {self.limits.values_max} values", "max-config-values")

    def _too_large(self) -> ConfigError:
        return self._over(f"it expands to more than {self.limits.size_max} characters", "max-config-size")

    def _over(self, problem: str, key: str) -> ConfigError:
        return ConfigError(f"{self.place}: {problem} (filoray.datasets.{key})")
