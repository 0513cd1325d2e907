"""When the map may become even again, and drained nodes empty: a part of the CoordinatorCore.

A node that comes or goes sets all in motion; shards that nobody has go first. Only when no node has come or gone for a
while (``balance.wait``) do healthy shards move, a few at once, the next when those have arrived. A node that is drained
is made empty without that wait. Which shards go where is ``spreading.py``'s.
"""

from __future__ import annotations

from filoray.cluster.config.launch_config import BalanceConfig
from filoray.cluster.control.membership import Membership
from filoray.cluster.control.shard_manager import ShardManager
from filoray.cluster.control.shard_messages import SpreadDue
from filoray.cluster.control.shard_orders import ShardOrders
from filoray.cluster.control.turn import Turn


class Spreader:
    def __init__(
        self, turn: Turn, config: BalanceConfig, manager: ShardManager, membership: Membership, shards: ShardOrders
    ) -> None:
        self._turn = turn
        self._config = config
        self._manager = manager
        self._membership = membership
        self._shards = shards
        self._members = dict(manager.members)
        self._calm_since_ms = turn.now_ms
        self._begun = 0
        """Moves of the last look: while there are some, each report may be of the last that was awaited."""

    @property
    def is_done(self) -> bool:
        """Whether no shard moves any more so that the map becomes even."""
        return self._manager.is_even or not self._config.rebalance

    def ticked(self) -> None:
        members = self._manager.members
        if members != self._members:
            self._members, self._calm_since_ms = dict(members), self._turn.now_ms
        self._look()

    def reported(self) -> None:
        """A node said what became of shards."""
        if self._begun:
            self._look()

    def _look(self) -> None:
        if self._membership.is_adopting:
            return
        is_calm = self._turn.now_ms - self._calm_since_ms >= self._config.wait_ms
        config, now_ms = self._config, self._turn.now_ms
        due = SpreadDue(
            config.moves_max,
            evens_out=config.rebalance and is_calm,
            now_ms=now_ms,
            warm_up_ms=config.warm_up_timeout_ms,
        )
        self._begun = self._shards.manage(due)
