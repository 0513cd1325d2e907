"""Compiled hashes: keyed SipHash-1-3 with a 128-bit result, and CRC-32C.

SipHash recognises bytes that come from outside, such as a series' labels as an agent wrote them. With a
secret key nobody can make up two inputs that collide, which the fast unkeyed hashes do not promise;
an unnoticed collision would put one series' samples into another. Described in
https://www.aumasson.jp/siphash/siphash.pdf; the 128-bit form is that of the authors' reference code.

CRC-32C (Castagnoli, as in RFC 3720) frames the chunks of Prometheus's streamed remote read. zlib has
another polynomial, and a package for this one function would be one more wheel to ship.

Part keys are hashed with xxh3 instead (``filoray.nodes.data.part_key``): those hashes are stored, and every
process must get the same.
"""

from __future__ import annotations

import numpy as np
from numba import njit, types

from filoray.nodes.kernels.arrays import Bytes

BYTES = types.Array(types.uint8, 1, "C")
READ_ONLY_BYTES = types.Array(types.uint8, 1, "C", readonly=True)

_U64_PAIR = types.UniTuple(types.uint64, 2)  # type: ignore[no-untyped-call]  # numba's own
_U64_STATE = types.UniTuple(types.uint64, 4)  # type: ignore[no-untyped-call]  # numba's own

_INITIAL_0 = np.uint64(0x736F6D6570736575)
_INITIAL_1 = np.uint64(0x646F72616E646F6D)
_INITIAL_2 = np.uint64(0x6C7967656E657261)
_INITIAL_3 = np.uint64(0x7465646279746573)
_FINAL_FIRST = np.uint64(0xEE)
_FINAL_SECOND = np.uint64(0xDD)
_R13, _R16, _R17, _R21, _R32 = (np.uint64(bits) for bits in (13, 16, 17, 21, 32))
_R51, _R48, _R47, _R43 = (np.uint64(64 - bits) for bits in (13, 16, 17, 21))
_8, _16, _24, _40, _48, _56 = (np.uint64(bits) for bits in (8, 16, 24, 40, 48, 56))


@njit(types.uint64(BYTES, types.int64), cache=True, nogil=True)
def load_u64(data: Bytes, position: int) -> np.uint64:
    """The 8 little-endian bytes at ``position``, which the caller knows to be there."""
    return (
        np.uint64(data[position])
        | (np.uint64(data[position + 1]) << _8)
        | (np.uint64(data[position + 2]) << _16)
        | (np.uint64(data[position + 3]) << _24)
        | (np.uint64(data[position + 4]) << _R32)
        | (np.uint64(data[position + 5]) << _40)
        | (np.uint64(data[position + 6]) << _48)
        | (np.uint64(data[position + 7]) << _56)
    )


@njit(_U64_STATE(types.uint64, types.uint64, types.uint64, types.uint64), cache=True, nogil=True)
def _sip_round(
    v0: np.uint64, v1: np.uint64, v2: np.uint64, v3: np.uint64
) -> tuple[np.uint64, np.uint64, np.uint64, np.uint64]:
    v0 = v0 + v1
    v1 = ((v1 << _R13) | (v1 >> _R51)) ^ v0
    v0 = (v0 << _R32) | (v0 >> _R32)
    v2 = v2 + v3
    v3 = ((v3 << _R16) | (v3 >> _R48)) ^ v2
    v0 = v0 + v3
    v3 = ((v3 << _R21) | (v3 >> _R43)) ^ v0
    v2 = v2 + v1
    v1 = ((v1 << _R17) | (v1 >> _R47)) ^ v2
    v2 = (v2 << _R32) | (v2 >> _R32)
    return v0, v1, v2, v3


@njit(_U64_PAIR(BYTES, types.int64, types.int64, types.uint64, types.uint64), cache=True, nogil=True)
def siphash13_128(data: Bytes, start: int, end: int, key_0: np.uint64, key_1: np.uint64) -> tuple[np.uint64, np.uint64]:
    """(first, second) uint64 of SipHash-1-3-128 of ``data[start:end]`` under the 128-bit key."""
    v0 = _INITIAL_0 ^ key_0
    v1 = _INITIAL_1 ^ key_1 ^ _FINAL_FIRST
    v2 = _INITIAL_2 ^ key_0
    v3 = _INITIAL_3 ^ key_1
    position = start
    whole_end = start + ((end - start) & ~7)
    while position < whole_end:
        word = load_u64(data, position)
        v3 ^= word
        v0, v1, v2, v3 = _sip_round(v0, v1, v2, v3)
        v0 ^= word
        position += 8
    word = np.uint64(end - start) << _56
    shift = np.uint64(0)
    while position < end:
        word |= np.uint64(data[position]) << shift
        shift += _8
        position += 1
    v3 ^= word
    v0, v1, v2, v3 = _sip_round(v0, v1, v2, v3)
    v0 ^= word
    v2 ^= _FINAL_FIRST
    for _ in range(3):
        v0, v1, v2, v3 = _sip_round(v0, v1, v2, v3)
    first = v0 ^ v1 ^ v2 ^ v3
    v1 ^= _FINAL_SECOND
    for _ in range(3):
        v0, v1, v2, v3 = _sip_round(v0, v1, v2, v3)
    return first, v0 ^ v1 ^ v2 ^ v3


def _crc32c_tables() -> np.ndarray:
    """uint32[8, 256]: the tables of the slicing-by-8 method."""
    polynomial = np.uint32(0x82F63B78)
    tables = np.zeros((8, 256), np.uint32)
    tables[0] = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        tables[0] = np.where(tables[0] & 1, (tables[0] >> 1) ^ polynomial, tables[0] >> 1)
    for row in range(1, 8):
        tables[row] = (tables[row - 1] >> 8) ^ tables[0][tables[row - 1] & 0xFF]
    return tables


_CRC32C = _crc32c_tables()


@njit(types.uint32(READ_ONLY_BYTES), cache=True, nogil=True)
def crc32c(data: Bytes) -> int:
    """CRC-32C of all bytes."""
    crc = np.uint32(0xFFFFFFFF)
    position = 0
    whole_end = len(data) - 7
    while position < whole_end:
        low = crc ^ (
            np.uint32(data[position])
            | np.uint32(data[position + 1]) << np.uint32(8)
            | np.uint32(data[position + 2]) << np.uint32(16)
            | np.uint32(data[position + 3]) << np.uint32(24)
        )
        crc = (
            _CRC32C[7, low & np.uint32(0xFF)]
            ^ _CRC32C[6, (low >> np.uint32(8)) & np.uint32(0xFF)]
            ^ _CRC32C[5, (low >> np.uint32(16)) & np.uint32(0xFF)]
            ^ _CRC32C[4, low >> np.uint32(24)]
            ^ _CRC32C[3, data[position + 4]]
            ^ _CRC32C[2, data[position + 5]]
            ^ _CRC32C[1, data[position + 6]]
            ^ _CRC32C[0, data[position + 7]]
        )
        position += 8
    while position < len(data):
        crc = (crc >> np.uint32(8)) ^ _CRC32C[0, (crc ^ np.uint32(data[position])) & np.uint32(0xFF)]
        position += 1
    return crc ^ np.uint32(0xFFFFFFFF)  # type: ignore[return-value]  # what comes out of a kernel is an int
