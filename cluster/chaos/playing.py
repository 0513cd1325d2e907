"""Plays a scenario's steps in order against a driver, and keeps what happened.

The first expectation that does not come true ends it. Random faults are drawn by the ``FaultInjector``; each is
remedied before it is over.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from filoray.cluster.chaos.actions import (
    Deed,
    Delete,
    Every,
    ExpectAll,
    Expectation,
    ExpectEmpty,
    ExpectEven,
    ExpectInSync,
    ExpectNode,
    ExpectNoneLost,
    ExpectNoneShort,
    ExpectRestarted,
    ExpectShard,
    Fault,
    Load,
    Order,
    Remedy,
    Wait,
)
from filoray.cluster.chaos.driver import NodeShards, ScenarioDriver
from filoray.cluster.chaos.injector import DrawnFault, FaultInjector
from filoray.cluster.chaos.language import Scenario, Step
from filoray.cluster.chaos.ledger import Ledger, Verdicts
from filoray.cluster.chaos.operations import Operation, Write
from filoray.cluster.chaos.timeline import Call, Mark, MarkKind, StatusSeen, Timeline
from filoray.cluster.control.shard_status import StatusKind

_FINDINGS_SHOWN = 5
_OWED_MS = 60_000
_OWED_AGAIN_MS = 500


class Record:
    """The ``Witness`` of one play."""

    def __init__(self) -> None:
        self.timeline = Timeline()
        self._ledger = Ledger()
        self._lock = threading.Lock()

    def begins(self, write: Write, now_ms: int) -> None:
        with self._lock:
            self._ledger.begin(write, now_ms)

    def ended(self, operation: Operation) -> None:
        with self._lock:
            self._ledger.end(operation)
            self.timeline.calls.append(Call.of(operation, is_write=isinstance(operation.request, Write)))

    def saw(self, seen: StatusSeen) -> None:
        with self._lock:
            self.timeline.statuses.append(seen)

    def forget_samples(self, now_ms: int) -> None:
        with self._lock:
            self._ledger.forget(now_ms)

    def verdicts(self) -> Verdicts:
        with self._lock:
            return self._ledger.verdicts()


@dataclass(frozen=True, slots=True)
class Failure:
    """``seen``: instead of what was expected."""

    step: Step
    seen: str

    def __str__(self) -> str:
        return f"line {self.step.line}: {self.step.text}: {self.seen}"


@dataclass(slots=True)
class Player:
    """``on_mark``: is told of each step when it is done."""

    scenario: Scenario
    driver: ScenarioDriver
    record: Record
    injector: FaultInjector
    on_mark: Callable[[Mark], None] = field(default=lambda mark: None)
    _owed: list[DrawnFault] = field(default_factory=list)

    def play(self) -> Failure | None:
        """What did not come true, if anything."""
        failure = None
        for step in self.scenario.steps:
            failure = self._step(step)
            if failure is not None:
                break
        self.record.timeline.end_ms = self.driver.now_ms()
        return failure

    def _step(self, step: Step) -> Failure | None:
        match step.action:
            case Wait(duration_ms):
                self.driver.advance(duration_ms)
            case Every():
                self._repeat(step, step.action)
            case expectation if isinstance(expectation, Expectation):
                return self._expect(step, expectation)
            case deed:
                self._perform(step.line, step.text, deed, _kind_of(deed))
        return None

    def _perform(self, line: int, text: str, deed: Deed, kind: MarkKind) -> str:
        """Why it could not be done, or ""."""
        begun_ms = self.driver.now_ms()
        remark = self.driver.perform(deed)
        if isinstance(deed, Delete):
            self.record.forget_samples(self.driver.now_ms())
        self._mark(Mark(kind, line, text, begun_ms, self.driver.now_ms(), remark))
        return remark

    def _mark(self, mark: Mark) -> None:
        self.record.timeline.marks.append(mark)
        self.on_mark(mark)

    # ---- again and again

    def _repeat(self, step: Step, every: Every) -> None:
        end_ms = self.driver.now_ms() + every.duration_ms
        next_ms = self.driver.now_ms()
        while next_ms < end_ms:
            self._advance_to(next_ms)
            next_ms += every.interval_ms
            if every.deed is not None:
                self._perform(step.line, step.text.partition(":")[2].strip(), every.deed, _kind_of(every.deed))
            else:
                self._strike(step, min(every.interval_ms, max(1, end_ms - self.driver.now_ms())))
        self._advance_to(end_ms)
        deadline_ms = end_ms + _OWED_MS
        while self._owed and self.driver.now_ms() < deadline_ms:
            self.driver.advance(_OWED_AGAIN_MS)
            self._make_up(step)

    def _strike(self, step: Step, lasting_ms_max: int) -> None:
        self._make_up(step)
        drawn = self.injector.draw(lasting_ms_max)
        self._perform(step.line, drawn.text, drawn.deed, MarkKind.FAULT)
        if drawn.remedy is not None:
            self.driver.advance(drawn.remedy_after_ms)
            remark = self._perform(step.line, drawn.remedy_text, drawn.remedy, MarkKind.REMEDY)
            if remark and isinstance(drawn.remedy, Order):
                self._owed.append(drawn)

    def _make_up(self, step: Step) -> None:
        """Orders that nobody was there to take: without them a fault would last for ever."""
        owed, self._owed = self._owed, []
        for drawn in owed:
            if drawn.remedy is not None and self._perform(step.line, drawn.remedy_text, drawn.remedy, MarkKind.REMEDY):
                self._owed.append(drawn)

    def _advance_to(self, at_ms: int) -> None:
        """Nothing if it is past: what took long is made up for."""
        if (left_ms := at_ms - self.driver.now_ms()) > 0:
            self.driver.advance(left_ms)

    # ---- what is expected

    def _expect(self, step: Step, expectation: Expectation) -> Failure | None:
        begun_ms = self.driver.now_ms()
        match expectation:
            case ExpectNoneLost():
                seen = self.driver.read_everything() or _lost(self.record.verdicts())
            case ExpectNoneShort():
                seen = _wrong(self.record.verdicts())
            case ExpectAll(status, within_ms):
                seen = self._await(lambda: _all_are(self.driver.statuses(), status), within_ms)
            case ExpectShard(dataset, shard, status, within_ms):
                seen = self._await(lambda: self._has_been(dataset, shard, status), within_ms)
            case ExpectNode(node, is_up, within_ms):
                seen = self._await(lambda: (node in self.driver.members()) == is_up, within_ms)
            case ExpectEmpty(node, within_ms):
                seen = self._await(lambda: _is_empty(self.driver.nodes(), node), within_ms)
            case ExpectEven(within_ms):
                seen = self._await(self._is_even, within_ms)
            case ExpectInSync(within_ms):
                seen = self._await(lambda: self.driver.lacking_copies() == [], within_ms)
            case ExpectRestarted(within_ms):
                seen = self._await(lambda: not self.driver.is_restarting(), within_ms)
        mark = Mark(
            MarkKind.EXPECTATION, step.line, step.text, begun_ms, self.driver.now_ms(), seen, is_failure=bool(seen)
        )
        self._mark(mark)
        return Failure(step, seen) if seen else None

    def _has_been(self, dataset: str, shard: int, status: StatusKind) -> bool:
        """It is, or was for a moment since something was last done."""
        present = self.driver.statuses().get(dataset, [])
        return shard < len(present) and (present[shard] is status or status in self.driver.passed(dataset, shard))

    def _is_even(self) -> bool:
        return _all_are(self.driver.statuses(), StatusKind.ACTIVE) and is_even(self.driver.nodes())

    def _await(self, condition: Callable[[], bool], within_ms: int) -> str:
        deadline_ms = self.driver.now_ms() + within_ms
        while not condition():
            if self.driver.now_ms() >= deadline_ms:
                return self._seen()
            self.driver.advance(self.driver.poll_ms)
        return ""

    def _seen(self) -> str:
        """The cluster as it is, for who expected something else."""
        members = ", ".join(map(str, sorted(self.driver.members()))) or "none"
        datasets = [_statuses_text(name, kinds) for name, kinds in self.driver.statuses().items()]
        nodes = map(_node_text, self.driver.nodes())
        return "; ".join([f"members are {members}", *datasets, *nodes, *(self.driver.lacking_copies() or ())])


def _kind_of(deed: Deed) -> MarkKind:
    if isinstance(deed, Fault):
        return MarkKind.FAULT
    if isinstance(deed, Remedy):
        return MarkKind.REMEDY
    return MarkKind.LOAD if isinstance(deed, Load) else MarkKind.ORDER


def _all_are(statuses: dict[str, list[StatusKind]], kind: StatusKind) -> bool:
    return bool(statuses) and all(one is kind for kinds in statuses.values() for one in kinds)


def _statuses_text(dataset: str, kinds: list[StatusKind]) -> str:
    shards: dict[str, list[str]] = {}
    for shard, kind in enumerate(kinds):
        shards.setdefault(kind.value.removeprefix("ShardStatus"), []).append(str(shard))
    return f"{dataset} has " + ", ".join(f"{status} {' '.join(numbers)}" for status, numbers in shards.items())


def _node_text(node: NodeShards) -> str:
    counts = ", ".join(f"{count} shards of {dataset}" for dataset, count in sorted(node.shards.items())) or "no shards"
    return f"node {node.index} has {counts}" + (" and is drained" if node.is_drained else "")


def _is_empty(nodes: list[NodeShards], index: int) -> bool:
    return any(node.index == index and not any(node.shards.values()) for node in nodes)


def is_even(nodes: list[NodeShards]) -> bool:
    """Of each data set no node that may have shards has two more than another, and no drained one has any."""
    open_nodes = [node for node in nodes if not node.is_drained]
    datasets = {dataset for node in nodes for dataset in node.shards}
    counts = [[node.shards.get(dataset, 0) for node in open_nodes] for dataset in datasets]
    drained = [count for node in nodes if node.is_drained for count in node.shards.values()]
    return bool(open_nodes) and not any(drained) and all(max(some) - min(some) <= 1 for some in counts)


def _lost(verdicts: Verdicts) -> str:
    return _listed(f"{verdicts.lost_count} acknowledged samples are lost", verdicts.lost_count, verdicts.lost)


def _wrong(verdicts: Verdicts) -> str:
    return _listed(f"{verdicts.wrong_count} answers are wrong", verdicts.wrong_count, verdicts.wrong)


def _listed(head: str, count: int, findings: tuple[object, ...]) -> str:
    shown = [str(finding) for finding in findings[:_FINDINGS_SHOWN]]
    return f"{head}: " + "; ".join(shown) + ("; …" if count > len(shown) else "") if count else ""
