from __future__ import annotations

import dataclasses

from filoray.cluster.addresses import NodeAddress
from filoray.cluster.control.membership import (
    DeathNoticed,
    Gone,
    HeartbeatAnswered,
    Joined,
    KillNode,
    LaunchNode,
    Lost,
    Membership,
    MembershipLimits,
    NodeAnnounced,
    NoLongerNeeded,
    PersistIncarnation,
    ProcessGone,
    Tick,
)
from filoray.cluster.node_protocol import NodeAnnouncement

LIMITS = MembershipLimits(
    heartbeat_timeout_ms=1000,
    start_timeout_ms=5000,
    restart_backoff_ms=100,
    restart_backoff_max_ms=400,
    seed_node_count=2,
    form_wait_ms=3000,
)


def announced(node: str, incarnation: int = 1) -> NodeAnnounced:
    return NodeAnnounced(NodeAnnouncement(node, incarnation, NodeAddress("127.0.0.1", 2552), 7, "here"))


def formed() -> Membership:
    membership = Membership(["node-0", "node-1"], LIMITS, 0)
    for event in (Tick(), announced("node-0"), announced("node-1")):
        membership.handle(event, 0)
    return membership


def test_an_incarnation_is_persisted_before_it_is_launched() -> None:
    membership = Membership(["node-1", "node-0"], LIMITS, 0, {"node-1": 4})
    assert membership.handle(Tick(), 0) == [
        PersistIncarnation("node-0", 1), LaunchNode("node-0", 1),
        PersistIncarnation("node-1", 5), LaunchNode("node-1", 5),
    ]  # fmt: skip
    assert membership.handle(Tick(), 1) == []


def test_a_cluster_forms_with_all_nodes_in_the_order_of_names() -> None:
    membership = Membership(["node-0", "node-1", "node-2"], LIMITS, 0)
    membership.handle(Tick(), 0)
    assert membership.handle(announced("node-2"), 10) == []
    assert membership.handle(announced("node-1"), 20) == []
    assert membership.members() == {}
    (joined,) = membership.handle(announced("node-0"), 30)
    assert isinstance(joined, Joined)
    assert [one.node for one in joined.announcements] == ["node-0", "node-1", "node-2"]


def test_or_with_enough_nodes_after_a_while() -> None:
    membership = Membership(["node-0", "node-1", "node-2"], LIMITS, 0)
    for event in (Tick(), announced("node-2")):
        membership.handle(event, 0)
    for node in ("node-2", "node-0"):
        membership.handle(HeartbeatAnswered(node, 1), 3000)
    assert membership.handle(Tick(), 3000) == [], "one is fewer than seed-node-count"
    (joined,) = membership.handle(announced("node-0"), 3001)
    assert isinstance(joined, Joined)
    assert len(joined.announcements) == 2
    assert membership.handle(announced("node-1"), 3002) == [Joined((announced("node-1").announcement,))]


def test_a_dead_node_is_lost_then_killed_then_gone_and_replaced_at_once() -> None:
    membership = formed()
    assert membership.handle(DeathNoticed("node-1", 1, "killed"), 50) == [
        Lost("node-1", 1, "killed"),
        KillNode("node-1", 1),
    ]
    assert membership.handle(DeathNoticed("node-1", 1, "again"), 51) == []
    assert membership.handle(Tick(), 60) == [], "nothing is replaced before it is gone"
    assert membership.handle(ProcessGone("node-1", 1), 70) == [
        Gone("node-1", 1), PersistIncarnation("node-1", 2), LaunchNode("node-1", 2),
    ]  # fmt: skip
    assert membership.handle(announced("node-1", 1), 80) == [], "a former incarnation says nothing"


def test_a_node_that_misses_heartbeats_is_given_up() -> None:
    membership = formed()
    for now_ms in range(0, 3000, 500):
        membership.handle(HeartbeatAnswered("node-0", 1), now_ms)
        lost = membership.handle(Tick(), now_ms)
        if lost:
            break
    assert lost == [Lost("node-1", 1, "heartbeats missed for 1500 ms"), KillNode("node-1", 1)]


