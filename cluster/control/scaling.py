"""How many nodes there are to be, while the cluster runs: a part of the CoordinatorCore.

The number is durable; the rest is always seen from what is. Nodes that are missing are launched by the Membership. One
that is too many is drained and, when it is empty and no gateway asks it any more, ended. One that is gone, and of which
no copy is wanted any more, has no home: another of its name may be anywhere.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from filoray.cluster.actor_names import gateway_name, node_name
from filoray.cluster.control.assignment import node_order
from filoray.cluster.control.coordinator_effects import Persist, PersistNodeCount
from filoray.cluster.control.emptied_nodes import EmptiedNodes
from filoray.cluster.control.machine_keeper import MachineKeeper
from filoray.cluster.control.membership import Membership, SlotState
from filoray.cluster.control.node_keeper import NodeKeeper
from filoray.cluster.control.shard_manager import ShardManager
from filoray.cluster.control.shard_messages import NodeDrained, NodeUndrained
from filoray.cluster.control.shard_orders import ShardOrders
from filoray.cluster.control.turn import Turn
from filoray.cluster.control.view_board import ViewBoard
from filoray.cluster.errors import FilorayError, Unavailable


class Scaling:
    def __init__(
        self,
        turn: Turn,
        manager: ShardManager,
        membership: Membership,
        shards: ShardOrders,
        nodes: NodeKeeper,
        views: ViewBoard,
        emptied: EmptiedNodes,
        machines: MachineKeeper,
    ) -> None:
        self._turn = turn
        self._manager = manager
        self._membership = membership
        self._shards = shards
        self._nodes = nodes
        self._views = views
        self._emptied = emptied
        self._machines = machines

    @property
    def surplus(self) -> tuple[str, ...]:
        """Nodes that are to go and have not gone yet."""
        return self._membership.surplus

    def begin(self, count: int) -> None:
        """There are to be ``count`` nodes.

        Raises BadData, and changes nothing, if the others could not hold all; Unavailable if one that is to go has
        copies in sync and is not there to be emptied.
        """
        names = node_names(count)
        self._check_who_is_away(names)
        for node in self.surplus:
            if node in names and node in self._manager.drained:  # it was to go, and is wanted again
                self._shards.manage(NodeUndrained(node))
        kept = self._manager.drained
        leaving = [node for node in self._membership.members() if node not in names and node not in kept]
        if leaving:
            self._manager.check_drain(sorted(leaving, key=node_order))
        self._turn.say("the cluster is to have %d nodes", count)
        self._turn.emit(Persist(PersistNodeCount(count), cause=self._turn.cause))
        self._membership.want(names, self._turn.now_ms)
        self._views.expect(gateway_names(count))
        self._views.changed()

    def _check_who_is_away(self, names: Collection[str]) -> None:
        """A node that is not wanted is not launched again, and its copy may be the only one that has everything."""
        leaving = self._membership.slots.keys() - names - self._membership.members().keys()
        for node in sorted(leaving, key=node_order):
            for dataset, (config, shard_map) in self._manager.datasets.items():
                shards = [str(entry.shard) for entry in shard_map.shards if node in entry.copies.in_sync]
                if config.has_copies and shards:
                    raise Unavailable(
                        f"{node} is not there, so it cannot be emptied before it goes, and its copies of the shards "
                        f"{', '.join(shards)} of {dataset} count as in sync: others may lack what was acknowledged. "
                        "Try again when it is back, or when the others have taken its place"
                    )

    def look(self) -> None:
        """Do what can be done now."""
        if self._membership.is_adopting or self._nodes.is_stopping:
            return
        slots = self._membership.slots
        for node in [node for node in self._manager.drained if node not in slots]:
            self._shards.manage(NodeUndrained(node))  # it is gone; one of its name may come some day
        for node in self._machines.left_homes():
            if not self._manager.may_hold(node):
                self._machines.forget(node)
        for node in self.surplus:
            slot = self._membership.slots[node]
            if slot.state is SlotState.LAUNCHING:
                self._nodes.replace(node, slot.incarnation, "not needed any more")
            elif slot.state is SlotState.UP and slot.is_member:
                self._empty_and_end(node, slot.incarnation)

    def _empty_and_end(self, node: str, incarnation: int) -> None:
        # A rolling restart may have drained it so that its copies stay.
        if node not in self._manager.drained or self._manager.keeps_copies(node):
            try:
                self._shards.manage(NodeDrained(node))
            except FilorayError:
                return  # an earlier launch had it, and the others have no room yet
            self._views.changed()
        else:
            self._emptied.end_if_unneeded(node, incarnation, "not needed any more")


def node_names(count: int) -> frozenset[str]:
    return frozenset(node_name(index) for index in range(count))


def gateway_names(count: int) -> Iterable[str]:
    return tuple(gateway_name(index) for index in range(count))
