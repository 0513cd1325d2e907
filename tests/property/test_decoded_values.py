"""The cache of decoded values gives back to the bit what was put in, or nothing, whatever was thrown out meanwhile."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from filoray.nodes.kernels.storage.chunk_gather import Arenas, copy_chunks
from filoray.nodes.kernels.storage.samples import CountedSamples
from filoray.nodes.memstore.chunks.chunk_codec import CHUNK_SAMPLES_MAX
from filoray.nodes.memstore.chunks.decoded_cache import NO_ROW, DecodedValues

EDGES = [0.0, -0.0, 2.0**31 - 1, 2.0**31, -(2.0**31) + 1, -(2.0**31), 0.5, float("nan"), float("inf"), float("-inf")]
WHOLE = st.integers(-(2**31), 2**31).map(float)
CHUNKS = st.lists(WHOLE, min_size=1, max_size=5) | st.lists(
    WHOLE | st.floats(allow_nan=True) | st.sampled_from(EDGES), min_size=1, max_size=5
)
WIDE_ROWS = 8


def read(cache: DecodedValues, rows: np.ndarray, counts: np.ndarray) -> np.ndarray:
    out = CountedSamples.room_for(counts.astype(np.int64), int(counts.sum()))
    zeros = np.zeros(len(rows), np.int32)
    times = np.zeros((1, CHUNK_SAMPLES_MAX), np.int64)
    copy_chunks(zeros, rows, zeros.astype(np.int64), Arenas(times, *cache.arenas), out)
    return out.values.view(np.uint64)


@given(chunks=st.dictionaries(st.integers(0, 40), CHUNKS, min_size=1, max_size=20), data=st.data())
def test_what_is_found_is_what_was_kept(chunks, data):
    cache = DecodedValues(WIDE_ROWS)
    ids = st.sampled_from(sorted(chunks))
    for wanted in data.draw(st.lists(st.sets(ids, min_size=1, max_size=cache.row_count), max_size=12)):
        entries = np.array(sorted(wanted), np.int32)
        counts = np.array([len(chunks[entry]) for entry in entries.tolist()], np.int32)
        rows = cache.find(entries)
        missing = np.flatnonzero(rows == NO_ROW)
        for part in np.array_split(missing, 2):
            decoded = np.full((len(part), CHUNK_SAMPLES_MAX), np.nan)
            for row, index in enumerate(part):
                decoded[row, : counts[index]] = chunks[int(entries[index])]
            rows[part] = cache.keep(entries[part], decoded, counts[part])
        expected = np.concatenate([chunks[entry] for entry in entries.tolist()]).view(np.uint64)
        assert read(cache, rows, counts).tolist() == expected.tolist()
        assert cache.find(entries).tolist() == rows.tolist()


def test_whole_numbers_take_half_the_room():
    caches = DecodedValues(100), DecodedValues(100)
    entries, counts = np.arange(10, dtype=np.int32), np.full(10, CHUNK_SAMPLES_MAX, np.int32)
    whole = np.arange(10 * CHUNK_SAMPLES_MAX, dtype=np.float64).reshape(10, -1)
    empty = caches[0].nbytes
    for cache, decoded in zip(caches, (whole, whole + 0.5), strict=True):
        cache.find(entries)
        cache.keep(entries, decoded, counts)
    assert caches[0].nbytes - empty == (caches[1].nbytes - empty) / 2 == 10 * CHUNK_SAMPLES_MAX * 4
    for cache in caches:
        cache.clear()
        assert (cache.find(entries) == NO_ROW).all()
