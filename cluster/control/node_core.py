"""Which shards a node opens, has, tries again and closes, and what it says of them: a pure core.

In: events (``node_events.py``) and the time. Out: effects (``node_effects.py``), in the order in which they must be
carried out. It has no clock, thread or file; the node and the simulator drive the very same object. It has a slot for
each shard (``shard_slot.py``); who flushes next is ``flush_turns.py``'s.

Rules it keeps (``check_invariants`` states some of them as code):

* A shard is in one hand at most: an opening begins when the one before has ended and what it opened is closed.
* Epochs only grow. An order of an older epoch, or of one that was to be stopped, or of a generation that was to be
  deleted, opens nothing; one that is given twice is carried out once and told again.
* Whoever orders a stop or a deletion is answered when what it is for is closed, and deleted, not before.
* A follower's copy leads only when that is ordered, at a later epoch; it tells the coordinator nothing before.
* What fails is tried again for as long as the node is to hold the shard, with growing delays.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from filoray.cluster.control.copy_set import CopySet
from filoray.cluster.control.flush_turns import FlushTurns
from filoray.cluster.control.node_effects import (
    AnswerRequest,
    DeleteFiles,
    FlushInTurn,
    FlushTurn,
    NodeEffect,
    Note,
    Report,
    WakeAt,
)
from filoray.cluster.control.node_events import (
    DeleteOrdered,
    DropOrdered,
    FilesDeleted,
    FlushFailed,
    FlushStepped,
    FollowOrdered,
    NodeEvent,
    OpeningCameBack,
    OpeningsWord,
    RequestId,
    ShardsWord,
    ShutdownOrdered,
    SlotKey,
    StartOrdered,
    StopOrdered,
    TellCopiesOrdered,
    Tick,
)
from filoray.cluster.control.shard_slot import SLOT_EVENTS, Assignment, NodeLimits, ShardSlot, newest_peers
from filoray.cluster.control.shard_status import IngestionError
from filoray.cluster.control.slot_states import SlotState, next_slot_state
from filoray.cluster.node_protocol import HeldShard, Peer


@dataclass(slots=True)
class _Request:
    """``awaited``: slots that have still to close for it. ``deletion``: what is to be done then."""

    awaited: set[SlotKey] = field(default_factory=set)
    deletion: DeleteFiles | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class _ToldEarly:
    """Of the copies of a shard that is to lead here at that epoch, before that was ordered."""

    epoch: int
    copies: CopySet
    peers: tuple[Peer, ...]


class NodeCore:
    def __init__(self, limits: NodeLimits | None = None) -> None:
        self._limits = limits or NodeLimits()
        self._slots: dict[SlotKey, ShardSlot] = {}
        self._failed: dict[SlotKey, None] = {}
        """The slots that are tried again, in the order in which they failed."""
        self._openings = itertools.count(1)
        self._requests: dict[RequestId, _Request] = {}
        self._stopped: dict[SlotKey, int] = {}
        """The last epoch of each shard that was to be stopped."""
        self._told_early: dict[SlotKey, _ToldEarly] = {}
        self._newest: dict[SlotKey, tuple[int, int]] = {}
        """The order of the last that each shard was wanted for here, also of one that is closed."""
        self._dropped: dict[SlotKey, tuple[int, int]] = {}
        """The last epoch, with the version of its copies, of each copy that was to be dropped."""
        self._deleted: dict[str, int] = {}
        """The last generation of each data set that was to be deleted."""
        self._flushes = FlushTurns(self._limits.retry_delay_ms, self._limits.retry_delay_max_ms)
        self._turns: tuple[FlushTurn, ...] = ()
        self._wake_at_ms: int | None = None
        self._is_shut_down = False

    # ---- events in, effects out

    def handle(self, event: NodeEvent, now_ms: int) -> list[NodeEffect]:
        """The effects that ``event`` calls for. Raises InvalidSlotEvent; the state is as it was then."""
        match event:
            case StartOrdered():
                effects = self._start_ordered(event)
            case FollowOrdered():
                effects = self._follow_ordered(event)
            case DropOrdered():
                effects = self._drop_ordered(event)
            case TellCopiesOrdered():
                effects = self._tell_copies_ordered(event)
            case StopOrdered():
                effects = self._stop_ordered(event)
            case DeleteOrdered():
                effects = self._delete_ordered(event)
            case ShutdownOrdered(request):
                self._is_shut_down = True
                effects = self._let_go(request, _Request(), tuple(self._slots), lambda key, it: True)
            case FilesDeleted(request, problem):
                effects = self._answer(request, problem)
            case OpeningCameBack(key, opening):
                if (slot := self._slots.get(key)) is not None:
                    slot.came_back(opening)
                effects = []
            case Tick():
                effects = self._tick(now_ms)
            case _:
                effects = self._word(event, now_ms)
        return [*effects, *self._flush_in_turn(now_ms), *self._wake()]

    # ---- what can be asked, on any thread

    def held(self) -> tuple[HeldShard, ...]:
        """All that the node has in hand, also what it is about to close."""
        return tuple(slot.held for slot in tuple(self._slots.values()))

    def held_shard(self, key: SlotKey) -> HeldShard | None:
        """The shard as it is to be held; None if it is not."""
        slot = self._slots.get(key)
        return slot.held if slot is not None and slot.is_wanted else None

    def states(self) -> dict[SlotKey, SlotState]:
        """Of all slots that are not closed."""
        return {key: slot.state for key, slot in tuple(self._slots.items())}

    def state(self, key: SlotKey) -> SlotState:
        slot = self._slots.get(key)
        return SlotState.CLOSED if slot is None else slot.state

    def check_invariants(self) -> None:
        """Raises AssertionError if a rule is broken; tests call it after every event."""
        for key, slot in self._slots.items():
            assert slot.state is not SlotState.CLOSED, f"{key} is closed, but has a slot"
            assert slot.opening, f"{key} was never opened"
            assert slot.ended is None, f"{key} is closed, and who waits for it was not told"
            assert slot.wanted.epoch >= slot.present.epoch, f"{key} goes back from {slot.present} to {slot.wanted}"
        openings = [slot.opening for slot in self._slots.values()]
        assert len(set(openings)) == len(openings), "an opening is of two shards"
        failed = {key for key, slot in self._slots.items() if slot.state is SlotState.FAILED}
        assert failed == self._failed.keys(), "what failed is tried again"
        for turn in self._turns:
            assert self.state(turn.key) is SlotState.OPEN, f"{turn.key} is not open and is to flush"
        for number, request in self._requests.items():
            assert request.awaited <= self._slots.keys(), f"request {number} waits for what is closed"
            assert request.awaited or request.deletion, f"request {number} waits for nothing"

    # ---- orders

    def _start_ordered(self, order: StartOrdered) -> list[NodeEffect]:
        effects: list[NodeEffect] = []
        for shard, epoch in order.shards:
            assignment = Assignment(order.config, epoch, shard in order.opened)
            effects += self._start((order.config.name, shard), assignment)
        return [*effects, AnswerRequest(order.request)]

    def _follow_ordered(self, order: FollowOrdered) -> list[NodeEffect]:
        effects: list[NodeEffect] = []
        for shard, epoch, version in order.shards:
            assignment = Assignment(order.config, epoch, was_open=False, is_follower=True, copies_version=version)
            effects += self._follow((order.config.name, shard), assignment)
        return [*effects, AnswerRequest(order.request)]

    def _follow(self, key: SlotKey, assignment: Assignment) -> list[NodeEffect]:
        """One that comes too late is not heard: whoever leads by then knows its followers."""
        if self._is_shut_down or assignment.config.generation <= self._deleted.get(key[0], -1):
            return []
        slot = self._slots.get(key)
        is_late = assignment.epoch <= self._stopped.get(key, 0) or assignment.order <= self._dropped.get(key, (0, 0))
        if is_late or (slot is not None and assignment.epoch < slot.wanted.epoch):
            return []
        self._newest[key] = max(assignment.order, self._newest.get(key, (0, 0)))
        if slot is not None and slot.is_wanted and slot.wanted.epoch == assignment.epoch:
            return []
        if slot is None:
            slot = self._slots[key] = ShardSlot(key, assignment, self._limits, self._openings)
        return self._after(slot, slot.start(assignment))

    def _drop_ordered(self, order: DropOrdered) -> list[NodeEffect]:
        """What was ordered later stays, with its files."""
        orders: dict[SlotKey, tuple[int, int]] = {}
        for shard, epoch, version in order.shards:
            key = (order.dataset, shard)
            self._dropped[key] = max((epoch, version), self._dropped.get(key, (0, 0)))
            if self._newest.get(key, (0, 0)) <= (epoch, version):
                orders[key] = (epoch, version)
        shards = tuple(shard for _, shard in orders)
        request = _Request()
        if shards:
            request.deletion = DeleteFiles(order.request, order.dataset, order.generation, shards, own_only=True)
        return self._let_go(order.request, request, orders, lambda key, it: it.order <= orders[key])

    def _tell_copies_ordered(self, order: TellCopiesOrdered) -> list[NodeEffect]:
        """Answered with a problem where a shard is not to lead here at that epoch any more.

        Orders may overtake each other: what is told of a shard before it is to lead is kept until it is.
        """
        effects: list[NodeEffect] = []
        strange = []
        for shard, epoch, copies in order.copies:
            key = (order.dataset, shard)
            slot = self._slots.get(key)
            newest = max(self._stopped.get(key, 0), 0 if slot is None else slot.wanted.epoch)
            if slot is not None and slot.is_wanted and not slot.wanted.is_follower and slot.wanted.epoch == epoch:
                effects += slot.tell_copies(copies, order.peers)
            elif epoch > newest:
                early, peers = self._told_early.get(key), order.peers
                if early is not None and (early.epoch, early.copies.version) == (epoch, copies.version):
                    peers = newest_peers(early.peers, peers)
                if early is None or (early.epoch, early.copies.version) <= (epoch, copies.version):
                    self._told_early[key] = _ToldEarly(epoch, copies, peers)
            else:
                strange.append(shard)
        problem = f"shards {strange} of dataset {order.dataset} do not lead here at those epochs" if strange else ""
        return [*effects, AnswerRequest(order.request, problem)]

    def _start(self, key: SlotKey, assignment: Assignment) -> list[NodeEffect]:
        if self._is_shut_down or assignment.config.generation <= self._deleted.get(key[0], -1):
            return []
        slot = self._slots.get(key)
        if slot is not None and slot.is_wanted and slot.wanted.epoch == assignment.epoch:
            return slot.tell_again()
        newest = max(self._stopped.get(key, 0), 0 if slot is None else slot.wanted.epoch)
        if assignment.epoch <= newest:
            # A coordinator whose store was lost gives out epochs anew; to any other this comes too late to be heard.
            reason = f"dataset {key[0]} shard {key[1]}: epoch {assignment.epoch} was overtaken here by epoch {newest}"
            return [Report(key, assignment.epoch, IngestionError(reason, newest))]
        self._newest[key] = assignment.order
        if slot is None:
            slot = self._slots[key] = ShardSlot(key, assignment, self._limits, self._openings)
        effects = slot.start(assignment)
        early = self._told_early.get(key)
        if early is not None and early.epoch <= assignment.epoch:
            del self._told_early[key]
            if early.epoch == assignment.epoch:
                effects = [*effects, *slot.tell_copies(early.copies, early.peers)]
        return self._after(slot, effects)

    def _stop_ordered(self, order: StopOrdered) -> list[NodeEffect]:
        epochs = {(order.dataset, shard): epoch for shard, epoch in order.shards}
        for key, epoch in epochs.items():
            self._stopped[key] = max(epoch, self._stopped.get(key, 0))
        return self._let_go(order.request, _Request(), epochs, lambda key, it: it.epoch == epochs[key])

    def _delete_ordered(self, order: DeleteOrdered) -> list[NodeEffect]:
        name, generation = order.dataset, order.generation
        self._deleted[name] = max(generation, self._deleted.get(name, -1))
        request = _Request(
            deletion=DeleteFiles(order.request, name, generation, order.shards, self._limits.deletes_own_only)
        )
        keys = [(name, shard) for shard in order.shards]
        return self._let_go(order.request, request, keys, lambda key, it: it.config.generation == generation)

    def _let_go(
        self,
        number: RequestId,
        request: _Request,
        keys: Iterable[SlotKey],
        is_meant: Callable[[SlotKey, Assignment], bool],
    ) -> list[NodeEffect]:
        """Those slots that are to have what is meant shall not; what they have of it must be closed for the request."""
        self._requests[number] = request
        effects: list[NodeEffect] = []
        for key in keys:
            slot = self._slots.get(key)
            if slot is None:
                continue
            has, is_to_have = is_meant(key, slot.present), is_meant(key, slot.wanted)
            if is_to_have:
                effects += self._after(slot, slot.let_go())
            if (has or is_to_have) and key in self._slots:
                request.awaited.add(key)
        return effects + self._go_on_with(number)

    def _go_on_with(self, number: RequestId) -> list[NodeEffect]:
        request = self._requests[number]
        if request.awaited:
            return []
        if request.deletion is not None and not request.problem:
            return [request.deletion]
        return self._answer(number, request.problem)

    def _answer(self, number: RequestId, problem: str) -> list[NodeEffect]:
        del self._requests[number]
        return [AnswerRequest(number, problem)]

    # ---- what openings and shards say

    def _word(self, event: OpeningsWord | ShardsWord, now_ms: int) -> list[NodeEffect]:
        slot = self._slots.get(event.key)
        if slot is None or slot.opening != event.opening:  # a former opening: for it, the slot is closed
            next_slot_state(SlotState.CLOSED, SLOT_EVENTS[type(event)])
            return []
        effects = slot.word(event, now_ms)
        if slot.state is SlotState.OPEN:
            if isinstance(event, FlushStepped):
                self._flushes.stepped(slot.key, is_more_due=event.is_more_due)
            elif isinstance(event, FlushFailed):
                delay_ms = self._flushes.failed(slot.key, now_ms)
                text = f"a flush failed, next attempt in {delay_ms / 1000:.1f} s: {event.reason}"
                effects.append(Note(slot.key, text))
        return self._after(slot, effects)

    def _after(self, slot: ShardSlot, effects: list[NodeEffect]) -> list[NodeEffect]:
        """``effects`` and what else follows from the state in which the slot is now."""
        if slot.state is SlotState.OPEN and not slot.present.is_follower:  # a follower flushes when its leader did
            self._flushes.add(slot.key, slot.opening)
        else:
            self._flushes.remove(slot.key)
        if slot.state is SlotState.FAILED:
            self._failed[slot.key] = None
        else:
            self._failed.pop(slot.key, None)
        if slot.state is SlotState.CLOSED:
            del self._slots[slot.key]
        ended, slot.ended = slot.ended, None
        if ended is None:
            return effects
        effects = list(effects)
        for number, request in tuple(self._requests.items()):
            if slot.key in request.awaited:
                request.awaited.remove(slot.key)
                request.problem = request.problem or ended.problem
                effects += self._go_on_with(number)
        return effects

    # ---- what follows at any time

    def _tick(self, now_ms: int) -> list[NodeEffect]:
        self._wake_at_ms = None
        effects: list[NodeEffect] = []
        for slot in [self._slots[key] for key in self._failed]:
            effects += self._after(slot, slot.retry_if_due(now_ms))
        return effects

    def _flush_in_turn(self, now_ms: int) -> list[NodeEffect]:
        turns = self._flushes.news(now_ms)
        if turns is None or turns == self._turns:
            return []
        self._turns = turns
        return [FlushInTurn(turns)]

    def _wake(self) -> list[NodeEffect]:
        retries_ms = [self._slots[key].retry_at_ms for key in self._failed]
        next_ms = min([*retries_ms, *self._flushes.delayed_until_ms()], default=None)
        if next_ms is None or (self._wake_at_ms is not None and self._wake_at_ms <= next_ms):
            return []
        self._wake_at_ms = next_ms
        return [WakeAt(next_ms)]
