"""The chart of a play: what was done, a band per shard, and what clients met, all on one axis of time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from statistics import median

from filoray.cluster.chaos.operations import Outcome
from filoray.cluster.chaos.timeline import Call, Mark, MarkKind, StatusSeen, Timeline
from filoray.cluster.control.shard_status import OWNED
from filoray.cluster.report.page import Html
from filoray.cluster.report.shard_statuses import StatusSpan, shard_label
from filoray.cluster.report.svg import circle, line, rect, text
from filoray.cluster.report.time_chart import LEFT_PX, RIGHT_PX, WIDTH_PX, Axis, Band, Event, Segment, TimeChart

_LATENCY_HEIGHT_PX = 96
_LATENCY_MS_MIN, _LATENCY_MS_MAX = 1.0, 30_000.0
_BUCKETS_MAX = 240
_BUCKET_MS_MIN = 300
"""So that each has calls of clients that go on."""
_SHARDS_MAX = 64


def chart(timeline: Timeline) -> Html:
    drawn = TimeChart(timeline.end_ms)
    shown = [mark for mark in timeline.marks if mark.kind is not MarkKind.EXPECTATION or mark.is_failure]
    drawn.add_events("done to it", list(map(_event, shown)))
    bands = _shard_bands(timeline)
    unshown = len(bands) - _SHARDS_MAX
    drawn.add_bands(bands[:_SHARDS_MAX], f"{unshown} shards more are not shown" if unshown > 0 else "")
    for name, is_write in (("writes", True), ("queries", False)):
        calls = [call for call in timeline.calls if call.is_write is is_write and call.client != "last reader"]
        if calls:
            drawn.add_bands([_availability(name, calls, drawn.axis)])
            drawn.add(_latency(calls, drawn.axis, drawn.y), _LATENCY_HEIGHT_PX)
    return drawn.drawn()


def _event(mark: Mark) -> Event:
    kind = "failed" if mark.is_failure else "undone" if mark.remark else mark.kind.value
    is_fault = mark.kind is MarkKind.FAULT
    title = f"{mark.begun_ms / 1000:.3f} s, line {mark.line}: {mark.text}"
    if mark.remark:
        title += f" ({mark.remark})"
    return Event(
        mark.begun_ms, mark.text, f"m-{kind}", title,
        is_main=is_fault or mark.is_failure, is_struck=is_fault and not mark.remark,
    )  # fmt: skip


# ---- shards


def _shard_bands(timeline: Timeline) -> list[Band]:
    by_shard: dict[tuple[str, int], list[StatusSeen]] = {}
    for seen in timeline.statuses:
        by_shard.setdefault((seen.dataset, seen.shard), []).append(seen)
    return [
        Band(shard_label(*shard), [span.segment() for span in status_spans(changes, timeline.end_ms)])
        for shard, changes in sorted(by_shard.items())
    ]


def status_spans(seen: Iterable[StatusSeen], end_ms: int) -> list[StatusSpan]:
    """Of one shard. A status whose owner is not known belongs to the owner that is told with it next."""
    found: list[StatusSpan] = []
    for one in sorted(seen, key=lambda one: one.at_ms):
        node = one.node if one.status in OWNED else ""
        last = found[-1] if found else None
        if last is not None and last.status is one.status and (not last.node or not node or last.node == node):
            found[-1] = StatusSpan(last.from_ms, end_ms, last.status, node or last.node)
            continue
        if last is not None:
            found[-1] = StatusSpan(last.from_ms, one.at_ms, last.status, last.node)
        found.append(StatusSpan(one.at_ms, end_ms, one.status, node))
    return found


# ---- clients


def _bucket_count(axis: Axis) -> int:
    return max(1, min(_BUCKETS_MAX, axis.end_ms // _BUCKET_MS_MIN))


def _buckets(calls: Sequence[Call], axis: Axis) -> Iterator[tuple[float, float, list[Call]]]:
    """(from when, until when, the calls that began then) where there were any."""
    count = _bucket_count(axis)
    found: list[list[Call]] = [[] for _ in range(count)]
    for call in calls:
        found[min(count - 1, call.begun_ms * count // axis.end_ms)].append(call)
    for index, some in enumerate(found):
        if some:
            yield axis.end_ms * index / count, axis.end_ms * (index + 1) / count, some


def _availability(name: str, calls: Sequence[Call], axis: Axis) -> Band:
    segments = []
    for from_ms, to_ms, some in _buckets(calls, axis):
        good = sum(call.outcome is Outcome.OK for call in some)
        kind = "all" if good == len(some) else "none" if good == 0 else "some"
        title = f"{from_ms / 1000:.1f} s: {good} of {len(some)} {name} ok"
        segments.append(Segment(from_ms, to_ms, f"c-{kind}", title))
    return Band(f"{name} ok", segments)


def _latency(calls: Sequence[Call], axis: Axis, y: float) -> Iterator[str]:
    """On a logarithmic scale: the slowest of each moment as a bar, their median as a dot."""
    bottom = y + _LATENCY_HEIGHT_PX
    for ms, label in ((1, "1 ms"), (10, "10 ms"), (100, "100 ms"), (1000, "1 s"), (10_000, "10 s")):
        yield line(LEFT_PX, _height(ms, bottom), WIDTH_PX - RIGHT_PX, _height(ms, bottom), "grid")
        yield text(LEFT_PX - 8, _height(ms, bottom) + 4, label, "label")
    for from_ms, to_ms, some in _buckets(calls, axis):
        times_ms = [call.ended_ms - call.begun_ms for call in some]
        slowest_ms, median_ms = max(times_ms), median(times_ms)
        x = axis.x((from_ms + to_ms) / 2)
        title = f"{from_ms / 1000:.1f} s: slowest {slowest_ms} ms, median {median_ms:.0f} ms"
        kind = "slowest" if all(call.outcome is Outcome.OK for call in some) else "failed"
        top = _height(slowest_ms, bottom)
        yield rect(x - 1.5, top, 3, bottom - top, f"c-{kind}", title)
        yield circle(x, _height(median_ms, bottom), 1.6, "c-median", title)


def _height(time_ms: float, bottom: float) -> float:
    bounded = min(max(time_ms, _LATENCY_MS_MIN), _LATENCY_MS_MAX)
    share = math.log(bounded / _LATENCY_MS_MIN) / math.log(_LATENCY_MS_MAX / _LATENCY_MS_MIN)
    return bottom - share * (_LATENCY_HEIGHT_PX - 4)