def test_launches_that_fail_are_tried_again_ever_later() -> None:
    membership = formed()
    now_ms, pauses = 0, []
    for incarnation in range(1, 7):
        membership.handle(DeathNoticed("node-1", incarnation, "no"), now_ms)
        commands = membership.handle(ProcessGone("node-1", incarnation), now_ms)
        gone_ms = now_ms
        while not any(isinstance(command, LaunchNode) for command in commands):
            now_ms += 10
            membership.handle(HeartbeatAnswered("node-0", 1), now_ms)
            commands = membership.handle(Tick(), now_ms)
        pauses.append(now_ms - gone_ms)
    assert pauses == [0, 100, 200, 400, 400, 400]


def test_a_node_that_does_not_come_up_is_killed() -> None:
    membership = Membership(["node-0"], LIMITS, 0)
    membership.handle(Tick(), 0)
    assert membership.handle(Tick(), 5001) == [KillNode("node-0", 1)]


def test_nodes_of_a_former_coordinator_return_or_are_replaced() -> None:
    membership = Membership(["node-0", "node-1"], LIMITS, 0, {"node-0": 3, "node-1": 2}, returning=["node-0", "node-1"])
    assert membership.handle(Tick(), 0) == []
    assert membership.handle(announced("node-0", 3), 5) == [Joined((announced("node-0", 3).announcement,))]
    assert membership.handle(DeathNoticed("node-1", 2, "not there"), 6)[0] == Lost("node-1", 2, "not there")


def test_a_node_that_an_earlier_launch_had_is_not_replaced() -> None:
    membership = Membership(["node-0"], LIMITS, 0, {"node-0": 3, "node-1": 2}, returning=["node-0", "node-1"])
    membership.handle(announced("node-0", 3), 5)
    membership.handle(DeathNoticed("node-1", 2, "not there"), 6)
    assert membership.handle(ProcessGone("node-1", 2), 7) == [Gone("node-1", 2)]
    assert list(membership.slots) == ["node-0"]
    for node in ("node-0", "node-1"):
        membership.handle(HeartbeatAnswered(node, 3), 9000)
    assert membership.handle(Tick(), 9000) == []


def test_a_cluster_of_fewer_nodes_than_were_enough_to_form_forms_with_all_it_has() -> None:
    membership = Membership(["node-0", "node-1"], dataclasses.replace(LIMITS, seed_node_count=3), 0)
    for event in (Tick(), announced("node-0")):
        membership.handle(event, 0)
    membership.handle(HeartbeatAnswered("node-0", 1), 4000)
    (joined,) = membership.handle(announced("node-1"), 4000)
    assert isinstance(joined, Joined), "after the time that a cluster waits for all"
    assert len(joined.announcements) == 2


def test_a_process_that_is_replaced_on_purpose_is_no_failure() -> None:
    membership = formed()
    for incarnation in (1, 2, 3):
        ended = membership.handle(NoLongerNeeded("node-1", incarnation, "replaced"), 10 * incarnation)
        assert ended[0] == Lost("node-1", incarnation, "replaced", is_planned=True)
        assert LaunchNode("node-1", incarnation + 1) in membership.handle(
            ProcessGone("node-1", incarnation), 10 * incarnation
        ), "at once"
        membership.handle(announced("node-1", incarnation + 1), 10 * incarnation)
    assert membership.slots["node-1"].failures == 0


def test_a_node_that_is_held_has_no_process_until_it_is_held_no_more() -> None:
    """Its machine is away."""
    membership = Membership(["node-0", "node-1"], LIMITS, 0)
    membership.hold(["node-1"])
    assert membership.handle(Tick(), 0) == [PersistIncarnation("node-0", 1), LaunchNode("node-0", 1)]
    assert membership.handle(Tick(), 100) == []
    membership.hold([])
    assert membership.handle(Tick(), 200) == [PersistIncarnation("node-1", 1), LaunchNode("node-1", 1)]
