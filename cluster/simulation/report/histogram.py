"""How often something took how long, as SVG: columns over times that grow by steps of 1, 2 and 5."""

from __future__ import annotations

import html
from bisect import bisect_right
from collections import Counter

from filoray.cluster.simulation.report.page import Html

_WIDTH_PX = 1160
_HEIGHT_PX = 170
_FOOT_PX = 20
_HEAD_PX = 18
_BOUNDS_MS = [0, *(base * 10**power for power in range(1, 6) for base in (1, 2, 5))]


def histogram(lengths_ms: Counter[int]) -> Html:
    columns = _columns(lengths_ms)
    most = max((count for _, count in columns), default=1)
    pitch = _WIDTH_PX / max(1, len(columns))
    parts = [f'<svg viewBox="0 0 {_WIDTH_PX} {_HEIGHT_PX}" role="img" aria-label="histogram">']
    for number, (label, count) in enumerate(columns):
        x, middle = number * pitch, (number + 0.5) * pitch
        height = (_HEIGHT_PX - _FOOT_PX - _HEAD_PX) * count / most
        top = _HEIGHT_PX - _FOOT_PX - height
        title = f"<title>{html.escape(f'{label}: {count:,}')}</title>"
        parts.append(
            f'<rect class="column" x="{x + 4:.1f}" y="{top:.1f}" width="{pitch - 8:.1f}" height="{height:.1f}" rx="2">'
            f"{title}</rect>"
        )
        parts.append(f'<text class="strong" x="{middle:.1f}" y="{top - 4:.1f}" text-anchor="middle">{count:,}</text>')
        parts.append(f'<text x="{middle:.1f}" y="{_HEIGHT_PX - 5}" text-anchor="middle">{html.escape(label)}</text>')
    return Html("".join([*parts, "</svg>"]))


def _columns(lengths_ms: Counter[int]) -> list[tuple[str, int]]:
    """From the first that has any to the last."""
    counts = [0] * len(_BOUNDS_MS)
    for length_ms, count in lengths_ms.items():
        counts[bisect_right(_BOUNDS_MS, length_ms) - 1] += count
    filled = [number for number, count in enumerate(counts) if count]
    if not filled:
        return []
    return [(_label(number), counts[number]) for number in range(filled[0], filled[-1] + 1)]


def _label(number: int) -> str:
    if number + 1 == len(_BOUNDS_MS):
        return f"≥ {_time(_BOUNDS_MS[number])}"
    return f"< {_time(_BOUNDS_MS[number + 1])}"


def _time(length_ms: int) -> str:
    return f"{length_ms} ms" if length_ms < 1000 else f"{length_ms / 1000:g} s"
