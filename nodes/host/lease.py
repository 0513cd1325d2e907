"""Whether this node may still answer for its shards: a lease that the coordinator's heartbeats renew.

A shard gets another owner only when its former one let go of it or its process is certainly gone. On the coordinator's
own machine, and on any that can be reached, "certainly" is a kill that was seen to work. A machine that cannot be
reached may run on, and serve gateways that cannot hear the coordinator either: they would get answers without what the
new owner has stored. (It could not store anything itself: the store knows the later epoch.) So where nodes are on many
machines, a node answers only under a lease, reads and writes alike, and the coordinator waits for its end before it
takes a process for gone that it could not see end (``membership.py``).

How neither clock needs to know the other: with each answer to a heartbeat the node says what its own clock read; the
next heartbeat grants a lease *from that reading*, not from its arrival, which may have been held up for any time. The
coordinator counts from when it heard of the reading, which is later. So the lease has ended at the node when it has at
the coordinator, if the two clocks run about equally fast, for which the coordinator adds a fiftieth. The node's clock
is one that goes on while the machine sleeps.

Where all nodes are on the coordinator's machine there is no lease (``is_needed``): they serve on for as long as the
coordinator is away. Elsewhere they do so until the lease ends, since from where they are a coordinator that is away
looks just like one that has given their shards to others.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from filoray.cluster.errors import LeaseLapsed
from filoray.cluster.process.clocks import sleepless_ms


class Lease:
    """Any thread may use it."""

    def __init__(self, *, is_needed: bool, now_ms: Callable[[], int] = sleepless_ms) -> None:
        self._is_needed = is_needed
        self._now_ms = now_ms
        self._until_ms = now_ms()
        self._lock = threading.Lock()

    def reading_ms(self) -> int:
        """What to tell the coordinator with the answer to a heartbeat."""
        return self._now_ms()

    def renew(self, from_ms: int, duration_ms: int) -> None:
        """``from_ms``: an earlier reading. A grant that ends before the last one changes nothing."""
        with self._lock:
            self._until_ms = max(self._until_ms, from_ms + duration_ms)

    def check(self) -> None:
        """Raises LeaseLapsed."""
        if self._is_needed and (late_ms := self._now_ms() - self._until_ms) >= 0:
            raise LeaseLapsed(
                f"this node has not heard of the coordinator in time (its lease ended {late_ms} ms ago, "
                "filoray.node.lease), so others may have its shards"
            )
