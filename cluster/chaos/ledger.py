"""The checker of a history of operations: is what was acknowledged found by every read that must find it?

It is Jepsen's set-full (https://github.com/jepsen-io/jepsen, jepsen/src/jepsen/checker.clj) over samples: a sample is
*known* from when its write was acknowledged, or a read showed it, whichever was first. A read that was asked after
that, gave an answer without error or mark, and lacks it, is a **short answer**. If no read that was asked later shows
it, it is **lost**. An answer that has a sample which nobody had begun to write, which was refused, or with another
value, **shows what was never written**. Of writes whose outcome is unknown a read may show any, or none, at any time.

Operations are told as they go on: ``begin`` before a write is sent, ``end`` with each operation when it has ended.
``check_history`` does that for a whole history. Times are those of one clock, in ms.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum

from filoray.cluster.chaos.operations import Operation, Outcome, Read, Write

FINDINGS_MAX = 1000
"""No more are kept of a kind; their number is."""


@dataclass(frozen=True, slots=True)
class LostSample:
    """``missing_since_ms``: when the first read that lacks it was asked."""

    series: str
    timestamp_ms: int
    acknowledged_by: str
    known_ms: int
    missing_since_ms: int

    def __str__(self) -> str:
        return (
            f"{self.series} at {self.timestamp_ms}: {self.acknowledged_by} at {self.known_ms} ms, "
            f"not there for who asked at {self.missing_since_ms} ms and later"
        )


class Fault(Enum):
    SHORT = "lacks"
    NEVER_WRITTEN = "has what nobody had written:"
    REFUSED = "has what was refused:"
    OTHER_VALUE = "has with another value"


@dataclass(frozen=True, slots=True)
class WrongAnswer:
    """One answer and the first sample that is wrong in it. ``samples``: how many are."""

    fault: Fault
    client: str
    by: str
    asked_ms: int
    answered_ms: int
    series: str
    timestamp_ms: int
    samples: int

    def __str__(self) -> str:
        return (
            f"{self.by}'s answer to {self.client}, asked at {self.asked_ms} ms and given at {self.answered_ms} ms, "
            f"{self.fault.value} {self.series} at {self.timestamp_ms}"
            + (f" and {self.samples - 1} samples more" if self.samples > 1 else "")
        )


@dataclass(frozen=True, slots=True)
class Verdicts:
    """Counts are of everything; ``lost`` and ``wrong`` name the first ``FINDINGS_MAX``."""

    acknowledged: int
    unknown: int
    answers: int
    marked_answers: int
    lost_count: int
    lost: tuple[LostSample, ...]
    wrong_count: int
    wrong: tuple[WrongAnswer, ...]


@dataclass(slots=True)
class _Sample:
    value: float
    begun_ms: int
    is_refused: bool = False
    is_acknowledged: bool = False
    known_ms: int | None = None
    known_by: str = ""
    missing_since_ms: int | None = None
    last_missed_ms: int = -1
    last_shown_ms: int = -1
    """When the last read that lacked it, or showed it, was asked."""


@dataclass(slots=True)
class _Series:
    times_ms: list[int] = field(default_factory=list)
    samples: dict[int, _Sample] = field(default_factory=dict)

    def within(self, read: Read) -> list[int]:
        first, last = (bisect.bisect_right(self.times_ms, time_ms) for time_ms in (read.after_ms, read.until_ms))
        return self.times_ms[first:last]


class Ledger:
    def __init__(self) -> None:
        self._series: dict[str, _Series] = {}
        self._acknowledged = 0
        self._unknown = 0
        self._answers = 0
        self._marked_answers = 0
        self._wrong_count = 0
        self._wrong: list[WrongAnswer] = []
        self._forgotten_ms = -1

    def begin(self, write: Write, now_ms: int) -> None:
        for name in write.series:
            series = self._series.setdefault(name, _Series())
            if write.timestamp_ms in series.samples:
                raise ValueError(f"{name} at {write.timestamp_ms} is written twice, so nobody could say who lost it")
            bisect.insort(series.times_ms, write.timestamp_ms)
            series.samples[write.timestamp_ms] = _Sample(write.value, now_ms)

    def end(self, operation: Operation) -> None:
        if isinstance(operation.request, Write):
            self._end_write(operation, operation.request)
        elif operation.outcome is Outcome.OK and operation.begun_ms > self._forgotten_ms:
            self._end_read(operation, operation.request)

    def forget(self, now_ms: int) -> None:
        """The data set was deleted: what was acknowledged before must not be shown to who asks from now on.

        A write that is under way, or whose outcome is unknown, may still come to the next data set of that name.
        """
        self._forgotten_ms = now_ms
        for series in self._series.values():
            series.samples = {
                timestamp_ms: _Sample(sample.value, sample.begun_ms, sample.is_refused)
                for timestamp_ms, sample in series.samples.items()
                if not sample.is_acknowledged
            }
            series.times_ms = sorted(series.samples)

    def _end_write(self, operation: Operation, write: Write) -> None:
        self._acknowledged += len(write.series) if operation.outcome is Outcome.OK else 0
        self._unknown += len(write.series) if operation.outcome is Outcome.UNKNOWN else 0
        for name in write.series:
            series = self._series.get(name)
            sample = series.samples.get(write.timestamp_ms) if series is not None else None
            if sample is None:  # forgotten meanwhile
                continue
            if operation.outcome is Outcome.OK and operation.begun_ms > self._forgotten_ms:
                sample.is_acknowledged = True
                _learn(sample, operation.ended_ms, f"acknowledged by {operation.by}")
            elif operation.outcome is Outcome.FAILED:
                sample.is_refused = True
                if sample.known_ms is not None:  # somebody was shown it before
                    self._note(Fault.REFUSED, operation, [(name, write.timestamp_ms)])
                    sample.known_ms = None

    def _end_read(self, operation: Operation, read: Read) -> None:
        self._answers += 1
        self._marked_answers += operation.is_marked
        faults: dict[Fault, list[tuple[str, int]]] = {}
        for fault, name, timestamp_ms in self._faults(operation, read):
            faults.setdefault(fault, []).append((name, timestamp_ms))
        for fault, places in faults.items():
            self._note(fault, operation, places)

    def _note(self, fault: Fault, operation: Operation, places: list[tuple[str, int]]) -> None:
        self._wrong_count += 1
        if len(self._wrong) < FINDINGS_MAX:
            times_ms = (operation.begun_ms, operation.ended_ms)
            self._wrong.append(WrongAnswer(fault, operation.client, operation.by, *times_ms, *places[0], len(places)))

    def _faults(self, operation: Operation, read: Read) -> Iterator[tuple[Fault, str, int]]:
        answer = operation.answer or {}
        asked_ms = operation.begun_ms
        for name in read.series:
            shown = answer.get(name, {})
            series = self._series.get(name) or _Series()
            for timestamp_ms in series.within(read):
                sample = series.samples[timestamp_ms]
                is_due = sample.known_ms is not None and sample.known_ms < asked_ms
                if timestamp_ms not in shown and is_due and not operation.is_marked:
                    sample.missing_since_ms = asked_ms if sample.missing_since_ms is None else sample.missing_since_ms
                    sample.last_missed_ms = max(sample.last_missed_ms, asked_ms)
                    yield Fault.SHORT, name, timestamp_ms
            for timestamp_ms, value in shown.items():
                written = series.samples.get(timestamp_ms)
                if written is None or written.begun_ms > operation.ended_ms:
                    yield Fault.NEVER_WRITTEN, name, timestamp_ms
                elif written.is_refused:
                    yield Fault.REFUSED, name, timestamp_ms
                elif written.value != value:
                    yield Fault.OTHER_VALUE, name, timestamp_ms
                else:
                    _learn(written, operation.ended_ms, f"shown by {operation.by}")
                    written.last_shown_ms = max(written.last_shown_ms, asked_ms)

    def verdicts(self) -> Verdicts:
        """Of all that was told so far."""
        lost = [
            LostSample(name, timestamp_ms, sample.known_by, sample.known_ms, sample.missing_since_ms)
            for name, series in self._series.items()
            for timestamp_ms, sample in series.samples.items()
            if sample.known_ms is not None
            and sample.missing_since_ms is not None
            and sample.last_missed_ms > sample.last_shown_ms
        ]
        return Verdicts(
            self._acknowledged, self._unknown, self._answers, self._marked_answers,
            len(lost), tuple(lost[:FINDINGS_MAX]), self._wrong_count, tuple(self._wrong),
        )  # fmt: skip


def _learn(sample: _Sample, now_ms: int, how: str) -> None:
    if sample.known_ms is None or now_ms < sample.known_ms:
        sample.known_ms, sample.known_by = now_ms, how


def check_history(operations: Iterable[Operation]) -> Verdicts:
    """Of a whole history, in any order."""
    operations = list(operations)
    ledger = Ledger()
    begins = [(one.begun_ms, 0, index) for index, one in enumerate(operations) if isinstance(one.request, Write)]
    ends = [(one.ended_ms, 1, index) for index, one in enumerate(operations)]
    for now_ms, is_end, index in sorted(begins + ends):
        operation = operations[index]
        if is_end:
            ledger.end(operation)
        elif isinstance(operation.request, Write):
            ledger.begin(operation.request, now_ms)
    return ledger.verdicts()
