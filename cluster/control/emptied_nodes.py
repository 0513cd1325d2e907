"""When a node's process may end without anybody missing it: for the parts of the CoordinatorCore that end some."""

from __future__ import annotations

from filoray.cluster.control.shard_manager import ShardManager
from filoray.cluster.control.view_board import ViewBoard


class EmptiedNodes:
    def __init__(self, manager: ShardManager, views: ViewBoard) -> None:
        self._manager = manager
        self._views = views
        self._empty_versions: dict[str, int] = {}
        """Of each drained node that is empty: the first view that says so."""

    def is_unneeded(self, node: str) -> bool:
        """Whether it has no shard, or may still hold one, and every gateway knows: nobody asks it any more."""
        if self._manager.may_hold(node) or node not in self._manager.drained:
            self._empty_versions.pop(node, None)
            return False
        if node not in self._empty_versions:
            self._empty_versions[node] = self._views.publish()
        return self._views.is_known(self._empty_versions[node])

    def ended(self, node: str) -> None:
        self._empty_versions.pop(node, None)
