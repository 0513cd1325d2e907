"""Which nodes are members: starting, watching, giving up and replacing them. A pure core.

In: events and the time. Out: commands. Ray, processes and heartbeat messages are the coordinator's; who gets the
shards is the ShardManager's. The time is an ``ObservedClock``'s (ms): while the coordinator itself does not run, no
node's silence grows. One slot ("node-0") has one incarnation at a time:

    launching --announced--> up --death noticed, heartbeats missed--> leaving --process gone--> (backoff) --> launching

A node that announces itself is a member once the cluster has formed: with all nodes, or, after ``form_wait_ms``,
with at least ``seed_node_count``; they join in the order of their names, so that no two islands form and shards
spread evenly. A lost node is told to be killed, and only when its process is certainly gone is it *gone*, which is
when its shards may be handed on and its slot started anew. A process on a machine that cannot be reached is gone for
that purpose when its lease has ended (``lease_ms`` after it was last heard of, and a fiftieth for the clocks).
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from filoray.cluster.control.assignment import node_order
from filoray.cluster.node_protocol import NodeAnnouncement


@dataclass(frozen=True, slots=True)
class NodeAnnounced:
    """A node is up, or answers a coordinator that came back."""

    announcement: NodeAnnouncement


@dataclass(frozen=True, slots=True)
class HeartbeatAnswered:
    node: str
    incarnation: int


@dataclass(frozen=True, slots=True)
class DeathNoticed:
    """The process ended, or did not come up, or did not answer a coordinator that came back."""

    node: str
    incarnation: int
    cause: str


@dataclass(frozen=True, slots=True)
class NoLongerNeeded:
    """Nobody needs the process any more, which is no failure: another takes its place at once, if one is wanted."""

    node: str
    incarnation: int
    cause: str


@dataclass(frozen=True, slots=True)
class ProcessGone:
    """Whoever was told to kill it made sure that it is gone; or, not ``is_certain``, did what could be done."""

    node: str
    incarnation: int
    is_certain: bool = True


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passed."""


MembershipEvent = NodeAnnounced | HeartbeatAnswered | DeathNoticed | NoLongerNeeded | ProcessGone | Tick


@dataclass(frozen=True, slots=True)
class PersistIncarnation:
    """Remember the number before the process exists, so that it is never used twice."""

    node: str
    incarnation: int


@dataclass(frozen=True, slots=True)
class LaunchNode:
    node: str
    incarnation: int


@dataclass(frozen=True, slots=True)
class KillNode:
    """Make sure the process is gone, then answer with ProcessGone."""

    node: str
    incarnation: int


@dataclass(frozen=True, slots=True)
class Joined:
    """Nodes that became members at one moment, by name."""

    announcements: tuple[NodeAnnouncement, ...]


@dataclass(frozen=True, slots=True)
class Lost:
    """``is_planned``: it was no longer needed."""

    node: str
    incarnation: int
    cause: str
    is_planned: bool = False


@dataclass(frozen=True, slots=True)
class Gone:
    node: str
    incarnation: int


MembershipCommand = PersistIncarnation | LaunchNode | KillNode | Joined | Lost | Gone


class SlotState(enum.Enum):
    IDLE = "idle"
    """No process. The next one is started at ``since_ms``, which may lie ahead."""
    LAUNCHING = "launching"
    RETURNING = "returning"
    """Lived when the last coordinator died; it is being asked."""
    UP = "up"
    LEAVING = "leaving"


@dataclass(slots=True)
class Slot:
    """``since_ms``: when the state began. ``failures``: launches and lives in a row that ended early."""

    state: SlotState
    since_ms: int
    incarnation: int
    failures: int = 0
    heartbeat_ms: int = 0
    last_cause: str = ""
    announcement: NodeAnnouncement | None = None
    is_member: bool = False
    lease_end_ms: int = 0
    is_killed: bool = False
    """What could be done to end its process was done; its lease may not have ended yet."""


@dataclass(frozen=True, slots=True)
class MembershipLimits:
    heartbeat_timeout_ms: int
    start_timeout_ms: int
    restart_backoff_ms: int
    restart_backoff_max_ms: int
    seed_node_count: int
    form_wait_ms: int
    lease_ms: int = 0
    """0: nodes have no leases, for their processes can always be seen to end."""


