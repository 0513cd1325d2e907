"""The leader's core as transcripts: these events went in, these effects came out."""

from __future__ import annotations

import pytest

from filoray.cluster.control.copy_set import CopySet
from filoray.cluster.control.leader_copies import (
    BeginSession,
    CopiesTick,
    CopiesTold,
    CopyEffect,
    CopyEvent,
    CopyLimits,
    EndSession,
    EntryMade,
    FollowerFailed,
    FollowerOpened,
    FollowerStored,
    LeaderCopies,
    Propose,
    Release,
    WakeCopiesAt,
)

LIMITS = CopyLimits(
    follower_timeout_ms=2000, proposal_timeout_ms=1000, retry_delay_ms=200, retry_delay_max_ms=800, lag_max=2
)
MEMBERS = {"b": 1, "c": 1}


def told(version: int, followers: str, in_sync: str, members: dict[str, int] | None = None) -> CopiesTold:
    """Nodes by single letters."""
    return CopiesTold(CopySet(version, tuple(followers), tuple(in_sync)), MEMBERS if members is None else members)


def feed(core: LeaderCopies, now_ms: int, *events: CopyEvent) -> list[CopyEffect]:
    """What came out of all of them, without what wakes it."""
    effects: list[CopyEffect] = []
    for event in events:
        effects += core.handle(event, now_ms)
        core.check_invariants()
    return [effect for effect in effects if not isinstance(effect, WakeCopiesAt)]


def new_core() -> LeaderCopies:
    """Told of a first set, of version 0: the next one is not what a former opening proposed."""
    core = LeaderCopies("a", LIMITS)
    core.handle(told(0, "", "a"), 0)
    return core


def core_with_b() -> LeaderCopies:
    """At 0 ms; b is in sync, session 1 is open, and nothing was made yet."""
    core = new_core()
    feed(core, 0, told(1, "b", "a"), FollowerOpened("b", 1, 0), told(2, "b", "ab"))
    return core


def without_reasons(effects: list[CopyEffect]) -> list[CopyEffect]:
    return [Propose(it.base_version, it.in_sync, "") if isinstance(it, Propose) else it for it in effects]


Line = tuple[int, list[CopyEvent], list[CopyEffect]]
"""When, what went in, what came out (reasons of proposals left out)."""

