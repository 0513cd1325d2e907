"""A time line as SVG: a band for each thing that has states, above them what happened when.

Colours are CSS variables of the page (``page.py``); a segment says more when it is pointed at.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from filoray.cluster.simulation.report.page import Html

WIDTH_PX = 1160
_LEFT_PX = 92
_BAND_PX = 17
_BAND_GAP_PX = 5
_LANE_PX = 13
_LANES_MAX = 10
_CHARACTER_PX = 5.8
_TICKS = 12
_STEPS_MS = [base * 10**power for power in range(1, 8) for base in (1, 2, 5)]


@dataclass(frozen=True, slots=True)
class Segment:
    """``colour``: a CSS value. ``label``: shown where there is room. ``is_thin``: a line at the foot of the band."""

    from_ms: int
    to_ms: int
    colour: str
    title: str
    label: str = ""
    opacity: float = 1.0
    is_thin: bool = False


@dataclass(frozen=True, slots=True)
class Band:
    label: str
    segments: Sequence[Segment]


@dataclass(frozen=True, slots=True)
class Mark:
    at_ms: int
    label: str


def timeline(bands: Sequence[Band], marks: Sequence[Mark], end_ms: int) -> Html:
    """From 0 to ``end_ms``."""
    lanes, lane_count = _lanes(marks, end_ms)
    top = lane_count * _LANE_PX + 10
    bottom = top + len(bands) * (_BAND_PX + _BAND_GAP_PX)
    parts = [f'<svg viewBox="0 0 {WIDTH_PX} {bottom + 22}" role="img" aria-label="time line">']
    parts += _axis(end_ms, top, bottom)
    for number, band in enumerate(bands):
        y = top + number * (_BAND_PX + _BAND_GAP_PX)
        parts.append(
            f'<text class="strong" x="{_LEFT_PX - 8}" y="{y + 12}" text-anchor="end">{_text(band.label)}</text>'
        )
        parts += [_segment(segment, y, end_ms) for segment in band.segments]
    for mark, lane in zip(marks, lanes, strict=True):
        x, y = _x(mark.at_ms, end_ms), 10 + lane * _LANE_PX
        title = f"<title>{_text(f'{mark.at_ms / 1000:.2f} s: {mark.label}')}</title>"
        parts.append(f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{y - 8}" y2="{bottom}">{title}</line>')
        parts.append(f'<text x="{x + 2:.1f}" y="{y}">{_text(mark.label)}{title}</text>')
    return Html("".join([*parts, "</svg>"]))


def legend(entries: Iterable[tuple[str, str]]) -> Html:
    """``entries``: (CSS of its box, what it means)."""
    items = "".join(f'<span><i style="{style}"></i>{_text(meaning)}</span>' for style, meaning in entries)
    return Html(f'<div class="legend">{items}</div>')


def _lanes(marks: Sequence[Mark], end_ms: int) -> tuple[list[int], int]:
    """Where each mark's label goes so that none is written over another, if that is possible; and how many lanes."""
    free_x = [0.0] * _LANES_MAX
    lanes = []
    for mark in marks:
        x = _x(mark.at_ms, end_ms)
        lane = next((lane for lane in range(_LANES_MAX) if free_x[lane] <= x), free_x.index(min(free_x)))
        free_x[lane] = x + _CHARACTER_PX * len(mark.label) + 8
        lanes.append(lane)
    return lanes, max(lanes, default=0) + 1


def _axis(end_ms: int, top: int, bottom: int) -> list[str]:
    step_ms = next(step for step in _STEPS_MS if step * _TICKS >= end_ms or step == _STEPS_MS[-1])
    parts = []
    for at_ms in range(0, end_ms + 1, step_ms):
        x = _x(at_ms, end_ms)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top - 4}" y2="{bottom}"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 15}" text-anchor="middle">{at_ms / 1000:g} s</text>')
    return parts


def _segment(segment: Segment, y: int, end_ms: int) -> str:
    x, width = _x(segment.from_ms, end_ms), _width(segment.to_ms - segment.from_ms, end_ms)
    y, height = (y + _BAND_PX - 3, 3) if segment.is_thin else (y, _BAND_PX)
    rect = (
        f'<rect x="{x:.1f}" y="{y}" width="{max(width, 0.8):.1f}" height="{height}" '
        f'style="fill:{segment.colour};opacity:{segment.opacity:.2f}"><title>{_text(segment.title)}</title></rect>'
    )
    if not segment.label or width < _CHARACTER_PX * len(segment.label) + 6:
        return rect
    return f'{rect}<text class="in-band" x="{x + 4:.1f}" y="{y + 12}">{_text(segment.label)}</text>'


def _x(at_ms: int, end_ms: int) -> float:
    return _LEFT_PX + _width(at_ms, end_ms)


def _width(duration_ms: int, end_ms: int) -> float:
    return (WIDTH_PX - _LEFT_PX - 12) * duration_ms / max(1, end_ms)


def _text(text: str) -> str:
    return html.escape(text)
