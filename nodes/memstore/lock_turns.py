"""Turns at a shard's lock for long look-ups: held for some milliseconds, then left to those who wait.

A query may have thousands of matchers, and each may have to be tried on a million values. Whoever looks up holds the
shard's lock, and asks for a breath now and then: once its turn has been long enough, the lock is let go, so that the
ingest thread and other queries get it, and the query's token is looked at.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from filoray.nodes.data.cancel_token import CancelToken

TURN_S = 0.005
_PAUSE_S = 0.0002
"""Python's locks are not fair: without a pause, who let go of one has it again before any other wakes up."""

Breathe = Callable[[], None]


class Renumbered(Exception):
    """What was found so far is of another state of the shard: look it up again."""


class Lock(Protocol):
    """Of threading's kinds. Its holder has taken it once, not more."""

    def acquire(self) -> bool: ...
    def release(self) -> None: ...


class LockTurns:
    """Made by who has just taken ``lock``, once. ``generation``: changes when what is looked at is numbered anew."""

    def __init__(self, lock: Lock, generation: Callable[[], int], cancel: CancelToken | None) -> None:
        self._lock = lock
        self._generation = generation
        self._first_generation = generation()
        self._cancel = cancel
        self._since_s = time.monotonic()

    def breathe(self) -> None:
        """Let others have the lock if this turn was long enough. Raises Renumbered, and what the token raises."""
        if time.monotonic() - self._since_s < TURN_S:
            return
        if self._cancel is not None:
            self._cancel.check()
        self._lock.release()
        try:
            time.sleep(_PAUSE_S)
        finally:
            self._lock.acquire()
        self._since_s = time.monotonic()
        if self._generation() != self._first_generation:
            raise Renumbered


def no_breath() -> None:
    """For who has the lock, or needs none, and takes as long as it takes."""
