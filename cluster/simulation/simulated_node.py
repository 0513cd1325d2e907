"""A simulated node: the real NodeCore in a process that dies, hangs and is cut off, over files that are numbers.

Of a shard's data there is only how many samples are where: a commit is one more in the log, a flush moves what the
log has since the checkpoint into chunks, opening a shard finds what its file has. Files outlive processes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

from filoray.cluster.actor_names import node_actor_name, slot_index
from filoray.cluster.addresses import NodeAddress
from filoray.cluster.control.coordinator_effects import GiveOrder
from filoray.cluster.control.node_core import NodeCore
from filoray.cluster.control.node_effects import (
    AbandonOpening,
    AnswerRequest,
    CloseShard,
    DeleteFiles,
    EndOpening,
    FlushInTurn,
    FlushTurn,
    NodeEffect,
    Note,
    OpenShard,
    Report,
    ServeShard,
    WakeAt,
)
from filoray.cluster.control.node_events import (
    Closed,
    DeleteOrdered,
    FilesDeleted,
    FlushFailed,
    FlushStepped,
    NodeEvent,
    OpeningAbandoned,
    OpeningCameBack,
    OpeningEnded,
    OpeningFailed,
    OpeningId,
    OpeningOverdue,
    OpeningProgressed,
    StartOrdered,
    StopOrdered,
    StoreDoubted,
    Tick,
)
from filoray.cluster.control.node_events import Opened as ShardOpened
from filoray.cluster.control.shard_messages import StartShards, StopShards
from filoray.cluster.control.shard_slot import NodeLimits
from filoray.cluster.node_protocol import HeartbeatAnswer, LeaseGrant, NodeAnnouncement, ShardReport
from filoray.cluster.simulation.checkers import Checkers, FileKey, Process, ShardKey
from filoray.cluster.simulation.pending_call import PendingCall
from filoray.cluster.simulation.world import Action, SimulatedWorld

LIMITS = NodeLimits(source_timeout_ms=500, retry_delay_ms=200, retry_delay_max_ms=2000)
RECOVERY_STEP_MS = 60
COMMIT_MS = 4
CLOSE_MS = 20
FLUSH_MS = 1000
REPORT_RETRY_MS = 500
_LONG_AGO_MS = -1_000_000


@dataclass(slots=True)
class ShardFile:
    """``committed``: samples that the log ever had, up to ``checkpoint`` no more; ``flushed``: those in chunks."""

    epoch: int
    committed: int = 0
    checkpoint: int = 0
    flushed: int = 0

    @property
    def samples(self) -> int:
        """What is found by whoever opens it."""
        return self.flushed + self.committed - self.checkpoint


@dataclass(slots=True)
class _Opening:
    """``is_waiting``: for its source; ``is_to_end``: it is wanted no more."""

    order: OpenShard
    is_waiting: bool = False
    is_to_end: bool = False

    @property
    def file(self) -> FileKey:
        return (*self.order.key, self.order.config.generation)


@dataclass(slots=True)
class ServedShard:
    """``samples``: what its readers see."""

    opening: OpeningId
    epoch: int
    file: FileKey
    samples: int


class SimulatedNode:
    """A process. ``files``: of the whole cluster. ``send_reports``: to the coordinator; told when they were taken."""

    def __init__(
        self,
        world: SimulatedWorld,
        checkers: Checkers,
        files: dict[FileKey, ShardFile],
        process: Process,
        send_reports: Callable[[SimulatedNode, tuple[ShardReport, ...]], None],
    ) -> None:
        self.process = process
        self.name = node_actor_name(*process)
        self.core = NodeCore(LIMITS)
        self.serving: dict[ShardKey, ServedShard] = {}
        self.is_up = False
        self.is_dead = False
        self.is_hung = False
        self.is_cut = False
        """The coordinator cannot reach its machine, nor it the coordinator."""
        self.is_given_up = False
        """It was to be killed while it was cut off; it ends when its machine is back."""
        self.heard_since_ms = _LONG_AGO_MS
        """When it last began to be heard again."""
        self.lease_end_ms = 0
        self.watchers: list[PendingCall] = []
        self.calls: dict[int, PendingCall] = {}
        self.reports_on_their_way: tuple[ShardReport, ...] = ()
        self._world = world
        self._checkers = checkers
        self._files = files
        self._send_reports = send_reports
        self._requests = itertools.count(1)
        self._openings: dict[OpeningId, _Opening] = {}
        self._turns: tuple[FlushTurn, ...] = ()
        self._is_flush_due = False
        self._reports: list[ShardReport] = []
        self._stuck: list[Action] = []
        self._stuck_messages: list[Action] = []

    # ---- being alive, or not

    def die(self) -> None:
        self.is_dead = True
        for call in self.calls.values():
            call.fail(ConnectionError("the node died"))
        for watcher in self.watchers:
            watcher.end("the node died")

    def go_on(self) -> None:
        """What waited while it hung or was cut off happens now, in any order."""
        if not self.is_hung:
            stuck, self._stuck = self._stuck, []
            if not self.is_cut:
                stuck += self._stuck_messages
                self._stuck_messages = []
            for action in self._world.shuffled(stuck):
                self.run(action)

    def run(self, action: Action) -> None:
        """What it does by itself, and for gateways."""
        if not self.is_dead:
            if self.is_hung:
                self._stuck.append(action)
            else:
                action()

    def hear(self, action: Action) -> bool:
        """A message of the coordinator, or to it. False: it has to wait."""
        if self.is_hung or self.is_cut:
            self._stuck_messages.append(action)
            return False
        action()
        return True

    def let_out(self, action: Action) -> bool:
        """A message that it sent arrives at the coordinator. False: its machine cannot be reached now."""
        if self.is_cut:
            self._stuck_messages.append(action)
        else:
            action()
        return not self.is_cut

    def _later(self, delay_ms_max: int, action: Action) -> None:
        self._world.after(self._world.between(1, delay_ms_max), lambda: self.run(action))

    # ---- what the coordinator asks

    def announcement(self) -> NodeAnnouncement:
        address = NodeAddress("127.0.0.1", 2552 + slot_index(self.process[0]))
        return NodeAnnouncement(*self.process, address, 1, "here", self.core.held(), clock_ms=self.clock_ms)

    def beat(self, grant: LeaseGrant) -> HeartbeatAnswer:
        self.lease_end_ms = max(self.lease_end_ms, grant.from_ms + grant.duration_ms)
        return HeartbeatAnswer(clock_ms=self.clock_ms)

    @property
    def clock_ms(self) -> int:
        """Each process's clock counts from elsewhere."""
        return self._world.now_ms + 1000 * self.process[1] + slot_index(self.process[0])

    def may_answer(self) -> bool:
        return not self._world.rates.lease_ms or self.clock_ms < self.lease_end_ms

    def take_order(self, order: GiveOrder, call: PendingCall) -> None:
        request = next(self._requests)
        self.calls[request] = call
        match order.order:
            case StartShards(_, _, config, shards):
                self.handle(StartOrdered(request, config, shards, order.opened))
            case StopShards(_, _, dataset, shards):
                self.handle(StopOrdered(request, dataset, shards))
            case deletion:
                self.handle(DeleteOrdered(request, deletion.dataset, deletion.generation, deletion.shards))

    # ---- the NodeCore: events in, effects out

    def handle(self, event: NodeEvent) -> None:
        for effect in self.core.handle(event, self._world.now_ms):
            self._carry_out(effect)
        self.core.check_invariants()

    def _carry_out(self, effect: NodeEffect) -> None:
        match effect:
            case OpenShard():
                self._open(effect)
            case AbandonOpening(_, opening):
                self._abandon(opening)
            case EndOpening(_, opening):
                self._openings[opening].is_to_end = True
                self._abandon(opening)
            case ServeShard(key, opening, epoch):
                file = self._openings[opening].file
                stored = self._files.get(file)
                self.serving[key] = ServedShard(opening, epoch, file, stored.samples if stored is not None else 0)
                self._checkers.newest.opened(key, epoch)
            case CloseShard(key, opening):
                served = self.serving.get(key)
                if served is not None and served.opening == opening:
                    del self.serving[key]
                self._later(CLOSE_MS, lambda: self.handle(Closed(key, opening)))
            case DeleteFiles():
                self._delete(effect)
            case FlushInTurn(turns):
                self._turns = turns
                self._flush_later()
            case Report(key, epoch, event):
                self._reports.append(ShardReport(*key, epoch, event))
                self.report()
            case AnswerRequest(request, problem):
                self._answer(request, problem)
            case WakeAt(at_ms):
                self._world.at(at_ms, lambda: self.run(lambda: self.handle(Tick())))
            case Note(key, text):
                self._world.note("%s %s: %s", self.name, key, text)

    def _answer(self, request: int, problem: str) -> None:
        call = self.calls[request]

        def answer() -> None:
            del self.calls[request]
            if problem:
                call.fail(OSError(problem))
            else:
                call.end()

        self.hear(answer)

    # ---- opening and closing

    def _open(self, order: OpenShard) -> None:
        opening = self._openings[order.opening] = _Opening(order)
        self._checkers.retries.tried((self.process, order.key, order.epoch), self._world.now_ms)
        self._later(RECOVERY_STEP_MS, lambda: self._begin_opening(opening))

    def _begin_opening(self, opening: _Opening) -> None:
        order, rates = opening.order, self._world.rates
        if self._ends(opening):
            return
        if self._world.happens(rates.hang_opening):
            opening.is_waiting = True
            overdue = OpeningOverdue(order.key, order.opening)
            self._world.after(LIMITS.source_timeout_ms, lambda: self.run(lambda: self.handle(overdue)))
            return
        stored = self._files.get(opening.file)
        if self._world.happens(rates.fail_opening):
            self._fail_opening(opening, "its source refuses", 0)
        elif stored is not None and stored.epoch > order.epoch:
            self._fail_opening(opening, f"its file has epoch {stored.epoch}", stored.epoch)
        elif stored is None and order.was_open:
            self._fail_opening(opening, "its file is not there", 0)
        else:
            self._files.setdefault(opening.file, ShardFile(order.epoch)).epoch = order.epoch
            self._recover(opening, 0)

    def _fail_opening(self, opening: _Opening, reason: str, stored_epoch: int) -> None:
        order = opening.order
        self._checkers.retries.failed((self.process, order.key, order.epoch), self._world.now_ms)
        self.handle(OpeningFailed(order.key, order.opening, reason, stored_epoch))

    def _recover(self, opening: _Opening, progress_pct: int) -> None:
        order = opening.order
        if self._ends(opening):
            return
        if progress_pct >= 100:
            self.handle(ShardOpened(order.key, order.opening))
        else:
            self.handle(OpeningProgressed(order.key, order.opening, progress_pct))
            self._later(RECOVERY_STEP_MS, lambda: self._recover(opening, progress_pct + 50))

    def _ends(self, opening: _Opening) -> bool:
        if opening.is_to_end:
            self.handle(OpeningEnded(opening.order.key, opening.order.opening))
        return opening.is_to_end

    def _abandon(self, number: OpeningId) -> None:
        """Its thread hangs a while longer."""
        opening = self._openings[number]
        key = opening.order.key
        if opening.is_waiting:
            opening.is_waiting = False
            self._later(1, lambda: self.handle(OpeningAbandoned(key, number, is_hanging=True)))
            self._later(10 * LIMITS.source_timeout_ms, lambda: self.handle(OpeningCameBack(key, number)))

    def _delete(self, order: DeleteFiles) -> None:
        problem = "its disk is read-only" if self._world.happens(self._world.rates.fail_deletion) else ""
        if not problem:
            for shard in order.shards:
                self._files.pop((order.dataset, shard, order.generation), None)
        self._later(CLOSE_MS, lambda: self.handle(FilesDeleted(order.request, problem)))

    # ---- writes, reads, flushes

    def holds(self, served: ServedShard, epoch: int) -> bool:
        """Whether what was routed by ``epoch`` may be taken."""
        return served.epoch == epoch

    def _routed(self, key: ShardKey, epoch: int) -> ServedShard | None:
        served = self.serving.get(key)
        if served is None or not self.may_answer() or not self.holds(served, epoch):
            return None
        self._checkers.epochs.taken(key, epoch, served.epoch, self.process)
        return served

    def take_read(self, key: ShardKey, epoch: int, floor: int, refuse: Action) -> None:
        """``floor``: samples that were acknowledged when it was asked."""
        served = self._routed(key, epoch)
        if served is None:
            refuse()
        else:
            self._checkers.kept.answered(served.file, floor, served.samples, self.process)

    def check_answers(self, served: ServedShard) -> None:
        if self.may_answer():
            self._checkers.newest.answers(served.file[:2], served.epoch, self.process)

    def take_write(self, key: ShardKey, epoch: int, refuse: Action) -> None:
        served = self._routed(key, epoch)
        if served is None:
            refuse()
        else:
            self._later(COMMIT_MS, lambda: self._commit(key, served, refuse))

    def _commit(self, key: ShardKey, served: ServedShard, refuse: Action) -> None:
        if self.serving.get(key) is not served:
            refuse()
            return
        stored = self._files.get(served.file)
        self._checkers.served.committed(served.file, self.process, is_there=stored is not None)
        is_ours = stored is not None and stored.epoch == served.epoch
        if not is_ours or stored is None or self._world.happens(self._world.rates.doubt_store):
            self.handle(StoreDoubted(key, served.opening, "nobody knows what its file has"))
            refuse()
            return
        stored.committed += 1
        served.samples += 1
        self.acknowledge(key, served, served.samples)
        self._flush_later()

    def acknowledge(self, key: ShardKey, served: ServedShard, samples: int) -> None:
        self._checkers.one_owner.acknowledged(key, served.epoch, self.process)
        self._checkers.kept.acknowledged(served.file, samples)

    def _flush_later(self) -> None:
        if not self._is_flush_due:
            self._is_flush_due = True
            self._later(FLUSH_MS, self._flush_next)

    def _flush_next(self) -> None:
        """One step of the first in line that has one due."""
        self._is_flush_due = False
        for turn in self._turns:
            served = self.serving.get(turn.key)
            if served is None or served.opening != turn.opening:
                continue
            stored = self._files.get(served.file)
            if stored is not None and stored.epoch == served.epoch and stored.checkpoint < stored.committed:
                if self._world.happens(self._world.rates.fail_flush):
                    self.handle(FlushFailed(*turn_words(turn), "its disk is full"))
                else:
                    self.flush(stored)
                    self.handle(FlushStepped(*turn_words(turn), is_more_due=False))
                self._flush_later()
                return

    def flush(self, stored: ShardFile) -> None:
        """Chunks and checkpoint in one transaction."""
        stored.flushed += stored.committed - stored.checkpoint
        stored.checkpoint = stored.committed

    # ---- reports: in order, each batch until it is taken

    def report(self) -> None:
        if self._reports and not self.reports_on_their_way:
            self.reports_on_their_way, self._reports = tuple(self._reports), []
            self._send_reports(self, self.reports_on_their_way)

    def reports_taken(self, reports: tuple[ShardReport, ...]) -> None:
        if reports is self.reports_on_their_way:
            self.reports_on_their_way = ()
            self.report()

    def reports_lost(self, reports: tuple[ShardReport, ...]) -> None:
        """They are given again, unless they were taken meanwhile."""
        if reports and reports is self.reports_on_their_way:
            self._world.after(REPORT_RETRY_MS, lambda: self.run(lambda: self._report_again(reports)))

    def _report_again(self, reports: tuple[ShardReport, ...]) -> None:
        if reports is self.reports_on_their_way:
            self._send_reports(self, reports)


def turn_words(turn: FlushTurn) -> tuple[ShardKey, OpeningId]:
    return turn.key, turn.opening
