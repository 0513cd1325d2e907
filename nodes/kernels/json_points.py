"""Points of many series as JSON text, put together from the texts of their parts."""

from __future__ import annotations

from numba import njit, types

from filoray.nodes.kernels.array_types import READ_I64, READ_U8, U8

_DOT, _ZERO, _COMMA, _BRACKET = 0x2E, 0x30, 0x2C, 0x5D
_FIRST_SKIPPED = 3  # of a prefix, what ends the point before


@njit(types.int64(READ_U8, types.int64, types.int64, U8, types.int64), cache=True, nogil=True)
def _copy(source, start, end, out, at):
    for i in range(start, end):
        out[at] = source[i]
        at += 1
    return at


@njit(
    types.int64(
        READ_U8, READ_I64, READ_U8, READ_I64, READ_U8, READ_I64, READ_I64, READ_I64, READ_U8, READ_I64, U8
    ),
    cache=True, nogil=True,
)  # fmt: skip
def write_points(
    numbers, odd_points, odd_bytes, odd_ends, head_bytes, head_ends, counts, which, prefix_bytes, prefix_ends, out
):
    """Write ``head prefix value prefix value … head prefix value …``; returns the length.

    ``numbers`` uint8: a JSON list of all points' values, from which a trailing ``.0`` is left out. Point
    ``odd_points[k]`` (ascending) is written as the k-th text of ``odd_bytes`` instead, which ends at ``odd_ends[k]``.
    ``head_bytes``, ``head_ends``: the text before each series. ``counts`` int64[series] > 0: its points.
    ``which`` int64[points]: each point's prefix, which ends at ``prefix_ends[…]`` of ``prefix_bytes``; a
    series' first point leaves out three bytes of it. ``out`` is long enough for all.
    """
    at = 0
    read = 1  # behind the opening bracket
    point = 0
    odd = 0
    for series in range(len(counts)):
        at = _copy(head_bytes, head_ends[series - 1] if series else 0, head_ends[series], out, at)
        skipped = _FIRST_SKIPPED
        for _ in range(counts[series]):
            prefix = which[point]
            start = prefix_ends[prefix - 1] if prefix else 0
            at = _copy(prefix_bytes, start + skipped, prefix_ends[prefix], out, at)
            skipped = 0
            begin = at
            while numbers[read] != _COMMA and numbers[read] != _BRACKET:
                out[at] = numbers[read]
                at += 1
                read += 1
            read += 1
            if odd < len(odd_points) and odd_points[odd] == point:
                at = _copy(odd_bytes, odd_ends[odd - 1] if odd else 0, odd_ends[odd], out, begin)
                odd += 1
            elif at - begin > 2 and out[at - 2] == _DOT and out[at - 1] == _ZERO:
                at -= 2
            point += 1
    return at
