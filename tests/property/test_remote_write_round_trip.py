"""Remote write requests at random: the decoder against Google's protobuf and a slow reading of the rules."""

from __future__ import annotations

import struct
from contextlib import suppress
from dataclasses import dataclass

import cramjam
import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from filoray.cluster.errors import BadData
from filoray.http.remote.protobuf_writer import bytes_field, varint, varint_field
from filoray.http.remote.remote_write import DecodedWrite, RemoteWriteDecoder
from filoray.http.remote.remote_write_client import encode_write_request
from filoray.nodes.data.part_key import encode_part_key, ingestion_shard, part_key_hash, shard_key_hash

NUM_SHARDS, SPREAD = 8, 1


@dataclass(frozen=True)
class Limits:
    max_decoded_bytes: int = 1 << 20
    max_label_count: int = 10
    max_label_name_bytes: int = 30
    max_label_value_bytes: int = 30
    series_cache_count: int = 64


def make_decoder() -> RemoteWriteDecoder:
    return RemoteWriteDecoder(Limits())  # type: ignore[arg-type]


# ---- Google's protobuf as the reference for the wire format


def _write_request_class() -> type:
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="reference.proto", package="reference", syntax="proto3")

    def message(name: str, *fields: tuple[str, int, int, str, bool]) -> None:
        added = file.message_type.add(name=name)
        for field_name, number, kind, type_name, repeated in fields:
            added.field.add(
                name=field_name,
                number=number,
                type=kind,
                type_name=type_name or None,
                label=field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL,
            )

    # bytes where the definition has string: whether it is UTF-8 is judged series by series
    message("Label", ("name", 1, field.TYPE_BYTES, "", False), ("value", 2, field.TYPE_BYTES, "", False))
    message("Sample", ("value", 1, field.TYPE_DOUBLE, "", False), ("timestamp", 2, field.TYPE_INT64, "", False))
    message(
        "TimeSeries",
        ("labels", 1, field.TYPE_MESSAGE, ".reference.Label", True),
        ("samples", 2, field.TYPE_MESSAGE, ".reference.Sample", True),
        ("histograms", 4, field.TYPE_BYTES, "", True),
    )
    message("WriteRequest", ("timeseries", 1, field.TYPE_MESSAGE, ".reference.TimeSeries", True))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("reference.WriteRequest"))


WriteRequest = _write_request_class()

Samples = list[tuple[int, int]]  # times and the values' bits
Sharded = dict[int, list[tuple[bytes, Samples]]]


def bits_of(value: float) -> int:
    (bits,) = struct.unpack("<Q", struct.pack("<d", value))
    return int(bits)


def reference(message: bytes) -> tuple[Sharded, int]:
    """Series by shard in the order of the request, and the number of samples refused."""
    sharded: Sharded = {}
    refused = 0
    for series in WriteRequest.FromString(message).timeseries:  # type: ignore[attr-defined]
        samples = [(sample.timestamp, bits_of(sample.value)) for sample in series.samples]
        refused += len(series.histograms)
        labels = acceptable_labels([(label.name, label.value) for label in series.labels])
        if labels is None:
            refused += len(samples)
        elif samples:
            part_key = encode_part_key(labels)
            shard = ingestion_shard(shard_key_hash(labels), part_key_hash(part_key)[1], NUM_SHARDS, SPREAD)
            sharded.setdefault(shard, []).append((part_key, samples))
    return sharded, refused


def acceptable_labels(pairs: list[tuple[bytes, bytes]]) -> dict[str, str] | None:
    limits = Limits()
    pairs = [(name, value) for name, value in pairs if value]
    names = [name for name, _ in pairs]
    try:
        labels = {name.decode(): value.decode() for name, value in pairs}
    except UnicodeDecodeError:
        return None
    sizes_fit = all(
        0 < len(name) <= limits.max_label_name_bytes and len(value) <= limits.max_label_value_bytes
        for name, value in pairs
    )
    unique = len(set(names)) == len(names) <= limits.max_label_count
    return labels if sizes_fit and unique and "__name__" in labels else None


def decoded_series(decoded: DecodedWrite) -> Sharded:
    sharded: Sharded = {}
    for shard, container in decoded.containers.items():
        keys = container.part_keys()
        ends = np.cumsum(container.counts).tolist()
        bits = container.values.view(np.uint64)
        sharded[shard] = [
            (keys[index], list(zip(container.timestamps[start:end].tolist(), bits[start:end].tolist(), strict=True)))
            for index, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True))
        ]
        for index, key in keys.items():
            assert part_key_hash(key) == (container.hash_high[index], container.hash_low[index])
    return sharded


def decode(message: bytes, decoder: RemoteWriteDecoder | None = None) -> DecodedWrite:
    body = bytes(cramjam.snappy.compress_raw(message))
    return (decoder or make_decoder()).decode("metrics", body, NUM_SHARDS, SPREAD)


# ---- requests at random

NAMES = st.sampled_from([b"__name__", b"_ws_", b"_ns_", b"job", b"le", b"a", b"ab", b"", "é".encode(), b"\xff"])
VALUES = st.one_of(
    st.sampled_from([b"", b"x_bucket", b"x_sum", b"x", b"\xed\xa0\x80", b"v" * 31]), st.binary(max_size=12),
    st.text(max_size=8).map(lambda text: text.encode(errors="replace")),
)  # fmt: skip
TIMES = st.one_of(st.integers(-(1 << 63), (1 << 63) - 1), st.integers(1_600_000_000_000, 1_800_000_000_000))
FLOATS = st.integers(0, (1 << 64) - 1)


