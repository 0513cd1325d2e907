"""Carries the ShardManager's commands into effects and its orders through failures: a part of the CoordinatorCore.

An order is given until it is done, or until nobody wants it of that node any more; whether one that failed was carried
out is not known, so it names its epoch or generation and may be given twice.
"""

from __future__ import annotations

from collections.abc import Sequence

from filoray.cluster.control.assignment import node_order
from filoray.cluster.control.coordinator_effects import GiveOrder, Persist, PersistOpened
from filoray.cluster.control.coordinator_events import OrderDue, OrderFailed, ShardOrder
from filoray.cluster.control.copy_set import InSyncProposed
from filoray.cluster.control.membership import Membership
from filoray.cluster.control.patience import Patience
from filoray.cluster.control.shard_manager import ShardManager
from filoray.cluster.control.shard_map import ShardEntry, ShardMap
from filoray.cluster.control.shard_messages import (
    DeleteShards,
    DropCopies,
    FollowShards,
    ForgetDataset,
    ManagerEvent,
    PersistDataset,
    PersistDrained,
    PersistShardMap,
    PublishShardMap,
    ShardReported,
    ShardsDeleted,
    ShardsReleased,
    SpreadDue,
    StartShards,
    StopShards,
    TellCopies,
)
from filoray.cluster.control.shard_status import IngestionError, IngestionStarted, InvalidTransition
from filoray.cluster.control.turn import Turn
from filoray.cluster.control.view_board import ViewBoard
from filoray.cluster.node_protocol import Peer, ShardEpoch, ShardReport, StoredCopies


