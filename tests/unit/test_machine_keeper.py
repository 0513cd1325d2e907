"""Which machine each node is launched on, and that its gateway follows, as transcripts: events in, effects out."""

from __future__ import annotations

import dataclasses

from filoray.cluster.addresses import NodeAddress
from filoray.cluster.config.server_config import ServerConfig, default_server_config
from filoray.cluster.control.coordinator_core import CoordinatorCore, Remembered
from filoray.cluster.control.coordinator_effects import (
    Effect,
    LaunchProcess,
    LookAtMachines,
    PlaceGateway,
    PlaceStandby,
    Remind,
)
from filoray.cluster.control.coordinator_events import (
    CoordinatorEvent,
    GatewayNotPlaced,
    GatewayPlaced,
    LookDue,
    MachinesSeen,
    MachinesUnknown,
    Moment,
    NodeAnswered,
    NodeDied,
    NodeKilled,
    NodeMisplaced,
    PlacingDue,
    StandbyPlaced,
    Started,
)
from filoray.cluster.control.machine_placement import Machine, first_placement
from filoray.cluster.control.shard_manager import RestoredState
from filoray.cluster.data_plane_keys import KeyPair
from filoray.cluster.node_protocol import NodeAnnouncement

A, B, B_AGAIN = Machine("a", "10.0.0.1"), Machine("b", "10.0.0.2"), Machine("b2", "10.0.0.2")
CONFIG = dataclasses.replace(default_server_config(), node_count=2)


class Desk:
    def __init__(self, *, is_bound: bool = False, config: ServerConfig = CONFIG) -> None:
        remembered = Remembered(1, KeyPair(b"public", b"secret"), {}, {}, {}, RestoredState())
        placement = first_placement(2, A, [A, B], is_bound=is_bound)
        self.now_ms = 0
        self.core = CoordinatorCore(config, remembered, Moment(0, 0), placement=placement)

    def take(self, *happened: CoordinatorEvent, kind: type = object) -> list[Effect]:
        """The effects of that kind."""
        done = [effect for event in happened for effect in self.core.handle(event, Moment(self.now_ms, 0))]
        return [effect for effect in done if isinstance(effect, kind)]

    def launches(self, *happened: CoordinatorEvent) -> list[tuple[str, int, str]]:
        done = self.take(*happened, kind=LaunchProcess)
        return [(one.node, one.incarnation, one.machine) for one in done if isinstance(one, LaunchProcess)]

    def lost(self, node: str, incarnation: int) -> list[tuple[str, int, str]]:
        return self.launches(NodeDied(node, incarnation, "x"), NodeKilled(node, incarnation, is_seen=True))


def answered(index: int, machine: Machine, incarnation: int = 1) -> NodeAnswered:
    address = NodeAddress(machine.address, 2552 + index)
    return NodeAnswered(NodeAnnouncement(f"node-{index}", incarnation, address, 1, machine.id), None)


def formed() -> Desk:
    desk = Desk()
    desk.take(Started(), MachinesSeen((A, B), "a"), answered(0, A), answered(1, B))
    desk.take(GatewayPlaced("gateway-0"), GatewayPlaced("gateway-1"))
    return desk


def test_nodes_are_launched_where_the_launch_said_and_machines_are_looked_at() -> None:
    desk = Desk()
    assert desk.launches(Started()) == [("node-0", 1, "a"), ("node-1", 1, "b")]
    assert desk.take(LookDue(), kind=LookAtMachines) == [LookAtMachines(3000)]
    for seen in (MachinesSeen((A, B), "a"), MachinesUnknown("Ray does not answer")):
        assert Remind(1000, LookDue()) in desk.take(seen)


def test_where_all_must_be_on_one_machine_nobody_looks_at_others() -> None:
    desk = Desk(is_bound=True)
    done = desk.take(Started())
    assert not [effect for effect in done if isinstance(effect, LookAtMachines)]
    assert [effect.machine for effect in done if isinstance(effect, LaunchProcess)] == ["", ""]