TRANSCRIPTS: dict[str, list[Line]] = {
    "alone, it releases what it makes once it was told so": [
        (0, [EntryMade(1)], []),
        (5, [told(1, "", "a")], [Release(1)]),
        (6, [EntryMade(2)], [Release(2)]),
    ],
    "a follower joins: a session, caught up, proposed, told": [
        (0, [told(1, "b", "a")], [BeginSession("b", 1, 1)]),
        (1, [EntryMade(1)], [Release(1)]),
        (2, [FollowerOpened("b", 1, 0)], []),
        (3, [FollowerStored("b", 1, 1)], [Propose(1, ("a", "b"), "")]),
        (4, [told(2, "b", "ab")], []),
        (5, [EntryMade(2)], []),
        (6, [FollowerStored("b", 1, 2)], [Release(2)]),
    ],
    "from when it is proposed a follower is waited for": [
        (0, [told(1, "b", "a"), FollowerOpened("b", 1, 0)], [BeginSession("b", 1, 1), Propose(1, ("a", "b"), "")]),
        (1, [EntryMade(1)], []),
        (2, [FollowerStored("b", 1, 1)], [Release(1)]),
    ],
    "a proposal that was withdrawn may have been taken: it is waited for until another set is told": [
        (0, [told(1, "b", "a"), FollowerOpened("b", 1, 0)], [BeginSession("b", 1, 1), Propose(1, ("a", "b"), "")]),
        (1, [EntryMade(1), FollowerFailed("b", 1, "?")], [Propose(1, ("a",), "")]),
        (2, [told(1, "b", "a")], []),
        (3, [told(2, "b", "ab")], [Propose(2, ("a",), "")]),
        (4, [told(3, "b", "a")], [Release(1)]),
    ],
    "one that fails is waited for until it was told a set without it": [
        (0, [told(1, "b", "a"), FollowerOpened("b", 1, 0)], [BeginSession("b", 1, 1), Propose(1, ("a", "b"), "")]),
        (1, [told(2, "b", "ab"), EntryMade(1)], []),
        (2, [FollowerFailed("b", 1, "?")], [Propose(2, ("a",), "")]),
        (3, [EntryMade(2)], []),
        (4, [told(3, "b", "a")], [Release(2)]),
    ],
    "the slower of two is waited for": [
        (0, [told(1, "bc", "abc")], [BeginSession("b", 1, 1), BeginSession("c", 1, 2), Propose(1, ("a",), "")]),
        (1, [FollowerOpened("b", 1, 0)], [Propose(1, ("a", "b"), "")]),
        (2, [FollowerOpened("c", 2, 0)], [Propose(1, ("a", "b", "c"), "")]),
        (3, [EntryMade(1), EntryMade(2), FollowerStored("b", 1, 2)], []),
        (4, [FollowerStored("c", 2, 1)], [Release(1)]),
        (5, [FollowerStored("c", 2, 2)], [Release(2)]),
    ],
    "what a session that is over has to say changes nothing": [
        (0, [told(1, "b", "a"), FollowerFailed("b", 1, "?")], [BeginSession("b", 1, 1)]),
        (200, [CopiesTick()], [BeginSession("b", 1, 2)]),
        (201, [FollowerOpened("b", 1, 0), FollowerFailed("b", 1, "?"), FollowerStored("b", 1, 9)], []),
        (202, [FollowerOpened("b", 2, 0)], [Propose(1, ("a", "b"), "")]),
    ],
    "sessions that fail are followed by others, with delays that grow to a limit": [
        (0, [told(1, "b", "a"), FollowerFailed("b", 1, "?")], [BeginSession("b", 1, 1)]),
        (199, [CopiesTick()], []),
        (200, [CopiesTick(), FollowerFailed("b", 2, "?")], [BeginSession("b", 1, 2)]),
        (599, [CopiesTick()], []),
        (600, [CopiesTick(), FollowerFailed("b", 3, "?")], [BeginSession("b", 1, 3)]),
        (1400, [CopiesTick(), FollowerFailed("b", 4, "?")], [BeginSession("b", 1, 4)]),
        (2199, [CopiesTick()], []),
        (2200, [CopiesTick()], [BeginSession("b", 1, 5)]),
    ],
    "one in sync that keeps an entry waiting for too long is proposed away": [
        (0, [told(1, "b", "a"), FollowerOpened("b", 1, 0)], [BeginSession("b", 1, 1), Propose(1, ("a", "b"), "")]),
        (0, [told(2, "b", "ab")], []),
        (10, [EntryMade(1)], []),
        (2009, [CopiesTick()], []),
        (2010, [CopiesTick()], [EndSession("b", 1), Propose(2, ("a",), "")]),
    ],
    "one in sync that joins anew has its time, however long the entry waits": [
        (0, [told(1, "b", "a"), FollowerOpened("b", 1, 0)], [BeginSession("b", 1, 1), Propose(1, ("a", "b"), "")]),
        (0, [told(2, "b", "ab"), EntryMade(1)], []),
        (2000, [CopiesTick()], [EndSession("b", 1), Propose(2, ("a",), "")]),
        (2200, [CopiesTick()], [BeginSession("b", 1, 2)]),
        (2900, [CopiesTick()], []),
        (4500, [FollowerOpened("b", 2, 0)], [Propose(2, ("a",), "")]),
        (6499, [CopiesTick()], [Propose(2, ("a",), "")]),
        (6500, [CopiesTick()], [EndSession("b", 2)]),
        (6900, [CopiesTick()], [BeginSession("b", 1, 3)]),
        (6901, [FollowerOpened("b", 3, 1)], [Propose(2, ("a", "b"), ""), Release(1)]),
    ],
    "a proposal that is not answered is made again": [
        (0, [told(1, "b", "a"), FollowerOpened("b", 1, 0)], [BeginSession("b", 1, 1), Propose(1, ("a", "b"), "")]),
        (999, [CopiesTick()], []),
        (1000, [CopiesTick()], [Propose(1, ("a", "b"), "")]),
    ],
    "a follower that is to have no copy any more has no session": [
        (0, [told(1, "bc", "a")], [BeginSession("b", 1, 1), BeginSession("c", 1, 2)]),
        (1, [told(2, "c", "a")], [EndSession("b", 1)]),
    ],
    "a process in place of another has a session of its own": [
        (0, [told(1, "b", "a"), FollowerOpened("b", 1, 0)], [BeginSession("b", 1, 1), Propose(1, ("a", "b"), "")]),
        (1, [told(2, "b", "ab")], []),
        (
            2,
            [told(2, "b", "ab", {"b": 2})],
            [EndSession("b", 1), BeginSession("b", 2, 2), Propose(2, ("a",), "")],
        ),
    ],
    "where its node is no member there is no session": [
        (0, [told(1, "b", "a", {})], []),
        (9000, [CopiesTick()], []),
        (9001, [told(1, "b", "a", {"b": 3})], [BeginSession("b", 3, 1)]),
    ],
    "what is told late is not heard": [
        (0, [told(5, "b", "a")], [BeginSession("b", 1, 1)]),
        (1, [told(4, "bc", "abc"), EntryMade(1)], [Release(1)]),
        (2, [told(5, "b", "a", {"b": 0})], []),
    ],
    "one that is far behind has not caught up with what was made meanwhile": [
        (0, [told(1, "b", "a")], [BeginSession("b", 1, 1)]),
        (1, [EntryMade(1)], [Release(1)]),
        (2, [FollowerOpened("b", 1, 0)], []),
        (
            3,
            [EntryMade(2), EntryMade(3), EntryMade(4), EntryMade(5)],
            [Release(2), Release(3), Release(4), Release(5)],
        ),
        (4, [FollowerStored("b", 1, 1)], []),
        (5, [FollowerStored("b", 1, 4)], []),
        (6, [FollowerStored("b", 1, 5)], [Propose(1, ("a", "b"), "")]),
    ],
}


