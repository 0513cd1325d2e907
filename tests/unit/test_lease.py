from __future__ import annotations

import pytest

from filoray.cluster.addresses import NodeAddress
from filoray.cluster.control.membership import (
    DeathNoticed,
    Gone,
    HeartbeatAnswered,
    LaunchNode,
    Membership,
    MembershipLimits,
    NodeAnnounced,
    ProcessGone,
    Tick,
)
from filoray.cluster.errors import LeaseLapsed
from filoray.cluster.node_protocol import NodeAnnouncement
from filoray.nodes.host.lease import Lease

LIMITS = MembershipLimits(1000, 5000, 100, 400, 1, 3000, lease_ms=10_000)


class Clock:
    def __init__(self) -> None:
        self.ms = 500_000

    def __call__(self) -> int:
        return self.ms


def is_valid(lease: Lease) -> bool:
    try:
        lease.check()
    except LeaseLapsed:
        return False
    return True


def test_a_node_answers_from_the_first_grant_until_the_lease_ends() -> None:
    clock = Clock()
    lease = Lease(is_needed=True, now_ms=clock)
    assert not is_valid(lease), "nothing was granted yet"
    told = lease.reading_ms()
    clock.ms += 700
    lease.renew(told, 10_000)
    assert is_valid(lease)
    clock.ms = told + 9_999
    assert is_valid(lease)
    clock.ms = told + 10_000
    assert not is_valid(lease)
    clock.ms += 5
    with pytest.raises(LeaseLapsed, match=r"its lease ended 5 ms ago, filoray\.node\.lease"):
        lease.check()
    lease.renew(lease.reading_ms(), 10_000)
    assert is_valid(lease), "the coordinator is back, and it is an owner still"


def test_a_grant_that_was_long_on_its_way_grants_nothing() -> None:
    """The process was stopped: the grant waited in its socket, and is the first thing that it reads."""
    clock = Clock()
    lease = Lease(is_needed=True, now_ms=clock)
    told = lease.reading_ms()
    lease.renew(told, 10_000)
    clock.ms += 20_000
    lease.renew(told + 500, 10_000)
    assert not is_valid(lease)


def test_an_older_grant_takes_nothing_away() -> None:
    clock = Clock()
    lease = Lease(is_needed=True, now_ms=clock)
    lease.renew(clock.ms, 10_000)
    lease.renew(clock.ms - 9_000, 10_000)
    clock.ms += 9_000
    assert is_valid(lease)


def test_where_no_lease_is_needed_a_node_serves_for_as_long_as_the_coordinator_is_away() -> None:
    clock = Clock()
    lease = Lease(is_needed=False, now_ms=clock)
    clock.ms += 10**9
    assert is_valid(lease)


def up(limits: MembershipLimits = LIMITS) -> Membership:
    membership = Membership(["node-0"], limits, 0)
    membership.handle(Tick(), 0)
    membership.handle(NodeAnnounced(NodeAnnouncement("node-0", 1, NodeAddress("127.0.0.1", 1), 7, "there")), 0)
    membership.handle(HeartbeatAnswered("node-0", 1), 900)
    membership.handle(DeathNoticed("node-0", 1, "its machine does not answer"), 1000)
    return membership


def test_a_process_that_was_seen_to_end_is_gone_at_once() -> None:
    assert up().handle(ProcessGone("node-0", 1), 1100)[0] == Gone("node-0", 1)


def test_one_that_was_not_is_gone_when_its_lease_has_ended() -> None:
    membership = up()
    assert membership.handle(ProcessGone("node-0", 1, is_certain=False), 1100) == []
    assert membership.handle(HeartbeatAnswered("node-0", 1), 5000) == [], "a late answer renews nothing"
    assert membership.handle(Tick(), 900 + 10_200 - 1) == []
    gone, *rest = membership.handle(Tick(), 900 + 10_200)
    assert gone == Gone("node-0", 1)
    assert LaunchNode("node-0", 2) in rest


def test_a_coordinator_that_is_back_counts_a_lease_from_its_own_beginning() -> None:
    """What its predecessor granted is not known."""
    membership = Membership(["node-0"], LIMITS, 50_000, {"node-0": 4}, returning=["node-0"])
    membership.handle(DeathNoticed("node-0", 4, "it was not there after a restart"), 50_100)
    assert membership.handle(ProcessGone("node-0", 4, is_certain=False), 50_200) == []
    assert membership.handle(Tick(), 60_199) == []
    assert membership.handle(Tick(), 60_200)[0] == Gone("node-0", 4)
