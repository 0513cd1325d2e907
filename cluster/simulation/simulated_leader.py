"""A simulated shard that leads: the real LeaderCopies, its entries on their way to followers, writes that wait.

A write is a *round*: committed here, sent, and shown and acknowledged when the core releases it; one at a time, those
that come meanwhile share the next. What the shard had when it was opened is shown when the first entry is released.

Where all nodes share the shard's store, nothing waits for followers: the node commits as always, and tells of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from filoray.cluster.config.dataset import DatasetConfig
from filoray.cluster.control.copy_set import InSyncProposed
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
    SessionId,
    WakeCopiesAt,
)
from filoray.cluster.control.node_effects import TellCopies
from filoray.cluster.simulation.checkers import Process, SampleId, ShardKey
from filoray.cluster.simulation.copy_entries import (
    CommitEntry,
    Entry,
    FlushEntry,
    KnownSample,
    OpenedEntry,
    SessionOrigin,
)
from filoray.cluster.simulation.shard_file import KeptSample, SentSample, ServedShard, ShardFile
from filoray.cluster.simulation.world import Action

LIMITS = CopyLimits(retry_delay_max_ms=2000)
PIECES = 2
"""In how many a snapshot is sent."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """``seq``: the last entry that is in ``file``."""

    file: ShardFile
    seq: int


class Follower(Protocol):
    """Another process, as a leader's session reaches it."""

    def begin(self, origin: SessionOrigin, reply: Callable[[str], None]) -> None:
        """``reply``: told why not, or ""."""

    def piece(self, origin: SessionOrigin, number: int, reply: Callable[[str], None]) -> None: ...

    def install(self, origin: SessionOrigin, snapshot: Snapshot, reply: Callable[[str], None]) -> None: ...

    def store(self, origin: SessionOrigin, seq: int, entry: Entry, reply: Callable[[str], None]) -> None: ...


class LeadersNode(Protocol):
    """What a leader needs of its process."""

    process: Process

    def leader_file(self, served: ServedShard) -> ShardFile | None:
        """None: it is not what was opened any more."""

    def is_serving(self, key: ShardKey, served: ServedShard) -> bool: ...

    def may_answer(self) -> bool:
        """Whether others cannot have its shards yet."""

    def next_sample(self) -> SampleId: ...

    def propose(self, key: ShardKey, epoch: int, proposal: InSyncProposed) -> None: ...

    def released(self, key: ShardKey, served: ServedShard, ids: Sequence[SampleId]) -> None:
        """Those may be lost no more, and are shown."""

    def acknowledge(self, key: ShardKey, served: ServedShard, samples: int) -> None: ...

    def commit_later(self, action: Action) -> None: ...

    def commit_fails(self, key: ShardKey, served: ServedShard) -> bool:
        """Whether the disk, or somebody who has the file now, keeps it from it; the shard may be opened anew then."""

    def wake_copies_at(self, at_ms: int, action: Action) -> None: ...

    def ask_peer(
        self, peer: Process, act: Callable[[Follower, Callable[[str], None]], None], heard: Callable[[str], None]
    ) -> None:
        """``heard``: told once what became of it: why not, or ""."""

    def watch_peer(self, peer: Process, lost: Callable[[str], None]) -> None:
        """``lost``: told when the peer's process ends."""

    def note_copies(self, key: ShardKey, text: str) -> None: ...

    def now_ms(self) -> int: ...


