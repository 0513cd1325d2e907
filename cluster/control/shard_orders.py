"""Carries the ShardManager's commands into effects and its orders through failures: a part of the CoordinatorCore.

An order is given until it is done, or until nobody wants it of that node any more; whether one that failed was carried
out is not known, so it names its epoch or generation and may be given twice.
"""

from __future__ import annotations

from collections.abc import Sequence

from filoray.cluster.control.coordinator_effects import GiveOrder, Persist, PersistOpened
from filoray.cluster.control.coordinator_events import OrderDue, OrderFailed, ShardOrder
from filoray.cluster.control.patience import Patience
from filoray.cluster.control.shard_manager import ShardManager
from filoray.cluster.control.shard_map import ShardMap
from filoray.cluster.control.shard_messages import (
    DeleteShards,
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
)
from filoray.cluster.control.shard_status import IngestionError, IngestionStarted, InvalidTransition
from filoray.cluster.control.turn import Turn
from filoray.cluster.control.view_board import ViewBoard
from filoray.cluster.node_protocol import ShardEpoch, ShardReport


class ShardOrders:
    """``opened``: of (dataset, shard) the last generation in which it was Active."""

    def __init__(
        self,
        turn: Turn,
        manager: ShardManager,
        views: ViewBoard,
        opened: dict[tuple[str, int], int],
        patience: Patience,
    ) -> None:
        self._turn = turn
        self._manager = manager
        self._views = views
        self._opened = opened
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
                case StartShards() | StopShards() | DeleteShards():
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

    # ---- reports

    def reported(self, node: str, incarnation: int, reports: Sequence[ShardReport]) -> None:
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
        self._note_opened(node, reports)

    def _note_opened(self, node: str, reports: Sequence[ShardReport]) -> None:
        """A shard that is Active has a store from now on: whoever opens it later must find that."""
        fresh: dict[tuple[str, int], int] = {}
        for report in reports:
            if not isinstance(report.event, IngestionStarted):
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
        if isinstance(order, StartShards):
            name, generation = order.config.name, order.config.generation
            opened = tuple(shard for shard, _ in order.shards if self._opened.get((name, shard)) == generation)
        self._turn.emit(GiveOrder(order, opened, cause=self._turn.cause))

    def done(self, order: ShardOrder) -> None:
        match order:
            case StartShards():
                pass  # its node reports
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
                    error = IngestionError(f"{node} did not take it: {problem}")
                    shards = self._still_ordered(order)
                    reports = [ShardReport(order.config.name, shard, epoch, error) for shard, epoch in shards]
                    self.reported(node, order.incarnation, reports)
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
        if not isinstance(order, StartShards):
            self._give(order)
        elif shards := self._still_ordered(order):
            self._give(StartShards(order.node, order.incarnation, order.config, shards))

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
            f"{entry.shard}={entry.status}@{entry.node or '-'}/{entry.epoch}" for entry in self._shard_map.shards
        )
