"""On which machine each node is launched, that its gateway is beside it, and where the other coordinator stands by.

A part of the CoordinatorCore. Where nodes may be on many machines it looks at them regularly. What is launched goes
where ``machine_placement.seats_now`` says. A node moves only when that is not even any more and has not been for a
while: one at a time, when all nodes are there, since to move is to end and be launched elsewhere. A gateway follows
its node. Where each node has its files on a machine of its own, it is launched there or nowhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from filoray.cluster.actor_names import gateway_index, gateway_name, node_name, slot_index
from filoray.cluster.config.server_config import ServerConfig
from filoray.cluster.control.coordinator_effects import (
    LaunchProcess,
    LookAtMachines,
    Persist,
    PersistMachine,
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
from filoray.cluster.control.machine_placement import (
    Machine,
    Placement,
    coordinator_machines,
    homes_of,
    new_home,
    seats_now,
)
from filoray.cluster.control.membership import Membership
from filoray.cluster.control.patience import Patience
from filoray.cluster.control.turn import Turn
from filoray.cluster.data_plane_keys import KeyPair
from filoray.cluster.node_protocol import NodeAnnouncement


class MachineKeeper:
    """``placement``: that of the launch; None or a bound one: all is where the coordinator's data are.

    ``known_homes``: of nodes that have one; ``veterans``: nodes that were there before.
    """

    def __init__(
        self,
        turn: Turn,
        config: ServerConfig,
        membership: Membership,
        placement: Placement | None,
        gateway_keys: KeyPair,
        patience: Patience,
        known_homes: Mapping[str, str],
        veterans: Iterable[str],
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
        self._gateway_keys = gateway_keys
        self._patience = patience
        self._has_looked = False
        self._homes: dict[str, str] | None = None
        """By node; None where nodes have none."""
        self._durable_homes = {node: home for node, home in known_homes.items() if home}
        if placement is not None and self._first and config.keeps_nodes_at_home:
            self._homes = homes_of(known_homes, veterans, placement.home)
            self._hold_who_is_away()

    def begin(self) -> None:
        if self._first:
            self._look()

    # ---- homes

    def away(self) -> Mapping[str, str] | None:
        """Nodes whose home is not there, with its address; None: that is not known yet."""
        if self._homes is None:
            return {}
        if not self._has_looked:
            return None
        there = {machine.address for machine in self._machines.values()}
        return {
            node: self._homes[node] for node in self._membership.slots if self._homes.get(node, "") not in {*there, ""}
        }

    def settle(self, node: str) -> None:
        """Have it known for good where its home is, before there is anything of it."""
        if self._homes is None or node in self._durable_homes:
            return
        if node not in self._homes:
            seat = self._first[slot_index(node) % len(self._first)]
            others = [self._homes[other] for other in self._membership.slots if other in self._homes]
            self._homes[node] = new_home(seat, others, self._machines.values())
        self._durable_homes[node] = self._homes[node]
        self._turn.emit(Persist(PersistMachine(node, self._homes[node]), cause=self._turn.cause))

    def left_homes(self) -> list[str]:
        """Nodes that are none any more and have a home still."""
        if len(self._durable_homes) == len(self._membership.slots):  # one without gets one when it is launched
            return []
        return [node for node in self._durable_homes if node not in self._membership.slots]

    def forget(self, node: str) -> None:
        """A node of that name may have another home some day: one that is gone left nothing in its own."""
        if self._homes is not None:
            del self._homes[node], self._durable_homes[node]
            self._hold_who_is_away()
            self._turn.say("a node that is gone has no home any more node=%s", node)
            self._turn.emit(Persist(PersistMachine(node, ""), cause=self._turn.cause))

    def _hold_who_is_away(self) -> None:
        """Nothing of them is started. Before the first look only the machines of the launch are known to be there."""
        if self._homes is not None:
            there = {machine.address for machine in self._machines.values()}
            self._membership.hold(node for node, address in self._homes.items() if address not in there)

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
            LaunchProcess(node, incarnation, port, self._gateway_keys, timeout_ms, machine, cause=self._turn.cause)
        )

    def answered(self, announcement: NodeAnnouncement) -> None:
        """It is there, and so should its gateway be."""
        if self._first:
            index, machine = slot_index(announcement.node), announcement.ray_node_id
            self._seats[index] = self._machines.get(machine, Machine(machine))
            self._place_gateway(index)

    def _seats_now(self) -> dict[int, Machine]:
        """Where the node of each index should be. Those that came later go on round the machines of the launch."""
        if self._homes is not None:
            return self._seats_at_home(self._homes)
        indexes = sorted({slot_index(node) for node in self._membership.slots})
        first = [self._first[index % len(self._first)] for index in indexes]
        present = [self._seats.get(index) for index in indexes]
        return dict(zip(indexes, seats_now(first, present, tuple(self._machines.values())), strict=True))

    def _seats_at_home(self, homes: Mapping[str, str]) -> dict[int, Machine]:
        """Of the nodes whose home is there."""
        by_address = {machine.address: machine for machine in self._machines.values()}
        at_home = {slot_index(node): homes.get(node, "") for node in self._membership.slots}
        return {index: by_address[home] for index, home in at_home.items() if home in by_address}

    # ---- machines

    def seen(self, event: MachinesSeen) -> None:
        turn, machines = self._turn, {machine.id: machine for machine in event.machines}
        if machines.keys() != self._machines.keys():
            turn.say("machines are %s", ", ".join(sorted(machine.address for machine in event.machines)))
            self._same_since_ms = turn.now_ms
        self._machines = machines or self._machines  # the one that looks is there, whatever it sees
        self._has_looked = True
        self._hold_who_is_away()
        if turn.now_ms - self._same_since_ms >= self._patience.even_ms:
            if self._homes is None:
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
