"""When a node's process may end without anybody missing it: for the parts of the CoordinatorCore that end some."""

from __future__ import annotations

from filoray.cluster.control.node_keeper import NodeKeeper
from filoray.cluster.control.shard_manager import ShardManager
from filoray.cluster.control.view_board import ViewBoard


class EmptiedNodes:
    def __init__(self, manager: ShardManager, nodes: NodeKeeper, views: ViewBoard) -> None:
        self._manager = manager
        self._nodes = nodes
        self._views = views
        self._empty_versions: dict[str, int] = {}
        """Of each drained node that is empty: the first view that says so."""

    def end_if_unneeded(self, node: str, incarnation: int, why: str) -> bool:
        """End the process of a drained node once it can hold no shard and every gateway knows: nobody asks it then.

        Returns whether it is being ended.
        """
        if self._manager.may_hold(node) or node not in self._manager.drained:
            self._empty_versions.pop(node, None)
            return False
        if node not in self._empty_versions:
            self._empty_versions[node] = self._views.publish()
        if not self._views.is_known(self._empty_versions[node]):
            return False
        del self._empty_versions[node]
        self._nodes.replace(node, incarnation, why)
        return True