class ShardOrders:
    """``opened``: of (dataset, shard) the last generation in which it was Active."""

    def __init__(
        self,
        turn: Turn,
        manager: ShardManager,
        views: ViewBoard,
        opened: dict[tuple[str, int], int],
        membership: Membership,
        patience: Patience,
    ) -> None:
        self._turn = turn
        self._manager = manager
        self._views = views
        self._opened = opened
        self._membership = membership
        self._patience = patience
        self._deletion_problems: dict[str, str] = {}
        self.moved_ms = turn.now_ms
        """When anything was last heard of any shard."""

    def manage(self, event: ManagerEvent) -> bool:
        """Whether anything was to be done for it. Raises what ``ShardManager.handle`` does."""
        turn = self._turn
        commands = self._manager.handle(event, turn.calendar_ms, turn.cause)
        for command in commands:
            match command:
                case PersistDataset() | ForgetDataset() | PersistDrained() | PersistShardMap():
                    turn.emit(Persist(command, cause=turn.cause))
                case StartShards() | FollowShards() | DropCopies() | TellCopies() | StopShards() | DeleteShards():
                    self._give(command)
                case PublishShardMap(dataset, shard_map):
                    turn.say("shards dataset=%s %s", dataset, _Statuses(shard_map))
                    self._views.changed()
        if commands or not isinstance(event, SpreadDue):
            self.moved_ms = turn.now_ms
        return bool(commands)

    def deletion_problem(self, dataset: str) -> str:
        """What the last order to delete its files failed with, or ""."""
        return self._deletion_problems.get(dataset, "")

    def unknown_copies(self, stored: Sequence[StoredCopies]) -> list[str]:
        """The data sets of those that are none of this cluster's, as far as its store knows."""
        return sorted({one.dataset for one in stored if not self._manager.knew(one)})

    # ---- reports

    def reported(self, node: str, incarnation: int, reports: Sequence[ShardReport]) -> None:
        # First: whoever is to lead a shard with copies next must know that there is something to be found.
        self._note_opened(node, reports)
        for report in reports:
            try:
                self.manage(ShardReported(node, incarnation, report))
            except InvalidTransition as error:
                self._turn.warn(
                    "a report does not fit dataset=%s shard=%d epoch=%d node=%s: %s",
                    report.dataset,
                    report.shard,
                    report.epoch,
                    node,
                    error,
                )

    def _note_opened(self, node: str, reports: Sequence[ShardReport]) -> None:
        """A shard that is Active, or whose leader speaks of copies, has a store that whoever opens it must find."""
        fresh: dict[tuple[str, int], int] = {}
        for report in reports:
            if not isinstance(report.event, (IngestionStarted, InSyncProposed)):
                continue
            key, known = (report.dataset, report.shard), self._manager.datasets.get(report.dataset)
            if known is None:
                continue
            config, shard_map = known
            is_current = report.shard < len(shard_map) and (
                (shard_map[report.shard].node, shard_map[report.shard].epoch) == (node, report.epoch)
            )
            if is_current and self._opened.get(key) != config.generation:
                fresh[key] = config.generation
        if fresh:
            self._opened |= fresh
            self._turn.emit(Persist(PersistOpened(fresh), cause=self._turn.cause))

    # ---- orders

    def _give(self, order: ShardOrder) -> None:
        opened: tuple[int, ...] = ()
        peers: tuple[Peer, ...] = ()
        if isinstance(order, StartShards):
            name, generation = order.config.name, order.config.generation
            opened = tuple(shard for shard, _ in order.shards if self._opened.get((name, shard)) == generation)
        elif isinstance(order, TellCopies):
            peers = self._peers(order)
        self._turn.emit(GiveOrder(order, opened, peers, cause=self._turn.cause))

    def _peers(self, order: TellCopies) -> tuple[Peer, ...]:
        """Where the followers' nodes are, those that are members."""
        nodes = {node for _, _, copies in order.copies for node in copies.followers}
        members = (self._membership.member(node) for node in sorted(nodes, key=node_order))
        return tuple(
            Peer(it.node, it.incarnation, it.address, it.endpoint, it.public_key) for it in members if it is not None
        )

    def done(self, order: ShardOrder) -> None:
        match order:
            case StartShards() | FollowShards() | DropCopies() | TellCopies():
                pass  # what becomes of it its node, or the shard's leader, reports
            case StopShards():
                self.manage(ShardsReleased(order.node, order.incarnation, order.dataset, order.shards))
            case DeleteShards():
                self._deletion_problems.pop(order.dataset, None)
                self.manage(ShardsDeleted(order.node, order.incarnation, order.dataset, order.generation))

    def failed(self, event: OrderFailed, *, hears_reports: bool) -> None:
        """``hears_reports``: what nodes say of their shards counts; not while all close."""
        order, node, problem = event.order, event.order.node, event.problem
        match order:
            case StartShards():  # its death is heard of elsewhere; anything else is the shards' error
                self._turn.warn("a node took no shards node=%s dataset=%s error=%s", node, order.config.name, problem)
                if hears_reports:
                    error = IngestionError(f"{node} did not take it: {problem}", is_unheard=True)
                    shards = self._still_ordered(order)
                    reports = [ShardReport(order.config.name, shard, epoch, error) for shard, epoch in shards]
                    self.reported(node, order.incarnation, reports)
            case FollowShards():
                self._turn.warn("copies not begun node=%s dataset=%s error=%s", node, order.config.name, problem)
            case DropCopies():
                self._turn.warn("copies not dropped node=%s dataset=%s error=%s", node, order.dataset, problem)
            case TellCopies():
                self._turn.say("copies not told node=%s dataset=%s error=%s", node, order.dataset, problem)
            case StopShards():
                self._turn.warn("shards not stopped node=%s dataset=%s error=%s", node, order.dataset, problem)
            case DeleteShards():
                self._turn.warn("shards not deleted node=%s dataset=%s error=%s", node, order.dataset, problem)
                self._deletion_problems[order.dataset] = f"{node}: {problem}"
        self._turn.remind(self._patience.retry_ms, OrderDue(order, cause=self._turn.cause))

    def due(self, order: ShardOrder) -> None:
        """Give it again, if the node is there and, of shards to start, those that are still the node's."""
        if self._manager.members.get(order.node) != order.incarnation:
            return  # its loss made the ShardManager ask another
        if isinstance(order, StartShards):
            if shards := self._still_ordered(order):
                self._give(StartShards(order.node, order.incarnation, order.config, shards))
        elif isinstance(order, TellCopies):
            self._tell_again(order)
        elif isinstance(order, DropCopies):
            self._drop_again(order)
        else:  # what came after it, the node knows
            self._give(order)

    def _drop_again(self, order: DropCopies) -> None:
        """Of those shards of which the node is still to have nothing."""
        known = self._manager.datasets.get(order.dataset)
        if known is None or known[0].generation != order.generation:
            return  # it is deleted with all its copies
        entries = [known[1][shard] for shard, _, _ in order.shards]
        left = tuple(entry.followed for entry in entries if not entry.is_on(order.node))
        if left:
            self._give(DropCopies(order.node, order.incarnation, order.dataset, left, order.generation))

    def _tell_again(self, order: TellCopies) -> None:
        """How the copies are by now, of those shards that the node still leads."""
        known = self._manager.datasets.get(order.dataset)
        if known is None:
            return
        told = {(shard, epoch) for shard, epoch, _ in order.copies}
        owned = [entry for entry in known[1].owned_by(order.node) if (entry.shard, entry.epoch) in told]
        copies = tuple((entry.shard, entry.epoch, entry.copies) for entry in owned)
        if copies:
            self._give(TellCopies(order.node, order.incarnation, order.dataset, copies))

    def _still_ordered(self, order: StartShards) -> tuple[ShardEpoch, ...]:
        known = self._manager.datasets.get(order.config.name)
        if known is None or self._manager.members.get(order.node) != order.incarnation:
            return ()
        owned = {(entry.shard, entry.epoch) for entry in known[1].owned_by(order.node)}
        return tuple(shard for shard in order.shards if shard in owned)


class _Statuses:
    """A shard map for a line of the log, put into words only when that is written."""

    def __init__(self, shard_map: ShardMap | None) -> None:
        self._shard_map = shard_map

    def __str__(self) -> str:
        if self._shard_map is None:
            return "deleted"
        return " ".join(
            f"{entry.shard}={entry.status}@{entry.node or '-'}/{entry.epoch}{_in_sync_text(entry)}"
            for entry in self._shard_map.shards
        )


def _in_sync_text(entry: ShardEntry) -> str:
    """Of a shard with copies."""
    copies = entry.copies
    return f"[{','.join(copies.in_sync)}]" if copies.in_sync else ""
