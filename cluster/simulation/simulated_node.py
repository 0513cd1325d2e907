"""A simulated node: the real NodeCore and its dispatcher in a process that dies, hangs and is cut off.

Its files are numbers. Of a shard's data there is only how many samples are where: a commit is one more in the log, a
flush moves what the log has since the checkpoint into chunks, opening a shard finds what its file has. Files outlive
processes. What it does with shards that have copies is ``node_copies.py``'s.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from filoray.cluster.actor_names import slot_index
from filoray.cluster.addresses import NodeAddress
from filoray.cluster.control.coordinator_effects import GiveOrder
from filoray.cluster.control.node_core import NodeCore
from filoray.cluster.control.node_dispatcher import NodeDispatcher
from filoray.cluster.control.node_effects import (
    DeleteFiles,
    FlushTurn,
    NodeEffect,
    Note,
    OpenShard,
    PromoteShard,
    Report,
    TellCopies,
)
from filoray.cluster.control.node_events import (
    Closed,
    DeleteOrdered,
    DropOrdered,
    FilesDeleted,
    FlushFailed,
    FlushStepped,
    FollowOrdered,
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
    TellCopiesOrdered,
    Tick,
)
from filoray.cluster.control.node_events import Opened as ShardOpened
from filoray.cluster.control.shard_messages import DropCopies, FollowShards, StartShards, StopShards
from filoray.cluster.control.shard_messages import TellCopies as TellCopiesOrder
from filoray.cluster.control.shard_slot import NodeLimits
from filoray.cluster.node_protocol import NodeAnnouncement, ShardReport
from filoray.cluster.simulation.checkers import (
    NOTHING_UNFORESEEN,
    Checkers,
    FileKey,
    Process,
    RuleBroken,
    ShardKey,
)
from filoray.cluster.simulation.copy_entries import CommitEntry, KnownSample
from filoray.cluster.simulation.node_copies import NodeCopies
from filoray.cluster.simulation.pending_call import PendingCall
from filoray.cluster.simulation.report_outbox import Batch, ReportOutbox
from filoray.cluster.simulation.shard_file import KeptSample, SentSample, ServedShard, ShardFile
from filoray.cluster.simulation.shard_watch import ShardWatch
from filoray.cluster.simulation.simulated_disks import SimulatedDisks
from filoray.cluster.simulation.simulated_leader import commit
from filoray.cluster.simulation.simulated_process import SimulatedProcess
from filoray.cluster.simulation.simulated_store import FaultyStore
from filoray.cluster.simulation.world import Action, SimulatedWorld

LIMITS = NodeLimits(source_timeout_ms=500, retry_delay_ms=200, retry_delay_max_ms=2000)
RECOVERY_STEP_MS = 60
COMMIT_MS = 4
CLOSE_MS = 20
PROMOTE_MS = 4
HEARD_OUT_MS_MAX = 200
HEARD_OUT_LOOK_MS = 5
FLUSH_MS = 1000
REPORT_RETRY_MS = 500


@dataclass(slots=True)
class _Opening:
    """``is_waiting``: for its source; ``is_to_end``: it is wanted no more."""

    order: OpenShard
    is_waiting: bool = False
    is_to_end: bool = False

    @property
    def file(self) -> FileKey:
        return (*self.order.key, self.order.config.generation)


class _CheckedCore(NodeCore):
    """Keeps what is wrong for the simulation, as a node's dispatcher would only have it told in the log."""

    def __init__(self, process: Process, checkers: Checkers, *, deletes_own_only: bool) -> None:
        super().__init__(replace(LIMITS, deletes_own_only=deletes_own_only))
        self.violation: Exception | None = None
        self._process = process
        self._checkers = checkers

    def handle(self, event: NodeEvent, now_ms: int) -> list[NodeEffect]:
        try:
            effects = super().handle(event, now_ms)
            if effects:
                self._checkers.cores.check(self._process, self.check_invariants, now_ms)
        except Exception as error:
            self.violation = error
            raise
        return effects


