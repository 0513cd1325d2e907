"""Which machine each node is launched on, and that its gateway follows, as transcripts: events in, effects out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import pytest
from managed_shards import config as dataset_config

from filoray.cluster.addresses import NodeAddress
from filoray.cluster.config.server_config import ServerConfig, default_server_config
from filoray.cluster.control.coordinator_core import CoordinatorCore, Remembered
from filoray.cluster.control.coordinator_effects import (
    Answer,
    Effect,
    KillProcess,
    LaunchProcess,
    LookAtMachines,
    Persist,
    PersistMachine,
    PlaceGateway,
    PlaceStandby,
    Remind,
)
from filoray.cluster.control.coordinator_events import (
    CoordinatorEvent,
    GatewayNotPlaced,
    GatewayPlaced,
    HeartbeatHeard,
    LookDue,
    MachinesSeen,
    MachinesUnknown,
    Moment,
    NodeAbsent,
    NodeAnswered,
    NodeDied,
    NodeKilled,
    NodeMisplaced,
    PatienceEnded,
    PlacingDue,
    ReadyAsked,
    StandbyPlaced,
    Started,
    Ticked,
)
from filoray.cluster.control.copy_set import CopySet
from filoray.cluster.control.launch_report import ReadyReport
from filoray.cluster.control.machine_placement import Machine, first_placement
from filoray.cluster.control.shard_manager import RestoredState
from filoray.cluster.control.shard_map import ShardMap
from filoray.cluster.control.shard_messages import DatasetDeleted, DatasetSetUp
from filoray.cluster.data_plane_keys import KeyPair
from filoray.cluster.node_protocol import HeartbeatAnswer, NodeAnnouncement, StoredCopies

A, B, B_AGAIN = Machine("a", "10.0.0.1"), Machine("b", "10.0.0.2"), Machine("b2", "10.0.0.2")
CONFIG = dataclasses.replace(default_server_config(), node_count=2)
OWN_DISKS = dataclasses.replace(
    CONFIG,
    node=dataclasses.replace(CONFIG.node, host="0.0.0.0", is_spread_over_machines=True),
)
NOTHING = RestoredState()


class Desk:
    def __init__(
        self,
        *,
        is_bound: bool = False,
        config: ServerConfig = CONFIG,
        state: RestoredState = NOTHING,
        incarnations: Mapping[str, int] = MappingProxyType({}),
        machines: Sequence[Machine] = (A, B),
    ) -> None:
        remembered = Remembered(1, KeyPair(b"public", b"secret"), incarnations, {}, {}, state)
        placement = first_placement(2, A, machines, is_bound=is_bound)
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


# ---- nodes that have their files on machines of their own


def homes_kept(effects: list[Effect]) -> dict[str, str]:
    whats = [effect.what for effect in effects if isinstance(effect, Persist)]
    return {what.node: what.address for what in whats if isinstance(what, PersistMachine)}


def at_home() -> Desk:
    """Both nodes are members, each on its own machine for good."""
    desk = Desk(config=OWN_DISKS)
    desk.take(Started(), MachinesSeen((A, B), "a"), answered(0, A), answered(1, B))
    desk.take(GatewayPlaced("gateway-0"), GatewayPlaced("gateway-1"))
    return desk


def test_where_a_node_is_for_good_is_durable_before_it_is_launched() -> None:
    effects = Desk(config=OWN_DISKS).take(Started())
    assert homes_kept(effects) == {"node-0": A.address, "node-1": B.address}
    for index, effect in enumerate(effects):
        if isinstance(effect, LaunchProcess):
            assert effect.node in homes_kept(effects[:index])


def test_a_node_whose_machine_is_away_is_launched_nowhere_else_but_there_when_it_is_back() -> None:
    desk = at_home()
    desk.take(MachinesSeen((A,), "a"))
    assert desk.lost("node-1", 1) == []
    desk.now_ms = 120_000
    assert desk.launches(Ticked(), MachinesSeen((A,), "a"), Ticked()) == []
    assert desk.launches(MachinesSeen((A, B_AGAIN), "a"), Ticked()) == [("node-1", 2, B_AGAIN.id)]
    placed = desk.take(answered(1, B_AGAIN, incarnation=2), kind=PlaceGateway)
    assert placed == [PlaceGateway("gateway-1", B_AGAIN.id)]


def test_nodes_stay_at_home_however_uneven_that_is() -> None:
    desk = at_home()
    desk.take(MachinesSeen((A, B, Machine("c", "10.0.0.3")), "a"))
    desk.now_ms = 60_000
    reminders = desk.take(MachinesSeen((A, B, Machine("c", "10.0.0.3")), "a"), kind=Remind)
    assert not any(isinstance(one.event, NodeMisplaced) for one in reminders if isinstance(one, Remind))


def test_a_launch_on_other_machines_finds_nodes_where_they_were() -> None:
    known = RestoredState(machines={"node-0": B.address, "node-1": A.address})
    desk = Desk(config=OWN_DISKS, state=known, incarnations={"node-0": 4, "node-1": 4})
    killed = [NodeKilled(node, 4, is_seen=True) for node in ("node-0", "node-1")]
    absent = [NodeAbsent(node, 4, "x") for node in ("node-0", "node-1")]
    desk.now_ms = 60_000
    assert sorted(desk.launches(Started(), *absent, *killed, Ticked())) == [("node-0", 5, B.id), ("node-1", 5, A.id)]


def test_a_launch_waits_for_no_machine_that_is_not_there_and_says_so() -> None:
    known = RestoredState(machines={"node-0": A.address, "node-1": B.address})
    desk = Desk(config=OWN_DISKS, state=known, machines=[A])
    effects = desk.take(Started(), ReadyAsked(1), answered(0, A))
    assert [one.node for one in effects if isinstance(one, LaunchProcess)] == ["node-0"]
    assert not [one for one in effects if isinstance(one, Answer)], "it is not known yet which machines there are"
    assert desk.core.launch.missing() == ("node-0", "node-1")
    desk.now_ms = OWN_DISKS.seed.form_wait_ms
    heard = HeartbeatHeard("node-0", 1, HeartbeatAnswer())
    effects = desk.take(heard, MachinesSeen((A,), "a"), Ticked())
    waits = [one.event for one in effects if isinstance(one, Remind) and isinstance(one.event, PatienceEnded)]
    desk.now_ms += 3000
    (report,) = [one.value for one in [*effects, *desk.take(heard, *waits)] if isinstance(one, Answer)]
    assert isinstance(report, ReadyReport)
    launch = desk.core.launch
    assert (launch.missing(), launch.away()) == ((), report.problems), "filoray scale waits for nobody else either"
    assert [problem.partition(",")[0] for problem in report.problems] == [
        "node-1 is away: its machine 10.0.0.2 is not in this Ray"
    ]


def test_nodes_that_were_all_on_one_machine_stay_there_as_their_files_do() -> None:
    desk = Desk(config=OWN_DISKS, incarnations={"node-0": 4, "node-1": 4})
    killed = [NodeKilled(node, 4, is_seen=True) for node in ("node-0", "node-1")]
    absent = [NodeAbsent(node, 4, "x") for node in ("node-0", "node-1")]
    desk.now_ms = 60_000
    assert sorted(desk.launches(Started(), *absent, *killed, Ticked())) == [("node-0", 5, A.id), ("node-1", 5, A.id)]


def test_nodes_whose_copies_were_gathered_in_one_place_are_there() -> None:
    """By ``filoray tsdb adopt-copies``, in a store that knows no process."""
    config = dataclasses.replace(dataset_config(), num_replicas=2)
    entry = dataclasses.replace(ShardMap.initial("metrics", 1)[0], copies=CopySet(1, (), ("node-1",)))
    state = RestoredState(((config, ShardMap("metrics", 1, (entry,))),))
    assert homes_kept(Desk(config=OWN_DISKS, state=state).take(Started())) == {
        "node-0": B.address,
        "node-1": A.address,
    }


def test_a_node_that_finds_copies_which_nobody_knows_is_no_member() -> None:
    """They may be all that is left of a cluster whose store was lost."""
    desk = Desk(config=OWN_DISKS)
    desk.take(Started(), answered(0, A))
    effects = desk.take(finding(answered(1, B), StoredCopies("metrics", 0, (1, 2))))
    assert [effect.node for effect in effects if isinstance(effect, KillProcess)] == ["node-1"]
    desk.take(NodeKilled("node-1", 1, is_seen=True))
    slot = desk.core.membership.slots["node-1"]
    assert "10.0.0.2 holds copies of shards of metrics, which the coordinator's store does not know" in slot.last_cause


@pytest.mark.parametrize(
    ("generation", "cluster_id", "is_known"),
    [
        (1, "new", True),
        (1, "lost", False),
        (1, "", False),
        (0, "new", True),
        (0, "lost", False),
        (0, "", True),
        (2, "new", False),
    ],
)
def test_a_data_set_that_is_set_up_again_does_not_make_a_lost_stores_copies_known(
    generation: int, cluster_id: str, *, is_known: bool
) -> None:
    """Neither while it is there nor while it is deleted. A former one's may be of a release that did not say whose."""
    desk = Desk(config=OWN_DISKS, state=RestoredState(cluster_id="new", generations={"metrics": 0}))
    desk.take(Started(), answered(0, A))
    config = dataclasses.replace(dataset_config(), num_replicas=2)
    desk.core.manager.handle(DatasetSetUp(config), 0)
    found = StoredCopies("metrics", generation, (0,), cluster_id)
    desk.take(finding(answered(1, B), found))
    assert desk.core.membership.is_up("node-1", 1) == is_known
    assert desk.core.manager.knew(found) == is_known
    desk.core.manager.handle(DatasetDeleted("metrics"), 0)
    assert desk.core.manager.is_deleting("metrics")
    assert desk.core.manager.knew(found) == is_known


def finding(event: NodeAnswered, *stored: StoredCopies) -> NodeAnswered:
    return dataclasses.replace(event, announcement=dataclasses.replace(event.announcement, stored=stored))
