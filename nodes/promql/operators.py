"""The binary operators: how tightly they bind and what class they are of."""

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
