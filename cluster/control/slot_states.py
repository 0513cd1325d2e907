"""What a node does with one shard: every state of its slot, what can happen to it, and the one table of what follows.

Rules of this file: every state of a slot is here, and it knows neither shards nor epochs. What goes with each move is
``shard_slot.py``'s; what a shard reports of itself, ``shard_status.py``'s.

A slot begins *closed*: the node holds nothing. An order to start makes it *opening*: a process of its own, which may
take minutes, has the shard in hand. It ends *open*, or *failed* until it is tried again, by itself, with delays that
grow. An opening may wait for an answer of the shard's source, and then it can be abandoned: what it left half open is
closed (*closing to retry*), and its thread, should it ever come back, finds that it must touch nothing any more. While
an opening works on the shard, nobody can take it away.

A slot may be that of a *follower*: a copy that neither answers nor takes writes. It is *open* when it takes what its
leader sends. When it is to lead itself, it is opening again, with what it has in hand.

Who does not want the shard any longer, at that epoch, must first have the opening end (*leaving*), and close what it
opened (*closing*). What comes afterwards may change meanwhile: *to open* it at a later epoch (or at the same one,
after its store was doubted), or *for good*. Only then is the slot opening again, or closed: a shard is never in two
hands, and what is ordered meanwhile does not shorten that.

The threads of an open shard, and whoever looks whether an opening is late, may have been about to say something when
all was over. For a former opening the slot counts as closed, and there such words are in the table as well: they change
nothing. An event that the table does not have for a state raises InvalidSlotEvent and leaves the slot as it was. Orders
that were overtaken by later ones never get here: the NodeCore knows them by their epochs.
"""

from __future__ import annotations

import enum


class SlotState(enum.Enum):
    CLOSED = "closed"
    OPENING = "opening"
    OPEN = "open"
    FAILED = "failed"
    LEAVING_TO_OPEN = "leaving to open"
    LEAVING_FOR_GOOD = "leaving for good"
    CLOSING_TO_OPEN = "closing to open"
    CLOSING_TO_RETRY = "closing to retry"
    CLOSING_FOR_GOOD = "closing for good"


class SlotEvent(enum.Enum):
    """Orders first, then what the present opening says, then what the open shard does, then what time brings."""

    START_ORDERED = "start ordered"
    """At a later epoch than any before, to lead or to follow."""
    PROMOTE_ORDERED = "promote ordered"
    """What it has as a follower is to lead, at a later epoch than any before."""
    LET_GO_ORDERED = "let go ordered"
    """Stopped, deleted, or the node shuts down."""

    PROGRESSED = "progressed"
    OPENED = "opened"
    OPENING_FAILED = "opening failed"
    OPENING_OVERDUE = "opening overdue"
    """It has been waiting for an answer of its source for too long."""
    OPENING_ABANDONED = "opening abandoned"
    """The shard was taken from it while it waited."""
    OPENING_ENDED = "opening ended"
    """It saw that it is wanted no more, and has closed what it had opened."""

    SOURCE_FAILED = "source failed"
    SOURCE_WENT_ON = "source went on"
    STORE_DOUBTED = "store doubted"
    """Nobody knows what the shard's store has: it must be closed and recovered."""
    FLUSH_STEPPED = "flush stepped"
    FLUSH_FAILED = "flush failed"
    CLOSED = "closed"

    RETRIED = "retried"
    PUT_OFF = "put off"
    """A retry was due, but too many attempts have not come back."""


class InvalidSlotEvent(Exception):
    """An event that a slot does not take: a programmer's error."""

    def __init__(self, state: SlotState, event: SlotEvent) -> None:
        super().__init__(f"{event.value} is not possible in a slot that is {state.value}")
        self.state = state
        self.event = event


CLOSED, OPENING, OPEN, FAILED = SlotState.CLOSED, SlotState.OPENING, SlotState.OPEN, SlotState.FAILED
LEAVING_TO_OPEN, LEAVING_FOR_GOOD = SlotState.LEAVING_TO_OPEN, SlotState.LEAVING_FOR_GOOD
CLOSING_TO_OPEN, CLOSING_TO_RETRY = SlotState.CLOSING_TO_OPEN, SlotState.CLOSING_TO_RETRY
CLOSING_FOR_GOOD = SlotState.CLOSING_FOR_GOOD

_LAST_WORDS = (
    SlotEvent.OPENING_OVERDUE,
    SlotEvent.SOURCE_FAILED,
    SlotEvent.SOURCE_WENT_ON,
    SlotEvent.STORE_DOUBTED,
    SlotEvent.FLUSH_STEPPED,
    SlotEvent.FLUSH_FAILED,
)
"""What may be said when it changes nothing any more."""

