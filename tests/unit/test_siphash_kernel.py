"""The keyed hash that recognises series, against a slow SipHash which the authors' test vector vouches for."""

from __future__ import annotations

import numpy as np

from filoray.nodes.kernels.edge.hashing import siphash13_128

_MASK = (1 << 64) - 1


def slow_siphash_128(data: bytes, key: bytes, rounds: int, final_rounds: int) -> tuple[int, int]:
    k0, k1 = int.from_bytes(key[:8], "little"), int.from_bytes(key[8:], "little")
    v = [k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D ^ 0xEE, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573]

    def rotate(word: int, count: int) -> int:
        return (word << count | word >> 64 - count) & _MASK

    def mix(times: int) -> None:
        for _ in range(times):
            v[0] = (v[0] + v[1]) & _MASK
            v[1] = rotate(v[1], 13) ^ v[0]
            v[0] = rotate(v[0], 32)
            v[2] = (v[2] + v[3]) & _MASK
            v[3] = rotate(v[3], 16) ^ v[2]
            v[0] = (v[0] + v[3]) & _MASK
            v[3] = rotate(v[3], 21) ^ v[0]
            v[2] = (v[2] + v[1]) & _MASK
            v[1] = rotate(v[1], 17) ^ v[2]
            v[2] = rotate(v[2], 32)

    padded = data + bytes(7 - len(data) % 8) + bytes([len(data) % 256])
    for start in range(0, len(padded), 8):
        word = int.from_bytes(padded[start : start + 8], "little")
        v[3] ^= word
        mix(rounds)
        v[0] ^= word
    v[2] ^= 0xEE
    mix(final_rounds)
    first = v[0] ^ v[1] ^ v[2] ^ v[3]
    v[1] ^= 0xDD
    mix(final_rounds)
    return first, v[0] ^ v[1] ^ v[2] ^ v[3]


KEY = bytes(range(16))


def test_the_slow_twin_gives_the_authors_vector() -> None:
    first, second = slow_siphash_128(b"", KEY, 2, 4)

    assert (first.to_bytes(8, "little") + second.to_bytes(8, "little")).hex() == "a3817f04ba25a8e66df67214c7550293"


def test_the_kernel_gives_what_its_slow_twin_gives() -> None:
    data = np.arange(300, dtype=np.int64).astype(np.uint8)
    k0, k1 = np.frombuffer(KEY, np.uint64)
    for start, end in [(0, 0), (0, 1), (3, 10), (5, 13), (1, 16), (0, 64), (7, 300), (300, 300)]:
        expected = slow_siphash_128(data[start:end].tobytes(), KEY, 1, 3)
        assert siphash13_128(data, start, end, k0, k1) == expected
