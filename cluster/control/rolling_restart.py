"""A rolling restart: every node in turn drained, replaced by a new process, and refilled. Part of the CoordinatorCore.

What is left to do is durable before it begins, and the next step is always seen from what is: a coordinator that comes
back goes on where the last one was. A node whose shards have nowhere to go ends the restart; the log says why. One that
is drained when it is its turn, by an operator or since it is to go, is left out: it would not be refilled.
"""

from __future__ import annotations

import logging

from filoray.cluster.control.assignment import node_order
from filoray.cluster.control.coordinator_effects import Persist, PersistRestart
from filoray.cluster.control.emptied_nodes import EmptiedNodes
from filoray.cluster.control.membership import Membership, SlotState
from filoray.cluster.control.node_keeper import NodeKeeper
from filoray.cluster.control.shard_manager import ShardManager
from filoray.cluster.control.shard_messages import NodeDrained, NodeUndrained
from filoray.cluster.control.shard_orders import ShardOrders
from filoray.cluster.control.spreader import Spreader
from filoray.cluster.control.turn import Turn
from filoray.cluster.control.view_board import ViewBoard
from filoray.cluster.errors import FilorayError, Unavailable
from filoray.cluster.node_protocol import NodeProcessId


class RollingRestart:
    """``left``: the processes that are still to be replaced, the next first."""

    def __init__(
        self,
        turn: Turn,
        manager: ShardManager,
        membership: Membership,
        shards: ShardOrders,
        nodes: NodeKeeper,
        views: ViewBoard,
        emptied: EmptiedNodes,
        spreader: Spreader,
        left: tuple[NodeProcessId, ...],
    ) -> None:
        self._turn = turn
        self._manager = manager
        self._membership = membership
        self._shards = shards
        self._nodes = nodes
        self._views = views
        self._emptied = emptied
        self._spreader = spreader
        self._left = left
        self.problem = ""
        """Why the last restart ended before its time, or ""."""

    @property
    def left(self) -> tuple[NodeProcessId, ...]:
        return self._left

    def begin(self) -> None:
        """Raises Unavailable if one is under way."""
        if self._left:
            raise Unavailable(f"a rolling restart is under way; {self._left[0][0]} is next")
        self.problem = ""
        members = sorted(self._membership.members().items(), key=lambda item: node_order(item[0]))
        self._go_on_with(tuple((node, announcement.incarnation) for node, announcement in members))
        self._turn.say("rolling restart begins nodes=%s", [node for node, _ in self._left])

    def look(self) -> None:
        """Do what can be done now."""
        if not self._left or self._membership.is_adopting or self._nodes.is_stopping:
            return
        node, incarnation = self._left[0]
        slot = self._membership.slots.get(node)
        if slot is None or node in self._membership.surplus:  # it is to go, so nobody refills it
            self._go_on_with(self._left[1:])
        elif slot.incarnation == incarnation and slot.state is SlotState.UP:
            self._empty_and_replace(node, incarnation)
        elif slot.incarnation != incarnation and slot.state is SlotState.UP and slot.is_member:
            self._refill(node)

    def _empty_and_replace(self, node: str, incarnation: int) -> None:
        if node not in self._manager.drained or not self._manager.keeps_copies(node):
            try:
                self._shards.manage(NodeDrained(node, keeps_copies=True))
            except FilorayError as error:
                self._give_up(error.message)
                return
            self._views.changed()
        # Its copies are what those who lead now have, until others are in sync with them.
        is_ending = not self._manager.needs_copies_of(node) and self._emptied.end_if_unneeded(
            node, incarnation, "replaced in a rolling restart"
        )
        if not is_ending and self._manager.has_nowhere_to_go(node):
            self._shards.manage(NodeUndrained(node))
            self._views.changed()
            self._give_up(f"there is no room any more for the shards of {node}")

    def _refill(self, node: str) -> None:
        if node in self._manager.drained:
            self._shards.manage(NodeUndrained(node))
            self._views.changed()
        elif self._spreader.is_done:
            self._go_on_with(self._left[1:])
            if not self._left:
                self._turn.say("rolling restart done")

    def _give_up(self, problem: str) -> None:
        self.problem = problem
        self._turn.say("rolling restart ended early: %s", problem, level=logging.ERROR)
        self._go_on_with(())

    def _go_on_with(self, left: tuple[NodeProcessId, ...]) -> None:
        while left and left[0][0] in self._manager.drained:
            self._turn.say("a drained node is left out of the rolling restart node=%s", left[0][0])
            left = left[1:]
        self._left = left
        self._turn.emit(Persist(PersistRestart(left), cause=self._turn.cause))
