"""Writes to one shard that has copies: stored here, sent to the followers, and shown and answered when they have it.

At most one round of a shard is open. What comes meanwhile waits and shares the next one, as far as a round has room, so
that the ingest thread never waits for another node. Everything here happens on that thread. Who is to have an entry
before it is released is the LeaderCopies' to say, on another thread: entries go there by ``send``, and ``released``
comes back.

The messages of a shard that is fed by a stream go in such rounds too, one group after the other.

Opening the shard counts as its first entry. What was recovered may be more than some follower has that may lead next:
until that one has it too, or may lead no more, nothing of the shard is shown.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from filoray.cluster.errors import BadData, CopiesJoining, FilorayError, StaleRoute, Unavailable
from filoray.cluster.process.clocks import steady_ms, wall_ms
from filoray.nodes.data.write_outcome import AppendReply
from filoray.nodes.host.append_jobs import ROUND_JOBS_MAX, AppendJob
from filoray.nodes.memstore.append_round import AppendRound
from filoray.nodes.memstore.replica_entries import ReplicaEntry
from filoray.nodes.memstore.shard import Shard
from filoray.nodes.memstore.store.store_choice import Snapshot
from filoray.nodes.wire.write_reply import Refused

logger = logging.getLogger(__name__)

Send = Callable[[int, ReplicaEntry], None]
"""(number, entry)."""
OPENING_SEQ = 1
"""The number of the entry that the opening is; it is sent to nobody, as every session begins later."""
TakeSnapshot = Callable[[Snapshot, int], None]
"""(what is stored, the number of the last entry in it): the taker closes it."""


AnswerRound = Callable[[list[AppendReply] | FilorayError], None]
"""What became of a round: a reply for each container, or why there was none. On the ingest thread, once."""


@dataclass(frozen=True, slots=True)
class _Messages:
    """Those of the shard's stream that are next."""

    containers: Sequence[bytes | memoryview]
    offsets: Sequence[int]
    answer: AnswerRound


@dataclass(frozen=True, slots=True)
class _OpenRound:
    seq: int
    append: AppendRound
    answer: AnswerRound


@dataclass(frozen=True, slots=True)
class _Asked:
    """Somebody waits for a snapshot."""

    take: TakeSnapshot
    fail: Callable[[Exception], None]


