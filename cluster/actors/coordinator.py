"""The coordinator: carries out what the ShardManager and the Membership decide. A shell without an ``if`` about shards.

Events come from operators (through gateways), from nodes (reports), from Ray (deaths) and from the clock; each is given
to a core, and the commands that come back are carried out in order. What must be durable is written before the next
command is looked at, in the same step of the event loop, so that no other event comes between.

It may be killed at any moment: everything it needs is in the MetaStore, and nodes say themselves what they hold. A new
one adopts the nodes that live, without disturbing the shards they serve, and replaces the others. A store that cannot
be written ends the process: what is in memory would be ahead of it, and a restart begins from what is durable.

Over Ray it is wrapped by ``coordinator_actor.py``; Ray itself is behind ``ActorPort``.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ParamSpec

from filoray.cluster.actor_names import gateway_name, node_actor_name, node_name, slot_index
from filoray.cluster.actors.ray_actors import ActorPort
from filoray.cluster.actors.view_publisher import ViewPublisher
from filoray.cluster.addresses import NodeAddress
from filoray.cluster.cluster_view import ClusterView, DatasetView, NodeInfo
from filoray.cluster.config.dataset import check_room_for, parse_dataset_config
from filoray.cluster.config.ignored_keys import log_ignored_keys
from filoray.cluster.config.server_config import ServerConfig
from filoray.cluster.control.assignment import node_order
from filoray.cluster.control.launch_report import dataset_problems, is_settled
from filoray.cluster.control.membership import (
    DeathNoticed,
    Gone,
    HeartbeatAnswered,
    Joined,
    KillNode,
    LaunchNode,
    Lost,
    Membership,
    MembershipCommand,
    MembershipEvent,
    MembershipLimits,
    NodeAnnounced,
    PersistIncarnation,
    ProcessGone,
    SlotState,
    Tick,
)
from filoray.cluster.control.shard_manager import ShardManager
from filoray.cluster.control.shard_messages import (
    DatasetDeleted,
    DatasetSetUp,
    DeleteShards,
    ForgetDataset,
    ManagerCommand,
    ManagerEvent,
    MemberGone,
    MemberJoined,
    MemberLost,
    MembersJoined,
    PersistDataset,
    PersistShardMap,
    PublishShardMap,
    ShardReported,
    ShardsDeleted,
    ShardsReleased,
    ShardsStarted,
    ShardsStopped,
    StartShards,
    StopShards,
)
from filoray.cluster.control.shard_status import IngestionError, IngestionStarted, InvalidTransition
from filoray.cluster.errors import BadData, DatasetExists, DatasetUnknown, FilorayError, Unavailable
from filoray.cluster.node_protocol import LeaseGrant, NodeAnnouncement, ShardEpoch, ShardReport
from filoray.cluster.process.observed_clock import ObservedClock
from filoray.cluster.store.meta_store import MetaStore

logger = logging.getLogger(__name__)

_VERSION_SHIFT = 32
_ADOPT_TIMEOUT_S = 5.0
_ACTIVE_TIMEOUT_S = 5.0
_KNOWN_TIMEOUT_S = 2.0
_DELETE_TIMEOUT_S = 20.0
_STOP_TIMEOUT_S = 10.0
_ORDER_RETRY_S = 1.0
_STALL_POLL_S = 0.25
_ABSENCE_WORTH_A_WORD_MS = 1000
P = ParamSpec("P")


def _end_process() -> None:
    os._exit(1)


@dataclass(frozen=True, slots=True)
class ReadyReport:
    """What the launcher shows. ``addresses``: by node. ``problems``: shards that are not served, with the reasons."""

    addresses: tuple[str, ...]
    datasets: tuple[str, ...]
    problems: tuple[str, ...]


class Coordinator:
    """Belongs to one event loop; ``start`` must be called on it first."""

    def __init__(
        self, config: ServerConfig, store: MetaStore, actors: ActorPort, abort: Callable[[], None] = _end_process
    ) -> None:
        self._abort = abort
        self._config = config
        self._store = store
        self._actors = actors
        rows = store.nodes()
        incarnations = {name: row.incarnation for name, row in rows.items()}
        generation = store.next_generation()
        self._gateway_keys = store.gateway_keys()
        self._opened = store.opened_shards()
        self._announced_here: set[str] = set()
        self._setup_problem = ""
        self._deletion_problems: dict[str, str] = {}
        self._shards_moved_s = time.monotonic()
        self._manager = ShardManager(generation, store.restored_state(incarnations))
        node = config.node
        limits = MembershipLimits(
            heartbeat_timeout_ms=node.heartbeat_timeout_ms,
            start_timeout_ms=node.start_timeout_ms,
            restart_backoff_ms=node.restart_backoff_ms,
            restart_backoff_max_ms=node.restart_backoff_max_ms,
            seed_node_count=config.seed.seed_node_count,
            form_wait_ms=config.seed.form_wait_ms,
            lease_ms=config.lease_ms,
        )
        names = [node_name(index) for index in range(config.node_count)]
        self._clock = ObservedClock(gap_ms_max=2 * self._tick_ms)
        self._membership = Membership(names, limits, self._clock.now_ms(), incarnations, returning=rows)
        self._processes = {name: (row.pid, row.pid_started_s) for name, row in rows.items()}
        self._version = generation << _VERSION_SHIFT
        self._view = ClusterView(self._version)
        self._publisher = ViewPublisher(actors)
        self._is_publishing = False
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_stopping = False

    def start(self) -> None:
        """Adopt what lives, launch what does not, and keep watching."""
        for index in range(self._config.node_count):
            self._publisher.add(gateway_name(index))
        for node, slot in list(self._membership.slots.items()):
            if slot.state is SlotState.RETURNING:
                self._spawn(self._adopt(node, slot.incarnation))
        self._spawn(self._keep_time())
        self._spawn(self._set_up_configured())

    # ---- the protocol: operators

    async def setup_dataset(self, name: str, text: str) -> None:
        """Set a dataset up. Returns when its shards are Active and every gateway knows, or after some seconds.

        Raises BadData, DatasetExists.
        """
        if name in self._manager.datasets:
            raise DatasetExists(name)
        config = await asyncio.to_thread(
            parse_dataset_config,
            text,
            name,
            store_defaults=self._config.store,
            spread_default=self._config.spread_default,
            place="source configuration",
            limits=self._config.dataset_limits.reading_again,
        )  # fmt: skip
        await self._until(lambda: not self._manager.is_deleting(name), _DELETE_TIMEOUT_S)
        configs = [known for known, _ in self._manager.datasets.values() if known.name != name]
        check_room_for(config, configs, self._config.dataset_limits)
        if left := self._manager.undeleted_shards(name):
            raise Unavailable(self._undeleted_text(name, left))
        self._manage(DatasetSetUp(config))
        log_ignored_keys(name, config.ignored_keys)
        await self._until(lambda: self._is_settled(name), _ACTIVE_TIMEOUT_S)
        await self._publisher.wait_until_known(self._publish_now(), _KNOWN_TIMEOUT_S)

    async def delete_dataset(self, name: str) -> None:
        """Remove a dataset and its files; returns when they are gone.

        Again while they are not gone yet, it waits for that. Raises DatasetUnknown; Unavailable, naming what is still
        there, after some seconds: the deletion then goes on by itself.
        """
        if not self._manager.is_deleting(name):
            self._manage(DatasetDeleted(name))
        await self._publisher.wait_until_known(self._publish_now(), _KNOWN_TIMEOUT_S)
        await self._until(lambda: not self._manager.is_deleting(name), _DELETE_TIMEOUT_S)
        if left := self._manager.undeleted_shards(name):
            raise Unavailable(self._undeleted_text(name, left))

    def _undeleted_text(self, name: str, left: Mapping[str | None, tuple[int, ...]]) -> str:
        places = "; ".join(
            f"shards {', '.join(map(str, shards))} {f'on {node}' if node else 'wait for a node'}"
            for node, shards in sorted(left.items(), key=lambda item: item[0] or "")
        )
        problem = self._deletion_problems.get(name)
        return (
            f"dataset {name} is served no more, but not all its data are deleted yet: {places}"
            f"{f' ({problem})' if problem else ''}; that goes on by itself, and the name is free when it is done"
        )

    async def start_shards(self, dataset: str, address: str, shards: Sequence[int]) -> None:
        """Give unowned shards to the node at ``address`` (its FiloDB form). Raises DatasetUnknown, BadData."""
        try:
            wanted = NodeAddress.parse(address)
        except ValueError as error:
            raise BadData(str(error)) from None
        node = next((name for name, info in self._view.nodes.items() if info.address == wanted), None)
        if node is None:
            raise BadData(f"there is no node {address}; the members are {', '.join(self.members())}")
        await self._until(lambda: not self._manager.unreleased_by(dataset, shards), _STOP_TIMEOUT_S)
        self._manage(ShardsStarted(dataset, node, tuple(shards)))
        await self._publisher.wait_until_known(self._publish_now(), _KNOWN_TIMEOUT_S)

    async def stop_shards(self, dataset: str, shards: Sequence[int]) -> None:
        """Take shards from their owners; returns when those have closed them.

        Raises DatasetUnknown, BadData; Unavailable if an owner did not close one within some seconds: nobody asks it
        for the shard any more, but no other node gets it before.
        """
        self._manage(ShardsStopped(dataset, tuple(shards)))
        await self._publisher.wait_until_known(self._publish_now(), _KNOWN_TIMEOUT_S)
        await self._until(lambda: not self._manager.unreleased_by(dataset, shards), _STOP_TIMEOUT_S)
        if nodes := self._manager.unreleased_by(dataset, shards):
            raise Unavailable(f"shards of dataset {dataset} are stopped, but {', '.join(nodes)} has not closed all yet")

    def story(self, dataset: str, shard: int) -> tuple[str, ...]:
        """What happened to a shard and why, oldest first."""
        return tuple(
            f"{datetime.fromtimestamp(line.at_ms / 1000, UTC).isoformat(timespec='milliseconds')} {line.text}"
            for line in self._manager.story(dataset, shard)
        )

    # ---- the protocol: other actors and the launcher

    async def view(self) -> ClusterView:
        """The present view; after a restart only when it is known who lives."""
        await self._until(lambda: not self._is_adopting(), None)
        self._publish_now()
        return self._view

    async def subscribe(self, gateway: str) -> ClusterView:
        """The present view; later ones are pushed to the gateway."""
        self._publisher.add(gateway)
        return await self.view()

    def members(self) -> tuple[str, ...]:
        """Addresses of the members, sorted."""
        return tuple(str(address) for address in sorted(info.address for info in self._view.nodes.values()))

    def shard_events(self, node: str, incarnation: int, reports: Sequence[ShardReport]) -> None:
        """A node says what became of its shards, in order."""
        if self._is_stopping:
            return  # shards that close with the whole cluster were stopped by nobody: the next launch opens them again
        for report in reports:
            try:
                self._manage(ShardReported(node, incarnation, report))
            except InvalidTransition as error:
                logger.warning(
                    "a report does not fit dataset=%s shard=%d epoch=%d node=%s: %s",
                    report.dataset, report.shard, report.epoch, node, error,
                )  # fmt: skip
        self._note_opened(node, reports)

    def _note_opened(self, node: str, reports: Sequence[ShardReport]) -> None:
        """A shard that is Active has a store from now on: whoever opens it later must find that."""
        fresh: dict[tuple[str, int], int] = {}
        for report in reports:
            key, known = (report.dataset, report.shard), self._manager.datasets.get(report.dataset)
            if known is None or not isinstance(report.event, IngestionStarted):
                continue
            config, shard_map = known
            is_current = report.shard < len(shard_map) and (
                (shard_map[report.shard].node, shard_map[report.shard].epoch) == (node, report.epoch)
            )
            if is_current and self._opened.get(key) != config.generation:
                fresh[key] = config.generation
        if fresh:
            self._opened |= fresh
            self._durably(self._store.put_opened, fresh)

    async def ready(self) -> ReadyReport:
        """Return when all nodes are members and nothing more becomes of any shard, or will for now.

        Raises FilorayError with the cause if a node does not come up or a configured dataset cannot be set up,
        Unavailable if nodes are missing after ``seed.timeout``. Datasets that are not wholly served are the report's.
        """
        deadline_s = time.monotonic() + self._config.seed.timeout_ms / 1000
        while not (self._is_ready() or self._launch_problem()):
            wait_s = min(deadline_s, self._shards_stall_at_s(deadline_s)) - time.monotonic()
            if wait_s <= 0:
                break
            await self._until(lambda: self._is_ready() or bool(self._launch_problem()), min(wait_s, _STALL_POLL_S))
        if problem := self._launch_problem():
            raise FilorayError(problem)
        if not self._are_all_up():
            waiting = {node: slot.state.value for node, slot in self._membership.slots.items()}
            raise Unavailable(f"not ready after {self._config.seed.timeout_ms} ms; nodes: {waiting}")
        await self._publisher.wait_until_known(self._publish_now(), _KNOWN_TIMEOUT_S)
        problems = tuple(
            problem
            for name, (config, shard_map) in self._manager.datasets.items()
            for problem in dataset_problems(
                config, shard_map, self._manager.shards_without_room(name), len(self._membership.slots)
            )
        )
        nodes = [self._view.nodes[node] for node in sorted(self._view.nodes, key=node_order)]
        addresses = tuple(str(info.address) for info in nodes)
        return ReadyReport(addresses, tuple(sorted(self._manager.datasets)), problems)

    async def shutdown(self) -> None:
        """Let every node flush and close, then end them. The coordinator does nothing more afterwards."""
        self._is_stopping = True
        timeout_s = self._config.node.shutdown_timeout_ms / 1000
        slots = [(node, slot.incarnation) for node, slot in self._membership.slots.items() if slot.incarnation]

        async def stop(node: str, incarnation: int) -> None:
            try:
                await self._actors.shutdown(node, incarnation, timeout_s)
            except Exception as error:
                logger.warning("a node did not close in order node=%s#%d error=%s", node, incarnation, error)
            await self._actors.kill(node, incarnation, *self._processes.get(node, (None, None)))
            self._durably(self._store.put_process, node, None, None)

        await asyncio.gather(*(stop(node, incarnation) for node, incarnation in slots))
        self._publisher.close()
        for task in self._tasks:
            task.cancel()

    # ---- cores: events in, commands carried out

    def _manage(self, event: ManagerEvent) -> None:
        for command in self._manager.handle(event, time.time_ns() // 1_000_000):
            self._carry_out(command)
        self._shards_moved_s = time.monotonic()
        self._notify()

    def _member_event(self, event: MembershipEvent) -> None:
        if self._is_stopping:
            return
        for command in self._membership.handle(event, self._observed_ms()):
            self._carry_out_membership(command)

    def _carry_out(self, command: ManagerCommand) -> None:
        match command:
            case PersistDataset(config, is_deleting):
                self._durably(self._store.put_dataset, config, is_deleting)
            case ForgetDataset(dataset):
                self._durably(self._store.forget_dataset, dataset)
            case PersistShardMap(shard_map):
                self._durably(self._store.put_shard_map, shard_map)
            case StartShards():
                self._spawn(self._order_start(command))
            case StopShards():
                self._spawn(self._order_stop(command))
            case DeleteShards():
                self._spawn(self._order_delete(command))
            case PublishShardMap(dataset, shard_map):
                states = "deleted" if shard_map is None else " ".join(
                    f"{entry.shard}={entry.status}@{entry.node or '-'}/{entry.epoch}" for entry in shard_map.shards
                )  # fmt: skip
                logger.info("shards dataset=%s %s", dataset, states)
                self._publish_soon()

    def _carry_out_membership(self, command: MembershipCommand) -> None:
        match command:
            case PersistIncarnation(node, incarnation):
                self._durably(self._store.put_incarnation, node, incarnation)
                self._announced_here.discard(node)
                self._processes[node] = (None, None)
            case LaunchNode(node, incarnation):
                logger.info("node launches node=%s#%d", node, incarnation)
                self._spawn(self._launch(node, incarnation))
            case KillNode(node, incarnation):
                self._spawn(self._kill(node, incarnation))
            case Joined(announcements):
                self._joined(announcements)
            case Lost(node, incarnation, cause):
                logger.warning("node lost node=%s#%d cause=%s", node, incarnation, cause)
                self._manage(MemberLost(node, incarnation, cause))
                self._publish_soon()
            case Gone(node, incarnation):
                self._durably(self._store.put_process, node, None, None)
                self._manage(MemberGone(node, incarnation))
        self._notify()

    def _durably(self, write: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            write(*args, **kwargs)
        except Exception:
            logger.critical("the coordinator's store cannot be written; ending to start anew from it", exc_info=True)
            self._abort()
            raise

    def _joined(self, announcements: Sequence[NodeAnnouncement]) -> None:
        for one in announcements:
            logger.info("node joined node=%s#%d address=%s pid=%d", one.node, one.incarnation, one.address, one.pid)
        members = tuple(MemberJoined(one.node, one.incarnation, one.shards) for one in announcements)
        self._manage(MembersJoined(members))
        self._publish_soon()

    # ---- what takes time

    async def _order_start(self, order: StartShards) -> None:
        """Until the node has taken it, or is lost, or no shard of it is the node's any more.

        Whether a call that failed was carried out is not known; the node then says again how the shards are.
        """
        name, generation, node = order.config.name, order.config.generation, order.node
        while shards := self._still_ordered(order):
            try:
                opened = [shard for shard, _ in shards if self._opened.get((name, shard)) == generation]
                await self._actors.start_shards(node, order.incarnation, order.config, shards, opened)
                return
            except Exception as error:  # its death is heard of elsewhere; anything else is the shards' error
                logger.warning("a node took no shards node=%s dataset=%s error=%s", node, name, error)
                problem = IngestionError(f"{node} did not take it: {error}")
                reports = [ShardReport(name, shard, epoch, problem) for shard, epoch in shards]
                self.shard_events(node, order.incarnation, reports)
            await asyncio.sleep(_ORDER_RETRY_S)

    def _still_ordered(self, order: StartShards) -> list[ShardEpoch]:
        known = self._manager.datasets.get(order.config.name)
        if known is None or self._manager.members.get(order.node) != order.incarnation:
            return []
        owned = {(entry.shard, entry.epoch) for entry in known[1].owned_by(order.node)}
        return [shard for shard in order.shards if shard in owned]

    async def _order_stop(self, order: StopShards) -> None:
        """Until it is done, or the node is lost: nobody else gets the shards before."""
        while self._manager.members.get(order.node) == order.incarnation:
            try:
                await self._actors.stop_shards(order.node, order.incarnation, order.dataset, order.shards)
            except Exception as error:
                logger.warning("shards not stopped node=%s dataset=%s error=%s", order.node, order.dataset, error)
                await asyncio.sleep(_ORDER_RETRY_S)
                continue
            self._manage(ShardsReleased(order.node, order.incarnation, order.dataset, order.shards))
            return

    async def _order_delete(self, order: DeleteShards) -> None:
        """Until it is done, or the node is lost, which makes the ShardManager ask another."""
        node, incarnation, dataset, generation = order.node, order.incarnation, order.dataset, order.generation
        while self._manager.members.get(node) == incarnation:
            try:
                await self._actors.delete_shards(node, incarnation, dataset, generation, order.shards)
            except Exception as error:
                logger.warning("shards not deleted node=%s dataset=%s error=%s", node, dataset, error)
                self._deletion_problems[dataset] = f"{node}: {error}"
                await asyncio.sleep(_ORDER_RETRY_S)
                continue
            self._deletion_problems.pop(dataset, None)
            self._manage(ShardsDeleted(node, incarnation, dataset, generation))
            return

    async def _launch(self, node: str, incarnation: int) -> None:
        port = self._config.node.port_base + slot_index(node)
        timeout_s = self._config.node.start_timeout_ms / 1000
        try:
            announcement = await self._actors.launch(node, incarnation, port, self._gateway_keys.public, timeout_s)
        except Exception as error:
            self._member_event(DeathNoticed(node, incarnation, f"it did not start: {error}"))
            return
        self._watch(announcement)

    async def _adopt(self, node: str, incarnation: int) -> None:
        try:
            announcement = await self._actors.adopt(node, incarnation, _ADOPT_TIMEOUT_S)
        except Exception as error:
            self._member_event(DeathNoticed(node, incarnation, f"it was not there after a restart: {error}"))
            return
        self._watch(announcement)

    def _watch(self, announcement: NodeAnnouncement) -> None:
        node, incarnation = announcement.node, announcement.incarnation
        slot = self._membership.slots.get(node)
        if self._is_stopping or slot is None or slot.incarnation != incarnation or slot.state is SlotState.LEAVING:
            return
        self._announced_here.add(node)
        started_s = self._actors.process_started_s(announcement)
        self._processes[node] = (announcement.pid, started_s)
        self._durably(self._store.put_process, node, announcement.pid, started_s)
        self._member_event(NodeAnnounced(announcement))
        self._spawn(self._await_death(node, incarnation))
        self._spawn(self._send_heartbeats(node, incarnation, announcement.clock_ms))

    async def _await_death(self, node: str, incarnation: int) -> None:
        while True:
            try:
                cause = await self._actors.wait_until_death(node, incarnation)
                break
            except Exception as error:  # that the watch failed says nothing of the node
                logger.warning("a node is not watched for a moment node=%s#%d error=%s", node, incarnation, error)
                await asyncio.sleep(_ORDER_RETRY_S)
                if not self._is_up(node, incarnation):
                    return
        self._member_event(DeathNoticed(node, incarnation, cause))

    async def _send_heartbeats(self, node: str, incarnation: int, clock_ms: int) -> None:
        """``clock_ms``: the node's own clock as last heard, from which each heartbeat grants a lease."""
        interval_s = self._config.node.heartbeat_interval_ms / 1000
        timeout_s = self._config.node.heartbeat_timeout_ms / 1000
        while self._is_up(node, incarnation):
            try:
                grant = LeaseGrant(clock_ms, self._config.lease_ms)
                answer = await self._actors.heartbeat(node, incarnation, grant, timeout_s)
                clock_ms = answer.clock_ms
                if answer.unfit:  # it answers, but what it is for has stopped in it: only a new process helps
                    self._member_event(DeathNoticed(node, incarnation, f"it says of itself: {answer.unfit}"))
                else:
                    self._member_event(HeartbeatAnswered(node, incarnation))
            except Exception as error:
                logger.warning("heartbeat missed node=%s#%d error=%s", node, incarnation, error)
            await asyncio.sleep(interval_s)

    async def _kill(self, node: str, incarnation: int) -> None:
        while True:  # its shards are nobody's and its place is empty until that is done
            try:
                is_killed = await self._actors.kill(node, incarnation, *self._processes.get(node, (None, None)))
                break
            except Exception as error:
                logger.warning("a node could not be ended yet node=%s#%d error=%s", node, incarnation, error)
                await asyncio.sleep(_ORDER_RETRY_S)
        # What a former coordinator wrote down may be another machine's, where it was then.
        is_certain = is_killed and (node in self._announced_here or self._config.lease_ms == 0)
        self._member_event(ProcessGone(node, incarnation, is_certain))

    async def _keep_time(self) -> None:
        while True:
            self._member_event(Tick())
            await asyncio.sleep(self._tick_ms / 1000)

    @property
    def _tick_ms(self) -> int:
        """How often the clock is looked at: often enough that what a stop adds to it is far below the timeout."""
        node = self._config.node
        return max(1, min(node.heartbeat_interval_ms, node.heartbeat_timeout_ms // 8))

    def _observed_ms(self) -> int:
        before_ms = self._clock.absent_ms
        now_ms = self._clock.now_ms()
        if (absent_ms := self._clock.absent_ms - before_ms) > _ABSENCE_WORTH_A_WORD_MS:
            logger.warning("the coordinator itself did not run; no node's silence counts meanwhile ms=%d", absent_ms)
        return now_ms

    async def _set_up_configured(self) -> None:
        """Datasets that the configuration asks for and that are not there yet."""
        await self._until(lambda: self._membership.is_formed, None)
        for dataset in self._config.datasets:
            try:
                await self.setup_dataset(dataset.name, dataset.text)
            except DatasetExists:
                pass
            except FilorayError as error:
                logger.error("dataset not set up dataset=%s place=%s error=%s", dataset.name, dataset.place, error)
                self._setup_problem = f"dataset {dataset.name} of {dataset.place} cannot be set up: {error.message}"
                self._notify()

    # ---- views

    def _publish_soon(self) -> None:
        """Once per step of the event loop, however much changed in it."""
        if not self._is_publishing:
            self._is_publishing = True
        if not self._is_adopting():  # until it is known who lives, gateways keep the last coordinator's view
            asyncio.get_running_loop().call_soon(self._publish_now)

    def _publish_now(self) -> int:
        """Returns the version of a view that has everything up to now."""
        if self._is_publishing and not self._is_adopting():
            self._is_publishing = False
            members = self._membership.members()
            members_changed = {node: info.incarnation for node, info in self._view.nodes.items()} != {
                node: announcement.incarnation for node, announcement in members.items()
            }
            self._version += 1
            self._view = ClusterView(
                self._version,
                {node: _node_info(announcement) for node, announcement in members.items()},
                {name: DatasetView(config, shard_map) for name, (config, shard_map) in self._manager.datasets.items()},
                self._gateway_keys,
            )
            self._publisher.publish(self._view)
            if members_changed:
                self._spawn(self._tell_seed_discovery(self.members()))
        return self._version

    async def _tell_seed_discovery(self, addresses: Sequence[str]) -> None:
        try:
            await self._actors.push_members(addresses, _KNOWN_TIMEOUT_S)
        except Exception as error:  # it asks by itself when it is back
            logger.info("the seed discovery took no members error=%s", error)

    # ---- waiting

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _until(self, condition: Callable[[], bool], timeout_s: float | None) -> None:
        """Return when ``condition`` holds after some change, at the latest after ``timeout_s``."""
        loop = asyncio.get_running_loop()
        deadline_s = None if timeout_s is None else loop.time() + timeout_s
        while not condition():
            remaining_s = None if deadline_s is None else deadline_s - loop.time()
            if remaining_s is not None and remaining_s <= 0:
                return
            try:
                await asyncio.wait_for(self._changed.wait(), remaining_s)
            except TimeoutError:
                return

    def _is_adopting(self) -> bool:
        return any(slot.state is SlotState.RETURNING for slot in self._membership.slots.values())

    def _is_up(self, node: str, incarnation: int) -> bool:
        slot = self._membership.slots.get(node)
        is_current = slot is not None and slot.incarnation == incarnation and slot.state is SlotState.UP
        return is_current and not self._is_stopping

    def _is_settled(self, name: str) -> bool:
        try:
            shard_map = self._manager.shard_map(name)
        except DatasetUnknown:
            return True  # deleted meanwhile
        return is_settled(shard_map, self._manager.shards_without_room(name))

    def _is_ready(self) -> bool:
        configured = {dataset.name for dataset in self._config.datasets}
        return (
            self._are_all_up()
            and configured <= self._manager.datasets.keys()
            and all(self._is_settled(name) for name in self._manager.datasets)
        )

    def _are_all_up(self) -> bool:
        return len(self._membership.members()) == len(self._membership.slots)

    def _launch_problem(self) -> str:
        """Why the launch fails: a node that failed twice, a dataset of the configuration that cannot be set up."""
        for node, slot in self._membership.slots.items():
            if slot.failures >= 2 and slot.state is not SlotState.UP:
                return f"{node} does not come up: {slot.last_cause}"
        return self._setup_problem

    def _shards_stall_at_s(self, deadline_s: float) -> float:
        """When nothing will have been heard of any shard for so long that a launch waits no more."""
        stall_s = self._shards_moved_s + self._config.seed.stall_timeout_ms / 1000
        return stall_s if self._are_all_up() else deadline_s

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a task of the coordinator failed", exc_info=error)


def _node_info(announcement: NodeAnnouncement) -> NodeInfo:
    node, incarnation = announcement.node, announcement.incarnation
    actor_name = node_actor_name(node, incarnation)
    address, pid, key = announcement.address, announcement.pid, announcement.public_key
    return NodeInfo(node, incarnation, address, actor_name, pid, key, announcement.endpoint)
