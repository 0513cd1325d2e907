"""Transcripts of a node: these events went in, these effects came out."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import pytest

from filoray.cluster.addresses import NodeAddress
from filoray.cluster.config.dataset import LOG_STREAM_FACTORY, DatasetConfig
from filoray.cluster.config.server_config import default_server_config
from filoray.cluster.control.copy_set import CopySet
from filoray.cluster.control.node_core import NodeCore
from filoray.cluster.control.node_effects import (
    AbandonOpening,
    AnswerRequest,
    CloseShard,
    DeleteFiles,
    EndOpening,
    FlushInTurn,
    FlushTurn,
    NodeEffect,
    Note,
    OpenShard,
    Report,
    ServeShard,
    TellCopies,
    WakeAt,
)
from filoray.cluster.control.node_events import (
    Closed,
    DeleteOrdered,
    DropOrdered,
    FilesDeleted,
    FlushFailed,
    FlushStepped,
    FollowOrdered,
    NodeEvent,
    Opened,
    OpeningAbandoned,
    OpeningCameBack,
    OpeningEnded,
    OpeningFailed,
    OpeningOverdue,
    OpeningProgressed,
    OpeningsWord,
    ShardsWord,
    ShutdownOrdered,
    SourceFailed,
    SourceWentOn,
    StartOrdered,
    StopOrdered,
    StoreDoubted,
    TellCopiesOrdered,
    Tick,
)
from filoray.cluster.control.shard_slot import SLOT_EVENTS, NodeLimits
from filoray.cluster.control.shard_status import (
    IngestionError,
    IngestionStarted,
    IngestionStopped,
    RecoveryInProgress,
    RecoveryStarted,
)
from filoray.cluster.control.slot_states import SLOT_TRANSITIONS, InvalidSlotEvent, SlotEvent, SlotState
from filoray.cluster.node_protocol import Peer

STORE = default_server_config().store
KEY = ("d", 0)
LIMITS = NodeLimits(source_timeout_ms=150, retry_delay_ms=500, retry_delay_max_ms=2000, hanging_max=2)


def dataset(generation: int = 0, name: str = "d") -> DatasetConfig:
    return DatasetConfig(name, "prom-counter", 8, 1, LOG_STREAM_FACTORY, 1, {}, STORE, generation=generation)


class Node:
    """A core, the time, and the numbers of requests."""

    def __init__(self, limits: NodeLimits = LIMITS) -> None:
        self.core = NodeCore(limits)
        self.now_ms = 0
        self.request = 0

    def take(self, *events: NodeEvent) -> list[NodeEffect]:
        effects: list[NodeEffect] = []
        for event in events:
            effects += self.core.handle(event, self.now_ms)
            self.core.check_invariants()
        return effects

    def start(self, epoch: int, shard: int = 0, generation: int = 0, opened: Sequence[int] = ()) -> list[NodeEffect]:
        return self.take(StartOrdered(self._next(), dataset(generation), ((shard, epoch),), tuple(opened)))

    def stop(self, epoch: int, shard: int = 0) -> list[NodeEffect]:
        return self.take(StopOrdered(self._next(), "d", ((shard, epoch),)))

    def delete(self, generation: int, *shards: int) -> list[NodeEffect]:
        return self.take(DeleteOrdered(self._next(), "d", generation, shards))

    def shut_down(self) -> list[NodeEffect]:
        return self.take(ShutdownOrdered(self._next()))

    def _next(self) -> int:
        self.request += 1
        return self.request


def opens(epoch: int, opening: int, *, was_open: bool = False, shard: int = 0, generation: int = 0) -> OpenShard:
    return OpenShard(dataset(generation), shard, epoch, opening, was_open)


def says(epoch: int, event: object, shard: int = 0) -> Report:
    return Report(("d", shard), epoch, event)  # type: ignore[arg-type]


def turns(*openings: int) -> FlushInTurn:
    """Shard ``n`` by opening ``n + 1``."""
    return FlushInTurn(tuple(FlushTurn(("d", opening - 1), opening) for opening in openings))


STOPPED = IngestionStopped()


def node_that_is(state: SlotState) -> Node:
    """Shard 0 at epoch 1, by opening 1."""
    node = Node()
    history: dict[SlotState, list[NodeEvent]] = {
        SlotState.CLOSED: [Opened(KEY, 1), StopOrdered(8, "d", ((0, 1),)), Closed(KEY, 1)],
        SlotState.OPENING: [],
        SlotState.OPEN: [Opened(KEY, 1)],
        SlotState.FAILED: [OpeningFailed(KEY, 1, "no such disk")],
        SlotState.LEAVING_TO_OPEN: [StartOrdered(8, dataset(), ((0, 2),))],
        SlotState.LEAVING_FOR_GOOD: [StopOrdered(8, "d", ((0, 1),))],
        SlotState.CLOSING_TO_OPEN: [Opened(KEY, 1), StartOrdered(8, dataset(), ((0, 2),))],
        SlotState.CLOSING_TO_RETRY: [OpeningAbandoned(KEY, 1, is_hanging=True)],
        SlotState.CLOSING_FOR_GOOD: [Opened(KEY, 1), StopOrdered(8, "d", ((0, 1),))],
    }
    node.start(1)
    node.take(*history[state])
    assert node.core.state(KEY) is state
    return node


WORDS: dict[SlotEvent, OpeningsWord | ShardsWord] = {
    SlotEvent.PROGRESSED: OpeningProgressed(KEY, 1, 50),
    SlotEvent.OPENED: Opened(KEY, 1),
    SlotEvent.OPENING_FAILED: OpeningFailed(KEY, 1, "no such disk"),
    SlotEvent.OPENING_OVERDUE: OpeningOverdue(KEY, 1),
    SlotEvent.OPENING_ABANDONED: OpeningAbandoned(KEY, 1, is_hanging=True),
    SlotEvent.OPENING_ENDED: OpeningEnded(KEY, 1),
    SlotEvent.SOURCE_FAILED: SourceFailed(KEY, 1, "no broker"),
    SlotEvent.SOURCE_WENT_ON: SourceWentOn(KEY, 1),
    SlotEvent.STORE_DOUBTED: StoreDoubted(KEY, 1, "the file is gone"),
    SlotEvent.FLUSH_STEPPED: FlushStepped(KEY, 1, is_more_due=True),
    SlotEvent.FLUSH_FAILED: FlushFailed(KEY, 1, "the disk is full"),
    SlotEvent.CLOSED: Closed(KEY, 1),
}


@pytest.mark.parametrize("state", SlotState)
@pytest.mark.parametrize("word", WORDS)
def test_whatever_is_said_in_any_state_moves_as_the_table_says_or_raises_and_changes_nothing(
    state: SlotState, word: SlotEvent
) -> None:
    node = node_that_is(state)
    held = node.core.held()
    after = SLOT_TRANSITIONS[state].get(word)
    assert SLOT_EVENTS[type(WORDS[word])] is word
    if after is None:
        with pytest.raises(InvalidSlotEvent):
            node.take(WORDS[word])
        assert node.core.state(KEY) is state
        assert node.core.held() == held
    else:
        node.take(WORDS[word])
        assert node.core.state(KEY) is after


@pytest.mark.parametrize("state", SlotState)
def test_orders_move_every_state_as_the_table_says(state: SlotState) -> None:
    node = node_that_is(state)
    node.start(3)
    assert node.core.state(KEY) is SLOT_TRANSITIONS[state][SlotEvent.START_ORDERED]
    if state is not SlotState.CLOSED:
        node = node_that_is(state)
        node.shut_down()
        assert node.core.state(KEY) is SLOT_TRANSITIONS[state][SlotEvent.LET_GO_ORDERED]


def test_a_shard_is_opened_served_and_closed() -> None:
    node = Node()
    assert node.start(1) == [opens(1, 1), AnswerRequest(1)]
    assert node.take(OpeningProgressed(KEY, 1, 0)) == [says(1, RecoveryStarted())]
    assert node.take(OpeningProgressed(KEY, 1, 3)) == []
    assert node.take(OpeningProgressed(KEY, 1, 40)) == [says(1, RecoveryInProgress(40))]
    assert node.take(OpeningProgressed(KEY, 1, 44)) == []
    assert node.take(Opened(KEY, 1)) == [ServeShard(KEY, 1, 1), says(1, IngestionStarted()), turns(1)]
    assert node.stop(1) == [CloseShard(KEY, 1), FlushInTurn(())]
    assert node.core.held_shard(KEY) is None
    assert [held.epoch for held in node.core.held()] == [1], "whoever asks is told that it has it still"
    assert node.take(Closed(KEY, 1)) == [says(1, STOPPED), AnswerRequest(2)]
    assert node.core.held() == ()


def test_a_shard_that_does_not_open_is_tried_again_with_growing_delays_and_stays_in_error_meanwhile() -> None:
    node = Node()
    node.start(1, opened=[0])
    error = IngestionError("no such disk", 7)
    for opening, at_ms, next_ms in [(1, 0, 500), (2, 500, 1500), (3, 1500, 3500), (4, 3500, 5500)]:
        node.now_ms = at_ms
        assert node.take(OpeningFailed(KEY, opening, "no such disk", 7)) == [says(1, error), WakeAt(next_ms)]
        assert node.take(Tick()) == [WakeAt(next_ms)], "too early"
        node.now_ms = next_ms
        assert node.take(Tick()) == [opens(1, opening + 1, was_open=True)]
        assert [held.status.reason for held in node.core.held()] == ["no such disk"]
    node.take(Opened(KEY, 5), StoreDoubted(KEY, 5, "?"), Closed(KEY, 5))
    assert node.take(OpeningFailed(KEY, 6, "?"))[-1] == WakeAt(node.now_ms + 500), "the first delay again"


def test_a_source_that_does_not_answer_is_given_up_and_what_it_left_is_closed_before_the_next_attempt() -> None:
    node = Node()
    node.start(1)
    assert node.take(OpeningOverdue(KEY, 1)) == [AbandonOpening(KEY, 1)]
    problem = f"its source ({LOG_STREAM_FACTORY}) gave no answer within filoray.node.source-timeout = 0.15 s"
    reason = f"dataset d shard 0: {problem}"
    abandoned = node.take(OpeningAbandoned(KEY, 1, is_hanging=True))
    assert abandoned == [CloseShard(KEY, 1), Note(KEY, f"{problem}; next attempt in 0.5 s", logging.ERROR)]
    assert node.take(Closed(KEY, 1)) == [says(1, IngestionError(reason)), WakeAt(500)]
    node.now_ms = 500
    assert node.take(Tick()) == [opens(1, 2)]

    node.take(OpeningOverdue(KEY, 2), OpeningAbandoned(KEY, 2, is_hanging=True), Closed(KEY, 2))
    node.now_ms = 1500
    too_many = IngestionError(f"{reason}; 2 attempts have not come back")
    assert node.take(Tick()) == [says(1, too_many), WakeAt(3500)]
    node.now_ms = 3500
    assert node.take(Tick()) == [says(1, too_many), WakeAt(5500)]
    assert node.take(OpeningCameBack(KEY, 1)) == []
    node.now_ms = 5500
    assert node.take(Tick()) == [opens(1, 3)]


def test_an_answer_that_comes_just_before_it_is_given_up_counts() -> None:
    node = Node()
    node.start(1)
    node.take(OpeningOverdue(KEY, 1))
    assert node.take(Opened(KEY, 1)) == [ServeShard(KEY, 1, 1), says(1, IngestionStarted()), turns(1)]
    assert node.take(OpeningOverdue(KEY, 1)) == []


def test_a_later_epoch_waits_until_the_earlier_one_is_closed() -> None:
    node = Node()
    node.start(1)
    assert node.start(2) == [EndOpening(KEY, 1), AnswerRequest(2)]
    assert node.start(3) == [AnswerRequest(3)]
    assert node.take(OpeningProgressed(KEY, 1, 50)) == []
    assert node.take(Opened(KEY, 1)) == [CloseShard(KEY, 1)], "nobody serves it"
    assert node.take(Closed(KEY, 1)) == [says(1, STOPPED), opens(3, 2)]


@pytest.mark.parametrize(
    "end", [OpeningEnded(KEY, 1), OpeningFailed(KEY, 1, "?"), Opened(KEY, 1), OpeningAbandoned(KEY, 1, is_hanging=True)]
)
def test_a_stop_is_answered_when_the_opening_has_ended_and_what_it_opened_is_closed(end: NodeEvent) -> None:
    node = Node()
    node.start(1)
    assert node.stop(1) == [EndOpening(KEY, 1)]
    assert node.stop(1) == [], "nor is the second answered earlier"
    effects = node.take(end)
    if isinstance(end, Opened | OpeningAbandoned):
        assert effects == [CloseShard(KEY, 1)]
        effects = node.take(Closed(KEY, 1))
    assert effects == [says(1, STOPPED), AnswerRequest(2), AnswerRequest(3)]


def test_a_stop_of_what_is_closing_for_a_later_epoch_waits_for_it_and_the_later_one_opens_all_the_same() -> None:
    node = node_that_is(SlotState.CLOSING_TO_OPEN)
    assert node.stop(1) == []
    assert node.take(Closed(KEY, 1)) == [says(1, STOPPED), opens(2, 2), AnswerRequest(2)]


def test_a_stop_of_the_later_epoch_takes_it_back() -> None:
    node = node_that_is(SlotState.CLOSING_TO_OPEN)
    assert node.stop(2) == []
    assert node.take(Closed(KEY, 1)) == [says(1, STOPPED), AnswerRequest(2)]


def test_what_closing_met_is_told_to_whoever_waits() -> None:
    node = node_that_is(SlotState.CLOSING_FOR_GOOD)
    assert node.take(Closed(KEY, 1, "input/output error"))[-1] == AnswerRequest(8, "input/output error")
    node = node_that_is(SlotState.OPEN)
    node.delete(0, 0)
    assert node.take(Closed(KEY, 1, "input/output error"))[-1] == AnswerRequest(2, "input/output error")
    assert node.delete(0, 0) == [DeleteFiles(3, "d", 0, (0,))], "when it is ordered again"


def test_orders_that_come_late_or_twice_change_nothing() -> None:
    node = Node()
    node.start(2)
    overtaken = IngestionError("dataset d shard 0: epoch 1 was overtaken here by epoch 2", 2)
    assert node.start(1) == [says(1, overtaken), AnswerRequest(2)], "a coordinator that lost its store hears of it"
    assert node.stop(1) == [AnswerRequest(3)]
    assert node.start(2) == [AnswerRequest(4)], "there is nothing to say yet"
    node.take(OpeningProgressed(KEY, 1, 10))
    assert node.start(2) == [says(2, RecoveryStarted()), AnswerRequest(5)]
    node.take(Opened(KEY, 1))
    assert node.start(2) == [says(2, IngestionStarted()), AnswerRequest(6)]
    node.take(SourceFailed(KEY, 1, "no broker"))
    assert node.start(2) == [says(2, IngestionError("no broker", is_open=True)), AnswerRequest(7)]
    node.stop(2)
    node.take(Closed(KEY, 1))
    overtaken = IngestionError("dataset d shard 0: epoch 2 was overtaken here by epoch 2", 2)
    assert node.start(2) == [says(2, overtaken), AnswerRequest(9)]
    assert node.core.held() == ()


def test_an_order_to_start_that_the_order_to_stop_has_passed_opens_nothing() -> None:
    node = Node()
    assert node.stop(1) == [AnswerRequest(1)]
    node.start(1)
    assert node.core.held() == ()
    assert node.start(2) == [opens(2, 1), AnswerRequest(3)]


def test_files_are_deleted_when_the_shards_of_their_generation_are_closed() -> None:
    node = Node()
    node.start(1, shard=0)
    node.start(1, shard=1)
    node.take(Opened(("d", 0), 1), OpeningFailed(("d", 1), 2, "?"))
    assert node.delete(0, 0, 1, 2)[:2] == [CloseShard(("d", 0), 1), says(1, STOPPED, shard=1)]
    assert node.take(Closed(("d", 0), 1)) == [says(1, STOPPED), DeleteFiles(3, "d", 0, (0, 1, 2))]
    assert node.take(FilesDeleted(3)) == [AnswerRequest(3)]
    assert node.start(2) == [AnswerRequest(4)], "of a deleted generation"
    assert node.start(2, generation=1) == [opens(2, 3, generation=1), AnswerRequest(5)]
    assert node.delete(0, 0) == [DeleteFiles(6, "d", 0, (0,))], "which touches no later generation"
    assert node.take(FilesDeleted(6, "permission denied")) == [AnswerRequest(6, "permission denied")]
    assert [held.epoch for held in node.core.held()] == [2]


def test_a_generation_that_is_closing_for_a_later_one_keeps_its_files_until_it_is_closed() -> None:
    node = node_that_is(SlotState.OPEN)
    node.start(2, generation=1)
    assert node.delete(0, 0) == []
    closed = node.take(Closed(KEY, 1))
    assert closed == [says(1, STOPPED), opens(2, 2, generation=1), DeleteFiles(3, "d", 0, (0,))]


def test_a_copy_that_was_ordered_twice_is_not_dropped_by_an_order_from_between() -> None:
    node = Node()

    def follow(version: int) -> list[NodeEffect]:
        return node.take(FollowOrdered(node._next(), dataset(), ((0, 1, version),)))

    def drop(version: int) -> list[NodeEffect]:
        return node.take(DropOrdered(node._next(), "d", 0, ((0, 1, version),)))

    follow(3)
    node.take(Opened(KEY, 1))
    assert follow(7) == [AnswerRequest(2)]
    assert drop(5) == [AnswerRequest(3)]
    assert node.core.state(KEY) is SlotState.OPEN
    assert drop(8) == [CloseShard(KEY, 1)]


@pytest.mark.parametrize("is_early", [True, False])
def test_of_orders_that_tell_of_the_same_copies_the_newest_peers_count_whatever_their_order(is_early: bool) -> None:
    node = Node()
    copies = CopySet(2, ("b", "c"), ("a",))
    b, c, restarted = (Peer(name, number, NodeAddress("h", 1)) for name, number in [("b", 1), ("c", 1), ("b", 2)])

    def tell(*peers: Peer) -> list[NodeEffect]:
        return node.take(TellCopiesOrdered(node._next(), "d", ((0, 1, copies),), peers))

    if is_early:
        tell(restarted, c)
        tell(b)
        node.start(1)
        effects = node.take(Opened(KEY, 1))
    else:
        node.start(1)
        node.take(Opened(KEY, 1))
        tell(restarted, c)
        effects = tell(b)
    assert TellCopies(KEY, 1, copies, (restarted, c)) in effects


def test_a_shard_whose_store_is_doubted_is_opened_anew_at_the_same_epoch() -> None:
    node = node_that_is(SlotState.OPEN)
    assert node.take(StoreDoubted(KEY, 1, "the file is gone")) == [
        Note(KEY, "it is opened anew: the file is gone"),
        says(1, IngestionError("the file is gone")),
        CloseShard(KEY, 1),
        FlushInTurn(()),
    ]
    assert node.take(StoreDoubted(KEY, 1, "the file is gone")) == []
    assert node.take(Closed(KEY, 1, "input/output error")) == [opens(1, 2, was_open=True)]
    assert node.take(StoreDoubted(KEY, 1, "the file is gone")) == [], "of a former opening"


def test_a_source_that_fails_and_goes_on_is_said_so() -> None:
    node = node_that_is(SlotState.OPEN)
    assert node.take(SourceWentOn(KEY, 1)) == [], "no news"
    assert node.take(SourceFailed(KEY, 1, "no broker")) == [says(1, IngestionError("no broker", is_open=True))]
    assert node.take(SourceWentOn(KEY, 1)) == [says(1, IngestionStarted())]


def test_shards_flush_in_turn_and_one_whose_flush_fails_waits_with_growing_delays() -> None:
    node = Node()
    for shard in range(3):
        node.start(1, shard=shard)
        node.take(Opened(("d", shard), shard + 1))
    assert node.take(FlushStepped(("d", 0), 1, is_more_due=True)) == [turns(2, 3, 1)]
    assert node.take(FlushStepped(("d", 3 - 1), 3, is_more_due=True)) == [turns(1, 2, 3)], "2 had nothing due"
    failed = node.take(FlushFailed(("d", 1), 2, "the disk is full"))
    assert failed == [
        Note(("d", 1), "a flush failed, next attempt in 0.5 s: the disk is full"),
        turns(1, 3),
        WakeAt(500),
    ]
    node.now_ms = 500
    retry = FlushTurn(("d", 1), 2, is_retry=True)
    again = FlushInTurn((FlushTurn(("d", 0), 1), retry, FlushTurn(("d", 2), 3)))
    assert node.take(Tick()) == [again]
    assert "next attempt in 1.0 s" in str(node.take(FlushFailed(("d", 1), 2, "the disk is full"))[0])
    node.now_ms = 1500
    node.take(Tick())
    assert node.take(FlushStepped(("d", 1), 2, is_more_due=False)) == [turns(1, 2, 3)]
    assert "next attempt in 0.5 s" in str(node.take(FlushFailed(("d", 1), 2, "the disk is full"))[0])


def test_a_node_that_shuts_down_closes_everything_and_opens_nothing_any_more() -> None:
    node = Node()
    for shard in range(3):
        node.start(1, shard=shard)
    node.take(Opened(("d", 0), 1), OpeningFailed(("d", 1), 2, "?"))
    closing = node.shut_down()
    assert closing[:3] == [CloseShard(("d", 0), 1), says(1, STOPPED, shard=1), EndOpening(("d", 2), 3)]
    assert node.start(2) == [AnswerRequest(5)]
    assert node.take(Closed(("d", 0), 1)) == [says(1, STOPPED)]
    assert node.take(OpeningEnded(("d", 2), 3)) == [says(1, STOPPED, shard=2), AnswerRequest(4)]
    assert node.core.held() == ()


def test_a_node_is_woken_for_whatever_is_due_first() -> None:
    node = Node()
    for shard in range(2):
        node.start(1, shard=shard)
    assert node.take(OpeningFailed(("d", 0), 1, "?"))[-1] == WakeAt(500)
    node.now_ms = 100
    assert node.take(OpeningFailed(("d", 1), 2, "?")) == [says(1, IngestionError("?"), shard=1)]
    node.now_ms = 500
    assert node.take(Tick()) == [opens(1, 3), WakeAt(600)]