@st.composite
def unknown_fields(draw: st.DrawFn, depth: int = 0) -> bytes:
    number = draw(st.integers(16, 5000))
    kind = draw(st.sampled_from([0, 1, 2, 5, 3] if depth < 2 else [0, 1, 2, 5]))
    tag = varint(number << 3 | kind)
    if kind == 0:
        return tag + varint(draw(st.integers(0, (1 << 64) - 1)))
    if kind == 2:
        return bytes_field(number, draw(st.binary(max_size=140)))
    if kind == 3:
        inner = b"".join(draw(st.lists(unknown_fields(depth + 1), max_size=2)))
        return tag + inner + varint(number << 3 | 4)
    return tag + draw(st.binary(min_size=8 if kind == 1 else 4, max_size=8 if kind == 1 else 4))


def long_varint(value: int) -> bytes:
    """The same number in more bytes than it needs, which readers must take."""
    data = bytearray(varint(value))
    while len(data) < 10:
        data[-1] |= 0x80
        data.append(0)
    return bytes(data)


@st.composite
def samples(draw: st.DrawFn) -> bytes:
    time, bits = draw(TIMES), draw(FLOATS)
    time_bytes = varint_field(2, time) if draw(st.booleans()) or time < 0 else b"\x10" + long_varint(time)
    parts = [
        part
        for part in (b"\x09" + struct.pack("<Q", bits), time_bytes, draw(unknown_fields()))
        if draw(st.integers(0, 5))
    ]
    return bytes_field(2, b"".join(draw(st.permutations(parts))))


@st.composite
def labels(draw: st.DrawFn) -> bytes:
    parts = [bytes_field(1, draw(NAMES)), bytes_field(2, draw(VALUES))]
    if not draw(st.integers(0, 4)):
        parts.append(draw(unknown_fields()))
    if not draw(st.integers(0, 4)):
        parts = draw(st.permutations(parts))
    return bytes_field(1, b"".join(parts))


PLAIN_SAMPLES = st.tuples(FLOATS, st.integers(1_600_000_000_000, 1_800_000_000_000)).map(
    lambda pair: bytes_field(2, b"\x09" + struct.pack("<Q", pair[0]) + varint_field(2, pair[1]))
)
METRIC = st.sampled_from([b"up", b"x_bucket", b"x_count", b"x"]).map(
    lambda name: bytes_field(1, bytes_field(1, b"__name__") + bytes_field(2, name))
)


@st.composite
def time_series(draw: st.DrawFn) -> bytes:
    parts = [draw(METRIC)] if draw(st.integers(0, 5)) else []
    parts += draw(st.lists(labels(), max_size=4))
    parts += draw(st.lists(st.one_of(samples(), PLAIN_SAMPLES), max_size=6))
    if not draw(st.integers(0, 5)):
        parts += [draw(unknown_fields()), bytes_field(4, b"histogram"), bytes_field(3, b"exemplar")]
        parts = draw(st.permutations(parts))
    return bytes_field(1, b"".join(parts))


REQUESTS = st.lists(st.one_of(time_series(), unknown_fields()), max_size=6).map(b"".join)


@settings(max_examples=150, deadline=None)
@given(st.lists(REQUESTS, min_size=1, max_size=3))
def test_what_is_decoded_is_what_protobuf_and_the_rules_say(messages: list[bytes]) -> None:
    decoder = make_decoder()
    for message in [*messages, *messages]:  # again, with the series known by then
        expected, refused = reference(message)
        decoded = decode(message, decoder)
        assert decoded_series(decoded) == expected
        assert sum(decoded.outcome.refused.values()) == refused
        assert bool(decoded.outcome.example) >= bool(refused)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.dictionaries(st.sampled_from(["job", "pod", "le", "é"]), st.text(min_size=1, max_size=5), max_size=3),
            st.lists(st.tuples(TIMES, FLOATS), max_size=5),
        ),
        max_size=5,
    )
)
def test_what_the_client_encodes_comes_back(rows: list[tuple[dict[str, str], Samples]]) -> None:
    rows = [({**label_set, "__name__": f"metric_{index}"}, pairs) for index, (label_set, pairs) in enumerate(rows)]
    body = encode_write_request(
        (label_set, [time for time, _ in pairs], np.array([bits for _, bits in pairs], np.uint64).view(np.float64))
        for label_set, pairs in rows
    )
    found = decoded_series(make_decoder().decode("metrics", body, NUM_SHARDS, SPREAD))

    assert {key: pairs for series in found.values() for key, pairs in series} == {
        encode_part_key(label_set): pairs for label_set, pairs in rows if pairs
    }


@settings(max_examples=200, deadline=None)
@given(REQUESTS, st.data())
def test_a_damaged_request_is_bad_data_or_what_protobuf_reads_in_it(message: bytes, data: st.DataObject) -> None:
    damaged = bytearray(message or b"\x0a\x00")
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(damaged) - 1))
        damaged[place] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del damaged[data.draw(st.integers(0, len(damaged) - 1)) :]
    try:
        decoded = decode(bytes(damaged))
    except BadData:
        return
    try:
        expected, refused = reference(bytes(damaged))
    except DecodeError:
        return  # a group closed by another's number: read past, since no known field is a group
    assert decoded_series(decoded) == expected
    assert sum(decoded.outcome.refused.values()) == refused


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_random_bytes_are_decoded_or_bad_data(body: bytes) -> None:
    for attempt in (body, bytes(cramjam.snappy.compress_raw(body)), varint(len(body)) + body):
        with suppress(BadData):
            make_decoder().decode("metrics", attempt, NUM_SHARDS, SPREAD)
