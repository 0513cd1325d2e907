"""Durations and sizes as FiloDB's configuration files write them, and the plain values of a parsed configuration.

The rules are those of Typesafe Config (https://github.com/lightbend/config/blob/main/HOCON.md, "Duration format",
"Size in bytes format"): a number without a unit is milliseconds or bytes, ``MB`` is 10^6 and ``MiB``, ``M``, ``m``
are 2^20. Nothing here knows which key it reads; ``filoray.cluster.config.config_section`` adds key and place to errors.
"""

from __future__ import annotations

import re
from typing import TypeAlias

PlainValue: TypeAlias = "str | int | float | bool | list[PlainValue] | dict[str, PlainValue] | None"
"""What a configuration holds once parsed: JSON's types and no others."""

_FORM = re.compile(
    r"\s*(?P<number>[+-]?(?:[0-9]{1,40}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})(?:[eE][+-]?[0-9]{1,3})?)\s*(?P<unit>[A-Za-zµ]*)\s*"
)

_MS_BY_UNIT: dict[str, float] = {
    unit: ms
    for ms, units in (
        (1e-6, ("ns", "nano", "nanos", "nanosecond", "nanoseconds")),
        (1e-3, ("us", "µs", "micro", "micros", "microsecond", "microseconds")),
        (1.0, ("", "ms", "milli", "millis", "millisecond", "milliseconds")),
        (1e3, ("s", "second", "seconds")),
        (60e3, ("m", "minute", "minutes")),
        (3600e3, ("h", "hour", "hours")),
        (86400e3, ("d", "day", "days")),
        (7 * 86400e3, ("w", "week", "weeks")),
    )
    for unit in units
}

_BYTES_BY_UNIT: dict[str, int] = {"": 1, "B": 1, "b": 1, "byte": 1, "bytes": 1}
_SIZE_NAMES = (
    ("K", "kilo", "kibi"),
    ("M", "mega", "mebi"),
    ("G", "giga", "gibi"),
    ("T", "tera", "tebi"),
    ("P", "peta", "pebi"),
    ("E", "exa", "exbi"),
    ("Z", "zetta", "zebi"),
    ("Y", "yotta", "yobi"),
)
for _power, (_letter, _decimal, _binary) in enumerate(_SIZE_NAMES, start=1):
    for _unit in ("kB" if _letter == "K" else f"{_letter}B", f"{_decimal}byte", f"{_decimal}bytes"):
        _BYTES_BY_UNIT[_unit] = 1000**_power
    for _unit in (_letter, _letter.lower(), f"{_letter}i", f"{_letter}iB", f"{_binary}byte", f"{_binary}bytes"):
        _BYTES_BY_UNIT[_unit] = 1024**_power
_BYTES_BY_UNIT["KB"] = 1000  # Typesafe Config knows only kB; FiloDB's users write KB as well

_INT64_MAX = 2**63 - 1


def parse_duration_ms(value: PlainValue) -> int:
    """Milliseconds of ``1h``, ``24 hours``, ``500ms``, ``"2 minutes"`` or a bare number of milliseconds.

    Raises ValueError that says what would be right.
    """
    number, unit = _split(value, "a duration such as 500ms, 30s, 5 minutes, 1h or 7 days")
    factor = _MS_BY_UNIT.get(unit)
    if factor is None:
        raise ValueError(f"{value!r} has the unknown unit {unit!r}; use ms, s, m (minutes), h, d or w")
    return _bounded(number * factor, value)


def parse_size_bytes(value: PlainValue) -> int:
    """Bytes of ``512MB`` (10^6), ``64 MiB``, ``1G`` (2^30) or a bare number of bytes. Raises ValueError."""
    number, unit = _split(value, "a size such as 65536, 512kB, 50 MB, 64MiB or 1G")
    factor = _BYTES_BY_UNIT.get(unit)
    if factor is None:
        raise ValueError(
            f"{value!r} has the unknown unit {unit!r}; use B, kB, MB, GB, TB, PB, EB or KiB, MiB, GiB, TiB, PiB, EiB"
        )
    return _bounded(number * factor, value)


def _split(value: PlainValue, form: str) -> tuple[int | float, str]:
    match = (
        _FORM.fullmatch(str(value)) if isinstance(value, str | int | float) and not isinstance(value, bool) else None
    )
    if match is None:
        raise ValueError(f"{value!r} is not {form}")
    text = match["number"]
    number: int | float = int(text) if text.lstrip("+-").isdigit() else float(text)
    if number < 0:
        raise ValueError(f"{value!r} is negative; write {form}")
    return number, match["unit"]


def _bounded(number: int | float, value: PlainValue) -> int:
    if number > _INT64_MAX:  # also infinity, which int() would refuse
        raise ValueError(f"{value!r} is too large")
    return round(number)