def test_nothing_is_released_by_a_set_that_a_former_opening_may_have_proposed_to_change() -> None:
    core = LeaderCopies("a", LIMITS)
    first = feed(core, 0, EntryMade(1), told(3, "b", "a"))
    assert without_reasons(first) == [BeginSession("b", 1, 1), Propose(3, ("a",), "")]
    assert feed(core, 1, told(3, "b", "a"), EntryMade(2)) == []
    # The former opening's proposal was taken first: b is in sync, and lacks what this one made.
    assert without_reasons(feed(core, 2, told(4, "b", "ab"))) == [Propose(4, ("a",), "")]
    assert feed(core, 3, told(5, "b", "a")) == [Release(2)]


WITHOUT_WAITING: dict[str, list[Line]] = {
    "everything is released at once, before anything was told and whoever lacks it": [
        (0, [EntryMade(1)], [Release(1)]),
        (1, [told(0, "b", "a")], [BeginSession("b", 1, 1)]),
        (2, [FollowerOpened("b", 1, 1)], [Propose(0, ("a", "b"), "")]),
        (3, [EntryMade(2)], [Release(2)]),
        (4, [told(1, "b", "ab"), EntryMade(3)], [Release(3)]),
    ],
    "one that is a few entries behind is in sync": [
        (0, [told(1, "b", "a")], [BeginSession("b", 1, 1)]),
        (1, [FollowerOpened("b", 1, 0)], [Propose(1, ("a", "b"), "")]),
        (2, [EntryMade(1), EntryMade(2)], [Release(1), Release(2)]),
        (3, [told(2, "b", "ab")], []),
    ],
    "one that does not store entries in time is proposed away": [
        (0, [told(1, "b", "a")], [BeginSession("b", 1, 1)]),
        (1, [FollowerOpened("b", 1, 0), told(2, "b", "ab")], [Propose(1, ("a", "b"), "")]),
        (10, [EntryMade(1)], [Release(1)]),
        (2009, [CopiesTick()], []),
        (2010, [CopiesTick()], [EndSession("b", 1), Propose(2, ("a",), "")]),
    ],
    "what is stored late, but in time, ends no session": [
        (0, [told(1, "b", "a")], [BeginSession("b", 1, 1)]),
        (1, [FollowerOpened("b", 1, 0), told(2, "b", "ab")], [Propose(1, ("a", "b"), "")]),
        (10, [EntryMade(1), EntryMade(2)], [Release(1), Release(2)]),
        (1900, [EntryMade(3), FollowerStored("b", 1, 2)], [Release(3)]),
        (2100, [CopiesTick()], []),
        (3900, [CopiesTick()], [EndSession("b", 1), Propose(2, ("a",), "")]),
    ],
}


