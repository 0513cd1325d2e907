"""The coordinator's core as transcripts: these events went in, these effects came out."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import pytest

from filoray.cluster.addresses import NodeAddress
from filoray.cluster.cluster_view import ClusterView
from filoray.cluster.config.dataset import LOG_STREAM_FACTORY, DatasetConfig
from filoray.cluster.config.server_config import InlineDataset, ServerConfig, default_server_config
from filoray.cluster.control import coordinator_effects as effects
from filoray.cluster.control import coordinator_events as events
from filoray.cluster.control.coordinator_core import CoordinatorCore, Remembered
from filoray.cluster.control.coordinator_dispatcher import end_of, failure_of
from filoray.cluster.control.coordinator_effects import (
    AdoptProcess,
    Answer,
    Call,
    CallResult,
    CloseNode,
    CoordinatorEffect,
    Effect,
    EndProcess,
    GiveOrder,
    KillProcess,
    LaunchProcess,
    LookAtMachines,
    MachineList,
    NodeProcess,
    Persist,
    PersistNodeCount,
    PersistOpened,
    PersistProcess,
    PlaceGateway,
    PlaceStandby,
    PushView,
    ReadSourceConfig,
    Refuse,
    Remind,
    Retire,
    Say,
    SendHeartbeat,
    TellMembers,
    WatchProcess,
)
from filoray.cluster.control.coordinator_events import (
    CoordinatorEvent,
    DeletionOrdered,
    HeartbeatDue,
    HeartbeatHeard,
    HeartbeatMissed,
    KillDue,
    KillFailed,
    Moment,
    NodeAbsent,
    NodeAnswered,
    NodeClosed,
    NodeDied,
    NodeKilled,
    OrderDone,
    OrderDue,
    OrderFailed,
    PatienceEnded,
    PublishDue,
    ReadyAsked,
    ScaleOrdered,
    SetUpOrdered,
    ShardsReported,
    ShutdownOrdered,
    SourceConfigRead,
    SourceConfigRefused,
    Started,
    StartOrdered,
    StopOrdered,
    StoreFailed,
    Ticked,
    ViewAsked,
    ViewRefused,
    ViewTaken,
    WatchDue,
    WatchFailed,
)
from filoray.cluster.control.copy_set import CopySet, InSyncProposed
from filoray.cluster.control.machine_placement import Machine
from filoray.cluster.control.membership import PersistIncarnation
from filoray.cluster.control.node_keeper import KnownProcess
from filoray.cluster.control.patience import Patience
from filoray.cluster.control.shard_messages import (
    DeleteShards,
    PersistDataset,
    PersistDrained,
    PersistShardMap,
    StartShards,
    StopShards,
)
from filoray.cluster.control.shard_status import IngestionError, IngestionStarted, ShardEvent
from filoray.cluster.control.shard_table import RestoredState
from filoray.cluster.data_plane_keys import KeyPair
from filoray.cluster.errors import BadData, DatasetUnknown, FilorayError, Unavailable
from filoray.cluster.node_protocol import HeartbeatAnswer, LeaseGrant, NodeAnnouncement, ShardReport

KEYS = KeyPair(b"public", b"secret")
DEFAULT = default_server_config()
DATASET = DatasetConfig("d", "prom-counter", 2, 1, LOG_STREAM_FACTORY, 1, {}, DEFAULT.store)
PATIENCE = Patience()
NOTHING = Remembered(1, KEYS, {}, {}, {}, RestoredState())


def server_config(node_count: int = 2, datasets: Sequence[InlineDataset] = ()) -> ServerConfig:
    return dataclasses.replace(DEFAULT, node_count=node_count, datasets=tuple(datasets))


def announced(index: int, incarnation: int = 1, clock_ms: int = 70) -> NodeAnswered:
    address = NodeAddress("127.0.0.1", 2552 + index)
    announcement = NodeAnnouncement(f"node-{index}", incarnation, address, 100 + index, "here", clock_ms=clock_ms)
    return NodeAnswered(announcement, 1.5)


def report(node: int, shard: int, event: ShardEvent, epoch: int = 1) -> ShardsReported:
    return ShardsReported(f"node-{node}", 1, [ShardReport("d", shard, epoch, event)])


class Desk:
    """A core, and what it said to each event but for lines of the log."""

    def __init__(self, config: ServerConfig | None = None, remembered: Remembered = NOTHING) -> None:
        self.now_ms = 1000
        self.absent_ms = 0
        self.core = CoordinatorCore(config or server_config(), remembered, self.moment())

    def moment(self) -> Moment:
        return Moment(self.now_ms, 1_000_000 + self.now_ms, self.absent_ms)

    def take(self, *happened: CoordinatorEvent) -> list[Effect]:
        done = [effect for event in happened for effect in self.core.handle(event, self.moment())]
        return [effect for effect in done if not isinstance(effect, Say)]

    @property
    def copies(self) -> CopySet:
        """Of the first shard."""
        return self.core.manager.shard_map("d")[0].copies

    def formed(self) -> Desk:
        self.take(Started(), announced(0), announced(1), PublishDue())
        return self

    def with_dataset(self) -> Desk:
        self.formed().take(SetUpOrdered(1, "d", "text"), SourceConfigRead(1, DATASET))
        self.take(report(0, 0, IngestionStarted()), report(1, 1, IngestionStarted()), PublishDue())
        return self


def order(kind: type, shard: int = 0, epoch: int = 1) -> StartShards | StopShards | DeleteShards:
    if kind is StartShards:
        return StartShards(f"node-{shard}", 1, DATASET, ((shard, epoch),))
    if kind is StopShards:
        return StopShards(f"node-{shard}", 1, "d", ((shard, epoch),))
    return DeleteShards(f"node-{shard}", 1, "d", (shard,))


def test_a_coordinator_that_stood_still_leaves_nobody_out_at_the_word_of_one_that_may_be_gone_since() -> None:
    """Where that one lost its disk meanwhile, who it would leave out is the only one that has everything."""
    desk = Desk().formed()
    copied = dataclasses.replace(DATASET, num_shards=1, num_replicas=2)
    desk.take(SetUpOrdered(1, "d", "text"), SourceConfigRead(1, copied), report(0, 0, IngestionStarted()))

    def proposal(*in_sync: str) -> ShardsReported:
        return report(0, 0, InSyncProposed(desk.copies.version, in_sync))

    heard = HeartbeatHeard("node-0", 1, HeartbeatAnswer())
    due = HeartbeatDue("node-0", 1)
    desk.take(due, heard, proposal("node-0", "node-1"))
    assert desk.copies.in_sync == ("node-0", "node-1")
    desk.take(due)
    desk.absent_ms += 10_000
    desk.take(proposal("node-0"), heard, proposal("node-0"))
    assert desk.copies.in_sync == ("node-0", "node-1"), "it was asked for that sign of life before"
    desk.take(due, proposal("node-0"), heard, proposal("node-0"))
    assert desk.copies.in_sync == ("node-0",)
    desk.take(due, heard)
    desk.absent_ms += 500
    desk.take(proposal("node-0", "node-1"))
    assert desk.copies.in_sync == ("node-0", "node-1"), "that was no longer than a message may be under way"


def test_a_first_coordinator_numbers_its_nodes_before_it_launches_them() -> None:
    ports = [DEFAULT.node.port_base, DEFAULT.node.port_base + 1]
    timeout_ms = DEFAULT.node.start_timeout_ms
    assert Desk().take(Started()) == [
        Persist(PersistIncarnation("node-0", 1)),
        LaunchProcess("node-0", 1, ports[0], KEYS, timeout_ms),
        Persist(PersistIncarnation("node-1", 1)),
        LaunchProcess("node-1", 1, ports[1], KEYS, timeout_ms),
        Remind(500, Ticked()),
    ]


def test_a_node_that_announces_itself_is_remembered_watched_and_beaten() -> None:
    desk = Desk()
    desk.take(Started())
    assert desk.take(announced(0)) == [
        Persist(PersistProcess("node-0", 100, 1.5)),
        WatchProcess("node-0", 1),
        SendHeartbeat("node-0", 1, LeaseGrant(70, 0), DEFAULT.node.heartbeat_timeout_ms),
    ]
    assert desk.take(HeartbeatHeard("node-0", 1, HeartbeatAnswer(clock_ms=80))) == [
        Remind(DEFAULT.node.heartbeat_interval_ms, HeartbeatDue("node-0", 1))
    ]
    (beat,) = desk.take(HeartbeatDue("node-0", 1))
    assert isinstance(beat, SendHeartbeat)
    assert beat.grant == LeaseGrant(80, 0), "a lease is granted from what the node's own clock read"


def test_a_view_is_published_once_for_all_that_changed_at_once() -> None:
    desk = Desk()
    desk.take(Started(), announced(0))
    joined = desk.take(announced(1))
    assert joined.count(Remind(0, PublishDue())) == 1
    pushed = desk.take(PublishDue())
    assert [(type(effect), getattr(effect, "gateway", "")) for effect in pushed] == [
        (PushView, "gateway-0"), (PushView, "gateway-1"), (TellMembers, "")
    ]  # fmt: skip
    assert [effect.view.version for effect in pushed if isinstance(effect, PushView)] == [(1 << 32) + 1] * 2
    assert desk.take(PublishDue()) == []


def test_a_gateway_is_pushed_one_view_at_a_time_and_left_alone_after_a_failure() -> None:
    desk = Desk().formed()
    desk.take(ViewTaken("gateway-0", (1 << 32) + 1), ViewRefused("gateway-1", (1 << 32) + 1, "it is away"))
    desk.take(SetUpOrdered(1, "d", "text"), SourceConfigRead(1, DATASET))
    pushed = [effect for effect in desk.take(PublishDue()) if isinstance(effect, PushView)]
    assert [(effect.gateway, effect.view.version) for effect in pushed] == [("gateway-0", (1 << 32) + 2)]
    later = desk.take(effects_event := events.GatewayDue("gateway-1"))
    assert [(effect.gateway, effect.view.version) for effect in later if isinstance(effect, PushView)] == [
        ("gateway-1", (1 << 32) + 2)
    ]
    assert desk.take(effects_event) == [], "it has no newer one to take"


def test_a_view_is_pushed_again_until_the_gateway_has_taken_it() -> None:
    desk = Desk().formed()
    first = (1 << 32) + 1
    desk.take(ViewTaken("gateway-0", first))
    for _ in range(2):
        failed = desk.take(ViewRefused("gateway-1", first, "the connection was lost"))
        assert failed == [Remind(PATIENCE.retry_ms, events.GatewayDue("gateway-1"))]
        again = desk.take(events.GatewayDue("gateway-1"))
        assert [(effect.gateway, effect.view.version) for effect in again if isinstance(effect, PushView)] == [
            ("gateway-1", first)
        ]
    assert desk.take(ViewTaken("gateway-1", first), events.GatewayDue("gateway-1")) == []


@pytest.mark.parametrize("asks_after_the_refusal", [True, False])
def test_a_gateway_that_came_up_late_is_waited_for_from_when_it_asks_for_the_view(
    asks_after_the_refusal: bool,
) -> None:
    desk = Desk().formed()
    first = (1 << 32) + 1
    refused = ViewRefused("gateway-1", first, "it is not up yet")
    asked = ViewAsked(5, "gateway-1")
    desk.take(ViewTaken("gateway-0", first), *([refused, asked] if asks_after_the_refusal else [asked, refused]))
    asked_for_ready = desk.take(ReadyAsked(7))
    assert not any(isinstance(effect, Answer) for effect in asked_for_ready), "it may answer with an older view"
    desk.take(events.GatewayDue("gateway-1"))
    assert [effect.request for effect in desk.take(ViewTaken("gateway-1", first)) if isinstance(effect, Answer)] == [7]


def test_a_set_up_is_durable_before_nodes_hear_of_it_and_answered_when_its_shards_are_active() -> None:
    desk = Desk().formed()
    desk.take(ViewTaken("gateway-0", (1 << 32) + 1))
    assert desk.take(SetUpOrdered(7, "d", "text")) == [ReadSourceConfig(7, "d", "text")]
    done = desk.take(SourceConfigRead(7, DATASET))
    assert [type(effect.what) if isinstance(effect, Persist) else type(effect) for effect in done] == [
        PersistDataset, PersistShardMap, GiveOrder, GiveOrder, Remind, Remind
    ]  # fmt: skip
    assert done[-1] == Remind(PATIENCE.active_ms, PatienceEnded(7, 2))
    desk.take(PublishDue(), ViewTaken("gateway-0", (1 << 32) + 2))
    opened = desk.take(report(0, 0, IngestionStarted()))
    assert Persist(PersistOpened({("d", 0): 0})) in opened
    last = desk.take(report(1, 1, IngestionStarted()))
    versions = [effect.view.version for effect in last if isinstance(effect, PushView)]
    assert Answer(7) not in last, "the gateway that keeps up has it not yet"
    assert desk.take(ViewTaken("gateway-0", versions[0])) == [Answer(7)]


def test_a_set_up_that_takes_long_is_answered_meanwhile() -> None:
    desk = Desk().formed()
    desk.take(SetUpOrdered(7, "d", "text"), SourceConfigRead(7, DATASET))
    assert Answer(7) in desk.take(PatienceEnded(7, 2))
    assert desk.take(PatienceEnded(7, 2)) == []


@pytest.mark.parametrize(
    ("event", "error", "text"),
    [
        (SetUpOrdered(9, "d", ""), FilorayError, "The dataset d has already been setup"),
        (DeletionOrdered(9, "other"), DatasetUnknown, "Dataset other is not registered"),
        (StopOrdered(9, "d", (7,)), BadData, "has no shard 7"),
        (StartOrdered(9, "d", "nowhere", (0,)), BadData, "nowhere"),
        (StartOrdered(9, "d", "akka://filo-server@127.0.0.1:1", (0,)), BadData, "there is no node akka"),
        (StartOrdered(9, "d", "akka://filo-server@127.0.0.1:2552", (0,)), BadData, "is assigned to node-0 already"),
    ],
)
def test_what_an_operator_may_not_do_is_refused_at_once(
    event: CoordinatorEvent, error: type[FilorayError], text: str
) -> None:
    (refusal,) = Desk().with_dataset().take(event)
    assert isinstance(refusal, Refuse)
    assert refusal.request == 9
    assert isinstance(refusal.error, error)
    assert text in refusal.error.message


def test_a_source_configuration_that_is_wrong_refuses_the_set_up() -> None:
    desk = Desk().formed()
    error = BadData("num-shards is odd")
    assert desk.take(SetUpOrdered(3, "d", "x"), SourceConfigRefused(3, error))[-1] == Refuse(3, error)


def test_a_stop_is_answered_when_the_owner_let_go_or_says_who_did_not() -> None:
    stop = order(StopShards)
    desk = Desk().with_dataset()
    done = desk.take(StopOrdered(5, "d", (0,)))
    assert [type(effect) for effect in done] == [Persist, GiveOrder, Remind, Remind]
    assert done[1] == GiveOrder(stop)
    assert done[-1] == Remind(PATIENCE.stop_ms, PatienceEnded(5, 1))
    assert Answer(5) in desk.take(OrderDone(stop))

    slow = Desk().with_dataset()
    slow.take(StopOrdered(5, "d", (0,)))
    refusal = slow.take(PatienceEnded(5, 1))[-1]
    assert isinstance(refusal, Refuse)
    assert isinstance(refusal.error, Unavailable)
    assert "node-0 has not closed all yet" in refusal.error.message


@pytest.mark.parametrize("kind", [StartShards, StopShards, DeleteShards])
def test_an_order_that_failed_is_given_again_after_a_while_and_not_to_a_node_that_is_gone(kind: type) -> None:
    desk = Desk().with_dataset()
    failed = desk.take(OrderFailed(order(kind), "the connection was lost"))
    assert failed[-1] == Remind(PATIENCE.retry_ms, OrderDue(order(kind)))
    (again,) = desk.take(OrderDue(order(kind)))
    assert isinstance(again, GiveOrder)
    assert again.order == order(kind)
    desk.take(NodeDied("node-0", 1, "it died"))
    assert desk.take(OrderDue(order(kind))) == []


def test_shards_that_a_node_did_not_take_are_in_error_with_the_reason_and_not_ordered_at_an_old_epoch() -> None:
    desk = Desk().formed()
    desk.take(SetUpOrdered(1, "d", "text"), SourceConfigRead(1, DATASET))
    desk.take(OrderFailed(order(StartShards), "no memory"))
    assert str(desk.core.manager.shard_map("d")[0].status) == "ShardStatusError"
    assert "node-0 did not take it: no memory" in desk.core.story("d", 0)[-1].text
    assert desk.take(OrderDue(order(StartShards, epoch=2))) == []


def test_an_order_to_start_says_which_shards_were_active_before_in_this_generation() -> None:
    desk = Desk().with_dataset()
    desk.take(StopOrdered(5, "d", (0,)), OrderDone(order(StopShards)))
    given = desk.take(StartOrdered(6, "d", "akka://filo-server@127.0.0.1:2553", (0,)))
    assert GiveOrder(StartShards("node-1", 1, DATASET, ((0, 2),)), (0,)) in given


def test_a_deletion_that_stalls_is_refused_with_what_is_left_and_why() -> None:
    desk = Desk().with_dataset()
    done = desk.take(DeletionOrdered(5, "d"))
    assert isinstance(done[0], Persist)
    assert GiveOrder(order(DeleteShards, 1)) in done
    desk.take(OrderDone(order(DeleteShards, 0)), OrderFailed(order(DeleteShards, 1), "its disk is read-only"))
    refusal = desk.take(PatienceEnded(5, 1))[-1]
    assert isinstance(refusal, Refuse)
    assert "shards 1 on node-1 (node-1: its disk is read-only); that goes on by itself" in refusal.error.message
    assert Answer(6) in desk.take(DeletionOrdered(6, "d"), OrderDone(order(DeleteShards, 1)))


def test_a_dead_nodes_shards_wait_until_its_process_is_gone() -> None:
    desk = Desk().with_dataset()
    died = desk.take(NodeDied("node-0", 1, "killed"))
    assert KillProcess("node-0", 1, 100, 1.5) in died
    assert not any(isinstance(effect, GiveOrder) for effect in died)
    assert desk.take(KillFailed("node-0", 1, "it hangs")) == [Remind(PATIENCE.retry_ms, KillDue("node-0", 1))]
    assert desk.take(KillDue("node-0", 1)) == [KillProcess("node-0", 1, 100, 1.5)]
    gone = desk.take(NodeKilled("node-0", 1, is_seen=True))
    persisted = [type(effect.what) for effect in gone if isinstance(effect, Persist)]
    assert persisted == [PersistProcess, PersistShardMap, PersistIncarnation]
    assert GiveOrder(StartShards("node-1", 1, DATASET, ((0, 2),)), (0,)) in gone
    assert any(isinstance(effect, LaunchProcess) and effect.incarnation == 2 for effect in gone)


def test_the_log_warns_of_a_node_that_is_lost_but_not_of_one_that_goes_as_planned() -> None:
    desk = Desk().formed()
    desk.take(ViewTaken("gateway-0", (1 << 32) + 1), ViewTaken("gateway-1", (1 << 32) + 1))
    assert lost_lines(desk, ScaleOrdered(5, 1)) == [(logging.INFO, "not needed any more")]
    assert lost_lines(desk, NodeDied("node-0", 1, "killed")) == [(logging.WARNING, "killed")]


def lost_lines(desk: Desk, event: CoordinatorEvent) -> list[tuple[int, object]]:
    """Level and reason of each, by the time that all gateways have the last view."""
    events, lines = [event], []
    while events:
        for effect in desk.core.handle(events.pop(), desk.moment()):
            match effect:
                case PushView(gateway, view):
                    events.append(ViewTaken(gateway, view.version))
                case Remind(event=PublishDue() as due):
                    events.append(due)
                case Say() if effect.text.startswith("node lost"):
                    lines.append((effect.level, effect.values[2]))
    return lines


def test_a_node_that_says_it_is_unfit_is_lost() -> None:
    lost = Desk().with_dataset().take(HeartbeatHeard("node-1", 1, HeartbeatAnswer(unfit="thread ingest has ended")))
    assert KillProcess("node-1", 1, 101, 1.5) in lost


def test_a_watch_that_failed_is_set_up_again_while_the_node_is_up() -> None:
    desk = Desk().formed()
    assert desk.take(WatchFailed("node-1", 1, "lost")) == [Remind(PATIENCE.retry_ms, WatchDue("node-1", 1))]
    assert desk.take(WatchDue("node-1", 1)) == [WatchProcess("node-1", 1)]
    desk.take(NodeDied("node-1", 1, "killed"))
    assert desk.take(WatchDue("node-1", 1)) == []


def test_a_coordinator_that_returns_answers_only_when_it_knows_who_lives() -> None:
    remembered = dataclasses.replace(
        NOTHING, generation=2, incarnations={"node-0": 3, "node-1": 3},
        processes={"node-0": KnownProcess(7, 0.5), "node-1": KnownProcess()},
    )  # fmt: skip
    desk = Desk(remembered=remembered)
    assert desk.take(Started())[:2] == [
        AdoptProcess("node-0", 3, PATIENCE.adopt_ms), AdoptProcess("node-1", 3, PATIENCE.adopt_ms)
    ]  # fmt: skip
    assert desk.take(ViewAsked(4, "gateway-9")) == []
    desk.take(announced(1, incarnation=3))
    killed = desk.take(NodeAbsent("node-0", 3, "it was not there after a restart: no such actor"))
    assert KillProcess("node-0", 3, 7, 0.5) in killed
    (answer,) = [effect for effect in killed if isinstance(effect, Answer)]
    assert answer.request == 4
    assert isinstance(answer.value, ClusterView)
    assert (answer.value.version, set(answer.value.nodes)) == ((2 << 32) + 1, {"node-1"})
    assert [effect.gateway for effect in killed if isinstance(effect, PushView)] == [
        "gateway-0", "gateway-1", "gateway-9"
    ]  # fmt: skip


def test_ready_says_who_serves_or_what_keeps_the_launch() -> None:
    desk = Desk()
    desk.take(Started(), ReadyAsked(1), announced(0))
    (answer,) = [effect for effect in desk.take(announced(1)) if isinstance(effect, Answer)]
    assert answer == Answer(1, effects.ReadyReport(tuple(desk.core.members()), (), ()))

    failing = Desk()
    failing.take(Started(), ReadyAsked(1), announced(0), NodeAbsent("node-1", 1, "it did not start: no port"))
    failing.take(NodeKilled("node-1", 1, is_seen=True), Ticked())
    refused = failing.take(NodeAbsent("node-1", 2, "it did not start: no port"))
    (refusal,) = [effect for effect in refused if isinstance(effect, Refuse)]
    assert refusal.error.message == "node-1 does not come up: it did not start: no port"

    missing = Desk()
    missing.take(Started(), ReadyAsked(1), announced(0))
    missing.now_ms += DEFAULT.seed.timeout_ms
    (refusal,) = [effect for effect in missing.take(PatienceEnded(1, 1)) if isinstance(effect, Refuse)]
    assert "nodes: {'node-0': 'up', 'node-1': 'launching'}" in refusal.error.message


def test_datasets_of_the_configuration_are_set_up_once_the_cluster_has_formed() -> None:
    desk = Desk(server_config(datasets=[InlineDataset("d", "text", "here"), InlineDataset("e", "odd", "there")]))
    desk.take(Started(), announced(0))
    assert ReadSourceConfig(0, "d", "text") in desk.take(announced(1))
    desk.take(SourceConfigRead(0, DATASET), PatienceEnded(0, 2))
    assert ReadSourceConfig(0, "e", "odd") in desk.take(PatienceEnded(0, 3))
    desk.take(ReadyAsked(1))
    (refusal,) = [
        effect for effect in desk.take(SourceConfigRefused(0, BadData("no"))) if isinstance(effect, Refuse)
    ]  # fmt: skip
    assert refusal.error.message == "dataset e of there cannot be set up: no"


def test_a_shutdown_closes_then_kills_each_node_and_is_the_last_thing_done() -> None:
    desk = Desk().with_dataset()
    timeout_ms = DEFAULT.node.shutdown_timeout_ms
    assert desk.take(ShutdownOrdered(8)) == [CloseNode("node-0", 1, timeout_ms), CloseNode("node-1", 1, timeout_ms)]
    assert desk.take(report(0, 0, IngestionError("closing"))) == [], "the next launch opens its shards again"
    assert desk.take(NodeDied("node-0", 1, "as told"), Ticked())[:-1] == []
    assert desk.take(NodeClosed("node-0", 1)) == [KillProcess("node-0", 1, 100, 1.5)]
    assert desk.take(NodeKilled("node-0", 1, is_seen=True)) == [Persist(PersistProcess("node-0"))]
    desk.take(NodeClosed("node-1", 1, "no answer"))
    assert desk.take(NodeKilled("node-1", 1, is_seen=True)) == [
        Persist(PersistProcess("node-1")), Retire(), Answer(8)
    ]  # fmt: skip


def test_who_still_waits_when_all_is_shut_down_is_told_so() -> None:
    desk = Desk().with_dataset()
    desk.take(StopOrdered(5, "d", (0,)), ShutdownOrdered(8), NodeClosed("node-0", 1), NodeClosed("node-1", 1))
    last = desk.take(NodeKilled("node-0", 1, is_seen=True), NodeKilled("node-1", 1, is_seen=True))
    (refusal,) = [effect for effect in last if isinstance(effect, Refuse)]
    assert (refusal.request, refusal.error.message) == (5, "the cluster is shut down")
    assert last[-2:] == [Retire(), Answer(8)]


def test_a_store_that_fails_ends_the_process_and_nothing_else_is_done() -> None:
    assert Desk().with_dataset().take(StoreFailed("disk full")) == [EndProcess("disk full")]


@pytest.mark.parametrize("count", [1, 3])
def test_how_many_nodes_there_are_to_be_is_durable_before_anything_is_done_for_it(count: int) -> None:
    done = Desk().with_dataset().take(ScaleOrdered(5, count))
    assert done[0] == Persist(PersistNodeCount(count))
    assert (Persist(PersistDrained("node-1", is_drained=True)) in done) == (count == 1)


def test_a_scaling_that_leaves_no_room_changes_nothing() -> None:
    desk = Desk(server_config(3))
    desk.take(Started(), announced(0), announced(1), announced(2), SetUpOrdered(1, "d", "text"))
    desk.take(SourceConfigRead(1, dataclasses.replace(DATASET, num_shards=4, min_num_nodes=2)))
    (refusal,) = desk.take(ScaleOrdered(5, 1))
    assert isinstance(refusal, Refuse)
    assert "node-1, node-2 cannot be drained: 2 shards of dataset d would have to go to" in refusal.error.message


# ---- causes


def test_all_that_follows_from_an_order_names_the_order_and_so_does_the_shards_story() -> None:
    desk = Desk().formed()
    (reading,) = desk.core.handle(SetUpOrdered(1, "d", "text"), desk.moment())
    assert isinstance(reading, ReadSourceConfig)
    assert reading.cause.startswith("1.")
    done = desk.core.handle(end_of(reading, DATASET), desk.moment())
    assert {effect.cause for effect in done} == {reading.cause}
    assert {effect.event.cause for effect in done if isinstance(effect, Remind)} == {reading.cause}
    assert [line.cause for line in desk.core.story("d", 0)] == [reading.cause]
    other = desk.core.handle(report(0, 0, IngestionStarted()), desk.moment())
    assert {effect.cause for effect in other}.isdisjoint({reading.cause})


# ---- every effect's end and failure is an event that the core takes


@dataclass(frozen=True, slots=True)
class Ending:
    call: Call
    result: CallResult


VIEW = ClusterView((1 << 32) + 1)
ENDINGS = (
    Ending(LaunchProcess("node-0", 1, 1, KEYS, 1), NodeProcess(announced(0).announcement, None)),
    Ending(AdoptProcess("node-0", 1, 1), NodeProcess(announced(0).announcement, 1.0)),
    Ending(WatchProcess("node-0", 1), "it died"),
    Ending(SendHeartbeat("node-0", 1, LeaseGrant(0, 0), 1), HeartbeatAnswer()),
    Ending(KillProcess("node-0", 1, None, None), True),
    Ending(CloseNode("node-0", 1, 1), None),
    Ending(GiveOrder(order(StartShards)), None),
    Ending(GiveOrder(order(StopShards)), None),
    Ending(GiveOrder(order(DeleteShards)), None),
    Ending(PushView("gateway-0", VIEW, 1), None),
    Ending(TellMembers((), 1), None),
    Ending(LookAtMachines(1), MachineList((Machine("a", "10.0.0.1"),), "a")),
    Ending(PlaceStandby("a"), None),
    Ending(PlaceGateway("gateway-0", "a"), None),
    Ending(ReadSourceConfig(5, "d", ""), DATASET),
)
STATES = {
    "before the start": lambda: Desk(),
    "forming": lambda: (desk := Desk(), desk.take(Started()))[0],
    "formed": lambda: Desk().formed(),
    "with a dataset": lambda: Desk().with_dataset(),
    "after a loss": lambda: (desk := Desk().with_dataset(), desk.take(NodeDied("node-0", 1, "x")))[0],
    "closing": lambda: (desk := Desk().with_dataset(), desk.take(ShutdownOrdered(9)))[0],
}


def test_no_call_is_forgotten() -> None:
    assert {type(ending.call) for ending in ENDINGS} == set(get_args(Call))


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("ending", ENDINGS, ids=lambda ending: type(ending.call).__name__)
def test_the_end_and_the_failure_of_every_effect_are_events_that_the_core_takes(ending: Ending, state: str) -> None:
    for problem in (TimeoutError("no answer"), ValueError("no such actor"), Unavailable("later"), OSError()):
        desk = STATES[state]()
        desk.take(*([events.ViewAsked(1, "gateway-0")] if state == "before the start" else []))
        for event in (end_of(ending.call, ending.result), failure_of(ending.call, problem)):
            done = desk.take(event)
            assert all(isinstance(effect, CoordinatorEffect) for effect in done)
            desk.core.manager.check_invariants()


def test_a_missed_heartbeat_alone_changes_nothing() -> None:
    desk = Desk().with_dataset()
    assert desk.take(HeartbeatMissed("node-0", 1, "no answer within 5 s")) == [Remind(500, HeartbeatDue("node-0", 1))]
    desk.now_ms += DEFAULT.node.heartbeat_timeout_ms + 1
    assert KillProcess("node-0", 1, 100, 1.5) in desk.take(Ticked())
