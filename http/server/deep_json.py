"""JSON of values that nest deeper than the 254 levels at which orjson gives up: syntax trees, stages of a query.

Dictionaries and lists are gone through with a stack of their own; what they hold is left to orjson.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson


def deep_json(value: Any) -> bytes:
    """The JSON of dictionaries (whose keys are text), lists and tuples of any depth, and of what orjson takes.

    Raises orjson's TypeError for anything else.
    """
    pieces: list[bytes] = []
    # What is under way: the values (and, of dictionaries, keys) still to come, and what closes it.
    under_way: list[tuple[Iterator[Any], bool, bytes]] = []
    _open(value, pieces, under_way)
    while under_way:
        rest, is_dict, closing = under_way[-1]
        entry: Any = next(rest, _END)
        if entry is _END:
            pieces.append(closing)
            under_way.pop()
            continue
        if pieces[-1] not in _OPENING:
            pieces.append(b",")
        if is_dict:
            key, entry = entry
            pieces.append(orjson.dumps(key) + b":")
        _open(entry, pieces, under_way)
    return b"".join(pieces)


_END = object()
_OPENING = (b"{", b"[")


def _open(value: Any, pieces: list[bytes], under_way: list[tuple[Iterator[Any], bool, bytes]]) -> None:
    if isinstance(value, dict) and value:
        pieces.append(b"{")
        under_way.append((iter(value.items()), True, b"}"))
    elif isinstance(value, list | tuple) and value:
        pieces.append(b"[")
        under_way.append((iter(value), False, b"]"))
    else:
        pieces.append(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY))