@dataclass(slots=True)
class _Session:
    """``waiting``: entries since the snapshot, until the follower has that."""

    peer: Process
    origin: SessionOrigin
    is_open: bool = False
    waiting: list[tuple[int, Entry]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Write:
    refuse: Action
    sample: SentSample | None


@dataclass(frozen=True, slots=True)
class _Round:
    seq: int
    writes: tuple[_Write, ...]
    ids: tuple[SampleId, ...]


class SimulatedLeader:
    def __init__(self, node: LeadersNode, key: ShardKey, served: ServedShard, config: DatasetConfig) -> None:
        self.core = LeaderCopies(node.process[0], LIMITS, waits=config.has_copies)
        self._node = node
        self._key = key
        self._served = served
        self._config = config
        self._sessions: dict[SessionId, _Session] = {}
        self._waiting: list[_Write] = []
        self._is_round_open = False
        self._rounds: deque[_Round] = deque()

    def open(self) -> None:
        """It is served from now on."""
        self._served.is_shown = False
        self.make(OpenedEntry())

    def tell(self, told: TellCopies) -> None:
        self._handle(CopiesTold(told.copies, {peer.node: peer.incarnation for peer in told.peers}))

    @property
    def waits(self) -> bool:
        """Whether writes are rounds."""
        return self._config.has_copies

    @property
    def is_heard_out(self) -> bool:
        """Whether everybody whose session goes on has stored the last entry."""
        lag = self.core.lag()
        return not any(lag[session.peer[0]] for session in self._sessions.values() if session.is_open)

    @property
    def may_flush(self) -> bool:
        return not self._is_round_open

    def flush(self, stored: ShardFile, flush: Callable[[ShardFile], None]) -> None:
        moved = tuple(stored.ids)[stored.checkpoint :]
        flush(stored)
        self.make(FlushEntry(moved))

    # ---- writes

    def write(self, refuse: Action, sample: SentSample | None) -> None:
        if self._has_too_few():
            refuse()
            return
        self._waiting.append(_Write(refuse, sample))
        self._begin_round()

    def _has_too_few(self) -> bool:
        return len(self.core.told.in_sync) < self._config.min_in_sync_replicas

    def _begin_round(self) -> None:
        if self._waiting and not self._is_round_open:
            self._is_round_open = True
            self._node.commit_later(self._commit)

    def _commit(self) -> None:
        writes, self._waiting = tuple(self._waiting), []
        stored = self._node.leader_file(self._served)
        if self._node.commit_fails(self._key, self._served) or stored is None:
            self._is_round_open = False
            for write in writes:
                write.refuse()
            return
        ids = tuple(self._node.next_sample() for _ in writes)
        samples = [(number, write.sample) for number, write in zip(ids, writes, strict=True)]
        known = tuple(
            KnownSample(number, sample.series, sample.timestamp_ms, sample.value)
            for number, sample in samples
            if sample is not None
        )
        entry = CommitEntry(ids, known)
        commit(stored, entry)
        self._rounds.append(_Round(self.core.last_seq + 1, writes, ids))
        self.make(entry)

    def _release(self, seq: int) -> None:
        if not self._served.is_shown:
            self._show_what_was_there()
        while self._rounds and self._rounds[0].seq <= seq:
            done = self._rounds.popleft()
            self._is_round_open = False
            self._served.samples += len(done.ids)
            self._node.released(self._key, self._served, done.ids)
            is_unsure = self._has_too_few() or not self._node.may_answer()
            for write in done.writes:
                if is_unsure:
                    write.refuse()
                    continue
                self._node.acknowledge(self._key, self._served, self._served.samples)
                if write.sample is not None:
                    write.sample.taken()
        self._begin_round()

    def _show_what_was_there(self) -> None:
        stored = self._node.leader_file(self._served)
        if stored is None:
            return
        ids = stored.found_ids()
        unreleased = {number for one in self._rounds for number in one.ids}
        shown = [number for number in ids if number not in unreleased]
        self._served.samples, self._served.is_shown = len(shown), True
        self._node.released(self._key, self._served, shown)

    # ---- entries and sessions

    def make(self, entry: Entry) -> None:
        """The shard's store has it by now. Where nobody waits for followers, and there are none, it is nothing."""
        if not (self.waits or self.core.told.followers):
            return
        seq = self.core.last_seq + 1
        open_before = tuple(self._sessions.values())
        for session in open_before:
            self._send(session, seq, entry)
        self._handle(EntryMade(seq))

    def _send(self, session: _Session, seq: int, entry: Entry) -> None:
        if not session.is_open:
            session.waiting.append((seq, entry))
            return
        origin = session.origin

        def heard(problem: str) -> None:
            if problem:
                self._failed(session, problem)
            elif self._is_present(session):
                self._handle(FollowerStored(session.peer[0], origin.session, seq))

        self._node.ask_peer(session.peer, lambda peer, reply: peer.store(origin, seq, entry, reply), heard)

    def _begin(self, begin: BeginSession) -> None:
        """The snapshot is of this moment, between two entries."""
        stored = self._node.leader_file(self._served)
        served = self._served
        origin = SessionOrigin(
            self._node.process, self._key, served.file[2], served.epoch, served.opening, begin.session
        )
        session = self._sessions[begin.session] = _Session((begin.node, begin.incarnation), origin)
        if stored is None:
            self._failed(session, "there is nothing to copy")
            return
        snapshot = self.snapshot(stored)
        self._node.watch_peer(session.peer, lambda problem: self._failed(session, problem))

        def go_on(problem: str, step: int) -> None:
            if problem:
                self._failed(session, problem)
            elif not self._is_present(session):
                return
            elif step < PIECES:
                self._node.ask_peer(
                    session.peer,
                    lambda peer, reply: peer.piece(origin, step, reply),
                    lambda heard: go_on(heard, step + 1),
                )
            elif step == PIECES:
                self._node.ask_peer(
                    session.peer,
                    lambda peer, reply: peer.install(origin, snapshot, reply),
                    lambda heard: go_on(heard, step + 1),
                )
            else:
                self._opened(session, snapshot.seq)

        self._node.ask_peer(session.peer, lambda peer, reply: peer.begin(origin, reply), lambda heard: go_on(heard, 0))

    def snapshot(self, stored: ShardFile) -> Snapshot:
        return Snapshot(stored.copied(), self.core.last_seq)

    def _opened(self, session: _Session, seq: int) -> None:
        self._node.note_copies(self._key, f"{session.peer[0]} has a copy up to entry {seq}")
        session.is_open = True
        waiting, session.waiting = session.waiting, []
        for number, entry in waiting:
            if number > seq:
                self._send(session, number, entry)
        self._handle(FollowerOpened(session.peer[0], session.origin.session, seq))

    def _failed(self, session: _Session, problem: str) -> None:
        if self._is_present(session):
            del self._sessions[session.origin.session]
            self._node.note_copies(self._key, f"the session with {session.peer[0]} fails: {problem}")
            self._handle(FollowerFailed(session.peer[0], session.origin.session, problem))

    def _is_present(self, session: _Session) -> bool:
        is_serving = self._node.is_serving(self._key, self._served)
        return is_serving and self._sessions.get(session.origin.session) is session

    # ---- the core

    def _handle(self, event: CopyEvent) -> None:
        if not self._node.is_serving(self._key, self._served):
            return
        for effect in self.core.handle(event, self._node.now_ms()):
            self._carry_out(effect)
        self.core.check_invariants()

    def _carry_out(self, effect: CopyEffect) -> None:
        match effect:
            case BeginSession():
                self._begin(effect)
            case EndSession(node, session):
                self._node.note_copies(self._key, f"the session with {node} ends")
                self._sessions.pop(session, None)
            case Propose(base_version, in_sync, reason):
                self._node.propose(self._key, self._served.epoch, InSyncProposed(base_version, in_sync, reason))
            case Release(seq):
                self._release(seq)
            case WakeCopiesAt(at_ms):
                self._node.wake_copies_at(at_ms, lambda: self._handle(CopiesTick()))


def commit(stored: ShardFile, entry: CommitEntry) -> None:
    """What a commit is to a file, of the leader or a follower."""
    first = stored.committed + 1
    stored.ids |= dict.fromkeys(entry.ids)
    stored.committed += len(entry.ids)
    places = {number: place for place, number in enumerate(entry.ids, start=first)}
    for one in entry.known:
        stored.keep(one.series, KeptSample(one.timestamp_ms, places[one.id], one.value))
