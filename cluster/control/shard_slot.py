"""A node's slot for one shard: what it has in hand, what it is to have next, and what it says of it. Part of NodeCore.

In: what was ordered for the shard, and what openings and the open shard say. Out: effects. What may follow on what is
``slot_states.py``'s table; which orders come too late, and who waits for which slots, is the NodeCore's.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace

from filoray.cluster.config.dataset import DatasetConfig
from filoray.cluster.control.copy_set import CopySet
from filoray.cluster.control.node_effects import (
    AbandonOpening,
    CloseShard,
    EndOpening,
    NodeEffect,
    Note,
    OpenShard,
    PromoteShard,
    Report,
    ServeShard,
    TellCopies,
)
from filoray.cluster.control.node_events import (
    Closed,
    FlushFailed,
    FlushStepped,
    Opened,
    OpeningAbandoned,
    OpeningEnded,
    OpeningFailed,
    OpeningId,
    OpeningOverdue,
    OpeningProgressed,
    OpeningsWord,
    ShardsWord,
    SlotKey,
    SourceFailed,
    SourceWentOn,
    StoreDoubted,
)
from filoray.cluster.control.shard_status import (
    IngestionError,
    IngestionStarted,
    IngestionStopped,
    RecoveryInProgress,
    RecoveryStarted,
    ShardEvent,
    ShardStatus,
    StatusKind,
    next_status,
)
from filoray.cluster.control.slot_states import (
    ENDS_FOR_GOOD,
    SlotEvent,
    SlotState,
    next_slot_state,
)
from filoray.cluster.node_protocol import HeldShard, Peer

SLOT_EVENTS: dict[type[OpeningsWord | ShardsWord], SlotEvent] = {
    OpeningProgressed: SlotEvent.PROGRESSED,
    Opened: SlotEvent.OPENED,
    OpeningFailed: SlotEvent.OPENING_FAILED,
    OpeningOverdue: SlotEvent.OPENING_OVERDUE,
    OpeningAbandoned: SlotEvent.OPENING_ABANDONED,
    OpeningEnded: SlotEvent.OPENING_ENDED,
    SourceFailed: SlotEvent.SOURCE_FAILED,
    SourceWentOn: SlotEvent.SOURCE_WENT_ON,
    StoreDoubted: SlotEvent.STORE_DOUBTED,
    FlushStepped: SlotEvent.FLUSH_STEPPED,
    FlushFailed: SlotEvent.FLUSH_FAILED,
    Closed: SlotEvent.CLOSED,
}
"""What each word is for the table."""

_PROGRESS_STEP_PCT = 5


@dataclass(frozen=True, slots=True)
class NodeLimits:
    """``source_timeout_ms``: of one answer of a source while a shard is opened.

    ``retry_delay_ms``: before a first retry; it doubles up to ``retry_delay_max_ms``. ``hanging_max``: attempts of one
    shard that wait for a source for ever; while there are as many, none is begun.

    ``deletes_own_only``: files beside this node's own on its machine may be all that is left of another cluster; each
    node deletes what it has itself.
    """

    source_timeout_ms: int = 30_000
    retry_delay_ms: int = 500
    retry_delay_max_ms: int = 30_000
    hanging_max: int = 3
    deletes_own_only: bool = False


@dataclass(frozen=True, slots=True)
class Assignment:
    """What was ordered. ``was_open``: here or elsewhere, so that what it stored must be there.

    ``is_follower``: to have a copy, as the leader at that epoch makes it; of two such orders at one epoch, that of the
    higher ``copies_version`` is the later one.
    """

    config: DatasetConfig
    epoch: int
    was_open: bool
    is_follower: bool = False
    copies_version: int = 0

    @property
    def order(self) -> tuple[int, int]:
        """Higher for a later one."""
        return self.epoch, self.copies_version


@dataclass(frozen=True, slots=True)
class Ended:
    """What a slot had in hand is closed. ``problem``: what closing it met, or ""."""

    problem: str = ""


class ShardSlot:
    """``present``: what it has in hand; ``wanted``: what it is to have, unless its state says for good.

    ``held``: the shard as others are told of it, which is as it is wanted. ``openings``: numbers, never one twice.
    """

    def __init__(self, key: SlotKey, assignment: Assignment, limits: NodeLimits, openings: Iterator[OpeningId]) -> None:
        self.key = key
        self.state = SlotState.CLOSED
        self.present = assignment
        self.wanted = assignment
        self.held = _as_ordered(key, assignment)
        self.opening: OpeningId = 0
        self.retry_at_ms = 0
        self.ended: Ended | None = None
        """For whoever waits for ``present`` to be closed: taken by the NodeCore after each event."""
        self._limits = limits
        self._openings = openings
        self._retry_delay_ms = limits.retry_delay_ms
        self._progress_pct = -1
        self._said: ShardEvent | None = None
        self._failure = IngestionError("")
        self._hanging: set[OpeningId] = set()
        """Abandoned attempts that have not come back."""
        self._copies: TellCopies | None = None
        """What was told last of the copies of what is wanted."""

    @property
    def is_wanted(self) -> bool:
        return self.state not in ENDS_FOR_GOOD

    # ---- orders

    def start(self, assignment: Assignment) -> list[NodeEffect]:
        """At a later epoch than any before."""
        is_promoted = self.state is SlotState.OPEN and self.present.is_follower and not assignment.is_follower
        is_promoted = is_promoted and assignment.config.generation == self.present.config.generation
        before = self._move(SlotEvent.PROMOTE_ORDERED if is_promoted else SlotEvent.START_ORDERED)
        self.wanted, self.held, self._said, self._copies = assignment, _as_ordered(self.key, assignment), None, None
        if is_promoted:
            self.present = assignment
            return [PromoteShard(self.key, self.opening, assignment.epoch, assignment.was_open)]
        return self._go_on() if self.state is SlotState.OPENING else self._end_present(before)

    def tell_copies(self, copies: CopySet, peers: tuple[Peer, ...]) -> list[NodeEffect]:
        """Of what is wanted, which is to lead. A set that is older than the last is not heard."""
        if self._copies is not None:
            if copies.version < self._copies.copies.version:
                return []
            if copies.version == self._copies.copies.version:
                peers = newest_peers(self._copies.peers, peers)
        self._copies = TellCopies(self.key, self.opening, copies, peers)
        return self._tell_of_copies() if self.state is SlotState.OPEN else []

    def _tell_of_copies(self) -> list[NodeEffect]:
        return [] if self._copies is None else [replace(self._copies, opening=self.opening)]

    def let_go(self) -> list[NodeEffect]:
        before = self._move(SlotEvent.LET_GO_ORDERED)
        return self._go_on() if self.state is SlotState.CLOSED else self._end_present(before)

    def tell_again(self) -> list[NodeEffect]:
        """Whoever gives an order twice did not hear what became of it."""
        if self._said is None:
            return []
        said = RecoveryStarted() if isinstance(self._said, RecoveryInProgress) else self._said
        return [Report(self.key, self.held.epoch, said)]

    # ---- what its opening and its shard say

    def word(self, event: OpeningsWord | ShardsWord, now_ms: int) -> list[NodeEffect]:
        """Of the present opening; what a former one says is for no slot."""
        before = self._move(SLOT_EVENTS[type(event)])
        match event:
            case OpeningAbandoned(is_hanging=is_hanging):
                return self._abandoned(is_hanging=is_hanging)
            case Closed(problem=problem) if self.state is not SlotState.FAILED:
                return self._go_on(problem)
            case Closed():
                return self._failed(self._failure, now_ms)
        if before is SlotState.OPENING:
            return self._openings_word(event, now_ms)
        if before is SlotState.OPEN:
            return self._open_shards_word(event)
        if isinstance(event, Opened):
            return [CloseShard(self.key, self.opening)]
        return self._go_on() if self.state in (SlotState.OPENING, SlotState.CLOSED) else []

    def _openings_word(self, event: OpeningsWord | ShardsWord, now_ms: int) -> list[NodeEffect]:
        match event:
            case OpeningProgressed(progress_pct=progress_pct):
                return self._progressed(progress_pct)
            case OpeningOverdue():
                return [AbandonOpening(self.key, self.opening)]
            case OpeningFailed(reason=reason, stored_epoch=stored_epoch):
                return self._failed(IngestionError(reason, stored_epoch), now_ms)
            case _:
                assert isinstance(event, Opened), f"{event} in an opening slot"
                self.present = self.wanted = replace(self.present, was_open=True)
                self._retry_delay_ms = self._limits.retry_delay_ms
                if self.present.is_follower:
                    return []
                serve = ServeShard(self.key, self.opening, self.present.epoch)
                return [serve, *self._tell_of_copies(), *self._say(IngestionStarted())]

    def _open_shards_word(self, event: OpeningsWord | ShardsWord) -> list[NodeEffect]:
        match event:
            case SourceFailed(reason=reason):
                return self._say(IngestionError(reason, is_open=True))
            case SourceWentOn() if self.held.status.kind is StatusKind.ERROR:
                return self._say(IngestionStarted())
            case StoreDoubted(reason=reason):
                note = Note(self.key, f"it is opened anew: {reason}")
                return [note, *self._say(IngestionError(reason)), CloseShard(self.key, self.opening)]
            case _:
                return []

    def _progressed(self, progress_pct: int) -> list[NodeEffect]:
        """A first sign of life, then every few percents."""
        effects: list[NodeEffect] = []
        if self._progress_pct < 0 and self.held.status.kind is not StatusKind.RECOVERY:
            effects += self._say(RecoveryStarted())
        if progress_pct >= self._progress_pct + _PROGRESS_STEP_PCT:
            self._progress_pct = progress_pct
            effects += self._say(RecoveryInProgress(progress_pct))
        return effects

    def _abandoned(self, *, is_hanging: bool) -> list[NodeEffect]:
        """What it left half open is closed, whatever comes next."""
        if is_hanging:
            self._hanging.add(self.opening)
        close = CloseShard(self.key, self.opening)
        if self.state is not SlotState.CLOSING_TO_RETRY:
            return [close]
        problem = (
            f"its source ({self.present.config.source_factory}) gave no answer within filoray.node.source-timeout = "
            f"{self._limits.source_timeout_ms / 1000:g} s"
        )
        self._failure = IngestionError(f"dataset {self.key[0]} shard {self.key[1]}: {problem}")
        text = f"{problem}; next attempt in {self._retry_delay_ms / 1000:.1f} s"
        return [close, Note(self.key, text, logging.ERROR)]

    def came_back(self, opening: OpeningId) -> None:
        """The thread of an abandoned attempt."""
        self._hanging.discard(opening)

    # ---- from one thing in hand to the next

    def retry_if_due(self, now_ms: int) -> list[NodeEffect]:
        """Of a slot that failed."""
        if self.retry_at_ms > now_ms:
            return []
        if len(self._hanging) < self._limits.hanging_max:
            self._move(SlotEvent.RETRIED)
            return self._open()
        self._move(SlotEvent.PUT_OFF)
        self.retry_at_ms = now_ms + self._limits.retry_delay_max_ms
        reason = f"{self._failure.reason}; {len(self._hanging)} attempts have not come back"
        return self._say(IngestionError(reason))

    def _failed(self, error: IngestionError, now_ms: int) -> list[NodeEffect]:
        self._failure = error
        self.retry_at_ms = now_ms + self._retry_delay_ms
        self._retry_delay_ms = min(2 * self._retry_delay_ms, self._limits.retry_delay_max_ms)
        return self._say(error)

    def _end_present(self, before: SlotState) -> list[NodeEffect]:
        """What was in hand ``before`` is to end; what was to end already goes on doing so."""
        if before is SlotState.OPENING:
            return [EndOpening(self.key, self.opening)]
        return [CloseShard(self.key, self.opening)] if before is SlotState.OPEN else []

    def _go_on(self, problem: str = "") -> list[NodeEffect]:
        """Nothing is in hand any more: what is wanted, if anything, is opened."""
        effects: list[NodeEffect] = []
        is_next = self.state is SlotState.CLOSED or self.wanted is not self.present
        if is_next and self.opening:
            if not self.present.is_follower:
                effects.append(Report(self.key, self.present.epoch, IngestionStopped()))
            self.ended = Ended(problem)
            self._retry_delay_ms = self._limits.retry_delay_ms
            self._hanging = set()
        if self.state is SlotState.CLOSED:
            return effects
        self.present = self.wanted
        return [*effects, *self._open()]

    def _open(self) -> list[NodeEffect]:
        self.opening, self._progress_pct = next(self._openings), -1
        present = self.present
        return [
            OpenShard(present.config, self.key[1], present.epoch, self.opening, present.was_open, present.is_follower)
        ]

    def _say(self, event: ShardEvent) -> list[NodeEffect]:
        if self.wanted.is_follower:  # its leader knows how it is, by what it does with what that sends
            return []
        self.held = replace(self.held, status=next_status(self.held.status, event))
        self._said = event
        return [Report(self.key, self.held.epoch, event)]

    def _move(self, event: SlotEvent) -> SlotState:
        """Returns the state before. Raises InvalidSlotEvent."""
        before, self.state = self.state, next_slot_state(self.state, event)
        return before


def newest_peers(known: tuple[Peer, ...], told: tuple[Peer, ...]) -> tuple[Peer, ...]:
    """Of each node the last incarnation: what is told twice of the same copies may arrive in any order."""
    newest = {peer.node: peer for peer in known}
    for peer in told:
        if peer.node not in newest or newest[peer.node].incarnation < peer.incarnation:
            newest[peer.node] = peer
    return tuple(newest.values())


def _as_ordered(key: SlotKey, assignment: Assignment) -> HeldShard:
    return HeldShard(*key, assignment.epoch, ShardStatus(StatusKind.ASSIGNED), assignment.is_follower)
