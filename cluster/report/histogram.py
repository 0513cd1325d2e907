"""How often something took how long, as SVG: columns over times that grow by steps of 1, 2 and 5."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter

from filoray.cluster.report.page import Html
from filoray.cluster.report.svg import rect, svg, text

_WIDTH_PX = 1160
_HEIGHT_PX = 170
_FOOT_PX = 20
_HEAD_PX = 18
_BOUNDS_MS = [0, *(base * 10**power for power in range(1, 6) for base in (1, 2, 5))]


def histogram(lengths_ms: Counter[int]) -> Html:
    columns = _columns(lengths_ms)
    most = max((count for _, count in columns), default=1)
    pitch = _WIDTH_PX / max(1, len(columns))
    parts = []
    for number, (label, count) in enumerate(columns):
        x, middle = number * pitch, (number + 0.5) * pitch
        height = (_HEIGHT_PX - _FOOT_PX - _HEAD_PX) * count / most
        top = _HEIGHT_PX - _FOOT_PX - height
        parts.append(rect(x + 4, top, pitch - 8, height, "column", f"{label}: {count:,}"))
        parts.append(text(middle, top - 4, f"{count:,}", "count"))
        parts.append(text(middle, _HEIGHT_PX - 5, label, "tick"))
    return Html(svg(_WIDTH_PX, _HEIGHT_PX, "histogram", parts))


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
