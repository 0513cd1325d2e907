"""What happened, as SVG on one axis of time: what was done, and a band for each thing that has states.

Whoever makes a report adds what it has from top to bottom, and may draw more of its own over the same axis. Kinds are
classes of ``page.css``; everything says in its title what it stands for.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from filoray.cluster.report.page import Html
from filoray.cluster.report.svg import CHARACTER_PX, circle, line, rect, svg, text

WIDTH_PX = 1160
LEFT_PX = 130
RIGHT_PX = 20
_BAND_PX = 17
_BAND_PITCH_PX = 20
_PART_GAP_PX = 12
_THIN_PX = 3
_SEGMENT_PX_MIN = 2.0
_LANE_PX = 16
_LANES_MAX = 8
"""Of names above one another; more would leave no room for what they are about."""
EVENTS_LEGEND = [("m-fault", "fault"), ("m-order", "order"), ("m-remedy", "remedy")]

_TICKS = 10
_STEPS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 3600, 7200, 14_400, 36_000)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that was done. ``name``: shown where there is room, those of ``is_main`` first.

    ``is_struck``: a line goes from it through all that is below.
    """

    at_ms: int
    name: str
    kind: str
    title: str
    is_main: bool = True
    is_struck: bool = False


@dataclass(frozen=True, slots=True)
class Segment:
    """``label``: shown where there is room. ``is_thin``: a line at the foot of the band."""

    from_ms: float
    to_ms: float
    kind: str
    title: str
    label: str = ""
    opacity: float = 1.0
    is_thin: bool = False


@dataclass(frozen=True, slots=True)
class Band:
    label: str
    segments: Sequence[Segment]


class Axis:
    """From 0 to ``end_ms``."""

    def __init__(self, end_ms: int) -> None:
        self.end_ms = max(1, end_ms)

    def x(self, at_ms: float) -> float:
        return LEFT_PX + min(max(at_ms, 0), self.end_ms) / self.end_ms * (WIDTH_PX - LEFT_PX - RIGHT_PX)

    def ticks(self) -> list[tuple[int, str]]:
        """(when, how it is called)"""
        end_s = self.end_ms / 1000
        step_s = next((step for step in _STEPS_S if step * _TICKS >= end_s), _STEPS_S[-1])
        unit_s, unit = (3600, "h") if step_s >= 3600 else (60, "min") if step_s >= 60 else (1, "s")
        times_s = [index * step_s for index in range(math.floor(end_s / step_s) + 1)]
        return [(round(at_s * 1000), f"{at_s / unit_s:g} {unit}") for at_s in times_s]


class TimeChart:
    def __init__(self, end_ms: int) -> None:
        self.axis = Axis(end_ms)
        self.y = 6.0
        """Where the next part begins."""
        self._parts: list[str] = []
        self._struck_ms: list[int] = []

    def add_events(self, label: str, events: Sequence[Event]) -> None:
        """Those whose names have no room are marks in a lane of their own, which says how many they are."""
        lanes = _lanes(events, self.axis)
        used = max((lane + 1 for lane in lanes if lane is not None), default=0)
        unnamed = lanes.count(None)
        self._parts.append(text(LEFT_PX - 8, self.y + 12, label, "label"))
        for event, lane in zip(events, lanes, strict=True):
            self._parts += _drawn_event(event, self.axis, self.y + _LANE_PX * (used if lane is None else lane), lane)
        if unnamed:
            words = f"{unnamed} more, unnamed"
            self._parts.append(text(LEFT_PX - 8, self.y + _LANE_PX * used + 12, words, "label"))
        self._struck_ms += [event.at_ms for event in events if event.is_struck]
        self.y += _LANE_PX * max(1, used + (1 if unnamed else 0)) + _PART_GAP_PX

    def add_bands(self, bands: Iterable[Band], note: str = "") -> None:
        """``note``: said below them."""
        for band in bands:
            self._parts.append(text(LEFT_PX - 8, self.y + 12, band.label, "label"))
            for segment in sorted(band.segments, key=_stacking):
                self._parts += _drawn_segment(segment, self.axis, self.y)
            self.y += _BAND_PITCH_PX
        if note:
            self._parts.append(text(LEFT_PX, self.y + 12, note, "note"))
            self.y += _BAND_PITCH_PX
        self.y += _PART_GAP_PX

    def add(self, drawn: Iterable[str], height_px: float) -> None:
        """What somebody else drew from ``y`` on, over ``axis``."""
        self._parts += drawn
        self.y += height_px + _PART_GAP_PX

    def drawn(self) -> Html:
        ticks = self.axis.ticks()
        grid = [line(self.axis.x(at_ms), 4, self.axis.x(at_ms), self.y, "grid") for at_ms, _ in ticks]
        strikes = [line(self.axis.x(at_ms), 4, self.axis.x(at_ms), self.y, "strike") for at_ms in self._struck_ms]
        names = [text(self.axis.x(at_ms), self.y + 12, name, "tick") for at_ms, name in ticks]
        parts = [*grid, *strikes, *self._parts, *names]
        return Html(svg(WIDTH_PX, self.y + 20, "what happened, over time", parts))


