"""When a gateway asks again after a node could not answer: by the same view soon, or by the next one when it comes.

A connection that broke, or a shard that is being opened, or joined by its copies, where the view says it is, is asked
again after a short pause that doubles, or sooner if a newer view comes. Any other stale route waits for the newer view,
which is asked for once. Asking twice does no harm: a query has no effects and a write of the same sample is a no-op.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from filoray.cluster.errors import ConnectionLost, CopiesJoining, FilorayError, LeaseLapsed, ShardOpening
from filoray.http.fanout.view_holder import ViewHolder

_PAUSE_S_MIN = 0.02
"""As long as a lost connection takes to be tried again; see ``node_client``."""
_PAUSE_S_MAX = 1.0


_ASKED_AGAIN_SOON = (ConnectionLost, ShardOpening, CopiesJoining, LeaseLapsed)


def soonest(problems: Sequence[FilorayError]) -> FilorayError:
    """Of the problems of one attempt the one that calls for the next; what a newer view solves is solved by then."""
    return min(problems, key=lambda problem: not isinstance(problem, _ASKED_AGAIN_SOON))


class Retrying:
    """The waits of one request between its attempts. ``deadline_s``: a ``time.monotonic()`` time."""

    def __init__(self, views: ViewHolder, deadline_s: float) -> None:
        self._views = views
        self._deadline_s = deadline_s
        self._pause_s = _PAUSE_S_MIN

    @property
    def left_ms(self) -> int:
        """Of the deadline; at least 1."""
        return max(1, int((self._deadline_s - time.monotonic()) * 1000))

    async def is_worthwhile(self, error: FilorayError, version: int) -> bool:
        """Return when to ask again after ``error``, met by the view of ``version``; False once there is no time."""
        left_s = self._deadline_s - time.monotonic()
        if left_s <= 0:
            return False
        if not isinstance(error, _ASKED_AGAIN_SOON):
            return await self._views.newer_than(version, left_s)
        pause_s, self._pause_s = self._pause_s, min(2 * self._pause_s, _PAUSE_S_MAX)
        await self._views.newer_than(version, min(pause_s, left_s), asks=pause_s >= _PAUSE_S_MAX)
        return time.monotonic() < self._deadline_s
