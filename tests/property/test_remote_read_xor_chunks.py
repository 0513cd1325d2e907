"""XOR chunks at random, read back bit by bit as the format's page tells it."""

from __future__ import annotations

import struct

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from filoray.nodes.kernels.edge.xor_chunk import CHUNK_BYTES_MAX, CHUNK_SAMPLES_MAX, encode_xor_chunks

Samples = list[tuple[int, int]]  # times and the values' bits

GAPS = st.one_of(
    st.sampled_from([15_000, 15_001, 1, 8191, 8192, 8193, 65_536, 65_537, 524_288, 524_289]),
    st.integers(1, 100_000_000),
)
NUMBERS = st.one_of(
    st.sampled_from([0.0, 1.0, 2.0, 12.25, float("inf")]), st.integers(-1000, 1000).map(float), st.floats()
).map(lambda number: int(np.array([number]).view(np.uint64)[0]))
VALUES = st.one_of(NUMBERS, st.integers(0, (1 << 64) - 1))


def decode(data: bytes) -> Samples:
    (count,) = struct.unpack_from(">H", data)
    text = "".join(f"{byte:08b}" for byte in data[2:])
    at = 0

    def take(size: int) -> int:
        nonlocal at
        assert at + size <= len(text)
        at += size
        return int(text[at - size : at], 2) if size else 0

    def take_uvarint() -> int:
        value = shift = 0
        while True:
            byte = take(8)
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    samples: Samples = []
    time = delta = value = leading = width = 0
    for index in range(count):
        if index == 0:
            zigzag = take_uvarint()
            time, value = zigzag >> 1 ^ -(zigzag & 1), take(64)
        else:
            if index == 1:
                delta = take_uvarint()
            else:
                size = next((size for size in (0, 14, 17, 20) if not take(1)), 64)
                change = take(size)
                delta += change - (1 << size) if size and change > 1 << (size - 1) else change
            time += delta
            if take(1):
                if take(1):
                    leading, width = take(5), take(6) or 64
                value ^= take(width) << (64 - leading - width)
        samples.append((time, value))
    assert len(text) - at < 8
    return samples


@settings(max_examples=150, deadline=None)
@given(
    st.integers(-(1 << 50), 1 << 50),
    st.lists(st.tuples(GAPS, VALUES), min_size=1, max_size=60),
    st.integers(1, 5),
    st.integers(1, CHUNK_SAMPLES_MAX),
)
def test_chunks_hold_exactly_their_samples(start: int, steps: Samples, repeat: int, chunk_samples: int) -> None:
    steps = steps * repeat
    times = start + np.cumsum([gap for gap, _ in steps], dtype=np.int64)
    bits = np.array([value for _, value in steps], np.uint64)
    chunk_count = -(-len(steps) // chunk_samples)
    out = np.zeros(chunk_count * CHUNK_BYTES_MAX, np.uint8)
    ends = np.zeros(chunk_count, np.int64)

    assert encode_xor_chunks(times, bits, 0, len(steps), chunk_samples, out, ends) == chunk_count

    chunks = [out[low:high].tobytes() for low, high in zip([0, *ends.tolist()[:-1]], ends.tolist(), strict=True)]
    assert [sample for chunk in chunks for sample in decode(chunk)] == list(
        zip(times.tolist(), bits.tolist(), strict=True)
    )
    assert all(len(chunk) <= CHUNK_BYTES_MAX for chunk in chunks)


def test_the_worst_chunk_has_room() -> None:
    times = np.cumsum(np.tile([1, 1 << 40], CHUNK_SAMPLES_MAX // 2)).astype(np.int64)
    bits = np.tile(np.array([1 << 63 | 1, 0], np.uint64), CHUNK_SAMPLES_MAX // 2)
    # Every other difference is wider than the window before it.
    bits[::4] = 2
    out = np.zeros(CHUNK_BYTES_MAX, np.uint8)
    ends = np.zeros(1, np.int64)
    encode_xor_chunks(times, bits, 0, CHUNK_SAMPLES_MAX, CHUNK_SAMPLES_MAX, out, ends)

    assert ends[0] <= CHUNK_BYTES_MAX
    assert decode(out[: ends[0]].tobytes()) == list(zip(times.tolist(), bits.tolist(), strict=True))


# A chunk that Prometheus 2.x sent over its own remote read: go_memstats_alloc_bytes, scraped every 200 ms or so.
PROMETHEUS_CHUNK = (
    "0019a4a0b3bdc16841009c8000000000c801de24b70bb001241b46de00057ffc80025fffccdfffa0004dc5e01080015fff200097ffc0"
)
PROMETHEUS_GAPS_MS = [200] * 11 + [201, 199, 201, 200, 199, 200, 200, 200, 200, 201, 199, 201, 199]
PROMETHEUS_VALUES = (
    [136080.0, 145296.0] + [154512.0] * 6 + [163728.0] * 3 + [172944.0] * 4 + [182160.0] * 3 + [173952.0] * 7
)


def test_chunks_are_bit_for_bit_those_of_prometheus() -> None:
    times = 1_795_494_930_450 + np.cumsum([0, *PROMETHEUS_GAPS_MS], dtype=np.int64)
    bits = np.array(PROMETHEUS_VALUES).view(np.uint64)
    out = np.zeros(CHUNK_BYTES_MAX, np.uint8)
    ends = np.zeros(1, np.int64)
    encode_xor_chunks(times, bits, 0, len(times), CHUNK_SAMPLES_MAX, out, ends)

    assert out[: ends[0]].tobytes().hex() == PROMETHEUS_CHUNK
