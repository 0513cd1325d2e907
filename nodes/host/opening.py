"""One opening of a shard: what it has opened so far, and how it is abandoned while it waits for the shard's source.

The opening thread says when it begins, when it waits for the source and when it works on the shard. Before it begins,
and while it waits, any thread may abandon the opening: what it has opened of the shard is then the abandoner's, and the
thread, should it ever come back, finds that it must touch nothing any more. While it works on the shard nobody can
abandon it, so that a shard is never in two hands.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from filoray.cluster.control.node_effects import OpenShard
from filoray.nodes.memstore.shard import Shard
from filoray.nodes.streams.consumer import StreamConsumer


class Abandoned(Exception):
    """The shard is another's business, or nobody's, by now."""


class NotWanted(Exception):
    """The node is to hold the shard no more: the opening is to close what it has opened, and end."""


class Opening:
    """``shard``: what it has opened so far. ``consumer``: reads the shard's stream, if it has one besides its log.

    ``unwanted`` is set when the node is to hold the shard no more. ``was_followed``: what it is to open may
    still be among what the node follows.
    """

    def __init__(self, order: OpenShard, *, was_followed: bool = False) -> None:
        self.order = order
        self.was_followed = was_followed or order.is_follower
        self.name = f"dataset {order.config.name} shard {order.shard}"
        self.thread: threading.Thread | None = None
        self.shard: Shard | None = None
        self.consumer: StreamConsumer | None = None
        self.unwanted = threading.Event()
        self._lock = threading.Lock()
        self._waits_since_s: float | None = None
        self._is_abandoned = False

    # ---- the opening thread

    def begin(self) -> None:
        """On the thread that is to open it. Raises Abandoned, NotWanted."""
        with self._lock:
            if self._is_abandoned:
                raise Abandoned
            self.thread = threading.current_thread()
        self.check_wanted()

    def check_wanted(self) -> None:
        """Raises NotWanted."""
        if self.unwanted.is_set():
            raise NotWanted

    @contextmanager
    def at_source(self) -> Iterator[None]:
        """Around each call that may wait for the source. Raises Abandoned, or NotWanted before it."""
        with self._lock:
            self.check_wanted()
            self._waits_since_s = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                self._waits_since_s = None
                is_abandoned = self._is_abandoned
            if is_abandoned:
                raise Abandoned

    # ---- any thread

    def waits_for_source_s(self) -> float:
        """How long the present call has been waiting; 0 if none does."""
        since_s = self._waits_since_s
        return 0.0 if since_s is None else time.monotonic() - since_s

    def abandon(self) -> bool:
        """Take the shard from it if it does not work on it; True for the one caller who did: what is open is its."""
        with self._lock:
            is_at_work = self.thread is not None and self._waits_since_s is None
            if is_at_work or self._is_abandoned:
                return False
            self._is_abandoned = True
            return True

    def end(self) -> None:
        """It shall not wait for its source again, nor begin."""
        with self._lock:
            self.unwanted.set()
