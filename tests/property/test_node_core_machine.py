"""A node under random orders, openings that end in every way, and words that come late: what holds all the time."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

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
    PromoteShard,
    Report,
    ServeShard,
    TellCopies,
    WakeAt,
)
from filoray.cluster.control.node_events import (
    Closed,
    DeleteOrdered,
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
    ShutdownOrdered,
    SlotKey,
    SourceFailed,
    SourceWentOn,
    StartOrdered,
    StopOrdered,
    StoreDoubted,
    TellCopiesOrdered,
    Tick,
)
from filoray.cluster.control.shard_slot import NodeLimits

STORE = default_server_config().store
SHARDS = range(3)
SOME_SHARDS = st.lists(st.sampled_from(SHARDS), min_size=1, max_size=3, unique=True)
DAY_MS = 86_400_000


@dataclass(slots=True)
class Hand:
    """What an opening has of a shard. ``is_open``: it has ended well. ``is_half_open``: it was abandoned.

    ``is_follower``: it is a copy that does not lead, or not yet. ``told``: the last version of its copies it heard of.
    """

    key: SlotKey
    epoch: int
    generation: int
    is_open: bool = False
    is_half_open: bool = False
    is_to_end: bool = False
    is_to_close: bool = False
    is_follower: bool = False
    is_served: bool = False
    told: int = 0

    @property
    def is_opening(self) -> bool:
        return not self.is_open and not self.is_half_open


class NodeMachine(RuleBasedStateMachine):
    """The world around a core. Openings and closes end when the rules say so; nothing else has a shard in hand."""

    def __init__(self) -> None:
        super().__init__()
        self.core = NodeCore(NodeLimits(hanging_max=2))
        self.now_ms = 0
        self.epoch = 0
        self.generation = 0
        self.requests = 0
        self.hands: dict[int, Hand] = {}
        self.gone: list[tuple[SlotKey, int]] = []
        """Shards that were open once; their threads may still have something to say."""
        self.hanging: list[tuple[SlotKey, int]] = []
        self.abandonable: set[int] = set()
        self.turns: tuple[FlushTurn, ...] = ()
        self.deleting: dict[int, DeleteFiles] = {}
        self.orders: dict[int, StopOrdered | DeleteOrdered | ShutdownOrdered] = {}
        self.old_orders: list[StartOrdered | FollowOrdered | StopOrdered | DeleteOrdered] = []
        self.versions = 0
        self.told: dict[SlotKey, tuple[int, int]] = {}
        """Of each shard, at which epoch, the version of its copies that was told last."""
        self.newest: dict[SlotKey, int] = {}
        self.wake_at_ms: int | None = None
        self.is_shut_down = False

    # ---- what the core is told

    def take(self, event: NodeEvent) -> None:
        for effect in self.core.handle(event, self.now_ms):
            self.carry_out(effect)
        self.core.check_invariants()

    @rule(shards=SOME_SHARDS)
    def start(self, shards: list[int]) -> None:
        self.epoch += 1
        order = StartOrdered(self.next_request(), self.config(), tuple((shard, self.epoch) for shard in shards))
        self.old_orders.append(order)
        self.take(order)

    @rule(shards=SOME_SHARDS)
    def follow(self, shards: list[int]) -> None:
        self.epoch += 1
        self.versions += 1
        followed = tuple((shard, self.epoch, self.versions) for shard in shards)
        order = FollowOrdered(self.next_request(), self.config(), followed)
        self.old_orders.append(order)
        self.take(order)

    @precondition(lambda self: any(not one.is_follower for one in self.core.held()))
    @rule(data=st.data(), back=st.integers(0, 2))
    def tell_copies(self, data: st.DataObject, back: int) -> None:
        """Now and then what is old by now."""
        self.versions += 1
        held = data.draw(st.sampled_from([one for one in self.core.held() if not one.is_follower]))
        key, version = (held.dataset, held.shard), max(1, self.versions - back)
        is_heard = self.core.held_shard(key) is not None
        former_epoch, former = self.told.get(key, (0, 0))
        if is_heard and (former_epoch != held.epoch or version > former):
            self.told[key] = (held.epoch, version)
        copies = ((held.shard, held.epoch, CopySet(version)),)
        self.take(TellCopiesOrdered(self.next_request(), "d", copies, ()))

    @rule(shards=SOME_SHARDS, back=st.integers(0, 3))
    def stop(self, shards: list[int], back: int) -> None:
        order = StopOrdered(self.next_request(), "d", tuple((shard, max(0, self.epoch - back)) for shard in shards))
        self.order_end(order)

    @rule(shards=SOME_SHARDS)
    def delete(self, shards: list[int]) -> None:
        order = DeleteOrdered(self.next_request(), "d", self.generation, tuple(shards))
        self.generation += 1
        self.order_end(order)

    @precondition(lambda self: self.old_orders)
    @rule(data=st.data())
    def a_late_order(self, data: st.DataObject) -> None:
        """It changes nothing."""
        old = data.draw(st.sampled_from(self.old_orders))
        number = self.next_request()
        before = self.core.held(), self.core.states()
        match old:
            case StartOrdered(_, config, shards, opened):
                self.take(StartOrdered(number, config, shards, opened))
            case FollowOrdered(_, config, followed):
                self.take(FollowOrdered(number, config, followed))
            case StopOrdered(_, dataset, shards):
                self.order_end(StopOrdered(number, dataset, shards))
            case DeleteOrdered(_, dataset, generation, numbers):
                self.order_end(DeleteOrdered(number, dataset, generation, numbers))
        assert before == (self.core.held(), self.core.states())

    def order_end(self, order: StopOrdered | DeleteOrdered) -> None:
        self.old_orders.append(order)
        self.orders[order.request] = order
        self.take(order)

    # ---- how openings and closes end

    @precondition(lambda self: any(hand.is_opening for hand in self.hands.values()))
    @rule(data=st.data(), way=st.sampled_from(["opened", "failed", "progress", "overdue"]))
    def an_opening(self, data: st.DataObject, way: str) -> None:
        opening = data.draw(st.sampled_from([number for number, hand in self.hands.items() if hand.is_opening]))
        hand = self.hands[opening]
        if way == "opened":
            hand.is_open = True
            self.take(Opened(hand.key, opening))
        elif way == "failed":
            self.leave(opening)
            failed = OpeningFailed(hand.key, opening, "?")
            self.take(OpeningEnded(hand.key, opening) if hand.is_to_end else failed)
        elif way == "progress":
            self.take(OpeningProgressed(hand.key, opening, 50))
        else:
            self.take(OpeningOverdue(hand.key, opening))
            self.abandon_those_that_wait()

    @rule()
    def abandon_those_that_wait(self) -> None:
        for opening in sorted(self.abandonable & self.hands.keys()):
            hand = self.hands[opening]
            if hand.is_opening:
                hand.is_half_open = True
                has_begun = opening % 3 > 0
                if has_begun:
                    self.hanging.append((hand.key, opening))
                self.take(OpeningAbandoned(hand.key, opening, is_hanging=has_begun))
        self.abandonable.clear()

    @precondition(lambda self: self.hanging)
    @rule(data=st.data())
    def one_comes_back(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(self.hanging))
        self.hanging.remove(one)
        self.take(OpeningCameBack(*one))

    @precondition(lambda self: any(hand.is_to_close for hand in self.hands.values()))
    @rule(data=st.data(), problem=st.sampled_from(["", "", "input/output error"]))
    def a_close_ends(self, data: st.DataObject, problem: str) -> None:
        opening = data.draw(st.sampled_from([number for number, hand in self.hands.items() if hand.is_to_close]))
        key = self.hands[opening].key
        self.leave(opening)
        self.take(Closed(key, opening, problem))

    @precondition(lambda self: self.deleting)
    @rule(data=st.data(), problem=st.sampled_from(["", "permission denied"]))
    def files_are_deleted(self, data: st.DataObject, problem: str) -> None:
        number = data.draw(st.sampled_from(sorted(self.deleting)))
        del self.deleting[number]
        self.take(FilesDeleted(number, problem))

    @precondition(lambda self: self.gone or self.hands)
    @rule(data=st.data(), way=st.integers(0, 4))
    def an_open_shard_says_something_or_a_former_one_does(self, data: st.DataObject, way: int) -> None:
        now = [(hand.key, opening) for opening, hand in self.hands.items() if hand.is_open and not hand.is_follower]
        if not (now or self.gone):
            return
        key, opening = data.draw(st.sampled_from(now + self.gone))
        words: list[NodeEvent] = [
            SourceFailed(key, opening, "?"),
            SourceWentOn(key, opening),
            StoreDoubted(key, opening, "?"),
            FlushStepped(key, opening, is_more_due=True),
            FlushFailed(key, opening, "?"),
        ]
        self.take(words[way])

    @rule(ms=st.sampled_from([10, 600, 40_000]))
    def time_passes(self, ms: int) -> None:
        self.now_ms += ms
        if self.wake_at_ms is not None and self.wake_at_ms <= self.now_ms:
            self.wake_at_ms = None
            self.take(Tick())

    # ---- what the core says

    def carry_out(self, effect: NodeEffect) -> None:
        match effect:
            case OpenShard():
                assert effect.key not in {hand.key for hand in self.hands.values()}, f"{effect.key} is in two hands"
                assert effect.epoch >= self.newest.get(effect.key, 0), f"{effect} goes back"
                assert not self.is_shut_down
                self.newest[effect.key] = effect.epoch
                self.hands[effect.opening] = Hand(
                    effect.key, effect.epoch, effect.config.generation, is_follower=effect.is_follower
                )
            case PromoteShard(key, opening, epoch):
                hand = self.hands[opening]
                assert (hand.is_open, hand.is_follower, hand.is_to_close) == (True, True, False)
                assert epoch > hand.epoch
                self.newest[key] = hand.epoch = epoch
                hand.is_open = hand.is_follower = hand.is_to_end = False
            case TellCopies(key, opening, copies):
                hand = self.hands[opening]
                assert hand.is_served, f"{hand} does not lead, and is told of its copies"
                assert self.told[key] == (hand.epoch, copies.version), "the newest that was told of that epoch"
                hand.told = copies.version
            case AbandonOpening(_, opening):
                self.abandonable.add(opening)
            case EndOpening(_, opening):
                self.hands[opening].is_to_end = True
                self.abandonable.add(opening)
            case ServeShard(key, opening, epoch):
                assert (self.hands[opening].key, self.hands[opening].epoch) == (key, epoch)
                assert self.hands[opening].is_open
                assert not self.hands[opening].is_follower
                self.hands[opening].is_served = True
            case CloseShard(_, opening):
                hand = self.hands[opening]
                assert not hand.is_opening, "what works on a shard is not closed under it"
                assert not hand.is_to_close, "it is closed once"
                hand.is_to_close = True
            case DeleteFiles(request, _, generation, shards, own_only):
                self.check_closed(generation, shards)
                assert not own_only, "nobody ordered copies to be dropped"
                self.deleting[request] = effect
            case FlushInTurn(turns):
                self.turns = turns
                for turn in turns:
                    assert self.hands[turn.opening].is_open
                    assert not self.hands[turn.opening].is_follower, "a follower flushes when its leader did"
                    assert not self.hands[turn.opening].is_to_close
            case AnswerRequest(request):
                self.check_answer(request)
            case WakeAt(at_ms):
                assert at_ms > self.now_ms
                self.wake_at_ms = at_ms if self.wake_at_ms is None else min(at_ms, self.wake_at_ms)
            case Report() | Note():
                pass

    def check_answer(self, number: int) -> None:
        """What it ordered to be let go of is closed."""
        match self.orders.pop(number, None):
            case StopOrdered(_, _, shards):
                in_hand = {(hand.key[1], hand.epoch) for hand in self.hands.values()}
                assert not in_hand & set(shards), f"answered while {in_hand} are not closed"
            case DeleteOrdered(_, _, generation, shards):
                self.check_closed(generation, shards)
                assert number not in self.deleting
            case ShutdownOrdered():
                assert not self.hands

    def check_closed(self, generation: int, shards: tuple[int, ...]) -> None:
        for hand in self.hands.values():
            assert hand.generation != generation or hand.key[1] not in shards, f"{hand} has files that are deleted"

    # ---- what holds in the end

    @invariant()
    def whoever_asks_is_told_of_all_that_is_in_hand(self) -> None:
        held = {(one.dataset, one.shard) for one in self.core.held()}
        assert {hand.key for hand in self.hands.values()} <= held

    def teardown(self) -> None:
        """All that was begun ends: whoever waited was answered, and what is wanted is open, or about to be tried."""
        order = ShutdownOrdered(self.next_request())
        if self.epoch % 2:
            self.orders[order.request], self.is_shut_down = order, True
            self.take(order)
        for _ in range(20):
            self.end_all()
        assert not self.orders, f"{self.orders} were never answered"
        for held in self.core.held():
            hand = next(hand for hand in self.hands.values() if hand.key == (held.dataset, held.shard))
            assert hand.is_open
            assert not hand.is_to_close
            assert hand.epoch == held.epoch
            assert hand.is_follower == held.is_follower
            assert hand.is_follower or hand.is_served
            if self.told.get(hand.key, (0, 0))[0] == hand.epoch and not hand.is_follower:
                assert hand.told == self.told[hand.key][1], "it leads, and was not told of its copies"

    def end_all(self) -> None:
        for opening, hand in tuple(self.hands.items()):
            if hand.is_opening and hand.is_to_end:
                self.leave(opening)
                self.take(OpeningEnded(hand.key, opening))
            elif hand.is_opening:
                hand.is_open = True
                self.take(Opened(hand.key, opening))
            elif hand.is_to_close:
                self.leave(opening)
                self.take(Closed(hand.key, opening))
        for number in tuple(self.deleting):
            del self.deleting[number]
            self.take(FilesDeleted(number))
        for one in self.hanging:
            self.take(OpeningCameBack(*one))
        self.hanging.clear()
        self.now_ms += DAY_MS
        if self.wake_at_ms is not None:
            self.wake_at_ms = None
            self.take(Tick())

    # ---- small steps

    def leave(self, opening: int) -> None:
        hand = self.hands.pop(opening)
        if hand.is_open:
            self.gone.append((hand.key, opening))

    def next_request(self) -> int:
        self.requests += 1
        return self.requests

    def config(self) -> DatasetConfig:
        return DatasetConfig("d", "prom-counter", 8, 1, LOG_STREAM_FACTORY, 1, {}, STORE, generation=self.generation)


TestNodeMachine = NodeMachine.TestCase
TestNodeMachine.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
