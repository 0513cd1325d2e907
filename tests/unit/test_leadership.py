"""Who leads and when, as transcripts of one candidate."""

from __future__ import annotations

import pytest

from filoray.cluster.control.leadership import NOBODY_YET, LeaderRow, Leadership, Role

LEASE_MS = 3000
WAIT_MS = 3060
OTHER = LeaderRow("other", 3, 7)


def leading(asked_ms: int = 100) -> Leadership:
    made = Leadership("me", LEASE_MS)
    assert made.saw(NOBODY_YET, asked_ms) == NOBODY_YET
    made.took(LeaderRow("me", 1, 1), asked_ms)
    return made


@pytest.mark.parametrize(
    "row", [NOBODY_YET, LeaderRow("", 4, 12)], ids=["nobody ever led", "the last one went in order"]
)
def test_a_free_lead_is_taken_at_once(row: LeaderRow) -> None:
    assert Leadership("me", LEASE_MS).saw(row, 0) == row


def test_a_leader_that_does_not_beat_is_waited_for_a_lease_and_a_fiftieth() -> None:
    made = Leadership("me", LEASE_MS)
    assert [made.saw(OTHER, now_ms) for now_ms in (0, 2000, WAIT_MS - 1)] == [None] * 3
    assert made.saw(LeaderRow("other", 3, 8), WAIT_MS) is None, "it beat: the wait begins anew"
    assert made.saw(LeaderRow("other", 3, 8), 2 * WAIT_MS - 1) is None
    assert made.saw(LeaderRow("other", 3, 8), 2 * WAIT_MS) == LeaderRow("other", 3, 8)


def test_its_own_name_in_the_store_is_that_of_a_former_life() -> None:
    made = Leadership("me", LEASE_MS)
    assert made.saw(LeaderRow("me", 1, 3), 0) is None
    assert made.saw(LeaderRow("me", 1, 3), WAIT_MS) == LeaderRow("me", 1, 3)


def test_who_is_told_that_another_was_first_waits_anew() -> None:
    made = Leadership("me", LEASE_MS)
    made.saw(NOBODY_YET, 0)
    assert made.role is Role.TAKING
    made.took(None, 0)
    assert made.role is Role.WAITING
    assert not made.may_act(1)
    assert made.saw(OTHER, WAIT_MS) is None


def test_a_lease_counts_from_the_asking_not_from_the_answer() -> None:
    made = leading(asked_ms=100)
    assert made.may_act(100 + LEASE_MS - 1)
    made.renewed(asked_ms=1000, now_ms=3000, is_ours=True)
    assert made.may_act(1000 + LEASE_MS - 1)
    assert not made.may_act(1000 + LEASE_MS)


def test_who_has_lost_the_lead_never_has_it_again() -> None:
    made = leading()
    assert not made.may_act(100 + LEASE_MS)
    made.renewed(asked_ms=3000, now_ms=3200, is_ours=True)
    assert made.role is Role.OVER
    assert not made.may_act(3000)


def test_a_beat_by_another_ends_it_at_once() -> None:
    made = leading()
    made.renewed(asked_ms=500, now_ms=510, is_ours=False)
    assert not made.may_act(511)


def test_an_answer_that_comes_out_of_order_shortens_nothing() -> None:
    made = leading()
    made.renewed(asked_ms=2000, now_ms=2010, is_ours=True)
    made.renewed(asked_ms=1000, now_ms=2020, is_ours=True)
    assert made.may_act(2000 + LEASE_MS - 1)