SLOT_TRANSITIONS: dict[SlotState, dict[SlotEvent, SlotState]] = {
    CLOSED: {SlotEvent.START_ORDERED: OPENING, **dict.fromkeys(_LAST_WORDS, CLOSED)},
    OPENING: {
        SlotEvent.PROGRESSED: OPENING,
        SlotEvent.OPENED: OPEN,
        SlotEvent.OPENING_FAILED: FAILED,
        SlotEvent.OPENING_OVERDUE: OPENING,
        SlotEvent.OPENING_ABANDONED: CLOSING_TO_RETRY,
        SlotEvent.START_ORDERED: LEAVING_TO_OPEN,
        SlotEvent.LET_GO_ORDERED: LEAVING_FOR_GOOD,
    },
    OPEN: {
        SlotEvent.OPENING_OVERDUE: OPEN,
        SlotEvent.SOURCE_FAILED: OPEN,
        SlotEvent.SOURCE_WENT_ON: OPEN,
        SlotEvent.FLUSH_STEPPED: OPEN,
        SlotEvent.FLUSH_FAILED: OPEN,
        SlotEvent.STORE_DOUBTED: CLOSING_TO_OPEN,
        SlotEvent.START_ORDERED: CLOSING_TO_OPEN,
        SlotEvent.PROMOTE_ORDERED: OPENING,
        SlotEvent.LET_GO_ORDERED: CLOSING_FOR_GOOD,
    },
    FAILED: {
        SlotEvent.OPENING_OVERDUE: FAILED,
        SlotEvent.RETRIED: OPENING,
        SlotEvent.PUT_OFF: FAILED,
        SlotEvent.START_ORDERED: OPENING,
        SlotEvent.LET_GO_ORDERED: CLOSED,
    },
    LEAVING_TO_OPEN: {
        SlotEvent.PROGRESSED: LEAVING_TO_OPEN,
        SlotEvent.OPENED: CLOSING_TO_OPEN,
        SlotEvent.OPENING_FAILED: OPENING,
        SlotEvent.OPENING_OVERDUE: LEAVING_TO_OPEN,
        SlotEvent.OPENING_ABANDONED: CLOSING_TO_OPEN,
        SlotEvent.OPENING_ENDED: OPENING,
        SlotEvent.START_ORDERED: LEAVING_TO_OPEN,
        SlotEvent.LET_GO_ORDERED: LEAVING_FOR_GOOD,
    },
    LEAVING_FOR_GOOD: {
        SlotEvent.PROGRESSED: LEAVING_FOR_GOOD,
        SlotEvent.OPENED: CLOSING_FOR_GOOD,
        SlotEvent.OPENING_FAILED: CLOSED,
        SlotEvent.OPENING_OVERDUE: LEAVING_FOR_GOOD,
        SlotEvent.OPENING_ABANDONED: CLOSING_FOR_GOOD,
        SlotEvent.OPENING_ENDED: CLOSED,
        SlotEvent.START_ORDERED: LEAVING_TO_OPEN,
        SlotEvent.LET_GO_ORDERED: LEAVING_FOR_GOOD,
    },
    CLOSING_TO_OPEN: {
        SlotEvent.CLOSED: OPENING,
        SlotEvent.START_ORDERED: CLOSING_TO_OPEN,
        SlotEvent.LET_GO_ORDERED: CLOSING_FOR_GOOD,
        **dict.fromkeys(_LAST_WORDS, CLOSING_TO_OPEN),
    },
    CLOSING_TO_RETRY: {
        SlotEvent.OPENING_OVERDUE: CLOSING_TO_RETRY,
        SlotEvent.CLOSED: FAILED,
        SlotEvent.START_ORDERED: CLOSING_TO_OPEN,
        SlotEvent.LET_GO_ORDERED: CLOSING_FOR_GOOD,
    },
    CLOSING_FOR_GOOD: {
        SlotEvent.CLOSED: CLOSED,
        SlotEvent.START_ORDERED: CLOSING_TO_OPEN,
        SlotEvent.LET_GO_ORDERED: CLOSING_FOR_GOOD,
        **dict.fromkeys(_LAST_WORDS, CLOSING_FOR_GOOD),
    },
}

ENDS_FOR_GOOD = frozenset({CLOSED, LEAVING_FOR_GOOD, CLOSING_FOR_GOOD})
"""The states in which the node is to hold the shard no more."""


def next_slot_state(state: SlotState, event: SlotEvent) -> SlotState:
    """The state after ``event``; raises InvalidSlotEvent when the table has no such move."""
    after = SLOT_TRANSITIONS[state].get(event)
    if after is None:
        raise InvalidSlotEvent(state, event)
    return after
