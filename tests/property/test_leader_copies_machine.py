"""A leader, its followers and a coordinator that takes, loses and doubles proposals: what was released is never lost.

The world around the core keeps what each node really has, by entry; whoever is in the coordinator's durable set may be
asked to lead at any moment, so each of them must have all that was released.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from filoray.cluster.control.copy_set import CopySet
from filoray.cluster.control.leader_copies import (
    BeginSession,
    CopiesTick,
    CopiesTold,
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

LEADER = "a"
OTHERS = ("b", "c", "d")
NODE = st.sampled_from(OTHERS)


@dataclass(slots=True)
class Session:
    """``has``: entries that the follower has stored; None before the snapshot. ``on_its_way``: words to the leader."""

    node: str
    snapshot: int
    has: int | None = None
    on_its_way: list[CopyEvent] = field(default_factory=list)


class LeaderMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.core = LeaderCopies(LEADER, CopyLimits(lag_max=2))
        self.now_ms = 0
        self.durable = CopySet(1, (), (LEADER,))
        self.incarnations = dict.fromkeys(OTHERS, 1)
        self.tellings: list[CopiesTold] = []
        self.proposals: list[Propose] = []
        self.sessions: dict[int, Session] = {}
        self.wake_at_ms: int | None = None
        self.released = 0
        self.stored: dict[str, int] = dict.fromkeys(OTHERS, 0)
        """What each follower has on its disk, by the last session that gave it a copy."""
        self.durable = CopySet(2, OTHERS[:2], (LEADER,))
        self.take(CopiesTold(self.durable, dict(self.incarnations)))

    def take(self, event: CopyEvent) -> None:
        for effect in self.core.handle(event, self.now_ms):
            match effect:
                case BeginSession(node, incarnation, session):
                    assert incarnation <= self.incarnations[node]
                    assert session not in self.sessions, "its number was used before"
                    self.sessions[session] = Session(node, self.core.last_seq)
                case EndSession(_, session):
                    del self.sessions[session]
                case Propose():
                    self.proposals.append(effect)
                case Release(seq):
                    assert seq > self.released
                    self.released = seq
                case WakeCopiesAt(at_ms):
                    assert at_ms > self.now_ms
                    self.wake_at_ms = at_ms if self.wake_at_ms is None else min(at_ms, self.wake_at_ms)
        self.core.check_invariants()

    # ---- the shard

    @rule()
    def an_entry_is_made(self) -> None:
        self.take(EntryMade(self.core.last_seq + 1))

    # ---- followers

    @precondition(lambda self: self.sessions)
    @rule(data=st.data(), is_heard=st.booleans())
    def a_follower_stores(self, data: st.DataObject, is_heard: bool) -> None:
        """The snapshot first, then entry after entry; the word of it comes at once, late, or never."""
        number = data.draw(st.sampled_from(sorted(self.sessions)))
        session = self.sessions[number]
        if session.has is None:
            session.has = session.snapshot
            session.on_its_way.append(FollowerOpened(session.node, number, session.has))
        elif session.has < self.core.last_seq:
            session.has += 1
            session.on_its_way.append(FollowerStored(session.node, number, session.has))
        self.stored[session.node] = session.has
        while is_heard and session.on_its_way:
            self.take(session.on_its_way.pop(0))

    @precondition(lambda self: any(it.on_its_way for it in self.sessions.values()))
    @rule(data=st.data(), is_doubled=st.booleans())
    def a_word_arrives(self, data: st.DataObject, is_doubled: bool) -> None:
        number = data.draw(st.sampled_from([number for number, it in self.sessions.items() if it.on_its_way]))
        word = self.sessions[number].on_its_way[0]
        if not is_doubled or isinstance(word, FollowerOpened):
            self.sessions[number].on_its_way.pop(0)
        self.take(word)

    @precondition(lambda self: self.sessions)
    @rule(data=st.data())
    def a_session_fails(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.sessions)))
        session = self.sessions.pop(number)
        self.take(FollowerFailed(session.node, number, "?"))
        self.take(FollowerStored(session.node, number, self.core.last_seq))  # of a session that is over

    # ---- the coordinator

    @precondition(lambda self: self.core.last_seq % 4 == 3)
    @rule(node=NODE, is_dropped=st.booleans())
    def a_copy_is_given_or_dropped(self, node: str, is_dropped: bool) -> None:
        """Seldom, as it makes proposals void that are on their way."""
        known = self.durable
        followers = {*known.followers} - {node} if is_dropped else {*known.followers, node}
        in_sync = tuple(one for one in known.in_sync if one != node or not is_dropped)
        self.durable = CopySet(known.version + 1, tuple(sorted(followers)), in_sync)
        self.tell()

    @precondition(lambda self: self.proposals)
    @rule(back=st.integers(0, 3), is_told=st.booleans(), is_kept=st.booleans())
    def a_proposal_arrives(self, back: int, is_told: bool, is_kept: bool) -> None:
        """In any order, again and again, or never. The leader is told of it at once, late, or never."""
        proposal = self.proposals[max(0, len(self.proposals) - 1 - back)]
        if not is_kept:
            self.proposals.remove(proposal)
        known = self.durable
        if proposal.base_version == known.version and {*proposal.in_sync} <= {LEADER, *known.followers}:
            self.durable = CopySet(known.version + 1, known.followers, proposal.in_sync)
        self.tell()
        if is_told:
            self.take(self.tellings.pop())

    @precondition(lambda self: self.core.last_seq % 4 == 2)
    @rule(node=NODE)
    def a_node_is_another_process(self, node: str) -> None:
        self.incarnations[node] += 1
        self.tell()

    def tell(self) -> None:
        self.tellings.append(CopiesTold(self.durable, dict(self.incarnations)))

    @precondition(lambda self: self.tellings)
    @rule(data=st.data(), is_kept=st.booleans())
    def a_telling_arrives(self, data: st.DataObject, is_kept: bool) -> None:
        told = data.draw(st.sampled_from(self.tellings))
        if not is_kept:
            self.tellings.remove(told)
        self.take(told)

    @rule(ms=st.sampled_from([10, 300, 2500, 12_000]))
    def time_passes(self, ms: int) -> None:
        self.now_ms += ms
        if self.wake_at_ms is not None and self.wake_at_ms <= self.now_ms:
            self.wake_at_ms = None
            self.take(CopiesTick())

    # ---- what holds

    @invariant()
    def whoever_may_lead_next_has_all_that_was_released(self) -> None:
        for node in self.durable.in_sync:
            if node != LEADER:
                assert self.stored[node] >= self.released, f"{node} has {self.stored[node]} of {self.released}"

    def teardown(self) -> None:
        """All who are there join, and everything is released, once nothing is lost any more."""
        self.proposals.clear()
        self.tellings.clear()
        for _ in range(60):
            self.now_ms += 1000
            self.take(CopiesTold(self.durable, dict(self.incarnations)))
            self.take(CopiesTick())
            for number in tuple(self.sessions):
                self.give_all(number)
            for proposal in self.proposals:
                if proposal.base_version == self.durable.version:
                    self.durable = CopySet(self.durable.version + 1, self.durable.followers, proposal.in_sync)
            self.proposals.clear()
        assert self.released == self.core.last_seq
        assert {*self.durable.in_sync} == {LEADER, *self.durable.followers}

    def give_all(self, number: int) -> None:
        session = self.sessions[number]
        if session.has is None:
            session.has = session.snapshot
            session.on_its_way.append(FollowerOpened(session.node, number, session.has))
        session.has = self.stored[session.node] = self.core.last_seq
        words, session.on_its_way = session.on_its_way, []
        for word in (*words, FollowerStored(session.node, number, session.has)):
            self.take(word)


TestLeaderMachine = LeaderMachine.TestCase
TestLeaderMachine.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
