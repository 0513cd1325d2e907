"""How long each fault kept clients waiting.

A call waits until its client has its answer; one that gets none, until a later call of the same client has. The outage
of a fault, for writers or for readers, is the longest such wait of any of them among the calls that were open when it
struck or begun before the next fault, counted from when it struck. So a fault that nobody notices has the outage of an
ordinary call. One that strikes while somebody has waited for ``WAITING_MS`` already has none of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby, zip_longest
from operator import attrgetter
from statistics import median

from filoray.cluster.chaos.operations import Outcome
from filoray.cluster.chaos.timeline import Call, Mark, MarkKind, Timeline

WAITING_MS = 2000


@dataclass(frozen=True, slots=True)
class Outage:
    """None: there was no such client, none that was answered again, or an earlier fault was not over."""

    fault: str
    writer_ms: int | None
    reader_ms: int | None


@dataclass(frozen=True, slots=True)
class OutageRow:
    """Of all faults of a kind. ``(median, p99, max)`` in ms; None where nothing is known."""

    kind: str
    count: int
    writer_ms: tuple[float, float, float] | None
    reader_ms: tuple[float, float, float] | None


def outages(timeline: Timeline) -> list[Outage]:
    struck = [mark for mark in timeline.marks if mark.kind is MarkKind.FAULT and not mark.remark]
    waits = {is_write: _waits(timeline.calls, is_write=is_write) for is_write in (True, False)}
    found = []
    for fault, following in zip_longest(struck, struck[1:]):
        until_ms = following.begun_ms if following is not None else timeline.end_ms
        found.append(
            Outage(fault_kind(fault), *(_longest(waits[is_write], fault, until_ms) for is_write in (True, False)))
        )
    return found


def outage_table(found: Iterable[Outage]) -> list[OutageRow]:
    """By kind of fault, in the order of its first."""
    by_kind: dict[str, list[Outage]] = {}
    for outage in found:
        by_kind.setdefault(outage.fault, []).append(outage)
    return [
        OutageRow(kind, len(some), _summary([one.writer_ms for one in some]), _summary([one.reader_ms for one in some]))
        for kind, some in by_kind.items()
    ]


def fault_kind(mark: Mark) -> str:
    """The step without its numbers: `kill node 2` is of the kind `kill node`."""
    return " ".join(word for word in mark.text.split() if not word[0].isdigit())


@dataclass(frozen=True, slots=True)
class _Wait:
    begun_ms: int
    answered_ms: int


def _waits(calls: Sequence[Call], *, is_write: bool) -> list[_Wait]:
    found = []
    chosen = sorted((call for call in calls if call.is_write is is_write), key=attrgetter("client", "begun_ms"))
    for _, some in groupby(chosen, key=attrgetter("client")):
        answered_ms: int | None = None
        for call in reversed(list(some)):  # a client has one call after the other
            if call.outcome is Outcome.OK:
                answered_ms = call.ended_ms
            if answered_ms is not None:
                found.append(_Wait(call.begun_ms, answered_ms))
    return found


def _longest(waits: Sequence[_Wait], fault: Mark, until_ms: int) -> int | None:
    struck_ms = fault.begun_ms
    if any(wait.begun_ms <= struck_ms - WAITING_MS and wait.answered_ms > struck_ms for wait in waits):
        return None
    times = [
        wait.answered_ms - max(struck_ms, wait.begun_ms)
        for wait in waits
        if wait.begun_ms < until_ms and wait.answered_ms > struck_ms
    ]
    return max(times, default=None)


def _summary(times_ms: Iterable[int | None]) -> tuple[float, float, float] | None:
    known = sorted(time_ms for time_ms in times_ms if time_ms is not None)
    if not known:
        return None
    return median(known), known[math.ceil(0.99 * len(known)) - 1], known[-1]
