"""The numbers of PromQL text: what Go's ParseInt (base 0) and then ParseFloat make of a NUMBER token."""

from __future__ import annotations

import math

from filoray.nodes.promql.quoting import quote

_INT64_MAX = (1 << 63) - 1


def parse_number(text: str) -> float:
    """``0x1F``, ``0755`` (octal!), ``1_000``, ``.5``, ``1e3``, ``Inf``; ValueError in Go's words otherwise."""
    lowered = text.lower()
    try:
        integer = _parse_integer(lowered)
        if integer <= _INT64_MAX:
            return float(integer)
    except ValueError:
        pass
    try:
        number = float(lowered)
    except ValueError:
        raise ValueError(f"strconv.ParseFloat: parsing {quote(text)}: invalid syntax") from None
    if math.isinf(number) and lowered != "inf":
        raise ValueError(f"strconv.ParseFloat: parsing {quote(text)}: value out of range")
    return number


def _parse_integer(text: str) -> int:
    if text.startswith("0") and len(text) > 1 and text[1] in "01234567_":
        return int(text, 8)
    return int(text, 0)
