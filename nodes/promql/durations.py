"""Prometheus's durations: ``1h30m`` and back (prometheus/common model.Duration), in milliseconds."""

from __future__ import annotations

import re

from filoray.nodes.promql.quoting import quote

_MS_OF_UNIT = {
    "y": 365 * 86_400_000,
    "w": 7 * 86_400_000,
    "d": 86_400_000,
    "h": 3_600_000,
    "m": 60_000,
    "s": 1_000,
    "ms": 1,
}
_ORDER_OF_UNIT = {unit: place for place, unit in enumerate(_MS_OF_UNIT)}
_EXACT_UNITS = frozenset(("y", "w"))  # 90d reads better than 12w6d
_PART = re.compile(r"([0-9]+)([^0-9]+)")
_LOST_BY_FLOATS_MS = 1e-3
MAX_DURATION_NS = (1 << 63) - 1
NS_OF_MS = 1_000_000


def parse_duration_ms(text: str) -> int:
    """Milliseconds of ``5m``, ``1h30m`` or ``0``; ValueError with Prometheus's words for anything else."""
    if text == "0":
        return 0
    if not text:
        raise ValueError("empty duration string")
    if not text.isascii():
        raise ValueError(f"not a valid duration string: {quote(text)}")
    total_ms = 0
    end = 0
    last_order = -1
    while end < len(text):
        part = _PART.match(text, end)
        if part is None:
            raise ValueError(f"not a valid duration string: {quote(text)}")
        count, unit = part.groups()
        if unit not in _MS_OF_UNIT:
            raise ValueError(f"unknown unit {quote(unit)} in duration {quote(text)}")
        if _ORDER_OF_UNIT[unit] <= last_order:
            raise ValueError(f"not a valid duration string: {quote(text)}")
        last_order = _ORDER_OF_UNIT[unit]
        if len(count) > 20:
            raise ValueError(f"not a valid duration string: {quote(text)}")
        total_ms += int(count) * _MS_OF_UNIT[unit]
        if total_ms * NS_OF_MS > MAX_DURATION_NS:
            raise ValueError("duration out of range")
        end = part.end()
    return total_ms


def format_duration(duration_ms: int) -> str:
    """The shortest text that Prometheus prints: ``90000`` is ``1m30s``, 0 is ``0s``; a minus sign if negative."""
    if duration_ms == 0:
        return "0s"
    rest = abs(duration_ms)
    parts = ["-"] if duration_ms < 0 else []
    for unit, unit_ms in _MS_OF_UNIT.items():
        if unit in _EXACT_UNITS and rest % unit_ms:
            continue
        count, rest = divmod(rest, unit_ms)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)


def duration_ms_of_seconds(seconds: float) -> int:
    """A duration given as a number of seconds: cut to milliseconds, but for what floats lose (a microsecond)."""
    milliseconds = seconds * 1000
    nearest = round(milliseconds)
    return nearest if abs(milliseconds - nearest) < _LOST_BY_FLOATS_MS else int(milliseconds)


def duration_out_of_range(seconds: float) -> bool:
    """Whether a number of seconds is more than Go's time.Duration holds; so is NaN (of which Go makes -292 years)."""
    return not -(1 << 63) / 1e9 <= seconds <= (1 << 63) / 1e9
