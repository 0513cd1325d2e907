"""What a shard's leader decides of its copies: whom it sends to, whom it waits for, what it proposes. A pure core.

In: what the coordinator tells of the shard's copies, what became of the sessions with followers, which entries the
shard made, and the time. Out: effects, which the node's threads and the simulator carry out.

An *entry* is one change of the shard that followers must make too, numbered from 1 since the leader opened it. A
*session* is one attempt to have a follower get and keep a copy: what the shard has when it begins, then every entry.

Rules it keeps (``check_invariants`` states them as code); they are Kafka's (KIP-497 and the maximal in-sync set):

* An entry is released, to be shown and acknowledged, when every follower that may be in sync has it: all of the last
  set that the coordinator told, and all that were proposed since. From the moment when it is proposed to add a follower
  it is waited for; it is waited for no more when a set without it was told.
* Only who has all that was released is proposed; from when it has almost caught up nothing more is released without it.
* A set is proposed for the version that was told last. Of several proposals for one version the coordinator takes one.
* An opening of a shard releases nothing before a set was told that is later than the first one it was told, so it
  proposes one at once: what a former opening at the same epoch proposed counts no more then.
* A follower that is gone, fails, or has not stored an entry for ``follower_timeout_ms`` has no session any more;
  another begins after a while, with growing delays.

Where all nodes share the shard's store, what is acknowledged is there, and followers only keep the shard warm in their
memory: nothing waits for them (``waits``), and who is in sync is who has almost all, by the same rules otherwise.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from filoray.cluster.control.copy_set import CopySet

SessionId = int
"""Grows from one session of a shard's leader to the next; never used twice by one opening."""


@dataclass(frozen=True, slots=True)
class CopyLimits:
    """``follower_timeout_ms``: for which an entry may be on its way to a follower that is in sync.

    ``proposal_timeout_ms``: after which a proposal that was not answered is made again. ``retry_delay_ms``: before a
    session that failed is followed by another; it doubles up to ``retry_delay_max_ms``. ``lag_max``: how many entries a
    follower may be behind that is proposed to be in sync.
    """

    follower_timeout_ms: int = 2000
    proposal_timeout_ms: int = 1000
    retry_delay_ms: int = 200
    retry_delay_max_ms: int = 10_000
    lag_max: int = 64


# ---- events


@dataclass(frozen=True, slots=True)
class CopiesTold:
    """By the coordinator. ``incarnations``: of those followers' nodes that are members now."""

    copies: CopySet
    incarnations: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class EntryMade:
    """The shard's store has it, and it is on its way to whoever has a session. ``seq``: one more than the last."""

    seq: int


@dataclass(frozen=True, slots=True)
class FollowerOpened:
    """It has what the shard had when the session began; ``seq``: the last entry of that."""

    node: str
    session: SessionId
    seq: int


@dataclass(frozen=True, slots=True)
class FollowerStored:
    """All entries up to ``seq``."""

    node: str
    session: SessionId
    seq: int


@dataclass(frozen=True, slots=True)
class FollowerFailed:
    node: str
    session: SessionId
    reason: str


@dataclass(frozen=True, slots=True)
class CopiesTick:
    """Time has passed."""


CopyEvent = CopiesTold | EntryMade | FollowerOpened | FollowerStored | FollowerFailed | CopiesTick


# ---- effects


@dataclass(frozen=True, slots=True)
class BeginSession:
    """Have the follower get what the shard has now, then every entry.

    It goes on with FollowerOpened, then FollowerStored again and again; it ends in FollowerFailed.
    """

    node: str
    incarnation: int
    session: SessionId


@dataclass(frozen=True, slots=True)
class EndSession:
    """Send it nothing more."""

    node: str
    session: SessionId


@dataclass(frozen=True, slots=True)
class Propose:
    """To the coordinator: ``in_sync`` for the set of ``base_version``. ``reason``: for the shard's story."""

    base_version: int
    in_sync: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Release:
    """Entries up to ``seq`` may be shown and acknowledged."""

    seq: int


@dataclass(frozen=True, slots=True)
class WakeCopiesAt:
    """A CopiesTick at that time; one that was asked for earlier, for a later time, is not needed any more."""

    at_ms: int


CopyEffect = BeginSession | EndSession | Propose | Release | WakeCopiesAt


@dataclass(slots=True)
class _Follower:
    """``incarnation``: None while its node is no member. ``reason``: why the last session failed.

    ``goal``: the entry with which it has caught up; None before it has what the shard had, at ``opened_ms``.
    """

    incarnation: int | None
    delay_ms: int
    session: SessionId | None = None
    stored: int = 0
    goal: int | None = None
    opened_ms: int = 0
    is_caught_up: bool = False
    retry_at_ms: int = 0
    reason: str = "it has no copy yet"


