"""The shards with copies that this node leads: the rounds of each on the ingest thread, its copies on the loop.

Here the two meet. What is released goes to the ingest thread in bundles: one message of a follower may be about many
shards.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from filoray.cluster.control.copy_set import CopySet, InSyncProposed
from filoray.cluster.control.node_effects import OpenShard
from filoray.cluster.control.node_events import NodeEvent, StoreDoubted
from filoray.cluster.node_protocol import Peer
from filoray.nodes.data.metric_metadata import MetricMetadata
from filoray.nodes.data.node_figures import FollowerFigures
from filoray.nodes.host.append_jobs import ShardKey
from filoray.nodes.host.lease import Lease
from filoray.nodes.host.metric_metadata_file import MetricMetadataFile
from filoray.nodes.host.replication.leader_rounds import LeaderRounds, TakeSnapshot
from filoray.nodes.host.replication.leader_stream import LeaderStream
from filoray.nodes.host.replication.replication import Replication
from filoray.nodes.host.replication.shard_leader import Leading, ShardLeader
from filoray.nodes.memstore.replica_entries import ReplicaEntry
from filoray.nodes.memstore.shard import Shard
from filoray.nodes.streams.consumer import AppendLater

logger = logging.getLogger(__name__)

RunOnIngestThread = Callable[[Callable[[], None]], object]
Propose = Callable[[ShardKey, int, InSyncProposed], None]
"""(shard, epoch, what its leader proposes), for the coordinator."""


@dataclass(frozen=True, slots=True, eq=False)
class LedShard:
    """``rounds``: on the ingest thread alone. The rest on any thread."""

    rounds: LeaderRounds | LeaderStream
    leader: ShardLeader
    replication: Replication

    @property
    def is_shown(self) -> bool:
        """Whether it may be read."""
        return self.rounds.is_shown

    @property
    def append_streamed(self) -> AppendLater:
        """Of a shard whose nodes have files of their own."""
        assert isinstance(self.rounds, LeaderRounds), "what a stream brings is in no entry of another"
        return self.rounds.append_streamed

    def tell(self, copies: CopySet, peers: Sequence[Peer]) -> None:
        self.replication.tell(self.leader, copies, peers)

    def tell_metrics(self, metrics: Sequence[MetricMetadata]) -> None:
        self.replication.tell_metrics(self.leader, metrics)


class LedShards:
    """``tell``: what happens to a shard. ``propose``: who is in sync."""

    def __init__(
        self, replication: Replication, lease: Lease, tell: Callable[[NodeEvent], None], propose: Propose
    ) -> None:
        self._replication = replication
        self._lease = lease
        self._tell = tell
        self._propose = propose
        self._run_on_ingest_thread: RunOnIngestThread | None = None
        self._lock = threading.Lock()
        self._released: dict[LeaderRounds, int] = {}
        self._waiting: dict[LeaderRounds | LeaderStream, None] = {}
        """Those whose next round is to be begun after the next piece of upkeep. The ingest thread's."""

    def run_with(self, run_on_ingest_thread: RunOnIngestThread) -> None:
        """Before anything is led."""
        self._run_on_ingest_thread = run_on_ingest_thread

    # ---- on any thread

    def lead(self, order: OpenShard, shard: Shard, metadata: MetricMetadataFile) -> LedShard:
        """To be ended by ``end``. Before it is known to anybody who might change it, or between two changes."""
        name = f"dataset {order.config.name} shard {order.shard}"

        def ask_snapshot(take: TakeSnapshot, fail: Callable[[Exception], None]) -> None:
            self.run(lambda: rounds.snapshot(take, fail))

        def send(seq: int, entry: ReplicaEntry) -> None:
            self._replication.entry(leader, seq, entry)

        def check() -> None:
            self._lease.check()
            if (refusal := leader.refusal()) is not None:
                raise refusal

        leader = self._replication.lead(
            Leading(
                order.config,
                order.shard,
                order.epoch,
                shard.spec.path,
                ask_snapshot,
                metrics=lambda: metadata.get("", 0),
                release=lambda seq: self._release(rounds, seq),
                propose=lambda proposal: self._propose(order.key, order.epoch, proposal),
                doubt=lambda reason: self._tell(StoreDoubted(order.key, order.opening, reason)),
            )
        )
        rounds: LeaderRounds | LeaderStream
        if order.config.has_copies:
            rounds = LeaderRounds(name, shard, send, check, leader.refusal)
        else:
            rounds = LeaderStream(name, shard, send)
        return LedShard(rounds, leader, self._replication)

    def figures(self, led: Mapping[ShardKey, LedShard]) -> Mapping[ShardKey, tuple[FollowerFigures, ...]]:
        return self._replication.figures({key: one.leader for key, one in led.items()})

    def _release(self, rounds: LeaderRounds | LeaderStream, seq: int) -> None:
        if isinstance(rounds, LeaderStream):
            return
        with self._lock:
            is_first = not self._released
            self._released[rounds] = seq
        if is_first:
            self.run(self._carry_out_releases)

    def run(self, action: Callable[[], None]) -> None:
        """On the ingest thread, between two rounds. What goes wrong there is logged, as nobody waits for it."""

        def logged() -> None:
            try:
                action()
            except Exception:
                logger.exception("a change to a shard that is led failed")

        assert self._run_on_ingest_thread is not None, "run_with was called"
        self._run_on_ingest_thread(logged)

    # ---- on the ingest thread

    def _carry_out_releases(self) -> None:
        with self._lock:
            released, self._released = self._released, {}
        for rounds, seq in released.items():
            try:
                rounds.released(seq)
            except Exception:
                logger.exception("a round could not be finished")
            if rounds.has_waiting:
                self._waiting[rounds] = None

    def go_on(self) -> None:
        """Begin the rounds that waited for a piece of upkeep."""
        waiting, self._waiting = self._waiting, {}
        for rounds in waiting:
            rounds.go_on()

    def end_when_told(self, led: LedShard, then: Callable[[], None]) -> None:
        """Nothing is written to it any more. ``then``, on this thread: when its followers have all, or soon anyhow."""
        if isinstance(led.rounds, LeaderStream):
            self._replication.drain(led.leader, lambda: self.run(then))
        else:
            then()

    def end(self, led: LedShard) -> None:
        self._waiting.pop(led.rounds, None)
        try:
            led.rounds.close()
        finally:
            self._replication.end(led.leader)
