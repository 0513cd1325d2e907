"""Starts, adopts, watches, beats and ends the nodes' processes as the Membership says: a part of the CoordinatorCore.

A process is watched from its announcement on, in two ways: a call that fails when the process has ended, and
heartbeats, each of which grants a lease from what the node's own clock read when it last said so. A kill is tried until
it is done: the process's shards are nobody's and its place is empty until then. What a process said counts less if
this coordinator stood still before it came to hear it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from filoray.cluster.config.server_config import ServerConfig
from filoray.cluster.control.coordinator_effects import (
    AdoptProcess,
    CloseNode,
    KillProcess,
    Persist,
    PersistProcess,
    SendHeartbeat,
    WatchProcess,
)
from filoray.cluster.control.coordinator_events import (
    HeartbeatDue,
    HeartbeatHeard,
    HeartbeatMissed,
    KillDue,
    KillFailed,
    NodeAbsent,
    NodeAnswered,
    NodeClosed,
    NodeDied,
    NodeKilled,
    NodeMisplaced,
    WatchDue,
    WatchFailed,
)
from filoray.cluster.control.copy_set import InSyncProposed
from filoray.cluster.control.machine_keeper import MachineKeeper
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
    NodeAnnounced,
    NoLongerNeeded,
    PersistIncarnation,
    ProcessGone,
    SlotState,
    Tick,
)
from filoray.cluster.control.patience import Patience
from filoray.cluster.control.shard_messages import MemberGone, MemberJoined, MemberLost, MembersJoined
from filoray.cluster.control.shard_orders import ShardOrders
from filoray.cluster.control.turn import Turn
from filoray.cluster.control.view_board import ViewBoard
from filoray.cluster.node_protocol import LeaseGrant, NodeAnnouncement, ShardReport


@dataclass(frozen=True, slots=True)
class KnownProcess:
    """A node's process, as far as it can be told from others of its machine; None: not from here."""

    pid: int | None = None
    started_s: float | None = None


_UNKNOWN = KnownProcess()
_ABSENCE_MS = 1000
"""Shorter ones are as if a message had been under way for as long."""


