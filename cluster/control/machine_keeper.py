"""On which machine each node is launched, that its gateway is beside it, and where the other coordinator stands by.

A part of the CoordinatorCore. Where nodes may be on many machines it looks at them regularly. What is launched goes
where ``machine_placement.seats_now`` says. A node moves only when that is not even any more and has not been for a
while: one at a time, when all nodes are there, since to move is to end and be launched elsewhere. A gateway follows
its node.
"""

from __future__ import annotations

from filoray.cluster.actor_names import gateway_index, gateway_name, node_name, slot_index
from filoray.cluster.config.server_config import ServerConfig
from filoray.cluster.control.coordinator_effects import (
    LaunchProcess,
    LookAtMachines,
    PlaceGateway,
    PlaceStandby,
)
from filoray.cluster.control.coordinator_events import (
    GatewayNotPlaced,
    GatewayPlaced,
    LookDue,
    MachinesSeen,
    MachinesUnknown,
    NodeMisplaced,
    PlacingDue,
    StandbyPlaced,
)
from filoray.cluster.control.machine_placement import Machine, Placement, coordinator_machines, seats_now
from filoray.cluster.control.membership import Membership
from filoray.cluster.control.patience import Patience
from filoray.cluster.control.turn import Turn
from filoray.cluster.node_protocol import NodeAnnouncement


class MachineKeeper:
    """``placement``: that of the launch; None or a bound one: all is where the coordinator's data are."""

    def __init__(
        self,
        turn: Turn,
        config: ServerConfig,
        membership: Membership,
        placement: Placement | None,
        gateways_key: bytes,
        patience: Patience,
    ) -> None:
        self._turn = turn
        self._config = config
        self._membership = membership
        self._first = placement.seats if placement is not None and not placement.is_bound else ()
        self._machines = {machine.id: machine for machine in self._first}
        self._same_since_ms = turn.now_ms
        self._seats: dict[int, Machine] = {}
        """Where the node of that index is, or is being launched."""
        self._placing: dict[str, str] = {}
        """Gateways that are being put on the machine of that id."""
        self._standby = ""
        """The id of the machine where the other coordinator stands by, or is being put; "": not known."""
        self._gateways_key = gateways_key
        self._patience = patience

    def begin(self) -> None:
        if self._first:
            self._look()

    # ---- nodes

    def launch(self, node: str, incarnation: int) -> None:
        """Have it launched where it should be."""
        node_config, index = self._config.node, slot_index(node)
        machine = ""
        if self._first:
            chosen = self._seats_now()[index]
            self._seats[index] = chosen
            machine = chosen.id
            self._turn.say("node launches node=%s#%d machine=%s", node, incarnation, chosen.address)
        else:
            self._turn.say("node launches node=%s#%d", node, incarnation)
        port, timeout_ms = node_config.port_base + index, node_config.start_timeout_ms
        self._turn.emit(
            LaunchProcess(node, incarnation, port, self._gateways_key, timeout_ms, machine, cause=self._turn.cause)
        )

    def answered(self, announcement: NodeAnnouncement) -> None:
        """It is there, and so should its gateway be."""
        if self._first:
            index, machine = slot_index(announcement.node), announcement.ray_node_id
            self._seats[index] = self._machines.get(machine, Machine(machine))
            self._place_gateway(index)

    def _seats_now(self) -> dict[int, Machine]:
        """Where the node of each index should be. Those that came later go on round the machines of the launch."""
        indexes = sorted({slot_index(node) for node in self._membership.slots})
        first = [self._first[index % len(self._first)] for index in indexes]
        present = [self._seats.get(index) for index in indexes]
        return dict(zip(indexes, seats_now(first, present, tuple(self._machines.values())), strict=True))

    # ---- machines

    def seen(self, event: MachinesSeen) -> None:
        turn, machines = self._turn, {machine.id: machine for machine in event.machines}
        if machines.keys() != self._machines.keys():
            turn.say("machines are %s", ", ".join(sorted(machine.address for machine in event.machines)))
            self._same_since_ms = turn.now_ms
        self._machines = machines or self._machines  # the one that looks is there, whatever it sees
        if turn.now_ms - self._same_since_ms >= self._patience.even_ms:
            self._even_out()
            self._place_standby(event.here)
        self._look_later()

    def unknown(self, event: MachinesUnknown) -> None:
        self._turn.warn("it is not known which machines are there error=%s", event.problem)
        self._look_later()

    def look_due(self, _: LookDue) -> None:
        self._look()

    def _look(self) -> None:
        self._turn.emit(LookAtMachines(self._patience.look_timeout_ms, cause=self._turn.cause))

    def _look_later(self) -> None:
        self._turn.remind(self._patience.look_ms, LookDue())  # a cause of its own

    def _even_out(self) -> None:
        """Move one node, if that makes them more even."""
        members = self._membership.members()
        are_all_seated = all(
            node in members and (seat := self._seats.get(slot_index(node))) is not None and seat.id in self._machines
            for node in self._membership.slots
        )
        if not are_all_seated:
            return
        for index, chosen in self._seats_now().items():
            if chosen.id != self._seats[index].id:
                self._seats[index] = chosen
                node = node_name(index)
                where = NodeMisplaced(node, members[node].incarnation, chosen.address, cause=self._turn.cause)
                self._turn.remind(0, where)
                return

    # ---- the other coordinator

    def _place_standby(self, here: str) -> None:
        """On the best machine beside this one, if it is not on one already."""
        others = coordinator_machines(machine for machine in self._machines.values() if machine.id != here)
        if self._config.has_standby and others and self._standby not in {machine.id for machine in others}:
            self._standby = others[0].id
            self._turn.emit(PlaceStandby(self._standby, cause=self._turn.cause))

    def standby_placed(self, event: StandbyPlaced) -> None:
        if event.problem:  # it is tried again at the next look
            self._turn.warn("no coordinator stands by machine=%s error=%s", event.machine, event.problem)
            self._standby = ""

    # ---- gateways

    def _place_gateway(self, index: int) -> None:
        """Unless its node is not there any more."""
        seat, gateway = self._seats.get(index), gateway_name(index)
        if seat is not None and node_name(index) in self._membership.slots and gateway not in self._placing:
            self._placing[gateway] = seat.id
            self._turn.emit(PlaceGateway(gateway, seat.id, cause=self._turn.cause))

    def gateway_placed(self, event: GatewayPlaced) -> None:
        machine, index = self._placing.pop(event.gateway, None), gateway_index(event.gateway)
        seat = self._seats.get(index)
        if seat is not None and seat.id != machine:  # its node has moved meanwhile
            self._place_gateway(index)

    def gateway_not_placed(self, event: GatewayNotPlaced) -> None:
        self._turn.warn("a gateway is not beside its node gateway=%s error=%s", event.gateway, event.problem)
        self._turn.remind(self._patience.retry_ms, PlacingDue(event.gateway, cause=self._turn.cause))

    def placing_due(self, event: PlacingDue) -> None:
        self._placing.pop(event.gateway, None)
        self._place_gateway(gateway_index(event.gateway))
