"""A served shard's copies as its leader carries them out: the LeaderCopies core, and the sessions that it wants.

All on the replication loop's thread; what other threads read of it is said. What the ingest thread made comes in as
entries, what may be shown goes out as releases (``Leading``).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

from filoray.cluster.config.dataset import DatasetConfig
from filoray.cluster.control.copy_set import CopySet, InSyncProposed
from filoray.cluster.control.leader_copies import (
    BeginSession,
    CopiesTick,
    CopiesTold,
    CopyEffect,
    CopyEvent,
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
from filoray.cluster.errors import ConnectionLost, CopiesJoining, FilorayError, StaleRoute, Unavailable, reason_of
from filoray.cluster.node_protocol import Peer
from filoray.cluster.process.clocks import steady_ms
from filoray.nodes.data.metric_metadata import MetricMetadata
from filoray.nodes.data.node_figures import FollowerFigures
from filoray.nodes.host.replication.copy_check import CheckedCopy
from filoray.nodes.host.replication.copy_session import CopySession
from filoray.nodes.host.replication.entry_sizes import EntrySizes
from filoray.nodes.host.replication.leader_rounds import OPENING_SEQ, TakeSnapshot
from filoray.nodes.host.replication.peer_link import PeerLink
from filoray.nodes.host.replication.replication_settings import ReplicationSettings
from filoray.nodes.memstore.replica_entries import ReplicaEntry, encode_entry
from filoray.nodes.memstore.store.store_choice import Snapshot

logger = logging.getLogger(__name__)

_DRAIN_S = 0.2
"""Of a shard that moves: whoever leads it next need not look for what was not told, but others wait meanwhile."""
_PASSING_MS = 60_000
"""For which a copy may lack its connection, or its node not know of it yet: longer than a node takes to be replaced."""
AskSnapshot = Callable[[TakeSnapshot, Callable[[Exception], None]], None]


@dataclass(frozen=True, slots=True)
class Leading:
    """A shard that is served, and how to reach whoever serves it. All may be called on any thread.

    ``path``: of its file.
    ``ask_snapshot``: of what is stored between two entries; it ends in one of the two calls, on another thread.
    ``release``: entries up to that number may be shown. ``doubt``: it must be opened anew, for this reason.
    """

    config: DatasetConfig
    shard: int
    epoch: int
    path: Path
    ask_snapshot: AskSnapshot
    metrics: Callable[[], Sequence[MetricMetadata]]
    release: Callable[[int], None]
    propose: Callable[[InSyncProposed], None]
    doubt: Callable[[str], None]

    @property
    def name(self) -> str:
        return f"dataset {self.config.name} shard {self.shard}"


class ShardLeader:
    """``link``: the connection to a peer, for one session more. Raises FilorayError if there can be none."""

    def __init__(
        self,
        node: str,
        leading: Leading,
        link: Callable[[Peer], PeerLink],
        reads: Executor,
        settings: ReplicationSettings,
    ) -> None:
        self._too_few: tuple[str, int] | None = None
        """What writes are told while too few copies are in sync, and since when; replaced as a whole."""
        self._node = node
        self._leading = leading
        self._link = link
        self._reads = reads
        self._settings = settings
        self._core = LeaderCopies(node, settings.limits, waits=leading.config.has_copies)
        self._on_drained: Callable[[], None] | None = None
        self._peers: dict[tuple[str, int], Peer] = {}
        self._sessions: dict[str, CopySession] = {}
        self._lacking_since_ms: dict[str, int] = {}
        """Of followers whose last session failed: since when there was none that got as far as to be kept up."""
        self._differences: dict[str, tuple[int, str]] = {}
        """Of followers: what the check found of their copies, and in which session."""
        self._sizes = EntrySizes()
        self._wake: asyncio.TimerHandle | None = None
        self._is_over = False
        self._is_told = False

    def refusal(self) -> FilorayError | None:
        """Why no writes are taken: too few copies are in sync. May be asked on any thread.

        CopiesJoining for as long as a follower may take that is only cut off, or has a new leader; then Unavailable.
        """
        if (too_few := self._too_few) is None:
            return None
        text, since_ms = too_few
        is_new = steady_ms() - since_ms < self._settings.limits.follower_timeout_ms
        return CopiesJoining(text) if is_new else Unavailable(text)

    # ---- what others say

    def begin(self) -> None:
        """The opening is its first entry."""
        self._handle(EntryMade(OPENING_SEQ))

    def tell(self, copies: CopySet, peers: Sequence[Peer]) -> None:
        self._is_told = True
        self._peers = {(peer.node, peer.incarnation): peer for peer in peers}
        self._lacking_since_ms = {node: at for node, at in self._lacking_since_ms.items() if node in copies.followers}
        self._handle(CopiesTold(copies, {peer.node: peer.incarnation for peer in peers}))

    def entry(self, seq: int, entry: ReplicaEntry) -> None:
        self._sizes.made(seq, entry)
        self._handle(EntryMade(seq))
        self._sizes.stored(self._core.last_seq - lag for lag in self._core.lag().values() if lag is not None)
        sessions = [session for session in self._sessions.values() if session.takes_entries]
        if sessions:
            data = encode_entry(entry)
            for session in sessions:
                session.entry(seq, data)

    def tell_metrics(self, metrics: Sequence[MetricMetadata]) -> None:
        for session in tuple(self._sessions.values()):
            session.tell_metrics(metrics)

    def drain(self, then: Callable[[], None]) -> None:
        """``then``: as soon as nothing is on its way any more, or after a moment."""
        self._on_drained = then
        asyncio.get_running_loop().call_later(_DRAIN_S, self._drained)
        self._look_if_drained()

    def _look_if_drained(self) -> None:
        if not any(self._core.lag().values()):  # None: of one that has not got yet what there was
            self._drained()

    def _drained(self) -> None:
        then, self._on_drained = self._on_drained, None
        if then is not None:
            then()

    def end(self) -> None:
        self._is_over = True
        if self._wake is not None:
            self._wake.cancel()
        for session in tuple(self._sessions.values()):
            session.end()
        self._sessions.clear()

    def figures(self) -> tuple[FollowerFigures, ...]:
        in_sync, problems = self._core.told.in_sync, self._core.problems()
        figures = []
        for node, entries in self._core.lag().items():
            samples, size = (None, None) if entries is None else self._sizes.after(self._core.last_seq - entries)
            problem = problems.get(node, "") or self._difference(node)
            figures.append(FollowerFigures(node, node in in_sync, entries, samples, size, problem))
        return tuple(figures)

    # ---- what the check asks and finds

    @property
    def name(self) -> str:
        return self._leading.name

    @property
    def generation(self) -> int:
        return self._leading.config.generation

    @property
    def path(self) -> Path:
        return self._leading.path

    def checked_copies(self) -> list[CopySession]:
        if self._leading.config.shares_store:
            return []
        in_sync = self._core.told.in_sync
        return [session for node, session in self._sessions.items() if session.is_live and node in in_sync]

    def differs(self, copy: CheckedCopy, sentences: Sequence[str]) -> None:
        session = self._sessions.get(copy.node)
        if session is not copy:
            return
        more = f", and {len(sentences) - 1} more" if len(sentences) > 1 else ""
        if not self._difference(copy.node):  # once in a session
            found = f"its copy differs: {sentences[0]}{more}"
            logger.error("%s: node %s: %s", self.name, copy.node, found)
            self._differences[copy.node] = session.number, found

    def _difference(self, node: str) -> str:
        number, text = self._differences.get(node, (0, ""))
        session = self._sessions.get(node)
        return text if session is not None and session.number == number else ""

    # ---- what its sessions say

    async def snapshot(self) -> tuple[Snapshot, int]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[tuple[Snapshot, int]] = loop.create_future()

        def take(snapshot: Snapshot, seq: int) -> None:
            def give() -> None:
                if answer.done():
                    snapshot.close()
                else:
                    answer.set_result((snapshot, seq))

            try:
                loop.call_soon_threadsafe(give)
            except RuntimeError:  # the node is closing
                snapshot.close()

        def fail(error: Exception) -> None:
            def give() -> None:
                if not answer.done():
                    answer.set_exception(error)

            try:
                loop.call_soon_threadsafe(give)
            except RuntimeError:
                logger.debug("%s: nobody waits for a snapshot any more", self._leading.name)

        self._leading.ask_snapshot(take, fail)
        try:
            return await answer
        except asyncio.CancelledError:
            if answer.done() and not answer.cancelled() and answer.exception() is None:
                answer.result()[0].close()
            raise

    def metrics(self) -> Sequence[MetricMetadata]:
        return self._leading.metrics()

    def opened(self, session: CopySession, seq: int) -> None:
        self._lacking_since_ms.pop(session.node, None)
        self._handle(FollowerOpened(session.node, session.number, seq))

    def stored(self, session: CopySession, seq: int) -> None:
        self._handle(FollowerStored(session.node, session.number, seq))

    def failed(self, session: CopySession, error: Exception) -> None:
        if self._sessions.get(session.node) is session:
            del self._sessions[session.node]
        level, reason = self._level(session.node, error), reason_of(error)
        logger.log(level, "%s: its copy on %s is not kept up: %s", self._leading.name, session.node, reason)
        self._handle(FollowerFailed(session.node, session.number, reason))

    def _level(self, node: str, error: Exception) -> int:
        """Nodes are replaced as planned, and shards move: no fault, unless it lasts.

        A follower that cannot go on warns of that itself, and the coordinator of nodes that it lost unplanned.
        """
        now_ms = steady_ms()
        since_ms = self._lacking_since_ms.setdefault(node, now_ms)
        if not isinstance(error, StaleRoute) or now_ms - since_ms >= _PASSING_MS:
            return logging.WARNING
        return logging.DEBUG if isinstance(error, ConnectionLost) else logging.INFO  # the link says that, once for all

    # ---- the core

    def _handle(self, event: CopyEvent) -> None:
        if self._is_over:
            return
        try:
            effects = self._core.handle(event, steady_ms())
            self._note_too_few()  # before anything is released by it
            for effect in effects:
                self._carry_out(effect)
        except Exception as error:
            logger.exception("%s: what happened does not fit the state of its copies: %s", self._leading.name, event)
            self.end()
            self._leading.doubt(f"its copies cannot be kept: {type(error).__name__}: {error}")
        if self._on_drained is not None:
            self._look_if_drained()

    def _carry_out(self, effect: CopyEffect) -> None:
        match effect:
            case BeginSession():
                self._begin(effect)
            case EndSession(node, number):
                session = self._sessions.get(node)
                if session is not None and session.number == number:
                    del self._sessions[node]
                    session.end()
            case Propose(base_version, in_sync, reason):
                self._leading.propose(InSyncProposed(base_version, in_sync, reason))
            case Release(seq):
                self._leading.release(seq)
            case WakeCopiesAt(at_ms):
                if self._wake is not None:
                    self._wake.cancel()
                delay_s = max(0, at_ms - steady_ms()) / 1000
                self._wake = asyncio.get_running_loop().call_later(delay_s, self._handle, CopiesTick())

    def _begin(self, effect: BeginSession) -> None:
        leading = self._leading
        try:
            peer = self._peers.get((effect.node, effect.incarnation))
            if peer is None:
                raise StaleRoute(f"node {effect.node} of incarnation {effect.incarnation} is not there")
            link = self._link(peer)
        except FilorayError as error:
            failed = FollowerFailed(effect.node, effect.session, error.message)
            asyncio.get_running_loop().call_soon(self._handle, failed)
            return
        dataset = leading.config.name, leading.config.generation
        self._sessions[effect.node] = CopySession(
            self,
            link,
            effect.node,
            effect.session,
            dataset,
            (leading.shard, leading.epoch),
            self._reads,
            self._settings.copy_rate_bytes,
            with_data=leading.config.has_copies,
        )

    def _note_too_few(self) -> None:
        in_sync, least = self._core.told.in_sync, self._leading.config.min_in_sync_replicas
        if not self._is_told or len(in_sync) >= least:
            self._too_few = None
            return
        problems = "".join(f"; {node}: {reason}" for node, reason in self._core.problems().items())
        text = (
            f"{self._leading.name}: {len(in_sync)} of {self._leading.config.num_replicas} copies are in sync "
            f"({', '.join(in_sync) or 'none'}), fewer than min-in-sync-replicas = {least}{problems}"
        )
        self._too_few = text, steady_ms() if self._too_few is None else self._too_few[1]
