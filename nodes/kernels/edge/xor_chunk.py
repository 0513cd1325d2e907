"""Compiled encoding of Prometheus's XOR chunks, which streamed remote read answers with.

The format (https://github.com/prometheus/prometheus/blob/main/tsdb/docs/format/chunks.md), bits from the highest down:

    u16 BE sample count | ts_0 zigzag varint | v_0 64 bits | ts_1 - ts_0 uvarint | v_1 xor | (ts dod, v xor) ...

    ts dod   0 -> 0 | 10 + 14 bits | 110 + 17 bits | 1110 + 20 bits | 1111 + 64 bits; each range (-2^(n-1), 2^(n-1)]
    v xor    equal to the one before -> 0
             its set bits are within the last window -> 10 + the window's bits
             else -> 11 + 5 bits leading zeros + 6 bits window length (64 as 0) + the window's bits

Timestamps ascend, as they do in every answer of a SeriesSource. Values keep their bits, NaNs too.
"""

from __future__ import annotations

import numpy as np
from numba import njit, types

from filoray.nodes.kernels.arrays import Bytes, Ints, UInt64s

CHUNK_SAMPLES_MAX = 120
CHUNK_BYTES_MAX = 32 + CHUNK_SAMPLES_MAX * 19
"""A sample takes 68 + 77 bits at most."""

_BYTES = types.Array(types.uint8, 1, "C")
_I64S = types.Array(types.int64, 1, "C", readonly=True)
_U64S = types.Array(types.uint64, 1, "C", readonly=True)
_OFFSETS = types.Array(types.int64, 1, "C")


@njit(types.int64(_BYTES, types.int64, types.uint64, types.int64), cache=True, nogil=True)
def _write_bits(out: Bytes, at: int, bits: np.uint64, count: int) -> int:
    """The lower ``count`` bits, highest first, at bit ``at`` of ``out``, which is zero from there on; the next bit."""
    while count > 0:
        free = 8 - (at & 7)
        take = min(free, count)
        part = (bits >> types.uint64(count - take)) & types.uint64((1 << take) - 1)
        out[at >> 3] |= types.uint8(part << types.uint64(free - take))
        at += take
        count -= take
    return at


@njit(types.int64(_BYTES, types.int64, types.uint64), cache=True, nogil=True)
def _write_uvarint(out: Bytes, at: int, value: np.uint64) -> int:
    while value >= types.uint64(0x80):
        at = _write_bits(out, at, (value & types.uint64(0x7F)) | types.uint64(0x80), 8)
        value >>= types.uint64(7)
    return _write_bits(out, at, value, 8)


@njit(types.int64(types.uint64), cache=True, nogil=True)
def _leading_zeros(bits: np.uint64) -> int:
    count = 64
    while bits:
        bits >>= types.uint64(1)
        count -= 1
    return count


@njit(types.int64(types.uint64), cache=True, nogil=True)
def _trailing_zeros(bits: np.uint64) -> int:
    if not bits:
        return 64
    count = 0
    while not bits & types.uint64(1):
        bits >>= types.uint64(1)
        count += 1
    return count


@njit(types.int64(_I64S, _U64S, types.int64, types.int64, _BYTES, types.int64), cache=True, nogil=True)
def _encode_chunk(timestamps: Ints, value_bits: UInt64s, start: int, end: int, out: Bytes, first_byte: int) -> int:
    """One chunk of the samples ``start:end`` from ``first_byte`` of a zeroed ``out``; the byte after it."""
    at = _write_bits(out, first_byte << 3, types.uint64(end - start), 16)
    window_leading = -1
    window_trailing = 0
    delta = 0
    for i in range(start, end):
        if i == start:
            time = timestamps[i]
            at = _write_uvarint(out, at, types.uint64((time << 1) ^ (time >> 63)))
            at = _write_bits(out, at, value_bits[i], 64)
            continue
        next_delta = timestamps[i] - timestamps[i - 1]
        if i == start + 1:
            at = _write_uvarint(out, at, types.uint64(next_delta))
        else:
            change = next_delta - delta
            bits = types.uint64(change)
            if change == 0:
                at = _write_bits(out, at, types.uint64(0), 1)
            elif -8191 <= change <= 8192:
                at = _write_bits(out, at, types.uint64(0b10), 2)
                at = _write_bits(out, at, bits, 14)
            elif -65535 <= change <= 65536:
                at = _write_bits(out, at, types.uint64(0b110), 3)
                at = _write_bits(out, at, bits, 17)
            elif -524287 <= change <= 524288:
                at = _write_bits(out, at, types.uint64(0b1110), 4)
                at = _write_bits(out, at, bits, 20)
            else:
                at = _write_bits(out, at, types.uint64(0b1111), 4)
                at = _write_bits(out, at, bits, 64)
        delta = next_delta

        difference = value_bits[i] ^ value_bits[i - 1]
        if difference == types.uint64(0):
            at = _write_bits(out, at, types.uint64(0), 1)
            continue
        leading = min(_leading_zeros(difference), 31)
        trailing = _trailing_zeros(difference)
        if window_leading >= 0 and leading >= window_leading and trailing >= window_trailing:
            at = _write_bits(out, at, types.uint64(0b10), 2)
        else:
            window_leading = leading
            window_trailing = trailing
            at = _write_bits(out, at, types.uint64(0b11), 2)
            at = _write_bits(out, at, types.uint64(leading), 5)
            at = _write_bits(out, at, types.uint64((64 - leading - trailing) & 63), 6)
        width = 64 - window_leading - window_trailing
        at = _write_bits(out, at, difference >> types.uint64(window_trailing), width)
    return (at + 7) >> 3


@njit(types.int64(_I64S, _U64S, types.int64, types.int64, types.int64, _BYTES, _OFFSETS), cache=True, nogil=True)
def encode_xor_chunks(
    timestamps: Ints, value_bits: UInt64s, start: int, end: int, chunk_samples: int, out: Bytes, chunk_ends: Ints
) -> int:
    """The samples ``start:end`` of one series as chunks of ``chunk_samples`` each (the last may be shorter).

    timestamps  int64[], ms, ascending; ``value_bits`` uint64[]: the float64 values' bits
    out         uint8[], zeroed, room for CHUNK_BYTES_MAX a chunk; ``chunk_ends`` int64[chunks], out

    Returns the number of chunks. ``chunk_samples`` is CHUNK_SAMPLES_MAX at most.
    """
    chunks = 0
    at = 0
    while start < end:
        stop = min(start + chunk_samples, end)
        at = _encode_chunk(timestamps, value_bits, start, stop, out, at)
        chunk_ends[chunks] = at
        chunks += 1
        start = stop
    return chunks