class SimulatedNode(SimulatedProcess):
    """A process, and the ``NodeWorld`` of its dispatcher.

    ``disks``, ``nodes``: of the whole cluster; ``store``: its coordinator's. ``send_reports``: to the coordinator; what
    became of them is told to ``reports``.
    """

    def __init__(
        self,
        world: SimulatedWorld,
        checkers: Checkers,
        disks: SimulatedDisks,
        store: FaultyStore,
        nodes: Mapping[Process, SimulatedNode],
        process: Process,
        send_reports: Callable[[SimulatedNode, Batch], None],
        watch: ShardWatch,
    ) -> None:
        super().__init__(world, process)
        self.core = _CheckedCore(process, checkers, deletes_own_only=disks.are_apart)
        self.serving: dict[ShardKey, ServedShard] = {}
        self.closing: dict[ShardKey, ServedShard] = {}
        self.reports = ReportOutbox(
            lambda batch: send_reports(self, batch), lambda again: world.after(REPORT_RETRY_MS, lambda: self.run(again))
        )
        self._checkers = checkers
        self._files = disks
        self.copies = NodeCopies(self, world, checkers, disks, store, nodes)
        self._watch = watch
        self._requests = itertools.count(1)
        self._openings: dict[OpeningId, _Opening] = {}
        self._turns: tuple[FlushTurn, ...] = ()
        self._is_flush_due = False
        self._dispatcher = NodeDispatcher(self.core, self)

    def die(self) -> None:
        for key in self.serving:
            self._watch.ended(key, self.process)
        super().die()

    # ---- what the coordinator asks

    def announcement(self) -> NodeAnnouncement:
        node = self.process[0]
        address = NodeAddress(self._files.homes.get(node, "127.0.0.1"), 2552 + slot_index(node))
        return NodeAnnouncement(
            *self.process,
            address,
            1,
            self.machine,
            self.core.held(),
            clock_ms=self.clock_ms,
            stored=self._files.found_by(node),
        )

    def take_order(self, order: GiveOrder, call: PendingCall) -> None:
        request = next(self._requests)
        self.calls[request] = call
        match order.order:
            case StartShards(_, _, config, shards):
                self.handle(StartOrdered(request, config, shards, order.opened))
            case FollowShards(_, _, config, followed):
                self.handle(FollowOrdered(request, config, followed))
            case DropCopies(_, _, dataset, followed, generation):
                self.handle(DropOrdered(request, dataset, generation, followed))
            case TellCopiesOrder(_, _, dataset, copies):
                self.handle(TellCopiesOrdered(request, dataset, copies, order.peers))
            case StopShards(_, _, dataset, shards):
                self.handle(StopOrdered(request, dataset, shards))
            case deletion:
                self.handle(DeleteOrdered(request, deletion.dataset, deletion.generation, deletion.shards))

    def handle(self, event: NodeEvent) -> None:
        self._dispatcher.take(event)
        if (violation := self.core.violation) is not None:
            rule = violation.rule if isinstance(violation, RuleBroken) else NOTHING_UNFORESEEN
            raise RuleBroken(rule, f"{self.name}: {event}: {violation!r}")

    # ---- the dispatcher's world

    def now_ms(self) -> int:
        return self._world.now_ms

    def report(self, report: Report) -> None:
        self.reports.put(ShardReport(*report.key, report.epoch, report.event))

    def answer(self, request: int, problem: str) -> None:
        call = self.calls[request]

        def answer() -> None:
            del self.calls[request]
            if problem:
                call.fail(OSError(problem))
            else:
                call.end()

        self.say(answer)

    def wake_at(self, at_ms: int) -> None:
        self._world.at(at_ms, lambda: self.run(lambda: self.handle(Tick())))

    def note(self, note: Note) -> None:
        self._world.note("%s %s: %s", self.name, note.key, note.text)

    def delete_files(self, deletion: DeleteFiles) -> None:
        problem = "its disk is read-only" if self._world.happens(self._world.rates.fail_deletion) else ""
        if not problem:
            for shard in deletion.shards:
                file = (deletion.dataset, shard, deletion.generation)
                if deletion.own_only:
                    self._files.pop((*file, self.process[0]), None)
                else:
                    self._files.remove(file)
        self.later(CLOSE_MS, lambda: self.handle(FilesDeleted(deletion.request, problem)))

    def flush_in_turn(self, turns: tuple[FlushTurn, ...]) -> None:
        self._turns = turns
        self._flush_later()

    def serve_shard(self, opening: OpeningId) -> None:
        order = self._openings[opening].order
        place = self.copies.stored(order.config, order.shard)
        stored = self._files.get(place)
        samples = stored.samples if stored is not None else 0
        served = self.serving[order.key] = ServedShard(opening, order.epoch, place, samples)
        self._watch.began(order.key, self.process)
        self._checkers.newest.opened(order.key, order.epoch)
        if order.config.has_copies:
            self._checked(lambda: self.copies.lead(order.key, served, order.config))

    def promote_shard(self, promotion: PromoteShard) -> None:
        """At once, with the copy that it has; if it has none, by an ordinary opening."""
        opening = self._openings[promotion.opening]
        key, epoch = promotion.key, promotion.epoch
        opening.order = replace(opening.order, epoch=epoch, was_open=promotion.was_open, is_follower=False)
        opening.is_to_end = False
        self.copies.stop_following(key, promotion.opening)

        def promote() -> None:
            if self._ends(opening):
                return
            if self.copies.promote(key, promotion.opening, epoch):
                self.handle(ShardOpened(key, promotion.opening))
            else:
                self._begin_opening(opening, self._world.now_ms)

        self.later(PROMOTE_MS, promote)

    def tell_copies(self, copies: TellCopies) -> None:
        config = self._openings[copies.opening].order.config
        self._checked(lambda: self.copies.tell(copies, config))

    def _checked(self, effect: Action) -> None:
        """What is wrong is kept for the simulation, as the dispatcher would only have it told in the log."""
        try:
            effect()
        except AssertionError as error:
            self.core.violation = error
            raise

    def close_shard(self, opening: OpeningId) -> None:
        """Who follows a shard in memory hears all of it first, if that does not take too long."""
        key = self._openings[opening].order.key
        served = self.serving.get(key)
        if served is not None and served.opening == opening:
            self.closing[key] = self.serving.pop(key)
            self._watch.ended(key, self.process)
        self._close_when_heard_out(key, opening, self._world.now_ms + HEARD_OUT_MS_MAX)

    def _close_when_heard_out(self, key: ShardKey, opening: OpeningId, until_ms: int) -> None:
        served = self.closing.get(key)
        is_closing = served is not None and served.opening == opening
        if is_closing and not self.copies.is_heard_out(key) and self._world.now_ms < until_ms:
            self.later(HEARD_OUT_LOOK_MS, lambda: self._close_when_heard_out(key, opening, until_ms))
            return
        if is_closing:
            del self.closing[key]
        self.copies.close(key, opening)
        self.later(CLOSE_MS, lambda: self.handle(Closed(key, opening)))

    def end_opening(self, opening: OpeningId) -> None:
        self._openings[opening].is_to_end = True
        self.abandon_opening(opening)

    def abandon_opening(self, opening: OpeningId) -> None:
        """If it waits for its source; its thread hangs a while longer."""
        it = self._openings[opening]
        key = it.order.key
        if it.is_waiting:
            it.is_waiting = False
            self.later(1, lambda: self.handle(OpeningAbandoned(key, opening, is_hanging=True)))
            self.later(10 * LIMITS.source_timeout_ms, lambda: self.handle(OpeningCameBack(key, opening)))

    def open_shard(self, order: OpenShard) -> None:
        opening = self._openings[order.opening] = _Opening(order)
        begun_ms = self._world.now_ms
        if order.is_follower:
            self.later(PROMOTE_MS, lambda: self._follow(opening))
        else:
            self.later(RECOVERY_STEP_MS, lambda: self._begin_opening(opening, begun_ms))

    def _follow(self, opening: _Opening) -> None:
        if not self._ends(opening):
            self.copies.follow(opening.order)
            self.handle(ShardOpened(opening.order.key, opening.order.opening))

    # ---- opening

    def _begin_opening(self, opening: _Opening, begun_ms: int) -> None:
        order, rates = opening.order, self._world.rates
        self._checkers.retries.tried((self.process, order.key, order.epoch), begun_ms)
        if self._ends(opening):
            return
        if self._world.happens(rates.hang_opening):
            opening.is_waiting = True
            overdue = OpeningOverdue(order.key, order.opening)
            self._world.after(LIMITS.source_timeout_ms, lambda: self.run(lambda: self.handle(overdue)))
            return
        place = self.copies.stored(order.config, order.shard)
        stored = self._files.get(place)
        if self._world.happens(rates.fail_opening):
            self._fail_opening(opening, "its source refuses", 0)
        elif rates.is_disk_full:
            self._fail_opening(opening, "its disk is full", 0)
        elif stored is not None and stored.epoch > order.epoch:
            self._fail_opening(opening, f"its file has epoch {stored.epoch}", stored.epoch)
        elif stored is None and order.was_open:
            self._fail_opening(opening, "its file is not there", 0)
        else:
            is_late = self._checkers.served.is_deleted(opening.file)
            self._files.setdefault(place, ShardFile(order.epoch, is_late)).epoch = order.epoch
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
            self.later(RECOVERY_STEP_MS, lambda: self._recover(opening, progress_pct + 50))

    def _ends(self, opening: _Opening) -> bool:
        if opening.is_to_end:
            self.copies.close(opening.order.key, opening.order.opening)
            self.handle(OpeningEnded(opening.order.key, opening.order.opening))
        return opening.is_to_end

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

    def take_read(
        self,
        key: ShardKey,
        epoch: int,
        floor: int,
        refuse: Action,
        answer: Callable[[ServedShard], None] = lambda served: None,
    ) -> None:
        """``floor``: samples that were acknowledged when it was asked."""
        served = self._routed(key, epoch)
        if served is None or not served.is_shown:
            refuse()
        else:
            self._checkers.kept.answered(served.file, floor, served.samples, self.process)
            answer(served)

    def contents(self, served: ServedShard, series: str, after_ms: int, until_ms: int) -> list[KeptSample]:
        """What it shows of a series and time to a client that knows its samples."""
        stored = self._files.get(served.stored)
        return stored.found(series, served.samples, after_ms, until_ms) if stored is not None else []

    def check_answers(self, served: ServedShard) -> None:
        if self.may_answer():
            self._checkers.newest.answers(served.file[:2], served.epoch, self.process)

    def take_write(self, key: ShardKey, epoch: int, refuse: Action, sample: SentSample | None = None) -> None:
        served = self._routed(key, epoch)
        if served is None:
            refuse()
        elif (leader := self.copies.leader(key)) is not None and leader.waits:
            leader.write(refuse, sample)
        else:
            delay_ms = COMMIT_MS + self._world.rates.disk_delay_ms
            self.later(delay_ms, lambda: self._commit(key, served, refuse, sample))

    def _commit(self, key: ShardKey, served: ServedShard, refuse: Action, sample: SentSample | None) -> None:
        stored = None if self.commit_fails(key, served) else self._files.get(served.stored)
        if stored is None:
            refuse()
            return
        number = self._files.next_sample()
        known = () if sample is None else (KnownSample(number, sample.series, sample.timestamp_ms, sample.value),)
        entry = CommitEntry((number,), known)
        commit(stored, entry)
        served.samples += 1
        self.acknowledge(key, served, served.samples)
        if sample is not None:
            sample.taken()
        self.copies.made(key, entry)

    def commit_fails(self, key: ShardKey, served: ServedShard) -> bool:
        """Whether the disk, or somebody who has the file now, keeps it from it; the shard may be opened anew then."""
        if self.serving.get(key) is not served or self._world.rates.is_disk_full:
            return True
        stored = self._files.get(served.stored)
        self._checkers.served.committed(served.file, self.process, is_there=stored is not None)
        is_ours = stored is not None and stored.epoch == served.epoch
        if not is_ours or self._world.happens(self._world.rates.doubt_store):
            self.handle(StoreDoubted(key, served.opening, "nobody knows what its file has"))
            return True
        self._flush_later()
        return False

    def acknowledge(self, key: ShardKey, served: ServedShard, samples: int) -> None:
        self._checkers.one_owner.acknowledged(key, served.epoch, self.process)
        self._checkers.kept.acknowledged(served.file, samples)

    def report_copies(self, report: ShardReport) -> None:
        self.reports.put(report)

    def _flush_later(self) -> None:
        if not self._is_flush_due:
            self._is_flush_due = True
            self.later(FLUSH_MS, self._flush_next)

    def _flush_next(self) -> None:
        """One step of the first in line that has one due."""
        self._is_flush_due = False
        for turn in self._turns:
            served = self.serving.get(turn.key)
            if served is None or served.opening != turn.opening:
                continue
            stored, leader = self._files.get(served.stored), self.copies.leader(turn.key)
            if leader is not None and not leader.may_flush:
                continue
            if stored is not None and stored.epoch == served.epoch and stored.checkpoint < stored.committed:
                if self._world.rates.is_disk_full or self._world.happens(self._world.rates.fail_flush):
                    self.handle(FlushFailed(turn.key, turn.opening, "its disk is full"))
                else:
                    if leader is None:
                        self.flush(stored)
                    else:
                        leader.flush(stored, self.flush)
                    self.handle(FlushStepped(turn.key, turn.opening, is_more_due=False))
                self._flush_later()
                return

    def flush(self, stored: ShardFile) -> None:
        """One step of it."""
        stored.flush()
