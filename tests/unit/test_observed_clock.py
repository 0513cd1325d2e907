from __future__ import annotations

import asyncio

import pytest

from filoray.cluster.addresses import NodeAddress
from filoray.cluster.control.membership import (
    HeartbeatAnswered,
    KillNode,
    Lost,
    Membership,
    MembershipLimits,
    NodeAnnounced,
    Tick,
)
from filoray.cluster.node_protocol import NodeAnnouncement
from filoray.cluster.process.observed_clock import ObservedClock, finished_within


@pytest.mark.parametrize(
    ("looks", "counted", "absent"),
    [
        ([100, 200, 300], 300, 0),
        ([100, 8100], 600, 7500),
        ([8000], 500, 7500),
        ([500, 1000, 1500], 1500, 0),
        ([100, 8100, 8200, 20_000, 20_100], 1300, 18_800),
    ],
)
def test_time_in_which_nobody_looked_does_not_count(looks: list[int], counted: int, absent: int) -> None:
    times = iter([0, *looks])
    clock = ObservedClock(500, lambda: next(times))
    assert [clock.now_ms() for _ in looks][-1] == counted
    assert clock.absent_ms == absent


def test_nodes_are_not_lost_for_the_coordinators_own_absence() -> None:
    real_ms = 0
    clock = ObservedClock(500, lambda: real_ms)
    limits = MembershipLimits(1000, 5000, 100, 400, 1, 3000)
    membership = Membership(["node-0"], limits, clock.now_ms())
    membership.handle(Tick(), clock.now_ms())
    announcement = NodeAnnouncement("node-0", 1, NodeAddress("127.0.0.1", 2552), 7, "here")
    membership.handle(NodeAnnounced(announcement), clock.now_ms())

    real_ms = 60_000  # it was stopped for a minute
    assert membership.handle(Tick(), clock.now_ms()) == []
    real_ms += 250
    assert membership.handle(Tick(), clock.now_ms()) == []
    membership.handle(HeartbeatAnswered("node-0", 1), clock.now_ms())

    commands = []
    for _ in range(6):  # and now the node really is silent
        real_ms += 250
        commands += membership.handle(Tick(), clock.now_ms())
    assert [type(command) for command in commands] == [Lost, KillNode]


def test_a_call_that_was_answered_while_this_process_did_not_run_is_no_timeout() -> None:
    """As after SIGCONT: the timer is overdue and the answer has arrived, and the timer is looked at first."""

    async def call() -> bool:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[None] = loop.create_future()
        real_time = loop.time
        asleep_s = 0.0
        loop.time = lambda: real_time() + asleep_s  # type: ignore[method-assign]

        def go_on() -> None:
            nonlocal asleep_s
            asleep_s = 8.0
            loop.call_later(0.05, answer.set_result, None)

        loop.call_soon(go_on)
        return await finished_within(answer, 2.0)

    assert asyncio.run(call())


def test_a_call_without_an_answer_ends() -> None:
    async def call() -> bool:
        return await finished_within(asyncio.get_running_loop().create_future(), 0.02)

    assert not asyncio.run(call())
