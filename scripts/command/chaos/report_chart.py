"""The chart of a report, as SVG: faults, a band per shard, and what clients met, all on one axis of time.

Colours are the page's CSS variables. Every mark says in its title (what a browser shows where the pointer rests) what
it stands for.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from statistics import median

from filoray.cluster.chaos.operations import Outcome
from filoray.cluster.chaos.timeline import Call, Mark, MarkKind, StatusSeen, Timeline
from filoray.cluster.control.shard_status import OWNED, StatusKind

_WIDTH, _LEFT, _RIGHT = 1160, 130, 12
_BAND, _GAP = 17, 3
_LATENCY_HEIGHT = 96
_LATENCY_MS_MIN, _LATENCY_MS_MAX = 1.0, 30_000.0
_BUCKETS_MAX = 240
_BUCKET_MS_MIN = 300
"""So that each has calls of clients that go on."""
_SHARDS_MAX = 64
_TICKS = 10
_MARK_ROWS = 6
_LABEL_WIDTH = 44
_NICE_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 3600, 7200)


@dataclass(frozen=True, slots=True)
class Segment:
    begun_ms: int
    ended_ms: int
    status: StatusKind
    node: str


def segments(seen: Iterable[StatusSeen], end_ms: int) -> list[Segment]:
    """Of one shard. A status whose owner is not known belongs to the owner that is told with it next."""
    found: list[Segment] = []
    for one in sorted(seen, key=lambda one: one.at_ms):
        node = one.node if one.status in OWNED else ""
        last = found[-1] if found else None
        if last is not None and last.status is one.status and (not last.node or not node or last.node == node):
            found[-1] = Segment(last.begun_ms, end_ms, last.status, node or last.node)
            continue
        if last is not None:
            found[-1] = Segment(last.begun_ms, one.at_ms, last.status, last.node)
        found.append(Segment(one.at_ms, end_ms, one.status, node))
    return found


class _Axis:
    def __init__(self, end_ms: int) -> None:
        self.end_ms = max(1, end_ms)

    def x(self, at_ms: float) -> float:
        return _LEFT + min(max(at_ms, 0), self.end_ms) / self.end_ms * (_WIDTH - _LEFT - _RIGHT)

    @property
    def buckets(self) -> int:
        return max(1, min(_BUCKETS_MAX, self.end_ms // _BUCKET_MS_MIN))

    def ticks_ms(self) -> list[int]:
        wanted_s = self.end_ms / 1000 / _TICKS
        step_s = next((step for step in _NICE_S if step >= wanted_s), _NICE_S[-1])
        return [round(index * step_s * 1000) for index in range(math.floor(self.end_ms / 1000 / step_s) + 1)]


def chart(timeline: Timeline) -> str:
    axis = _Axis(timeline.end_ms)
    parts: list[str] = []
    y = 6.0
    for draw in (_faults, _shards, _clients):
        drawn, y = draw(timeline, axis, y)
        parts += drawn
        y += 12
    grid = [_line(axis.x(at_ms), 4, axis.x(at_ms), y, "grid") for at_ms in axis.ticks_ms()]
    labels = [_text(axis.x(at_ms), y + 12, f"{at_ms / 1000:g} s", "tick") for at_ms in axis.ticks_ms()]
    strikes = [
        _line(axis.x(mark.begun_ms), 4, axis.x(mark.begun_ms), y, "strike")
        for mark in timeline.marks
        if mark.kind is MarkKind.FAULT and not mark.remark
    ]
    height = y + 20
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height:.0f}" role="img" aria-label="what happened, over time">'
        + "".join((*grid, *strikes, *parts, *labels))
        + "</svg>"
    )


# ---- what was done


def _faults(timeline: Timeline, axis: _Axis, y: float) -> tuple[list[str], float]:
    shown = [mark for mark in timeline.marks if mark.kind is not MarkKind.EXPECTATION or mark.is_failure]
    drawn = [_text(_LEFT - 8, y + 12, "done to it", "label")]
    rows_end = [-math.inf] * _MARK_ROWS
    deepest = 0
    for mark in shown:
        x = axis.x(mark.begun_ms)
        width = 6.2 * len(mark.text) + 12
        is_left = x + width > _WIDTH
        row = next((row for row, end in enumerate(rows_end) if end <= (x - width if is_left else x)), None)
        place = _MARK_ROWS if row is None else row  # the last row has what there is no room to name
        deepest = max(deepest, place)
        top = y + place * 16
        kind = "failed" if mark.is_failure else "undone" if mark.remark else mark.kind.value
        drawn.append(f'<circle cx="{x:.1f}" cy="{top + 8:.1f}" r="4" class="m-{kind}">{_title(_words(mark))}</circle>')
        if row is not None:
            rows_end[row] = x + 6 if is_left else x + width
            drawn.append(_text(x - 7 if is_left else x + 7, top + 12, mark.text, "mark left" if is_left else "mark"))
    return drawn, y + 16 * (deepest + 1)


def _words(mark: Mark) -> str:
    return f"{mark.begun_ms / 1000:.3f} s, line {mark.line}: {mark.text}" + (f" ({mark.remark})" if mark.remark else "")


# ---- shards


def _shards(timeline: Timeline, axis: _Axis, y: float) -> tuple[list[str], float]:
    by_shard: dict[tuple[str, int], list[StatusSeen]] = {}
    for seen in timeline.statuses:
        by_shard.setdefault((seen.dataset, seen.shard), []).append(seen)
    drawn: list[str] = []
    for (dataset, shard), changes in sorted(by_shard.items())[:_SHARDS_MAX]:
        drawn.append(_text(_LEFT - 8, y + 12, f"{dataset[:14]} {shard}", "label"))
        for segment in segments(changes, timeline.end_ms):
            drawn += _segment(segment, axis, y)
        y += _BAND + _GAP
    if len(by_shard) > _SHARDS_MAX:
        drawn.append(_text(_LEFT, y + 12, f"{len(by_shard) - _SHARDS_MAX} shards more are not shown", "mark"))
        y += _BAND
    return drawn, y


def _segment(segment: Segment, axis: _Axis, y: float) -> Iterator[str]:
    x, width = axis.x(segment.begun_ms), max(0.8, axis.x(segment.ended_ms) - axis.x(segment.begun_ms))
    status = segment.status.value.removeprefix("ShardStatus")
    told = f"{segment.begun_ms / 1000:.3f} to {segment.ended_ms / 1000:.3f} s: {status}" + (
        f" at {segment.node}" if segment.node else ""
    )
    yield (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{_BAND}" class="s-{status.lower()}">'
        f"{_title(told)}</rect>"
    )
    if width > _LABEL_WIDTH:
        yield _text(x + 5, y + 12.5, segment.node or status, "inside")


# ---- clients


def _clients(timeline: Timeline, axis: _Axis, y: float) -> tuple[list[str], float]:
    drawn: list[str] = []
    for name, is_write in (("writes", True), ("queries", False)):
        calls = [call for call in timeline.calls if call.is_write is is_write and call.client != "last reader"]
        if calls:
            drawn += _availability(name, calls, axis, y)
            drawn += _latency(calls, axis, y + _BAND + _GAP)
            y += _BAND + _GAP + _LATENCY_HEIGHT + 14
    return drawn, y


def _buckets(calls: Sequence[Call], axis: _Axis) -> list[list[Call]]:
    """By when they began."""
    count = axis.buckets
    found: list[list[Call]] = [[] for _ in range(count)]
    for call in calls:
        found[min(count - 1, call.begun_ms * count // axis.end_ms)].append(call)
    return found


def _availability(name: str, calls: Sequence[Call], axis: _Axis, y: float) -> Iterator[str]:
    yield _text(_LEFT - 8, y + 12, f"{name} ok", "label")
    for index, some in enumerate(_buckets(calls, axis)):
        if not some:
            continue
        good = sum(call.outcome is Outcome.OK for call in some)
        kind = "all" if good == len(some) else "none" if good == 0 else "some"
        begun_ms, ended_ms = (axis.end_ms * (index + step) / axis.buckets for step in (0, 1))
        told = f"{begun_ms / 1000:.1f} s: {good} of {len(some)} {name} ok"
        yield (
            f'<rect x="{axis.x(begun_ms):.1f}" y="{y:.1f}" width="{axis.x(ended_ms) - axis.x(begun_ms):.2f}" '
            f'height="{_BAND}" class="a-{kind}">{_title(told)}</rect>'
        )


def _latency(calls: Sequence[Call], axis: _Axis, y: float) -> Iterator[str]:
    """On a logarithmic scale: the slowest of each moment as a bar, their median as a dot."""
    bottom = y + _LATENCY_HEIGHT
    for ms, label in ((1, "1 ms"), (10, "10 ms"), (100, "100 ms"), (1000, "1 s"), (10_000, "10 s")):
        yield _line(_LEFT, _height(ms, bottom), _WIDTH - _RIGHT, _height(ms, bottom), "grid")
        yield _text(_LEFT - 8, _height(ms, bottom) + 4, label, "label")
    for index, some in enumerate(_buckets(calls, axis)):
        if not some:
            continue
        times_ms = [call.ended_ms - call.begun_ms for call in some]
        slowest, middle = max(times_ms), median(times_ms)
        x = axis.x(axis.end_ms * (index + 0.5) / axis.buckets)
        told = f"{axis.end_ms * index / axis.buckets / 1000:.1f} s: slowest {slowest} ms, median {middle:.0f} ms"
        kind = "ok" if all(call.outcome is Outcome.OK for call in some) else "bad"
        top = _height(slowest, bottom)
        yield (
            f'<rect x="{x - 1.5:.1f}" y="{top:.1f}" width="3" height="{bottom - top:.1f}" class="l-{kind}">'
            f"{_title(told)}</rect>"
        )
        yield f'<circle cx="{x:.1f}" cy="{_height(middle, bottom):.1f}" r="1.6" class="l-median"/>'


def _height(time_ms: float, bottom: float) -> float:
    bounded = min(max(time_ms, _LATENCY_MS_MIN), _LATENCY_MS_MAX)
    share = math.log(bounded / _LATENCY_MS_MIN) / math.log(_LATENCY_MS_MAX / _LATENCY_MS_MIN)
    return bottom - share * (_LATENCY_HEIGHT - 4)


# ---- SVG


def _title(text: str) -> str:
    return f"<title>{escape(text)}</title>"


def _text(x: float, y: float, text: str, kind: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}">{escape(text)}</text>'


def _line(x: float, y: float, to_x: float, to_y: float, kind: str) -> str:
    return f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}" class="{kind}"/>'
