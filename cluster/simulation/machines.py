"""The machines of a simulated Ray: which are there, where its gateways are. One that comes back is another."""

from __future__ import annotations

from filoray.cluster.control.coordinator_effects import MachineList
from filoray.cluster.control.machine_placement import Machine, Placement, first_placement


class SimulatedMachines:
    """``count``: 0 for a cluster that is launched on one machine and stays there."""

    def __init__(self, count: int, node_count: int) -> None:
        self._joined = 0
        self._machines: dict[int, Machine] = {}
        self.gateways: dict[str, str] = {}
        """By name the id of the machine it was last put on."""
        for index in range(count):
            self.join(index)
        there = self.present()
        self.placement: Placement | None = (
            first_placement(node_count, there[0], there, is_bound=False) if there else None
        )

    def present(self) -> tuple[Machine, ...]:
        return tuple(self._machines.values())

    def seen(self) -> MachineList:
        return MachineList(self.present(), self.present()[0].id)

    def address(self, machine: str) -> str:
        """Of one that is there, by its id."""
        return next(one.address for one in self.present() if one.id == machine)

    def is_there(self, machine: str) -> bool:
        return not machine or any(one.id == machine for one in self._machines.values())

    def address_at(self, index: int) -> str:
        """Of the one of that number, also while it is not there."""
        return f"10.0.0.{index + 1}"

    def is_missing(self, index: int) -> bool:
        return index not in self._machines

    def join(self, index: int) -> None:
        self._joined += 1
        self._machines[index] = Machine(f"ray-{self._joined}", self.address_at(index))

    def lose(self, index: int) -> Machine | None:
        return self._machines.pop(index, None)

    def uneven(self, seats: dict[str, str], *, may_move: bool = True) -> str:
        """What is wrong with where nodes (by name the machine's id) and gateways are, or "".

        ``may_move``: nodes may, so no machine is to have two more than another.
        """
        if self.placement is None:
            return ""
        counts = [list(seats.values()).count(machine.id) for machine in self.present()]
        if sum(counts) != len(seats) or (may_move and max(counts) - min(counts) > 1):
            return f"nodes are at {seats} of {self.present()}"
        apart = [node for node, machine in seats.items() if self.gateways.get(_beside(node), machine) != machine]
        return f"gateways are not beside {apart}" if apart else ""


def _beside(node: str) -> str:
    return node.replace("node-", "gateway-")
