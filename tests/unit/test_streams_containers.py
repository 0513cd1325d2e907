"""Cutting containers to a size loses nothing."""

from __future__ import annotations

import contextlib
import dataclasses
import struct

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from filoray.cluster.errors import BadData
from filoray.nodes.data.part_key import JoinedPartKeys, encode_part_key, part_key_hash
from filoray.nodes.data.record_container import RecordContainer
from filoray.nodes.streams.record_batches import ContainerBuilder, split_container

Row = tuple[str, int, float]

rows = st.lists(
    st.tuples(st.text("ab", max_size=300), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False)), max_size=200
)


def container_of(samples: list[Row]) -> RecordContainer:
    builder = ContainerBuilder()
    for host, time_ms, value in samples:
        builder.add(encode_part_key({"__name__": "m", "host": host}), time_ms, value)
    return builder.take()


def rows_of(container: RecordContainer) -> list[tuple[bytes, int, int, int, float]]:
    keys = container.part_keys()
    owners = [series for series, count in enumerate(container.counts.tolist()) for _ in range(count)]
    return [
        (keys[owner], int(container.hash_high[owner]), int(container.hash_low[owner]), time_ms, value)
        for owner, time_ms, value in zip(owners, container.timestamps.tolist(), container.values.tolist(), strict=True)
    ]


@given(rows, st.integers(700, 6000))
def test_parts_have_the_same_rows_in_the_same_order_within_the_size(samples: list[Row], max_bytes: int) -> None:
    whole = container_of(samples)
    parts = [part.encode() for part in split_container(whole, max_bytes)]
    assert [row for part in parts for row in rows_of(RecordContainer.decode(part))] == rows_of(whole)
    assert all(len(part) <= max_bytes for part in parts)


@given(rows)
def test_a_built_container_names_each_series_by_its_part_key(samples: list[Row]) -> None:
    container = RecordContainer.decode(container_of(samples).encode())
    assert container.sample_count == len(samples)
    assert len(container.key_series) == container.series_count == len({host for host, _, _ in samples})
    for series, key in container.part_keys().items():
        assert part_key_hash(key) == (int(container.hash_high[series]), int(container.hash_low[series]))


def test_a_part_key_that_is_too_long_alone_comes_alone() -> None:
    whole = container_of([("a", 1, 1.0), ("x" * 5000, 1, 2.0), ("x" * 5000, 2, 3.0), ("b", 1, 4.0)])
    parts = list(split_container(whole, 1000))
    assert [part.values.tolist() for part in parts] == [[1.0], [2.0], [3.0], [4.0]]


@pytest.mark.parametrize("place", range(4))
def test_a_header_with_a_negative_count_is_no_container(place: int) -> None:
    """numpy takes a count of -1 for all that is left, so that columns would not fit each other."""
    counts = [2, 2, 2, 20]
    counts[place] = -1
    header = msgpack.packb([1, *counts])
    with pytest.raises(BadData, match="-1 entries"):
        RecordContainer.decode(struct.pack("<I", len(header)) + header + bytes(4096))


def two_series() -> RecordContainer:
    return container_of([("a", 1, 1.0), ("b", 2, 2.0), ("b", 3, 3.0)])


def with_header(header: object) -> bytes:
    packed = msgpack.packb(header)
    return struct.pack("<I", len(packed)) + packed + bytes(200)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "not a record container"),
        (struct.pack("<I", 1 << 31) + bytes(50), "a header of 2147483648 bytes"),
        (with_header({}), "no array of whole numbers"),
        (with_header([1, 1, 1, 1.0, 0]), "no array of whole numbers"),
        (with_header([1, True, 1, 1, 0]), "no array of whole numbers"),
        (with_header([1, [], 1, 1, 0]), "no array of whole numbers"),
        (with_header([1, 1, 1, 1]), "not a record container"),
        (with_header([2, 1, 1, 1, 1]), "version 2"),
        (with_header([1, -1, 1, 1, 1]), "entries of a column"),
        (with_header([1, 1 << 62, 1, 1, 1]), "entries of a column"),
        (with_header([1, 1, 1, 0, 5]), "do not add up"),
    ],
)
def test_what_is_no_container_is_said_so(data: bytes, says: str) -> None:
    with pytest.raises(BadData, match=says):
        RecordContainer.decode(data)


@pytest.mark.parametrize(
    ("column", "place", "value", "says"),
    [
        ("counts", 0, 7, "do not add up"),
        ("counts", 0, -1, "do not add up"),
        ("key_series", 0, 2, "not among its 2"),
        ("key_series", 0, -1, "not among its 2"),
        ("key_series", 0, 1, "two part keys of one series"),
        ("key_ends", 0, -5, "do not fill"),
        ("key_ends", 0, 1 << 40, "do not fill"),
        ("key_ends", 1, 3, "do not fill"),
    ],
)
def test_a_container_whose_columns_do_not_fit_is_refused(column: str, place: int, value: int, says: str) -> None:
    container = two_series()
    columns = {"counts": container.counts, "key_series": container.key_series, "key_ends": container.keys.ends}
    columns = {name: array.copy() for name, array in columns.items()}
    columns[column][place] = value
    keys = JoinedPartKeys(columns.pop("key_ends"), container.keys.data)
    with pytest.raises(BadData, match=says):
        RecordContainer.decode(dataclasses.replace(container, keys=keys, **columns).encode())


@given(st.data())
def test_bytes_that_were_changed_give_a_container_or_bad_data(data: st.DataObject) -> None:
    encoded = bytearray(two_series().encode())
    for _ in range(data.draw(st.integers(1, 4))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(BadData):
        container = RecordContainer.decode(bytes(encoded[: data.draw(st.integers(0, len(encoded)))]))
        assert len(container.part_keys()) == len(container.key_series)
