"""Writes to one shard that others keep warm: stored and answered as if nobody did, and then told.

What is acknowledged is in the store that all nodes reach, so nothing waits for a follower, and anybody may lead next.
Everything here happens on the ingest thread; entries go out by ``send``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from filoray.cluster.errors import BadData
from filoray.cluster.process.clocks import steady_ms, wall_ms
from filoray.nodes.host.append_jobs import AppendJob
from filoray.nodes.host.replication.leader_rounds import OPENING_SEQ, Send, TakeSnapshot, gone, refuse, told
from filoray.nodes.memstore.replica_entries import CommitEntry, ReplicaEntry
from filoray.nodes.memstore.shard import Shard
from filoray.nodes.wire.write_reply import ShardWriteReply


class LeaderStream:
    """As LeaderRounds, for a shard whose followers nobody waits for. ``shard``: from now on it tells what it does."""

    is_shown = True
    is_open = False
    has_waiting = False

    def __init__(self, name: str, shard: Shard, send: Send) -> None:
        self._name = name
        self._shard = shard
        self._send = send
        self._last_seq = OPENING_SEQ
        self._is_closed = False
        shard.on_entry = self._made

    def append(self, jobs: Sequence[AppendJob]) -> None:
        """They are answered when it returns."""
        if not jobs:
            return
        try:
            replies = self._store([job.container for job in jobs])
        except BadData as error:
            if len(jobs) == 1:
                refuse(jobs, error)
                return
            for job in jobs:  # a bad container is its sender's affair alone
                self.append([job])
            return
        except Exception as error:
            refuse(jobs, told(self._name, error))
            return
        for job, reply in zip(jobs, replies, strict=True):
            job.answer(reply)

    def _store(self, containers: Sequence[bytes | memoryview]) -> Sequence[ShardWriteReply]:
        append = self._shard.begin_append(containers)
        if append.commit is not None:
            self._made(CommitEntry(append.commit))
        return self._shard.finish_append(append)

    def go_on(self) -> None:
        """Nothing waits."""

    def released(self, seq: int) -> None:
        """Everything is, from the beginning."""

    def snapshot(self, take: TakeSnapshot, fail: Callable[[Exception], None]) -> None:
        """Of what is stored now. Ends in one of the calls."""
        try:
            if self._is_closed:
                raise gone(self._name)
            snapshot = self._shard.snapshot(steady_ms(), wall_ms())
        except Exception as error:
            fail(error)
        else:
            take(snapshot, self._last_seq)

    def close(self) -> None:
        """Nothing is told any more."""
        self._shard.on_entry = None
        self._is_closed = True

    def _made(self, entry: ReplicaEntry) -> None:
        self._last_seq += 1
        self._send(self._last_seq, entry)