def test_a_node_that_dies_alone_is_launched_where_it_was() -> None:
    assert formed().lost("node-1", 1) == [("node-1", 2, "b")]


def test_a_lost_machines_node_goes_to_another_and_its_gateway_with_it() -> None:
    desk = formed()
    desk.take(MachinesSeen((A,), "a"))
    assert desk.lost("node-1", 1) == [("node-1", 2, "a")]
    assert desk.take(answered(1, A, incarnation=2), kind=PlaceGateway) == [PlaceGateway("gateway-1", "a")]
    assert desk.take(GatewayNotPlaced("gateway-1", "no answer"), kind=PlaceGateway) == []
    assert desk.take(PlacingDue("gateway-1"), kind=PlaceGateway) == [PlaceGateway("gateway-1", "a")]


def test_a_node_returns_to_a_machine_that_has_been_back_for_a_while() -> None:
    desk = formed()
    desk.take(MachinesSeen((A,), "a"))
    desk.lost("node-1", 1)
    desk.take(answered(1, A, incarnation=2), GatewayPlaced("gateway-1"), MachinesSeen((A, B_AGAIN), "a"))
    desk.now_ms = 4999
    assert NodeMisplaced("node-1", 2, B.address) not in reminders(desk.take(MachinesSeen((A, B_AGAIN), "a")))
    desk.now_ms = 5000
    assert NodeMisplaced("node-1", 2, B.address) in reminders(desk.take(MachinesSeen((A, B_AGAIN), "a")))
    moved = desk.launches(NodeMisplaced("node-1", 2, B.address), NodeKilled("node-1", 2, is_seen=True))
    assert moved == [("node-1", 3, "b2")]


def test_a_gateway_whose_node_moved_while_it_was_placed_follows() -> None:
    desk = Desk()
    desk.take(Started(), MachinesSeen((A, B), "a"), answered(0, A), answered(1, B))  # gateway-1 is being placed at B
    desk.take(MachinesSeen((A,), "a"))
    desk.lost("node-1", 1)
    assert desk.take(answered(1, A, incarnation=2), kind=PlaceGateway) == []
    assert desk.take(GatewayPlaced("gateway-1"), kind=PlaceGateway) == [PlaceGateway("gateway-1", "a")]


STANDBY_CONFIG = dataclasses.replace(
    CONFIG,
    node=dataclasses.replace(CONFIG.node, host="0.0.0.0"),
    meta_store_url="postgresql+psycopg://u:p@db/d",
    column_store_url="postgresql+psycopg://u:p@db/d",
)


def test_another_coordinator_stands_by_on_another_machine_while_there_is_one() -> None:
    desk = Desk(config=STANDBY_CONFIG)
    desk.take(Started(), MachinesSeen((A, B), "a"))
    desk.now_ms = 5000
    assert desk.take(MachinesSeen((A, B), "a"), kind=PlaceStandby) == [PlaceStandby("b")]
    assert desk.take(MachinesSeen((A, B), "a"), kind=PlaceStandby) == []
    desk.take(StandbyPlaced("b", "Ray does not answer"))
    assert desk.take(MachinesSeen((A, B), "a"), kind=PlaceStandby) == [PlaceStandby("b")], "again, as it failed"
    desk.take(StandbyPlaced("b"), MachinesSeen((A,), "a"))
    desk.now_ms = 10_000
    assert desk.take(MachinesSeen((A,), "a"), kind=PlaceStandby) == [], "there is no other machine"
    desk.take(MachinesSeen((A, B_AGAIN), "a"))
    desk.now_ms = 15_000
    assert desk.take(MachinesSeen((A, B_AGAIN), "a"), kind=PlaceStandby) == [PlaceStandby("b2")]


def test_a_coordinator_whose_store_is_a_file_has_no_other() -> None:
    desk = formed()
    desk.now_ms = 5000
    assert desk.take(MachinesSeen((A, B), "a"), kind=PlaceStandby) == []


def reminders(effects: list[Effect]) -> list[CoordinatorEvent]:
    return [effect.event for effect in effects if isinstance(effect, Remind)]
