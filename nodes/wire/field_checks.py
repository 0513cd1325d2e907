"""Checks of values that came off a wire: each gives the value back with its type known, or raises BadData.

``name`` is what the message calls the field. Values are shown shortened, as they may be anything.
"""

from __future__ import annotations

from typing import Any

from filoray.cluster.errors import BadData

INT64_MAX = (1 << 63) - 1
_SHOWN_CHARACTERS = 80


def whole_number(value: object, name: str, lowest: int, highest: int) -> int:
    """An int (no bool, no float) in the range, ends included."""
    if type(value) is not int or not lowest <= value <= highest:
        raise malformed(name, value, f"a whole number from {lowest} to {highest}")
    return value


def text(value: object, name: str, longest: int) -> str:
    """At most ``longest`` characters; they may stand for bytes that are not UTF-8."""
    if type(value) is not str or len(value) > longest:
        raise malformed(name, value, f"text of at most {longest} characters")
    return value


def unicode_text(value: object, name: str, longest: int) -> str:
    """As ``text``, and encodable as UTF-8."""
    found = text(value, name, longest)
    if not found.isascii():
        try:
            found.encode()
        except UnicodeEncodeError:
            raise malformed(name, value, "text in UTF-8") from None
    return found


def items(value: object, name: str, most: int, exactly: int | None = None) -> list[Any]:
    """An array of at most ``most`` entries, or of ``exactly`` so many."""
    if type(value) is not list or len(value) > most or (exactly is not None and len(value) != exactly):
        wanted = f"an array of {exactly}" if exactly is not None else f"an array of at most {most}"
        raise malformed(name, value, f"{wanted} entries")
    return value


def malformed(name: str, value: object, wanted: str) -> BadData:
    """The error for a field that is not what it must be."""
    if isinstance(value, list | tuple | dict | bytes | str) and len(value) > _SHOWN_CHARACTERS:
        shown = f"{type(value).__name__} of length {len(value)}"
    else:
        shown = repr(value)
    if len(shown) > _SHOWN_CHARACTERS:
        shown = shown[:_SHOWN_CHARACTERS] + "…"
    return BadData(f"a malformed data-plane message: {name} is {shown} and must be {wanted}")
