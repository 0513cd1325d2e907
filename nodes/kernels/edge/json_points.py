"""Points of many series as JSON text, put together from the texts of their parts."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit, types

from filoray.nodes.kernels.array_types import READ_I64, READ_U8, U8
from filoray.nodes.kernels.arrays import Bytes, Ints
from filoray.nodes.kernels.record_type import record_type

_DOT, _ZERO, _COMMA, _BRACKET = 0x2E, 0x30, 0x2C, 0x5D
_FIRST_SKIPPED = 3  # of a prefix, what ends the point before


class JoinedTexts(NamedTuple):
    """Texts in a row: ``data`` uint8[bytes], and where each ends: ``ends`` int64[texts]."""

    data: Bytes
    ends: Ints


TEXTS = record_type(JoinedTexts, READ_U8, READ_I64)


# Indices are unsigned: numba looks whether a signed one counts from the end, at every byte (measured: four times the
# time).
@njit(types.uint64(READ_U8, types.uint64, types.uint64, U8, types.uint64), cache=True, nogil=True)
def _copy(source: Bytes, start: np.uint64, end: np.uint64, out: Bytes, at: np.uint64) -> np.uint64:
    for i in range(end - start):
        out[at + np.uint64(i)] = source[start + np.uint64(i)]
    return at + (end - start)


@njit(types.uint64(READ_I64, types.int64), cache=True, nogil=True)
def _start(ends: Ints, which: int) -> np.uint64:
    return np.uint64(ends[which - 1] if which else 0)


@njit(types.int64(READ_U8, READ_I64, TEXTS, TEXTS, READ_I64, READ_I64, TEXTS, U8), cache=True, nogil=True)
def write_points(
    numbers: Bytes,
    odd_points: Ints,
    odd_texts: JoinedTexts,
    heads: JoinedTexts,
    counts: Ints,
    which: Ints,
    prefixes: JoinedTexts,
    out: Bytes,
) -> int:
    """Write ``head prefix value prefix value … head prefix value …``; returns the length.

    ``numbers`` uint8: a JSON list of all points' values, from which a trailing ``.0`` is left out. Point
    ``odd_points[k]`` (ascending) is written as the k-th of the ``odd_texts`` instead. ``heads``: the text before each
    series. ``counts`` int64[series] > 0: its points. ``which`` int64[points]: which of the ``prefixes`` each point has;
    a series' first point leaves out three bytes of it. ``out`` is long enough for all.
    """
    odd_bytes, odd_ends = odd_texts
    head_bytes, head_ends = heads
    prefix_bytes, prefix_ends = prefixes
    one, two = np.uint64(1), np.uint64(2)
    at = np.uint64(0)
    read = one  # behind the opening bracket
    point = 0
    odd = 0
    for series in range(len(counts)):
        at = _copy(head_bytes, _start(head_ends, series), np.uint64(head_ends[series]), out, at)
        skipped = np.uint64(_FIRST_SKIPPED)
        for _ in range(counts[series]):
            prefix = which[point]
            start = _start(prefix_ends, prefix) + skipped
            at = _copy(prefix_bytes, start, np.uint64(prefix_ends[prefix]), out, at)
            skipped = np.uint64(0)
            begin = at
            byte = numbers[read]
            while byte != _COMMA and byte != _BRACKET:
                out[at] = byte
                at += one
                read += one
                byte = numbers[read]
            read += one
            if odd < len(odd_points) and odd_points[odd] == point:
                at = _copy(odd_bytes, _start(odd_ends, odd), np.uint64(odd_ends[odd]), out, begin)
                odd += 1
            elif at - begin > two and out[at - two] == _DOT and out[at - one] == _ZERO:
                at -= two
            point += 1
    return np.int64(at)  # type: ignore[return-value]  # what comes out of a kernel is an int
