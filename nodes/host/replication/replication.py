"""The thread that keeps the copies of the shards that this node leads: an event loop with a connection to each peer.

Other threads say here what is led, what was made and what the coordinator told; everything else happens on the loop.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor

import zmq

from filoray.cluster.control.copy_set import CopySet
from filoray.cluster.node_protocol import NodeProcessId, Peer
from filoray.cluster.process.thread_watch import Beat, ThreadWatch
from filoray.nodes.data.metric_metadata import MetricMetadata
from filoray.nodes.data.node_figures import FollowerFigures
from filoray.nodes.host.append_jobs import ShardKey
from filoray.nodes.host.replication.copy_check import CopyCheck
from filoray.nodes.host.replication.peer_link import PeerLink
from filoray.nodes.host.replication.replication_settings import ReplicationSettings
from filoray.nodes.host.replication.shard_leader import Leading, ShardLeader
from filoray.nodes.memstore.replica_entries import ReplicaEntry
from filoray.nodes.wire.node_client import ZmqNodeClient

logger = logging.getLogger(__name__)

_BEAT_S = 1.0
_READING_THREADS = 2
_FIGURES_TIMEOUT_S = 2.0
_CLOSE_S = 10.0


class Replication:
    """``node``: this one's name.

    Any thread may call its methods; none waits, but ``figures`` and ``close``.
    """

    def __init__(self, node: str, settings: ReplicationSettings) -> None:
        self._node = node
        self._settings = settings
        self._leaders: set[ShardLeader] = set()
        """The loop's."""
        pace = settings.check_pace
        self._check = None if pace is None else CopyCheck(lambda: self._leaders, pace)
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(_log_exception)
        self._context = zmq.Context()
        self._reads = ThreadPoolExecutor(_READING_THREADS, "snapshot")
        self._links: dict[NodeProcessId, PeerLink] = {}
        self._beat = Beat("replication")
        self._thread = threading.Thread(target=self._run, name="replication", daemon=True)
        self._thread.start()

    def watch_with(self, watch: ThreadWatch) -> None:
        """Have it known when no entry moves any more."""
        watch.watch_thread(self._thread, self._beat)

    # ---- what others say

    def lead(self, leading: Leading) -> ShardLeader:
        """To be ended by ``end``. Nothing is sent, or released, before ``tell``."""
        leader = ShardLeader(self._node, leading, self._link, self._reads, self._settings)
        self._do(leader.begin)
        return leader

    def tell(self, leader: ShardLeader, copies: CopySet, peers: Sequence[Peer]) -> None:
        self._do(self._leaders.add, leader)
        self._do(leader.tell, copies, peers)

    def entry(self, leader: ShardLeader, seq: int, entry: ReplicaEntry) -> None:
        self._do(leader.entry, seq, entry)

    def tell_metrics(self, leader: ShardLeader, metrics: Sequence[MetricMetadata]) -> None:
        self._do(leader.tell_metrics, metrics)

    def drain(self, leader: ShardLeader, then: Callable[[], None]) -> None:
        """``then``, on the loop: when all that was made is stored by those that are kept up, or after a moment."""
        self._do(leader.drain, then)

    def end(self, leader: ShardLeader) -> None:
        self._do(self._leaders.discard, leader)
        self._do(leader.end)

    def figures(self, leaders: Mapping[ShardKey, ShardLeader]) -> Mapping[ShardKey, tuple[FollowerFigures, ...]]:
        """Of the followers of each. Empty if the loop is busy for long."""
        if not leaders:
            return {}

        async def look() -> dict[ShardKey, tuple[FollowerFigures, ...]]:
            return {key: leader.figures() for key, leader in leaders.items()}

        work = look()
        try:
            answer = asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:  # the loop is closed
            work.close()
            return {}
        try:
            return answer.result(_FIGURES_TIMEOUT_S)
        except (TimeoutError, CancelledError):
            answer.cancel()
            return {}

    def close(self) -> None:
        """Nothing is led any more."""
        self._do(self._loop.stop)
        self._thread.join(_CLOSE_S)

    def _do(self, action: Callable[..., None], *arguments: object) -> None:
        try:
            self._loop.call_soon_threadsafe(action, *arguments)
        except RuntimeError:
            logger.debug("the replication loop is closed")

    # ---- the loop

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.call_soon(self._look)
        checking = None if self._check is None else self._loop.create_task(self._check.run())
        try:
            self._loop.run_forever()
        finally:
            self._beat.idle()
            if self._check is not None and checking is not None:
                checking.cancel()
                self._check.close()
            for link in self._links.values():
                link.close()
            self._loop.run_until_complete(asyncio.sleep(0))  # what was cancelled ends
            self._reads.shutdown(wait=False, cancel_futures=True)
            self._loop.close()
            self._context.term()

    def _look(self) -> None:
        """A sign of life; and connections that nobody needs are closed."""
        self._beat.busy("its event loop")
        for peer, link in tuple(self._links.items()):
            if not link.is_used:
                del self._links[peer]
                link.close()
        self._loop.call_later(_BEAT_S, self._look)

    def _link(self, peer: Peer) -> PeerLink:
        key = peer.node, peer.incarnation
        if key not in self._links:
            client = ZmqNodeClient(
                self._context,
                peer.address,
                peer.incarnation,
                peer.endpoint,
                peer.public_key,
                self._settings.keys,
                message_bytes_max=self._settings.message_bytes_max,
                tcp_watch=self._settings.tcp_watch,
                lost=lambda: link.lost(),
            )
            link = self._links[key] = PeerLink(peer.node, client)
        return self._links[key]


def _log_exception(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    error = context.get("exception")
    logger.error("replication: %s", context.get("message"), exc_info=error if isinstance(error, Exception) else None)