class Membership:
    """``nodes``: the slots to keep filled. ``incarnations``: the last used number of each, from the MetaStore.

    ``returning``: nodes that may still live; each gets a NodeAnnounced or a DeathNoticed. One that is not among
    ``nodes`` (an earlier launch had more) is not replaced when it has gone.
    """

    def __init__(
        self,
        nodes: Iterable[str],
        limits: MembershipLimits,
        now_ms: int,
        incarnations: Mapping[str, int] | None = None,
        returning: Iterable[str] = (),
    ) -> None:
        self._limits = limits
        self._last_incarnations = dict(incarnations or {})
        self._wanted: frozenset[str] = frozenset()
        self._slots: dict[str, Slot] = {}
        self.want(nodes, now_ms)
        for node in returning:
            slot = self._slots.setdefault(node, Slot(SlotState.IDLE, now_ms, self._last_incarnations[node]))
            slot.state = SlotState.RETURNING
            slot.is_member = True
            slot.lease_end_ms = self._lease_end_ms(now_ms)
        self._held: frozenset[str] = frozenset()
        self._is_adopting = True
        self._formed = any(slot.is_member for slot in self._slots.values())

    def handle(self, event: MembershipEvent, now_ms: int) -> list[MembershipCommand]:
        """The commands that ``event`` calls for. Events of former incarnations call for nothing."""
        match event:
            case NodeAnnounced(announcement):
                return self._announced(announcement, now_ms)
            case HeartbeatAnswered(node, incarnation):
                if (slot := self._current(node, incarnation)) is not None:
                    slot.heartbeat_ms = now_ms
                    if slot.state is SlotState.UP:
                        slot.lease_end_ms = self._lease_end_ms(now_ms)
                return []
            case DeathNoticed(node, incarnation, cause):
                slot = self._running(node, incarnation)
                return [] if slot is None else self._lose(node, slot, cause, now_ms)
            case NoLongerNeeded(node, incarnation, cause):
                if (slot := self._running(node, incarnation)) is None:
                    return []
                slot.failures = 0
                return self._let_go(node, slot, cause, now_ms, is_planned=True)
            case ProcessGone(node, incarnation, is_certain):
                return self._killed(node, incarnation, now_ms, is_certain=is_certain)
            case Tick():
                return self._tick(now_ms)

    def want(self, nodes: Iterable[str], now_ms: int) -> None:
        """The slots to keep filled from now on. A process in another is left to whoever ends it."""
        self._wanted = frozenset(nodes)
        for node in sorted(self._wanted - self._slots.keys(), key=node_order):
            self._slots[node] = Slot(SlotState.IDLE, now_ms, self._last_incarnations.get(node, 0))
        for node in self._slots.keys() - self._wanted:
            if self._slots[node].state is SlotState.IDLE:
                del self._slots[node]

    def hold(self, nodes: Iterable[str]) -> None:
        """From now on no process is started for those, whose place is not there; for all others one is."""
        self._held = frozenset(nodes)

    # ---- what can be asked

    @property
    def surplus(self) -> tuple[str, ...]:
        """Nodes that are not wanted any more and have not gone yet."""
        if len(self._slots) == len(self._wanted):  # each that is wanted has a slot
            return ()
        return tuple(node for node in self._slots if node not in self._wanted)

    @property
    def slots(self) -> Mapping[str, Slot]:
        return self._slots

    @property
    def is_formed(self) -> bool:
        return self._formed

    @property
    def is_adopting(self) -> bool:
        """Whether it is not known yet which of the last coordinator's nodes live."""
        if self._is_adopting:  # asked at each event, and once all have answered it is so no more
            self._is_adopting = any(slot.state is SlotState.RETURNING for slot in self._slots.values())
        return self._is_adopting

    def is_up(self, node: str, incarnation: int) -> bool:
        slot = self._current(node, incarnation)
        return slot is not None and slot.state is SlotState.UP

    def members(self) -> dict[str, NodeAnnouncement]:
        """Nodes that are up and have joined, by name."""
        return {node: member for node in self._slots if (member := self.member(node)) is not None}

    def member(self, node: str) -> NodeAnnouncement | None:
        """None if it is not up, or has not joined."""
        slot = self._slots.get(node)
        is_member = slot is not None and slot.state is SlotState.UP and slot.is_member
        return slot.announcement if slot is not None and is_member else None

    # ---- transitions

    def _announced(self, announcement: NodeAnnouncement, now_ms: int) -> list[MembershipCommand]:
        slot = self._current(announcement.node, announcement.incarnation)
        if slot is None or slot.state not in (SlotState.LAUNCHING, SlotState.RETURNING):
            return []
        slot.state, slot.since_ms, slot.heartbeat_ms = SlotState.UP, now_ms, now_ms
        slot.announcement = announcement
        slot.lease_end_ms = self._lease_end_ms(now_ms)
        if slot.is_member:
            return [Joined((announcement,))]
        return self._form_or_join(now_ms)

    def _form_or_join(self, now_ms: int) -> list[MembershipCommand]:
        """Let waiting nodes in: at once if the cluster has formed; it forms with all, or with enough after a while."""
        waiting = [slot for slot in self._slots.values() if slot.state is SlotState.UP and not slot.is_member]
        if not waiting:
            return []
        if not self._formed:
            is_overdue = now_ms - min(slot.since_ms for slot in waiting) >= self._limits.form_wait_ms
            enough = min(self._limits.seed_node_count, len(self._slots)) if is_overdue else len(self._slots)
            if len(waiting) < enough:
                return []
            self._formed = True
        for slot in waiting:
            slot.is_member = True
        return [Joined(tuple(slot.announcement for slot in waiting if slot.announcement is not None))]

    def _lose(self, node: str, slot: Slot, cause: str, now_ms: int) -> list[MembershipCommand]:
        lived_long = slot.state is SlotState.UP and now_ms - slot.since_ms > self._limits.restart_backoff_max_ms
        slot.failures = 1 if lived_long or slot.state is SlotState.RETURNING else slot.failures + 1
        return self._let_go(node, slot, cause, now_ms, is_planned=False)

    def _let_go(self, node: str, slot: Slot, cause: str, now_ms: int, *, is_planned: bool) -> list[MembershipCommand]:
        was_member = slot.is_member
        slot.state, slot.since_ms, slot.last_cause = SlotState.LEAVING, now_ms, cause
        slot.announcement, slot.is_member = None, False
        self._formed = any(other.is_member for other in self._slots.values())
        lost: list[MembershipCommand] = [Lost(node, slot.incarnation, cause, is_planned)] if was_member else []
        return [*lost, KillNode(node, slot.incarnation)]

    def _killed(self, node: str, incarnation: int, now_ms: int, *, is_certain: bool) -> list[MembershipCommand]:
        slot = self._current(node, incarnation)
        if slot is None or slot.state is not SlotState.LEAVING:
            return []
        slot.is_killed = True
        if is_certain:
            slot.lease_end_ms = now_ms
        return self._tick(now_ms)

    def _gone(self, node: str, slot: Slot, now_ms: int) -> Gone:
        slot.state, slot.is_killed = SlotState.IDLE, False
        slot.since_ms = now_ms + self._backoff_ms(slot.failures)
        if node not in self._wanted:
            del self._slots[node]
        return Gone(node, slot.incarnation)

    def _lease_end_ms(self, now_ms: int) -> int:
        return now_ms + self._limits.lease_ms + self._limits.lease_ms // 50

    def _tick(self, now_ms: int) -> list[MembershipCommand]:
        commands: list[MembershipCommand] = [
            self._gone(node, slot, now_ms)
            for node, slot in list(self._slots.items())
            if slot.state is SlotState.LEAVING and slot.is_killed and now_ms >= slot.lease_end_ms
        ]
        for node, slot in self._slots.items():
            waited_ms = now_ms - slot.since_ms
            if slot.state is SlotState.IDLE and waited_ms >= 0 and node not in self._held:
                slot.state, slot.since_ms = SlotState.LAUNCHING, now_ms
                slot.incarnation += 1
                self._last_incarnations[node] = slot.incarnation
                commands += [PersistIncarnation(node, slot.incarnation), LaunchNode(node, slot.incarnation)]
            elif slot.state is SlotState.LAUNCHING and waited_ms > self._limits.start_timeout_ms:
                commands += self._lose(node, slot, f"did not come up within {waited_ms} ms", now_ms)
            elif slot.state is SlotState.UP and now_ms - slot.heartbeat_ms > self._limits.heartbeat_timeout_ms:
                commands += self._lose(node, slot, f"heartbeats missed for {now_ms - slot.heartbeat_ms} ms", now_ms)
        return commands + self._form_or_join(now_ms)

    def _backoff_ms(self, failures: int) -> int:
        """The first replacement starts at once; each further failure in a row doubles the pause."""
        if failures <= 1:
            return 0
        doubled = self._limits.restart_backoff_ms << min(failures - 2, 30)
        return min(doubled, self._limits.restart_backoff_max_ms)

    def _running(self, node: str, incarnation: int) -> Slot | None:
        slot = self._current(node, incarnation)
        return None if slot is None or slot.state in (SlotState.IDLE, SlotState.LEAVING) else slot

    def _current(self, node: str, incarnation: int) -> Slot | None:
        slot = self._slots.get(node)
        return slot if slot is not None and slot.incarnation == incarnation else None
