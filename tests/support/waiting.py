"""Waits for what other threads and processes do: until it is so, with a limit far beyond what a busy machine takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
TIMEOUT_S = 60


def wait_until(condition: Callable[[], T], what: str | Callable[[], object]) -> T:
    """What the condition gives once that is true. ``what``: said if it never is; a call is made only then."""
    deadline_s = time.monotonic() + TIMEOUT_S
    while not (value := condition()):
        if time.monotonic() > deadline_s:
            raise AssertionError(f"not within {TIMEOUT_S} s: {what() if callable(what) else what}")
        time.sleep(0.01)
    return value