@dataclass(slots=True)
class _Proposals:
    """Those for the present version, each once, the last at the end. ``due_ms``: when that is made again."""

    made: list[tuple[str, ...]] = field(default_factory=list)
    due_ms: int = 0

    @property
    def last(self) -> tuple[str, ...] | None:
        return self.made[-1] if self.made else None

    def make(self, in_sync: tuple[str, ...], due_ms: int) -> None:
        self.made = [*(one for one in self.made if one != in_sync), in_sync]
        self.due_ms = due_ms


class LeaderCopies:
    """``node``: the leader's. ``waits``: for followers; else every entry is released at once."""

    def __init__(self, node: str, limits: CopyLimits | None = None, *, waits: bool = True) -> None:
        self._node = node
        self._waits = waits
        self._limits = limits or CopyLimits()
        self._told = CopySet()
        self._first_version: int | None = None
        """Of the set that was told first; None: none was."""
        self._followers: dict[str, _Follower] = {}
        self._proposals = _Proposals()
        self._sessions = itertools.count(1)
        self._made: deque[tuple[int, int]] = deque()
        """(seq, when) of the entries that somebody in sync has not stored yet, as far as is known."""
        self._last_seq = 0
        self._released = 0
        self._wake_at_ms: int | None = None

    # ---- events in, effects out

    def handle(self, event: CopyEvent, now_ms: int) -> list[CopyEffect]:
        effects: list[CopyEffect] = []
        match event:
            case CopiesTold():
                self._take_told(event, effects)
            case EntryMade(seq):
                assert seq == self._last_seq + 1, f"entry {seq} after {self._last_seq}"
                self._last_seq = seq
                self._made.append((seq, now_ms))
            case FollowerOpened(seq=seq):
                if (follower := self._in_session(event)) is not None:
                    follower.stored, follower.goal, follower.opened_ms = seq, self._last_seq, now_ms
                    self._look_at(follower)
            case FollowerStored(seq=seq):
                if (follower := self._in_session(event)) is not None:
                    follower.stored = max(seq, follower.stored)
                    self._look_at(follower)
            case FollowerFailed(reason=reason):
                if (follower := self._in_session(event)) is not None:
                    self._end(follower, reason, now_ms)
            case CopiesTick():
                self._wake_at_ms = None
        self._end_late(effects, now_ms)
        self._begin_due(effects, now_ms)
        self._propose(effects, now_ms)
        self._release(effects)
        self._wake(effects, now_ms)
        return effects

    # ---- what can be asked

    @property
    def told(self) -> CopySet:
        return self._told

    @property
    def proposed(self) -> tuple[tuple[str, ...], ...]:
        """The sets that were proposed and of which one may be taken still."""
        return tuple(self._proposals.made)

    @property
    def released(self) -> int:
        """The last entry that may be shown."""
        return self._released

    @property
    def last_seq(self) -> int:
        """Of the entries that were made."""
        return self._last_seq

    @property
    def _is_confirmed(self) -> bool:
        """Whether a set was told that no former opening has proposed, or nothing is lost if one did."""
        return not self._waits or (self._first_version is not None and self._told.version > self._first_version)

    def awaited(self) -> frozenset[str]:
        """The followers that are to store every entry in time, those that are about to be proposed among them.

        Entries wait for their word, if they do for anybody's.
        """
        caught_up = [node for node, it in self._followers.items() if it.is_caught_up]
        if not self._waits:
            return frozenset(caught_up)
        proposed = [node for nodes in self._proposals.made for node in nodes]
        return frozenset({*self._told.in_sync, *proposed, *caught_up} - {self._node})

    def lag(self) -> Mapping[str, int | None]:
        """Of each follower: how many entries it is known not to have yet; None: it has no copy that is kept up."""
        return {node: None if it.goal is None else self._last_seq - it.stored for node, it in self._followers.items()}

    def problems(self) -> Mapping[str, str]:
        """Of each follower without a session, why."""
        return {
            node: it.reason if it.incarnation is not None else "its node is away"
            for node, it in self._followers.items()
            if it.session is None
        }

    def check_invariants(self) -> None:
        """Raises AssertionError if a rule of this module does not hold."""
        assert self._released <= self._last_seq, f"{self._released} released of {self._last_seq}"
        for node, it in self._followers.items():
            assert node != self._node, f"{node} follows itself"
            assert it.session is not None or not it.is_caught_up, f"{node} is caught up without a session"
            assert it.stored <= self._last_seq, f"{node} has {it.stored} of {self._last_seq}"
        open_sessions = [it.session for it in self._followers.values() if it.session is not None]
        assert len(set(open_sessions)) == len(open_sessions), "a session is of two followers"

    # ---- what is told

    def _take_told(self, event: CopiesTold, effects: list[CopyEffect]) -> None:
        version = event.copies.version
        if version < self._told.version:
            return
        if self._first_version is None or version > self._told.version:
            self._told = event.copies
            self._proposals = _Proposals()
        if self._first_version is None:
            self._first_version = version
        for node in [node for node in self._followers if node not in self._told.followers]:
            follower = self._followers.pop(node)
            if follower.session is not None:
                effects.append(EndSession(node, follower.session))
        for node in self._told.followers:
            incarnation = event.incarnations.get(node)
            former = self._followers.get(node)
            # What is told may be told twice, and late; a node that is away shows by its sessions.
            if former is not None and (former.incarnation or 0) >= (incarnation or 0):
                continue
            if former is not None and former.session is not None:
                effects.append(EndSession(node, former.session))
            self._followers[node] = _Follower(incarnation, self._limits.retry_delay_ms)

    # ---- followers

    def _in_session(self, event: FollowerOpened | FollowerStored | FollowerFailed) -> _Follower | None:
        """Whose word it is; None: of a session that is over."""
        follower = self._followers.get(event.node)
        return follower if follower is not None and follower.session == event.session else None

    def _look_at(self, follower: _Follower) -> None:
        """Whether it has caught up by now: it goes on being so until its session ends."""
        if follower.is_caught_up or follower.goal is None or follower.stored < follower.goal:
            return
        if self._last_seq - follower.stored <= self._limits.lag_max:
            follower.is_caught_up = True
            follower.delay_ms = self._limits.retry_delay_ms
        else:
            follower.goal = self._last_seq

    def _end(self, follower: _Follower, reason: str, now_ms: int) -> None:
        follower.session, follower.goal, follower.is_caught_up, follower.reason = None, None, False, reason
        follower.stored = 0
        follower.retry_at_ms = now_ms + follower.delay_ms
        follower.delay_ms = min(2 * follower.delay_ms, self._limits.retry_delay_max_ms)

    def _late_ms(self) -> list[tuple[int, str]]:
        """When sessions end, and whose, unless they store the entry that is waited for before.

        One that has not got yet what there was is not late: it has other limits, and a set without it is proposed.
        """
        if not self._made:
            return []
        seq, made_ms = self._made[0]
        found = []
        for node in self.awaited():
            follower = self._followers.get(node)
            if follower is not None and follower.goal is not None and follower.stored < seq:
                found.append((max(made_ms, follower.opened_ms) + self._limits.follower_timeout_ms, node))
        return sorted(found)

    def _end_late(self, effects: list[CopyEffect], now_ms: int) -> None:
        """Those that keep others waiting for too long."""
        for late_ms, node in self._late_ms():
            follower = self._followers[node]
            if late_ms <= now_ms and follower.session is not None:
                waited_ms = now_ms - late_ms + self._limits.follower_timeout_ms
                effects.append(EndSession(node, follower.session))
                self._end(follower, f"it has not stored an entry for {waited_ms} ms", now_ms)

    def _begin_due(self, effects: list[CopyEffect], now_ms: int) -> None:
        for node, follower in self._followers.items():
            if follower.session is None and follower.incarnation is not None and follower.retry_at_ms <= now_ms:
                follower.session = next(self._sessions)
                effects.append(BeginSession(node, follower.incarnation, follower.session))

    # ---- who is in sync

    def _propose(self, effects: list[CopyEffect], now_ms: int) -> None:
        if self._first_version is None or not (self._waits or self._followers):
            return
        # Whoever may lead has all that was released; those that have caught up are waited for, so they soon have.
        needed = self._released if self._waits else 0
        has_all = [
            node
            for node in self._told.followers
            if self._followers[node].is_caught_up and self._followers[node].stored >= needed
        ]
        wanted = (self._node, *has_all)
        asked = self._proposals
        if asked.last is None and self._is_confirmed and set(wanted) == set(self._told.in_sync):
            return
        if wanted == asked.last and now_ms < asked.due_ms:
            return
        reasons = [f"{node} has caught up" for node in wanted if node not in self._told.in_sync]
        for node in self._told.in_sync:
            if node not in wanted:
                follower = self._followers.get(node)
                reasons.append(f"{node} is not in sync" + (f": {follower.reason}" if follower is not None else ""))
        asked.make(wanted, now_ms + self._limits.proposal_timeout_ms)
        effects.append(Propose(self._told.version, wanted, "; ".join(reasons) or "as it was"))

    def _release(self, effects: list[CopyEffect]) -> None:
        stored = min(map(self._stored, self.awaited()), default=self._last_seq)
        released = 0 if not self._is_confirmed else stored if self._waits else self._last_seq
        if released > self._released:
            self._released = released
            effects.append(Release(released))
        while self._made and self._made[0][0] <= (self._released if self._waits else stored):
            self._made.popleft()

    def _stored(self, node: str) -> int:
        """Entries that it certainly has."""
        follower = self._followers.get(node)
        return 0 if follower is None or follower.goal is None else follower.stored

    def _wake(self, effects: list[CopyEffect], now_ms: int) -> None:
        times = [it.retry_at_ms for it in self._followers.values() if it.session is None and it.incarnation is not None]
        times += [late_ms for late_ms, _ in self._late_ms()]
        if self._proposals.last is not None:
            times.append(self._proposals.due_ms)
        next_ms = max(min(times), now_ms + 1) if times else None
        if next_ms is None or (self._wake_at_ms is not None and self._wake_at_ms <= next_ms):
            return
        self._wake_at_ms = next_ms
        effects.append(WakeCopiesAt(next_ms))
