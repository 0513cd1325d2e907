"""The operators: how tightly binary ones bind and what class they are of, and those of durations."""

from __future__ import annotations

from typing import Final

OR, AND, COMPARISON, ADDITIVE, MULTIPLICATIVE, POWER = range(1, 7)

PRECEDENCE: Final[dict[str, int]] = {
    "or": OR,
    "and": AND,
    "unless": AND,
    **dict.fromkeys(("==", "!=", "<=", "<", ">=", ">"), COMPARISON),
    "+": ADDITIVE,
    "-": ADDITIVE,
    **dict.fromkeys(("*", "/", "%", "atan2", "</", ">/"), MULTIPLICATIVE),
    "^": POWER,
}
"""All associate to the left, but ``^``. Unary + and - bind as tightly as ``*``: ``-1^2`` is ``-(1^2)``."""

COMPARISONS: Final = frozenset(operator for operator, level in PRECEDENCE.items() if level == COMPARISON)
SET_OPERATORS: Final = frozenset(("and", "or", "unless"))

RIGHT_ASSOCIATIVE: Final = frozenset(("^",))

DURATION_ARITHMETIC: Final = frozenset("+-*/%^")
DURATION_CONSTANTS: Final = ("step", "range")
"""Called without arguments."""
DURATION_CHOICES: Final[dict[str, str]] = {"min": "min", "max": "max", "min_of": "min", "max_of": "max"}
"""Of two durations, by how they may be written."""
WRAPPED_DURATION: Final = "()"
"""Parentheses around a number, which has no place for them."""
DURATION_OPERATORS: Final = DURATION_ARITHMETIC | {*DURATION_CONSTANTS, *DURATION_CHOICES.values(), WRAPPED_DURATION}
