"""One attempt to open a shard that a source feeds, and how it is abandoned while it waits for that source.

The opening thread says when it waits for the source and when it works on the shard. While it waits, any thread may
abandon the attempt: what it has opened of the shard is then the abandoner's to close, and the thread, should it
ever come back, finds that it must touch nothing any more. While it works on the shard nobody can abandon it,
so that a shard is never in two hands.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from filoray.nodes.memstore.shard import Shard


class Abandoned(Exception):
    """The attempt is another's business, or nobody's, by now."""


class NotWanted(Exception):
    """The node is to hold the shard no more: the attempt is to close what it has opened, and end."""


class OpeningAttempt:
    """Made by the thread that opens. ``shard``: what it has opened so far. ``retry_delay_s``: before the next one."""

    def __init__(self, retry_delay_s: float) -> None:
        self.thread = threading.current_thread()
        self.retry_delay_s = retry_delay_s
        self.shard: Shard | None = None
        self._lock = threading.Lock()
        self._waits_since_s: float | None = None
        self._is_abandoned = False
        self._is_wanted = True

    @contextmanager
    def at_source(self) -> Iterator[None]:
        """Around each call that may wait for the source. Raises Abandoned, or NotWanted before it."""
        with self._lock:
            if not self._is_wanted:
                raise NotWanted
            self._waits_since_s = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                self._waits_since_s = None
                is_abandoned = self._is_abandoned
            if is_abandoned:
                raise Abandoned

    def waits_for_source_s(self) -> float:
        """How long the present call has been waiting; 0 if none does."""
        since_s = self._waits_since_s
        return 0.0 if since_s is None else time.monotonic() - since_s

    def abandon(self) -> bool:
        """Take it over if it waits for its source; True for the one caller who did: ``shard`` is its to close."""
        with self._lock:
            if self._waits_since_s is None or self._is_abandoned:
                return False
            self._is_abandoned = True
            return True

    def is_wanted_no_more(self) -> None:
        """It shall not wait for its source again."""
        with self._lock:
            self._is_wanted = False
