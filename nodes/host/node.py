"""The node actor: a thin shell that joins the shard host, the data-plane server and the coordinator's orders.

One process of it is one incarnation. It never decides who owns a shard; it holds what it is told to hold
and says what becomes of it.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Sequence

import ray

from filoray.cluster.actors.leading_coordinator import LeadingCoordinator
from filoray.cluster.actors.ray_actors import reachable_host
from filoray.cluster.addresses import NodeAddress
from filoray.cluster.config.dataset import DatasetConfig
from filoray.cluster.config.server_config import ServerConfig
from filoray.cluster.control.copy_set import FollowedShard, InSyncProposed, ShardCopies
from filoray.cluster.control.leader_copies import CopyLimits
from filoray.cluster.control.shard_slot import NodeLimits
from filoray.cluster.control.shard_status import ShardEvent
from filoray.cluster.data_plane_keys import KeyPair
from filoray.cluster.errors import Unavailable
from filoray.cluster.node_protocol import (
    HeartbeatAnswer,
    LeaseGrant,
    NodeAnnouncement,
    Peer,
    ShardEpoch,
    ShardReport,
)
from filoray.cluster.process.open_files import raise_limit
from filoray.cluster.process.process_identity import ProcessIdentity
from filoray.cluster.process.process_memory import release_freed_memory_regularly
from filoray.cluster.process.thread_watch import ThreadWatch
from filoray.nodes.host.lease import Lease
from filoray.nodes.host.replication.copy_check import CheckPace
from filoray.nodes.host.replication.replication_settings import ReplicationSettings
from filoray.nodes.host.request_handler import RequestHandler
from filoray.nodes.host.shard_host import ShardHost
from filoray.nodes.wire.tcp_watch import TcpWatch
from filoray.nodes.wire.transport import TransportLimits, TransportServer

logger = logging.getLogger(__name__)

_REPORT_TIMEOUT_S = 3
_REPORT_RETRY_S = 0.5
_LOOK_UP_S = 10
"""Between two looks for coordinators that were not there before."""


class Node:
    """What the coordinator's NodeActor holds: made, named, watched and replaced by the coordinator. See NodeOrders."""

    def __init__(self, name: str, incarnation: int, config: ServerConfig, port: int, gateway_keys: KeyPair) -> None:
        self._name = name
        self._incarnation = incarnation
        self._has_own_machine = config.keeps_nodes_at_home
        coordinator = LeadingCoordinator(config.coordinators, config.namespace)
        self._reporter = _Reporter(name, incarnation, coordinator)
        self._address = NodeAddress(reachable_host(config.node.host), port)
        self._lease = Lease(is_needed=config.lease_ms > 0)
        check_rate = config.node.replica_check_rate_bytes
        keys = gateway_keys if config.node.is_encrypted else None
        tcp_watch = TcpWatch.of_config(config.node)
        self._host = ShardHost(
            name,
            config.data_dir,
            self._reporter.report,
            config.column_store_url,
            config.dataset_limits,
            NodeLimits(config.node.source_timeout_ms, deletes_own_only=config.keeps_nodes_at_home),
            self._lease,
            ReplicationSettings(
                config.node.max_message_bytes,
                CopyLimits(config.node.follower_timeout_ms),
                config.node.copy_rate_bytes,
                None if check_rate is None else CheckPace(check_rate),
                keys,
                tcp_watch,
            ),
        )
        self._handler = RequestHandler(self._host, config, incarnation)
        limits = TransportLimits(config.node.max_message_bytes, config.node.max_connections)
        self._server = TransportServer(
            config.node.host,
            port,
            self._handler.dispatch,
            keys.public if keys is not None else None,
            limits,
            tcp_watch,
        )
        self._watch = ThreadWatch(config.node.stuck_timeout_ms)
        self._watch.watch(self._handler.overdue)
        for part in (self._server, self._host, self._reporter):
            part.watch_with(self._watch)
        release_freed_memory_regularly()
        raise_limit()

    def start(self) -> NodeAnnouncement:
        return self.announce()

    def announce(self) -> NodeAnnouncement:
        ray_node_id = ray.get_runtime_context().get_node_id()
        return NodeAnnouncement(
            self._name,
            self._incarnation,
            self._address,
            os.getpid(),
            ray_node_id,
            self._host.held(),
            self._server.public_key,
            self._server.endpoint,
            ProcessIdentity.of(os.getpid()),
            self._lease.reading_ms(),
            self._host.stored_copies() if self._has_own_machine else (),
        )

    def start_shards(self, config: DatasetConfig, shards: Sequence[ShardEpoch], opened: Sequence[int]) -> None:
        self._host.start_shards(config, shards, opened)

    def follow_shards(self, config: DatasetConfig, shards: Sequence[FollowedShard]) -> None:
        self._host.follow_shards(config, shards)

    def tell_copies(self, dataset: str, copies: Sequence[ShardCopies], peers: Sequence[Peer]) -> None:
        self._host.tell_of_copies(dataset, copies, peers)

    def drop_copies(self, dataset: str, generation: int, shards: Sequence[FollowedShard]) -> None:
        self._host.drop_copies(dataset, generation, shards)

    def stop_shards(self, dataset: str, shards: Sequence[ShardEpoch]) -> None:
        self._host.stop_shards(dataset, shards)

    def delete_shards(self, dataset: str, generation: int, shards: Sequence[int]) -> None:
        self._host.delete_shards(dataset, generation, shards)

    def heartbeat(self, grant: LeaseGrant, coordinator: str) -> HeartbeatAnswer:
        self._reporter.report_to(coordinator)
        self._lease.renew(grant.from_ms, grant.duration_ms)
        return HeartbeatAnswer(self._watch.problem(), self._lease.reading_ms())

    def wait_until_death(self) -> None:
        threading.Event().wait()

    def shutdown(self) -> None:
        self._server.close()
        self._handler.close()
        self._host.close()


