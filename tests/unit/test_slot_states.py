from __future__ import annotations

import itertools

import pytest

from filoray.cluster.control.slot_states import (
    ENDS_FOR_GOOD,
    SLOT_TRANSITIONS,
    InvalidSlotEvent,
    SlotEvent,
    SlotState,
    next_slot_state,
)


@pytest.mark.parametrize(("state", "event"), list(itertools.product(SlotState, SlotEvent)))
def test_every_pair_moves_as_the_table_says_or_raises(state: SlotState, event: SlotEvent) -> None:
    after = SLOT_TRANSITIONS[state].get(event)
    if after is None:
        with pytest.raises(InvalidSlotEvent, match=event.value) as raised:
            next_slot_state(state, event)
        assert (raised.value.state, raised.value.event) == (state, event)
    else:
        assert next_slot_state(state, event) is after


def test_every_state_can_be_reached_and_left() -> None:
    for state in SlotState:
        moves = [(before, after) for before, row in SLOT_TRANSITIONS.items() for after in row.values()]
        assert any(after is state is not before for before, after in moves), state
        assert any(before is state is not after for before, after in moves), state


def test_a_shard_in_hand_is_opened_anew_only_after_its_opening_has_ended_or_it_is_closed() -> None:
    ends = {SlotEvent.OPENING_FAILED, SlotEvent.OPENING_ENDED, SlotEvent.CLOSED}
    goes_on = {SlotEvent.PROMOTE_ORDERED}  # with what is in hand
    for before, row in SLOT_TRANSITIONS.items():
        for event, after in row.items():
            begins = after is SlotState.OPENING is not before
            if begins and before not in (SlotState.CLOSED, SlotState.FAILED):
                assert event in ends | goes_on, (before, event)


def test_every_state_but_closed_takes_an_order_to_start_and_one_to_let_go() -> None:
    for state in SlotState:
        assert next_slot_state(state, SlotEvent.START_ORDERED) not in ENDS_FOR_GOOD
        if state is not SlotState.CLOSED:
            assert next_slot_state(state, SlotEvent.LET_GO_ORDERED) in ENDS_FOR_GOOD


def test_only_an_opening_in_hand_has_something_to_say_of_how_it_goes() -> None:
    in_hand = {SlotState.OPENING, SlotState.LEAVING_TO_OPEN, SlotState.LEAVING_FOR_GOOD}
    for state in SlotState:
        assert (SlotEvent.PROGRESSED in SLOT_TRANSITIONS[state]) == (state in in_hand), state
