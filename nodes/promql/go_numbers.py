"""Numbers in text as Go's strconv reads them, which is how Prometheus reads parameters and bucket bounds.

Python's ``int`` and ``float`` take more (spaces, digits of other scripts) and less (hexadecimal fractions).
"""

from __future__ import annotations

import math
import re

from filoray.nodes.promql.quoting import quote

# Each of them reads a text once: what comes from a request may be long.
_DIGITS = "[0-9]+(?:_[0-9]+)*"
_HEX_DIGITS = "[0-9a-f]+(?:_[0-9a-f]+)*"
_DECIMAL = re.compile(rf"[+-]?(?:{_DIGITS}(?:\.(?:{_DIGITS})?)?|\.{_DIGITS})(?:e[+-]?[0-9]+)?")
_HEXADECIMAL = re.compile(rf"[+-]?0x_?(?:{_HEX_DIGITS}(?:\.(?:{_HEX_DIGITS})?)?|\.{_HEX_DIGITS})p[+-]?[0-9]+")
_WORDS = re.compile(r"[+-]?inf(?:inity)?|nan")
_INTEGER = re.compile(r"[+-]?[0-9]+")
_INT64_DIGITS = 19
_MAX_INT64 = (1 << 63) - 1


def parse_float(text: str) -> float:
    """``1.5``, ``1e3``, ``0x1.8p3``, ``1_000``, ``+Inf``, ``NaN``. ValueError for what is no number or too large for
    a float, as Go's ParseFloat refuses both."""
    lowered = text.lower() if text.isascii() else ""
    if _DECIMAL.fullmatch(lowered):
        number = float(lowered)
    elif _HEXADECIMAL.fullmatch(lowered):
        try:
            number = float.fromhex(lowered.replace("_", ""))
        except OverflowError:
            number = math.inf
    elif _WORDS.fullmatch(lowered):
        return float(lowered)
    else:
        raise ValueError(f"strconv.ParseFloat: parsing {quote(text)}: invalid syntax")
    if math.isinf(number):
        raise ValueError(f"strconv.ParseFloat: parsing {quote(text)}: value out of range")
    return number


def parse_int64(text: str) -> int:
    """Decimal digits with an optional sign. ValueError in the words of Go's Atoi."""
    if not _INTEGER.fullmatch(text) or not text.isascii():
        raise ValueError(f"strconv.Atoi: parsing {quote(text)}: invalid syntax")
    digits = text.lstrip("+-").lstrip("0") or "0"
    number = int(digits) if len(digits) <= _INT64_DIGITS else _MAX_INT64 + 2
    number = -number if text.startswith("-") else number
    if not -_MAX_INT64 - 1 <= number <= _MAX_INT64:
        raise ValueError(f"strconv.Atoi: parsing {quote(text)}: value out of range")
    return number
