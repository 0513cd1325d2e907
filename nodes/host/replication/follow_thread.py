"""The one thread that changes the copies which this node has as a follower: what their leaders send, in order.

It is not the ingest thread, so that two nodes which lead and follow each other's shards never wait for each other: no
thing that is done here waits for another node.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable

from filoray.cluster.process.thread_watch import Beat, ThreadWatch

logger = logging.getLogger(__name__)

_UPKEEP_S = 0.5
_CLOSE_S = 60


class FollowThread:
    """Any thread may call its methods.

    ``upkeep``: a bounded piece of it, now and then, however much there is to do; True if more is due at once.
    """

    def __init__(self, upkeep: Callable[[], bool]) -> None:
        self._upkeep = upkeep
        self._queue: queue.SimpleQueue[tuple[str, Callable[[], None]] | None] = queue.SimpleQueue()
        self.beat = Beat("follow")
        self._thread = threading.Thread(target=self._run, name="follow", daemon=True)
        self._thread.start()

    def watch_with(self, watch: ThreadWatch) -> None:
        """Have it known when copies get no further."""
        watch.watch_thread(self._thread, self.beat)

    def submit(self, what: str, action: Callable[[], None]) -> None:
        self._queue.put((what, action))

    def close(self) -> None:
        """Returns when all that was submitted before is done."""
        self._queue.put(None)
        self._thread.join(_CLOSE_S)

    def _run(self) -> None:
        """Nothing that goes wrong with one thing ends the thread; only ``close`` does."""
        upkeep_due_s = time.monotonic() + _UPKEEP_S
        while True:
            self.beat.idle()
            wait_s = upkeep_due_s - time.monotonic()
            try:
                item = self._queue.get(wait_s > 0, max(wait_s, 0) or None)
            except queue.Empty:
                pass
            else:
                if item is None:
                    return
                what, action = item
                self.beat.busy(what)
                self._do(action)
            if time.monotonic() >= upkeep_due_s:
                self.beat.busy("upkeep")
                is_more_due = self._do(self._upkeep) is True
                upkeep_due_s = time.monotonic() + (0 if is_more_due else _UPKEEP_S)

    def _do(self, action: Callable[[], object]) -> object:
        try:
            return action()
        except Exception:
            logger.exception("what was to be done on the follow thread failed; it goes on with the next")
            return None
