"""JSON of values that nest deeper than the 254 levels at which orjson gives up: syntax trees, stages of a query.

Dictionaries and lists are gone through with a stack of their own; what they hold is left to orjson.
"""

from __future__ import annotations

from collections.abc import Iterator

import orjson


def deep_json(value: object) -> bytes:
    """The JSON of dictionaries (whose keys are text), lists and tuples of any depth, and of what orjson takes.

    Raises orjson's TypeError for anything else.
    """
    pieces: list[bytes] = []
    # What is under way: the values still to come, each with its key if it has one, and what closes them.
    under_way: list[tuple[Iterator[tuple[bytes, object]], bytes]] = []
    _open(value, pieces, under_way)
    while under_way:
        rest, closing = under_way[-1]
        entry = next(rest, None)
        if entry is None:
            pieces.append(closing)
            under_way.pop()
            continue
        if pieces[-1] not in _OPENING:
            pieces.append(b",")
        key, inner = entry
        if key:
            pieces.append(key)
        _open(inner, pieces, under_way)
    return b"".join(pieces)


_OPENING = (b"{", b"[")


def _open(value: object, pieces: list[bytes], under_way: list[tuple[Iterator[tuple[bytes, object]], bytes]]) -> None:
    if isinstance(value, dict) and value:
        pieces.append(b"{")
        under_way.append((((orjson.dumps(key) + b":", inner) for key, inner in value.items()), b"}"))
    elif isinstance(value, list | tuple) and value:
        pieces.append(b"[")
        under_way.append((((b"", inner) for inner in value), b"]"))
    else:
        pieces.append(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY))