class _Reporter:
    """Tells the coordinator what becomes of shards, in order and in batches, from a thread of its own.

    While the coordinator is away the newest report of each shard is kept; a coordinator that comes back asks for
    an announcement anyway, so a report that never arrives does no harm.
    """

    def __init__(self, node: str, incarnation: int, coordinator: LeadingCoordinator) -> None:
        self._node = node
        self._incarnation = incarnation
        self._coordinator = coordinator
        self._waiting: list[ShardReport] = []
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="reports", daemon=True)
        self._thread.start()

    def watch_with(self, watch: ThreadWatch) -> None:
        """Have it known when nothing is reported any more; a coordinator that is away is no fault of the node's."""
        watch.watch_thread(self._thread)

    def report(self, dataset: str, shard: int, epoch: int, event: ShardEvent | InSyncProposed) -> None:
        with self._changed:
            if isinstance(event, InSyncProposed):  # it is made again while nobody answers: the newest counts
                self._waiting = [it for it in self._waiting if not _is_proposal(it, dataset, shard, epoch)]
            self._waiting.append(ShardReport(dataset, shard, epoch, event))
            self._changed.notify()

    def report_to(self, coordinator: str) -> None:
        """That one leads."""
        self._coordinator.prefer(coordinator)

    def _run(self) -> None:
        while True:
            self._coordinator.look_up()
            with self._changed:
                if not self._waiting:
                    self._changed.wait(_LOOK_UP_S)
                reports, self._waiting = tuple(self._waiting), []
            while reports and not self._send(reports):
                threading.Event().wait(_REPORT_RETRY_S)

    def _send(self, reports: tuple[ShardReport, ...]) -> bool:
        try:
            self._coordinator.ask("shard_events", self._node, self._incarnation, reports, timeout_s=_REPORT_TIMEOUT_S)
        except (ray.exceptions.RayError, Unavailable, TimeoutError) as error:
            logger.warning("the coordinator did not take %d reports: %s", len(reports), error)
            return isinstance(error, ray.exceptions.RayTaskError)
        except Exception:
            logger.exception("%d reports could not be given; they are tried again", len(reports))
            return False
        return True


def _is_proposal(report: ShardReport, dataset: str, shard: int, epoch: int) -> bool:
    is_same = (report.dataset, report.shard, report.epoch) == (dataset, shard, epoch)
    return is_same and isinstance(report.event, InSyncProposed)
