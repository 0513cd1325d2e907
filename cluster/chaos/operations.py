"""What clients did to a cluster under test: each write and read, when it began and ended, and with which outcome.

Outcomes are three, as in Jepsen (https://github.com/jepsen-io/jepsen, doc/tutorial/03-client.md, 06-refining.md): *ok*
did happen, *failed* did not and never will, and of *unknown* nobody can say: it may have happened, or may still happen
at any later time, so it counts as going on for ever. A read that gives no answer changes nothing, so it may always be
called failed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias


class Outcome(Enum):
    OK = "ok"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Write:
    """One sample of each series, all with that time and value. No other write has any of these samples."""

    series: tuple[str, ...]
    timestamp_ms: int
    value: float


@dataclass(frozen=True, slots=True)
class Read:
    """All samples of the series with times in (``after_ms``, ``until_ms``]."""

    series: tuple[str, ...]
    after_ms: int
    until_ms: int


Answer: TypeAlias = Mapping[str, Mapping[int, float]]
"""By series: value by time in ms. A series without samples may be left out."""


@dataclass(frozen=True, slots=True)
class Operation:
    """``by``: who answered, a gateway. ``answer``: of a read that is ok; ``is_marked``: it says it is not whole."""

    client: str
    request: Write | Read
    begun_ms: int
    ended_ms: int
    outcome: Outcome
    by: str = ""
    answer: Answer | None = None
    is_marked: bool = False
