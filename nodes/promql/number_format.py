"""Floats as Go prints them: with as many digits as bring the same float back, and Go's exponents.

The HTTP API prints sample values with ``format_value`` (Prometheus's util/jsonutil.MarshalFloat: plain digits,
but an exponent below 1e-6 and from 1e21 on). ``format_float_f`` (``strconv.FormatFloat(v, 'f', -1, 64)``) makes
count_values' labels and number literals in PromQL text; ``format_float_g`` (``%v`` and ``%g``) is for messages.
"""

from __future__ import annotations

import math

_PLAIN_MIN, _PLAIN_END = 1e-6, 1e21
_G_EXPONENT_MIN, _G_EXPONENT_END = -4, 6


def format_value(value: float) -> str:
    """A sample value in an API answer: ``1000000``, ``1e-07``, ``1e+21``, ``+Inf``, ``NaN``."""
    magnitude = abs(value)
    if magnitude == 0 or _PLAIN_MIN <= magnitude < _PLAIN_END or not math.isfinite(value):
        return format_float_f(value)
    return format_float_e(value)


def format_float_f(value: float) -> str:
    """No exponent, ever: ``1e300`` has 301 digits."""
    if not math.isfinite(value):
        return _not_finite(value)
    sign, digits, exponent = _decimal(value)
    point = exponent + 1  # digits before the decimal point
    if point <= 0:
        return f"{sign}0.{'0' * -point}{digits}" if digits != "0" else f"{sign}0"
    if point >= len(digits):
        return f"{sign}{digits}{'0' * (point - len(digits))}"
    return f"{sign}{digits[:point]}.{digits[point:]}"


def format_float_e(value: float) -> str:
    """``1.5e-07``: an exponent of at least two digits."""
    if not math.isfinite(value):
        return _not_finite(value)
    sign, digits, exponent = _decimal(value)
    fraction = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{fraction}e{exponent:+03d}"


def format_float_g(value: float) -> str:
    """The shorter way: an exponent below 1e-4 and from 1e6 on, as ``%v`` and ``'g'`` with precision -1 print it."""
    if not math.isfinite(value):
        return _not_finite(value)
    exponent = _decimal(value)[2]
    if exponent < _G_EXPONENT_MIN or exponent >= _G_EXPONENT_END:
        return format_float_e(value)
    return format_float_f(value)


def _not_finite(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return "+Inf" if value > 0 else "-Inf"


def _decimal(value: float) -> tuple[str, str, int]:
    """Sign, shortest digits without trailing zeros, and the decimal exponent of the first digit."""
    mantissa, _, exponent_text = repr(abs(value)).partition("e")
    exponent = int(exponent_text or 0)
    whole, _, fraction = mantissa.partition(".")
    digits = whole + fraction
    stripped = digits.lstrip("0")
    leading = len(digits) - len(stripped)
    stripped = stripped.rstrip("0")
    sign = "-" if math.copysign(1, value) < 0 else ""
    if not stripped:
        return sign, "0", 0
    return sign, stripped, exponent + len(whole) - 1 - leading