def legend(entries: Iterable[tuple[str, str]]) -> Html:
    """``entries``: (kind, what it means); a kind of "" has no box."""
    shown = "".join(
        f"<span>{f'<i class={kind}></i>' if kind else ''}{escape(meaning)}</span>" for kind, meaning in entries
    )
    return Html(f'<div class="legend">{shown}</div>')


def _lanes(events: Sequence[Event], axis: Axis) -> list[int | None]:
    """Of each event the lane in which its name has room; None: in no lane."""
    taken: list[list[tuple[float, float]]] = [[] for _ in range(_LANES_MAX)]
    lanes: list[int | None] = [None] * len(events)
    for index in sorted(range(len(events)), key=lambda index: (not events[index].is_main, events[index].at_ms)):
        begin, end = _extent(events[index], axis)
        free = (lane for lane, spans in enumerate(taken) if all(end <= left or begin >= right for left, right in spans))
        lanes[index] = next(free, None)
        if (lane := lanes[index]) is not None:
            taken[lane].append((begin, end))
    return lanes


def _is_left(event: Event, axis: Axis) -> bool:
    """Is the name on the left of its mark, because on the right the chart ends?"""
    return axis.x(event.at_ms) + CHARACTER_PX * len(event.name) + 12 > WIDTH_PX


def _extent(event: Event, axis: Axis) -> tuple[float, float]:
    """From where to where mark and name are."""
    x, width = axis.x(event.at_ms), CHARACTER_PX * len(event.name) + 12
    return (x - width, x + 6) if _is_left(event, axis) else (x - 6, x + width)


def _drawn_event(event: Event, axis: Axis, y: float, lane: int | None) -> list[str]:
    x = axis.x(event.at_ms)
    if lane is None:
        return [circle(x, y + 8, 3, event.kind, event.title)]
    mark = circle(x, y + 8, 4, event.kind, event.title)
    if _is_left(event, axis):
        return [mark, text(x - 7, y + 12, event.name, "name left", event.title)]
    return [mark, text(x + 7, y + 12, event.name, "name", event.title)]


def _stacking(segment: Segment) -> tuple[bool, float]:
    """In which order segments are drawn: short ones are above long ones, so that a moment is seen in an hour too."""
    return segment.is_thin, segment.from_ms - segment.to_ms


def _drawn_segment(segment: Segment, axis: Axis, y: float) -> list[str]:
    x = axis.x(segment.from_ms)
    width = max(_SEGMENT_PX_MIN, axis.x(segment.to_ms) - x)
    if segment.is_thin:
        return [rect(x, y + _BAND_PX - _THIN_PX, width, _THIN_PX, segment.kind, segment.title)]
    drawn = [rect(x, y, width, _BAND_PX, segment.kind, segment.title, segment.opacity)]
    if segment.label and width > CHARACTER_PX * len(segment.label) + 14:
        drawn.append(text(x + 5, y + 12.5, segment.label, f"inside {segment.kind}"))
    return drawn