class NodeKeeper:
    """``processes``: of the nodes that lived when last heard of."""

    def __init__(
        self,
        turn: Turn,
        config: ServerConfig,
        membership: Membership,
        shards: ShardOrders,
        views: ViewBoard,
        processes: Mapping[str, KnownProcess],
        machines: MachineKeeper,
        patience: Patience,
    ) -> None:
        self._turn = turn
        self._config = config
        self._membership = membership
        self._shards = shards
        self._views = views
        self._processes = dict(processes)
        self._machines = machines
        self._patience = patience
        self._announced_here: set[str] = set()
        self._readings_ms: dict[str, int] = {}
        self._asked_ms: dict[str, int] = {}
        """How much this coordinator had not run when it asked the node for a sign of life,"""
        self._heard_ms: dict[str, int] = {}
        """and when it asked for the last one that was heard."""
        self._closing: set[str] | None = None

    @property
    def is_stopping(self) -> bool:
        return self._closing is not None

    @property
    def is_stopped(self) -> bool:
        return self._closing is not None and not self._closing

    def begin(self) -> None:
        """Ask those whether they live that did when the last coordinator ended."""
        turn = self._turn
        for node, slot in self._membership.slots.items():
            if slot.state is SlotState.RETURNING:
                turn.emit(AdoptProcess(node, slot.incarnation, self._patience.adopt_ms, cause=turn.cause))

    def tick(self) -> None:
        self._tell(Tick())

    # ---- the Membership: events in, commands carried out

    def _tell(self, event: MembershipEvent) -> None:
        if not self.is_stopping:
            for command in self._membership.handle(event, self._turn.now_ms):
                self._carry_out(command)

    def _carry_out(self, command: MembershipCommand) -> None:
        turn = self._turn
        match command:
            case PersistIncarnation(node, _):
                self._machines.settle(node)
                turn.emit(Persist(command, cause=turn.cause))
                self._announced_here.discard(node)
                self._processes[node] = _UNKNOWN
            case LaunchNode(node, incarnation):
                self._machines.launch(node, incarnation)
            case KillNode(node, incarnation):
                self._kill(node, incarnation)
            case Joined(announcements):
                self._joined(announcements)
            case Lost(node, incarnation, why, is_planned):
                level = logging.INFO if is_planned else logging.WARNING
                turn.say("node lost node=%s#%d why=%s", node, incarnation, why, level=level)
                self._shards.manage(MemberLost(node, incarnation, why))
                self._views.changed()
            case Gone(node, incarnation):
                turn.emit(Persist(PersistProcess(node), cause=turn.cause))
                self._shards.manage(MemberGone(node, incarnation))

    def _joined(self, announcements: tuple[NodeAnnouncement, ...]) -> None:
        for one in announcements:
            self._turn.say("node joined node=%s#%d address=%s pid=%d", one.node, one.incarnation, one.address, one.pid)
        members = tuple(
            MemberJoined(one.node, one.incarnation, one.shards, one.address.host, one.stored) for one in announcements
        )
        self._shards.manage(MembersJoined(members))
        self._views.changed()

    # ---- coming

    def answered(self, event: NodeAnswered) -> None:
        """It is there: from now on it is watched and beaten."""
        turn, announcement = self._turn, event.announcement
        node, incarnation = announcement.node, announcement.incarnation
        slot = self._membership.slots.get(node)
        is_late = slot is None or slot.incarnation != incarnation or slot.state is SlotState.LEAVING
        if is_late or self.is_stopping:
            return
        self._announced_here.add(node)
        self._processes[node] = KnownProcess(announcement.pid, event.pid_started_s)
        self._readings_ms[node] = announcement.clock_ms
        self._heard_ms[node] = self._turn.absent_ms
        turn.emit(Persist(PersistProcess(node, announcement.pid, event.pid_started_s), cause=turn.cause))
        if unknown := self._shards.unknown_copies(announcement.stored):
            self._tell(DeathNoticed(node, incarnation, _strange_copies_text(announcement, unknown)))
            return
        self._tell(NodeAnnounced(announcement))
        self._machines.answered(announcement)
        turn.emit(WatchProcess(node, incarnation, cause=turn.cause))
        self._beat(node, incarnation)

    def absent(self, event: NodeAbsent) -> None:
        self._tell(DeathNoticed(event.node, event.incarnation, event.problem))

    # ---- watching

    def heartbeat_due(self, event: HeartbeatDue) -> None:
        self._beat(event.node, event.incarnation)

    def _beat(self, node: str, incarnation: int) -> None:
        if self._membership.is_up(node, incarnation) and not self.is_stopping:
            grant = LeaseGrant(self._readings_ms[node], self._config.lease_ms)
            timeout_ms = self._config.node.heartbeat_timeout_ms
            self._asked_ms[node] = self._turn.absent_ms
            self._turn.emit(SendHeartbeat(node, incarnation, grant, timeout_ms, cause=self._turn.cause))

    def heard(self, event: HeartbeatHeard) -> None:
        node, incarnation, answer = event.node, event.incarnation, event.answer
        if self._membership.is_up(node, incarnation):
            self._readings_ms[node] = answer.clock_ms
            self._heard_ms[node] = self._asked_ms.get(node, 0)
        if answer.unfit:  # it answers, but what it is for has stopped in it: only a new process helps
            self._tell(DeathNoticed(node, incarnation, f"it says of itself: {answer.unfit}"))
        else:
            self._tell(HeartbeatAnswered(node, incarnation))
        self._beat_later(node, incarnation)

    def of_the_living(self, node: str, reports: Sequence[ShardReport]) -> Sequence[ShardReport]:
        """Without proposals of a node that was last heard of before this coordinator stood still for a while.

        They may be the last words of one that is gone since, with its disk: who it leaves out has everything, and
        would never lead. One that lives proposes again soon (``CopyLimits.proposal_timeout_ms``).
        """
        if self._turn.absent_ms - self._heard_ms.get(node, self._turn.absent_ms) < _ABSENCE_MS:
            return reports
        return [report for report in reports if not isinstance(report.event, InSyncProposed)]

    def missed(self, event: HeartbeatMissed) -> None:
        self._turn.warn("heartbeat missed node=%s#%d error=%s", event.node, event.incarnation, event.problem)
        self._beat_later(event.node, event.incarnation)

    def _beat_later(self, node: str, incarnation: int) -> None:
        if self._membership.is_up(node, incarnation):
            interval_ms = self._config.node.heartbeat_interval_ms
            self._turn.remind(interval_ms, HeartbeatDue(node, incarnation, cause=self._turn.cause))

    def died(self, event: NodeDied) -> None:
        self._tell(DeathNoticed(event.node, event.incarnation, event.obituary))

    def misplaced(self, event: NodeMisplaced) -> None:
        """To move is to end, and to be launched elsewhere."""
        if self._membership.is_up(event.node, event.incarnation):
            self.replace(event.node, event.incarnation, f"it is to move to {event.address}")

    def replace(self, node: str, incarnation: int, why: str) -> None:
        """End a process that nobody needs any more; the next takes its place."""
        self._tell(NoLongerNeeded(node, incarnation, why))

    def watch_failed(self, event: WatchFailed) -> None:
        node, incarnation = event.node, event.incarnation
        self._turn.warn("a node is not watched for a moment node=%s#%d error=%s", node, incarnation, event.problem)
        self._turn.remind(self._patience.retry_ms, WatchDue(node, incarnation, cause=self._turn.cause))

    def watch_due(self, event: WatchDue) -> None:
        if self._membership.is_up(event.node, event.incarnation) and not self.is_stopping:
            self._turn.emit(WatchProcess(event.node, event.incarnation, cause=self._turn.cause))

    # ---- going

    def _kill(self, node: str, incarnation: int) -> None:
        process = self._processes.get(node, _UNKNOWN)
        self._turn.emit(KillProcess(node, incarnation, process.pid, process.started_s, cause=self._turn.cause))

    def killed(self, event: NodeKilled) -> None:
        node, incarnation = event.node, event.incarnation
        if self._closing is not None:
            if node in self._closing:
                self._closing.discard(node)
                self._turn.emit(Persist(PersistProcess(node), cause=self._turn.cause))
            return
        # What a former coordinator wrote down may be another machine's, where it was then.
        is_certain = event.is_seen and (node in self._announced_here or self._config.lease_ms == 0)
        self._tell(ProcessGone(node, incarnation, is_certain))

    def kill_failed(self, event: KillFailed) -> None:
        node, incarnation = event.node, event.incarnation
        self._turn.warn("a node could not be ended yet node=%s#%d error=%s", node, incarnation, event.problem)
        self._turn.remind(self._patience.retry_ms, KillDue(node, incarnation, cause=self._turn.cause))

    def kill_due(self, event: KillDue) -> None:
        self._kill(event.node, event.incarnation)

    # ---- the end of all

    def close_all(self) -> None:
        """Have every node flush and close, then end it."""
        turn, timeout_ms = self._turn, self._config.node.shutdown_timeout_ms
        slots = {node: slot.incarnation for node, slot in self._membership.slots.items() if slot.incarnation}
        self._closing = set(slots)
        for node, incarnation in slots.items():
            turn.emit(CloseNode(node, incarnation, timeout_ms, cause=turn.cause))

    def closed(self, event: NodeClosed) -> None:
        node, incarnation = event.node, event.incarnation
        if event.problem:
            self._turn.warn("a node did not close in order node=%s#%d error=%s", node, incarnation, event.problem)
        self._kill(node, incarnation)


def _strange_copies_text(announcement: NodeAnnouncement, datasets: Sequence[str]) -> str:
    return (
        f"its machine {announcement.address.host} holds copies of shards of {', '.join(datasets)}, which the "
        "coordinator's store does not know: that was lost, or the data directory is another cluster's. They are left "
        "as they are: bring the store back, have the newest copy of each shard taken (filoray tsdb adopt-copies, with "
        "the copies of all nodes in one directory), or put them aside"
    )