class LeaderRounds:
    """``check``: raises why nothing may be written, or acknowledged, now: asked when a round begins and is released.

    ``doubt``: why what comes from the shard's stream would have too few copies; None: it would have enough.
    """

    def __init__(
        self, name: str, shard: Shard, send: Send, check: Callable[[], None], doubt: Callable[[], FilorayError | None]
    ) -> None:
        self._name = name
        self._shard = shard
        self._send = send
        self._check = check
        self._doubt = doubt
        self.is_shown = False
        """Whether the shard may be read. Any thread may look."""
        self._last_seq = OPENING_SEQ
        self._is_closed = False
        self._open: _OpenRound | None = None
        self._waiting: list[AppendJob] = []
        self._single: deque[AppendJob] = deque()
        """Jobs of which one is bad: each has a round of its own, as it is its sender's affair alone."""
        self._messages: _Messages | None = None
        self._asked: list[_Asked] = []
        shard.on_entry = self._made

    @property
    def is_open(self) -> bool:
        """Nothing else may change the shard now."""
        return self._open is not None

    @property
    def has_waiting(self) -> bool:
        return bool(self._waiting or self._single or self._messages)

    def append(self, jobs: Sequence[AppendJob]) -> None:
        """They are answered, in time."""
        self._waiting += jobs
        self.go_on()

    def append_streamed(
        self, containers: Sequence[bytes | memoryview], offsets: Sequence[int], answer: AnswerRound
    ) -> None:
        """The messages of the shard's stream that are next, in one round: none may be passed over.

        One call at a time: whoever reads the stream waits for the answer. CopiesJoining: too few copies are in sync.
        """
        if self._is_closed:
            answer(gone(self._name))
            return
        self._messages = _Messages(containers, offsets, answer)
        self.go_on()

    def go_on(self) -> None:
        """Begin the next round, if none is open and something waits."""
        while self._open is None and self.has_waiting:
            if self._messages is not None:
                messages, self._messages = self._messages, None
                self._begin_streamed(messages)
                continue
            if self._single:
                jobs = [self._single.popleft()]
            else:
                jobs, self._waiting = self._waiting[:ROUND_JOBS_MAX], self._waiting[ROUND_JOBS_MAX:]
            self._begin(jobs)

    def released(self, seq: int) -> None:
        """All who must have the entries up to ``seq`` have them. What waits is begun by ``go_on``."""
        self.is_shown = True
        if self._open is not None and self._open.seq <= seq:
            done, self._open = self._open, None
            self._finish(done.append, done.answer)
            self._take_snapshots()

    def snapshot(self, take: TakeSnapshot, fail: Callable[[Exception], None]) -> None:
        """Of what is stored between two entries: now, or when the open round is over. Ends in one of the calls."""
        if self._is_closed:
            fail(gone(self._name))
            return
        self._asked.append(_Asked(take, fail))
        if self._open is None:
            self._take_snapshots()

    def close(self) -> None:
        """Whoever waits is told that the shard is elsewhere: what became of an open round, the next leader knows."""
        self._shard.on_entry = None
        self._is_closed = True
        error = gone(self._name)
        if self._open is not None:
            self._shard.abandon_append(self._open.append)
            self._open.answer(error)
        if self._messages is not None:
            self._messages.answer(error)
        refuse([*self._single, *self._waiting], error)
        self._open, self._messages, self._waiting = None, None, []
        self._single.clear()
        asked, self._asked = self._asked, []
        for one in asked:
            one.fail(error)

    # ---- rounds

    def _begin(self, jobs: Sequence[AppendJob]) -> None:
        try:
            self._check()
            append = self._shard.begin_append([job.container for job in jobs])
        except BadData as error:
            if len(jobs) > 1:
                self._single.extend(jobs)
            else:
                refuse(jobs, error)
            return
        except Exception as error:
            refuse(jobs, told(self._name, error))
            return
        self._wait_for_copies(append, partial(self._answer_jobs, jobs, append))

    def _begin_streamed(self, messages: _Messages) -> None:
        """Nobody was promised anything of them yet: with too few copies in sync they stay in their stream.

        However long that takes, whoever reads the stream has nobody else to tell: it is to ask again.
        """
        if (refusal := self._doubt()) is not None:
            messages.answer(CopiesJoining(refusal.message))
            return
        try:
            append = self._shard.begin_append(messages.containers, offsets=messages.offsets)
        except Exception as error:
            messages.answer(told(self._name, error))
            return
        self._wait_for_copies(append, messages.answer)

    def _wait_for_copies(self, append: AppendRound, answer: AnswerRound) -> None:
        entry = append.entry
        if entry is None:
            self._finish(append, answer)
            return
        self._open = _OpenRound(self._last_seq + 1, append, answer)
        self._made(entry)

    def _finish(self, append: AppendRound, answer: AnswerRound) -> None:
        try:
            outcome: list[AppendReply] | FilorayError = self._shard.finish_append(append)
        except Exception as error:
            outcome = told(self._name, error)
        answer(outcome)

    def _answer_jobs(
        self, jobs: Sequence[AppendJob], append: AppendRound, outcome: list[AppendReply] | FilorayError
    ) -> None:
        if isinstance(outcome, FilorayError):
            refuse(jobs, outcome)
            return
        if append.commit is not None:
            try:
                self._check()
            except FilorayError as error:
                refuse(jobs, error)
                return
        for job, reply in zip(jobs, outcome, strict=True):
            job.answer(reply)

    def _made(self, entry: ReplicaEntry) -> None:
        self._last_seq += 1
        self._send(self._last_seq, entry)

    def _take_snapshots(self) -> None:
        asked, self._asked = self._asked, []
        for one in asked:
            try:
                snapshot = self._shard.snapshot(steady_ms(), wall_ms())
            except Exception as error:
                one.fail(error)
            else:
                one.take(snapshot, self._last_seq)


def gone(name: str) -> StaleRoute:
    """What whoever waits for a shard is told when it is closed."""
    return StaleRoute(f"{name}: closed here while it was written to")


def told(name: str, error: Exception) -> FilorayError:
    """What the senders are told of what an append raised."""
    if isinstance(error, FilorayError):
        return error
    logger.error("%s: an append failed", name, exc_info=error)
    return Unavailable(f"{name}: {type(error).__name__}: {error}")


def refuse(jobs: Sequence[AppendJob], error: FilorayError) -> None:
    """All of them, for that reason."""
    for job in jobs:
        job.answer(Refused.of(error))
