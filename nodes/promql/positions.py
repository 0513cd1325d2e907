"""Byte offsets into a query's UTF-8 text, and the ``line:column`` that messages show for them."""

from __future__ import annotations

from itertools import accumulate

from filoray.nodes.promql.ast import Position

_ONE_BYTE, _TWO_BYTES, _THREE_BYTES = 0x80, 0x800, 0x10000


def byte_offsets(text: str) -> list[int]:
    """The byte offset of each character of ``text`` and, last, the byte length: ``len(text) + 1`` numbers."""
    widths = (
        1 if code < _ONE_BYTE else 2 if code < _TWO_BYTES else 3 if code < _THREE_BYTES else 4
        for code in map(ord, text)
    )
    return list(accumulate(widths, initial=0))


def line_and_column(query: str, offset: int) -> str:
    """``line:column``, both from 1; columns count bytes, as in Prometheus (posrange.StartPosInput)."""
    if not query:
        return "unknown position"
    before = query.encode("utf-8", "surrogatepass")
    if not 0 <= offset <= len(before):
        return "invalid position"
    before = before[:offset]
    return f"{before.count(10) + 1}:{offset - before.rfind(10)}"


def merge(first: Position, last: Position) -> Position:
    return Position(first.start, last.end)