def play(core: LeaderCopies, lines: list[Line]) -> None:
    for at_ms, events, effects in lines:
        assert (at_ms, without_reasons(feed(core, at_ms, *events))) == (at_ms, effects)


@pytest.mark.parametrize("name", TRANSCRIPTS)
def test_transcript(name: str) -> None:
    play(new_core(), TRANSCRIPTS[name])


@pytest.mark.parametrize("name", WITHOUT_WAITING)
def test_transcript_of_one_that_waits_for_no_follower(name: str) -> None:
    play(LeaderCopies("a", LIMITS, waits=False), WITHOUT_WAITING[name])


def test_it_says_how_far_behind_followers_are_and_why_others_have_no_session() -> None:
    core = core_with_b()
    feed(core, 1, told(3, "bc", "ab"), EntryMade(1), EntryMade(2), FollowerStored("b", 1, 1))
    assert core.lag() == {"b": 1, "c": None}
    assert core.awaited() == {"b"}
    assert (core.released, core.last_seq) == (1, 2)
    feed(core, 2, FollowerFailed("b", 1, "its disk is full"))
    assert core.problems()["b"] == "its disk is full"
    feed(core, 3, told(9, "bcd", "ab", {"b": 1, "c": 1}))
    assert core.problems()["d"] == "its node is away"


def test_a_proposal_says_why() -> None:
    core = core_with_b()
    (proposal,) = feed(core, 1, FollowerFailed("b", 1, "its disk is full"))
    assert isinstance(proposal, Propose)
    assert proposal.reason == "b is not in sync: its disk is full"


def test_it_is_woken_for_what_is_due_next() -> None:
    core = core_with_b()
    assert core.handle(EntryMade(1), 10) == [], "it will be woken before, for what it had proposed"
    assert core.handle(CopiesTick(), 1000) == [WakeCopiesAt(2010)]
    assert core.handle(EntryMade(2), 1010) == []


def test_it_is_not_woken_again_and_again_while_nobody_answers_its_proposal() -> None:
    core = core_with_b()
    core.handle(EntryMade(1), 0)
    effects = core.handle(FollowerFailed("b", 1, "gone"), 1)
    now_ms = wakes = 0
    while now_ms < 60_000:
        (now_ms,) = [it.at_ms for it in effects if isinstance(it, WakeCopiesAt)]
        effects = core.handle(CopiesTick(), now_ms)
        wakes += 1
    assert wakes < 100, "once a second it proposes again, and now and then a session begins"


def test_entries_are_numbered_without_a_gap() -> None:
    with pytest.raises(AssertionError, match="entry 2 after 0"):
        new_core().handle(EntryMade(2), 0)
