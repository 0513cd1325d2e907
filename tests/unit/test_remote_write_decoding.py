"""Remote write bodies, good and bad, and what the decoder makes of them."""

from __future__ import annotations

import struct
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cramjam
import numpy as np
import pytest

from filoray.cluster.errors import BadData, PayloadTooLarge
from filoray.http.remote.protobuf_writer import bytes_field, label_fields, varint, varint_field
from filoray.http.remote.remote_write import DecodedWrite, RemoteWriteDecoder
from filoray.http.remote.remote_write_client import encode_write_request
from filoray.nodes.data.metric_metadata import MetricMetadata
from filoray.nodes.data.part_key import encode_part_key, ingestion_shard, part_key_hash, shard_key_hash
from filoray.nodes.data.record_container import RecordContainer
from filoray.nodes.data.write_outcome import RefusalReason

Stored = dict[bytes, list[tuple[int, float]]]


@dataclass(frozen=True)
class Limits:
    max_decoded_bytes: int = 1 << 20
    max_label_count: int = 8
    max_label_name_bytes: int = 40
    max_label_value_bytes: int = 60
    series_cache_count: int = 1000


def make_decoder(**limits: int) -> RemoteWriteDecoder:
    return RemoteWriteDecoder(Limits(**limits))  # type: ignore[arg-type]


def decode(message: bytes, decoder: RemoteWriteDecoder | None = None) -> DecodedWrite:
    return (decoder or make_decoder()).decode("metrics", snappy(message), num_shards=4, spread=1)


def snappy(message: bytes) -> bytes:
    return bytes(cramjam.snappy.compress_raw(message))


def sample(timestamp: int, value: float) -> bytes:
    return bytes_field(2, b"\x09" + struct.pack("<d", value) + varint_field(2, timestamp))


def label(name: bytes, value: bytes) -> bytes:
    return bytes_field(1, bytes_field(1, name) + bytes_field(2, value))


def series(labels: dict[str, str], *samples: tuple[int, float]) -> bytes:
    return bytes_field(1, label_fields(labels) + b"".join(sample(*pair) for pair in samples))


UP = {"__name__": "up", "job": "api"}
UP_SERIES = series(UP, (1000, 1.0))


def stored(decoded: DecodedWrite) -> Stored:
    """What a receiver that knows no series would have: samples by part key."""
    found: Stored = {}
    for container in decoded.containers.values():
        keys = container.part_keys()
        ends = np.cumsum(container.counts).tolist()
        for index, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
            times, values = container.timestamps[start:end].tolist(), container.values[start:end].tolist()
            found.setdefault(keys[index], []).extend(zip(times, values, strict=True))
    return found


# ---- what is accepted


def test_samples_go_to_the_shard_of_their_series() -> None:
    label_sets = [{"__name__": "up", "_ws_": "demo", "_ns_": "app", "pod": str(pod)} for pod in range(40)]
    decoded = decode(b"".join(series(labels, (5, 1.5), (6, 2.5)) for labels in label_sets))

    for labels in label_sets:
        part_key = encode_part_key(labels)
        high, low = part_key_hash(part_key)
        container = decoded.containers[ingestion_shard(shard_key_hash(labels), low, 4, 1)]
        index = container.hash_low.tolist().index(low)
        assert container.hash_high[index] == high
        assert container.part_keys()[index] == part_key
    assert stored(decoded) == {encode_part_key(labels): [(5, 1.5), (6, 2.5)] for labels in label_sets}
    assert len(decoded.containers) == 2  # 2^spread
    assert not decoded.outcome.refused
    assert decoded.sample_count == 80


def test_containers_survive_their_encoding() -> None:
    decoded = decode(UP_SERIES + series({"__name__": "other"}, (1, 2.0)))
    again = {shard: RecordContainer.decode(one.encode()) for shard, one in decoded.containers.items()}

    assert stored(DecodedWrite(again)) == stored(decoded)


def test_an_empty_body_is_an_empty_write() -> None:
    for decoded in (make_decoder().decode("metrics", b"", 4, 1), decode(b"")):
        assert not decoded.containers
        assert not decoded.outcome.refused
        decoded.acknowledged()


@pytest.mark.parametrize("timestamp", [0, 1, -1, -(1 << 63), (1 << 63) - 1, 1_700_000_000_000, 1 << 35, (1 << 42) - 1])
def test_any_int64_is_a_time(timestamp: int) -> None:
    assert stored(decode(series(UP, (timestamp, 3.0)))) == {encode_part_key(UP): [(timestamp, 3.0)]}


@pytest.mark.parametrize("bits", [0x7FF0000000000002, 0x7FF8000000000001, 0xFFF0000000000000, 0x8000000000000000, 1])
def test_values_keep_their_bits(bits: int) -> None:
    decoded = decode(series(UP, (1, struct.unpack("<d", struct.pack("<Q", bits))[0])))
    (container,) = decoded.containers.values()

    assert container.values.view(np.uint64).tolist() == [bits]


def test_left_out_fields_are_zero() -> None:
    message = bytes_field(1, label_fields(UP) + bytes_field(2, b"") + bytes_field(2, varint_field(2, 7)))

    assert stored(decode(message)) == {encode_part_key(UP): [(0, 0.0), (7, 0.0)]}


def test_labels_may_come_unsorted_and_empty_values_are_dropped() -> None:
    message = bytes_field(1, label(b"job", b"api") + label(b"gone", b"") + label(b"__name__", b"up") + sample(1, 2.0))

    assert stored(decode(message)) == {encode_part_key(UP): [(1, 2.0)]}


def test_labels_may_come_after_and_between_samples() -> None:
    apart = bytes_field(1, sample(1, 1.0) + label(b"__name__", b"up") + sample(2, 2.0) + label(b"job", b"api"))
    other = bytes_field(1, sample(1, 1.0) + label(b"__name__", b"up") + sample(2, 2.0) + label(b"job", b"web"))
    decoder = make_decoder()

    assert stored(decode(apart, decoder)) == {encode_part_key(UP): [(1, 1.0), (2, 2.0)]}
    assert stored(decode(other, decoder)) == {encode_part_key({**UP, "job": "web"}): [(1, 1.0), (2, 2.0)]}


def test_a_series_may_come_twice_and_its_samples_in_any_order() -> None:
    decoded = decode(series(UP, (9, 1.0), (3, 2.0)) + series(UP, (5, 3.0)))
    (container,) = decoded.containers.values()

    assert container.counts.tolist() == [2, 1]
    assert stored(decoded) == {encode_part_key(UP): [(9, 1.0), (3, 2.0), (5, 3.0)]}


def test_utf8_names_and_values_are_accepted() -> None:
    labels = {"__name__": "温度", "büro.name": "Zürich \U0001f600", "a b": "x"}

    assert stored(decode(series(labels, (1, 1.0)))) == {encode_part_key(labels): [(1, 1.0)]}


def test_unknown_fields_and_exemplars_are_skipped() -> None:
    unknown = (
        varint_field(15, 99)
        + varint(20 << 3 | 1) + b"8 bytes!"
        + varint(21 << 3 | 5) + b"four"
        + bytes_field(22, b"anything")
        + varint(23 << 3 | 3) + varint_field(1, 5) + varint(23 << 3 | 4)
    )  # fmt: skip
    odd_label = bytes_field(1, unknown + bytes_field(1, b"__name__") + bytes_field(2, b"up") + unknown)
    odd_sample = bytes_field(2, unknown + b"\x09" + struct.pack("<d", 4.0) + unknown + varint_field(2, 6))
    exemplar = bytes_field(3, b"\xff\xff")
    message = unknown + bytes_field(1, odd_label + label(b"job", b"api") + unknown + odd_sample + exemplar) + unknown

    assert stored(decode(message)) == {encode_part_key(UP): [(6, 4.0)]}


def test_the_last_of_a_repeated_scalar_field_counts() -> None:
    twice = bytes_field(2, b"\x09" + struct.pack("<d", 1.0) + varint_field(2, 5) + varint_field(2, 6))

    assert stored(decode(bytes_field(1, label_fields(UP) + twice))) == {encode_part_key(UP): [(6, 1.0)]}


@pytest.mark.parametrize("rest", [b"\x10\xff\xff\xff\x01", b"\x1a\x03abc", b"\x08" + varint(1 << 21)])
def test_a_sample_of_the_usual_size_may_hold_something_else(rest: bytes) -> None:
    unusual = bytes_field(2, b"\x09" + struct.pack("<d", 2.5) + b"\x10\x07" + rest)
    message = bytes_field(1, label_fields(UP) + unusual)
    assert len(unusual) == 18

    if rest[0] == 0x08:
        with pytest.raises(BadData, match="another wire type"):
            decode(message)
    else:
        time = 0x3FFFFF if rest[0] == 0x10 else 7
        assert stored(decode(message)) == {encode_part_key(UP): [(time, 2.5)]}


def test_series_whose_labels_lie_apart_are_recognised_whatever_lies_between() -> None:
    decoder = make_decoder()
    for time in range(3):
        apart = label(b"__name__", b"up") + sample(time, 2.0) + label(b"job", b"api")
        decode(bytes_field(1, apart), decoder)

    assert decoder.cached_series_count() == 1


def test_tiny_messages_by_the_thousand_find_room() -> None:
    decoded = decode(bytes_field(1, label_fields(UP) + bytes_field(2, b"") * 5000) + bytes_field(1, b"") * 5000)

    assert decoded.sample_count == 5000


def test_metadata_is_handed_on() -> None:
    entries = [
        MetricMetadata("up", "gauge", "Whether it is.", ""),
        MetricMetadata("latency_seconds", "histogram", "", "seconds"),
    ]

    assert decode(cramjam.snappy.decompress_raw(encode_write_request([], entries)).read()).metadata == entries
    assert decode(bytes_field(3, varint_field(1, 77) + bytes_field(2, b"odd"))).metadata == [
        MetricMetadata("odd", "unknown", "", "")
    ]


# ---- part keys travel once


def test_an_acknowledged_series_leaves_its_part_key_at_home() -> None:
    decoder = make_decoder()
    first = decode(UP_SERIES, decoder)
    unacknowledged = decode(UP_SERIES, decoder)
    first.acknowledged()
    later = decode(series(UP, (2000, 2.0)) + series({"__name__": "new"}, (2000, 5.0)), decoder)

    assert [len(one.key_series) for one in first.containers.values()] == [1]
    assert [len(one.key_series) for one in unacknowledged.containers.values()] == [1]
    keys = [key for one in later.containers.values() for key in one.part_keys().values()]
    assert keys == [encode_part_key({"__name__": "new"})]
    assert later.sample_count == 2


def test_a_node_that_lost_series_gets_their_part_keys_again() -> None:
    decoder = make_decoder()
    pods = [{"__name__": "up", "pod": str(pod)} for pod in range(20)]
    request = b"".join(series(labels, (1, 1.0)) for labels in pods)
    decode(request, decoder).acknowledged()
    again = decode(request + series({"__name__": "up", "pod": "new"}, (1, 1.0)), decoder)
    shard = next(shard for shard, one in again.containers.items() if len(one.key_series))
    before = again.containers[shard]
    unknown = np.array([0, 2], np.int32)
    resent = again.with_keys(shard, unknown)

    assert resent.key_series.tolist() == sorted({0, 2, *before.key_series.tolist()})
    for index, part_key in resent.part_keys().items():
        assert part_key_hash(part_key) == (resent.hash_high[index], resent.hash_low[index])
    assert resent.timestamps is before.timestamps


def test_datasets_and_shardings_do_not_share_what_is_remembered() -> None:
    decoder = make_decoder()
    decoder.decode("one", snappy(UP_SERIES), 4, 1).acknowledged()

    for dataset, num_shards, spread in [("two", 4, 1), ("one", 8, 1), ("one", 4, 2)]:
        decoded = decoder.decode(dataset, snappy(UP_SERIES), num_shards, spread)
        assert stored(decoded) == {encode_part_key(UP): [(1000, 1.0)]}
    decoder.forget("one")
    assert decoder.cached_series_count() == 1


def test_what_is_remembered_of_deleted_datasets_goes_with_them() -> None:
    decoder = make_decoder()
    for dataset in ("one", "two", "three"):
        decoder.decode(dataset, snappy(UP_SERIES), 4, 1).acknowledged()
    decoder.keep_only({"two": "a view has more than names", "four": ""})
    assert decoder.cached_series_count() == 1
    assert not any(len(one.key_series) for one in decoder.decode("two", snappy(UP_SERIES), 4, 1).containers.values())


def test_the_memory_of_series_is_bounded_and_keeps_what_is_in_use() -> None:
    decoder = make_decoder(series_cache_count=100)
    busy = b"".join(series({"__name__": "busy", "pod": str(pod)}, (1, 1.0)) for pod in range(20))
    decode(busy, decoder).acknowledged()
    for churn in range(50):
        decode(b"".join(series({"__name__": "churn", "id": f"{churn}-{i}"}, (1, 1.0)) for i in range(7)), decoder)
        decoded = decode(busy, decoder)
        assert decoder.cached_series_count() <= 107
        assert sum(len(one.key_series) for one in decoded.containers.values()) == 0


def test_long_part_keys_make_it_remember_fewer_series() -> None:
    decoder = make_decoder(series_cache_count=1000, max_label_value_bytes=20_000)
    for number in range(400):
        decode(series({"__name__": "long", "text": f"{number}-" + "x" * 10_000}, (1, 1.0)), decoder)
        assert decoder.cached_series_count() <= 52
    busy = decode(UP_SERIES, decoder)
    busy.acknowledged()
    assert stored(decode(series({"__name__": "long", "text": "y" * 9_000}, (2, 1.0)), decoder))
    assert sum(len(one.key_series) for one in decode(UP_SERIES, decoder).containers.values()) == 0


def test_a_write_outlives_the_eviction_of_its_series() -> None:
    decoder = make_decoder(series_cache_count=10)
    decoded = decode(UP_SERIES, decoder)
    for churn in range(40):
        decode(series({"__name__": f"churn_{churn}"}, (1, 1.0)), decoder)
    decoded.acknowledged()
    (shard,) = decoded.containers

    assert decoded.with_keys(shard, np.array([0], np.int32)).part_keys() == {0: encode_part_key(UP)}


def test_growth_keeps_every_series_apart() -> None:
    decoder = make_decoder(series_cache_count=100_000)
    request = b"".join(series({"__name__": "m", "id": str(i)}, (i, float(i))) for i in range(5000))
    expected = {encode_part_key({"__name__": "m", "id": str(i)}): [(i, float(i))] for i in range(5000)}

    assert stored(decode(request, decoder)) == expected
    assert stored(decode(request, decoder)) == expected
    assert decoder.cached_series_count() == 5000


def test_requests_on_many_threads_do_not_disturb_each_other() -> None:
    decoder = make_decoder(series_cache_count=300)

    def one_request(seed: int) -> None:
        numbers = [(seed * 7919 + step * 31) % 700 for step in range(60)]
        request = b"".join(series({"__name__": "m", "id": str(one)}, (one, float(seed))) for one in numbers)
        decoded = decode(request, decoder)
        assert decoded.sample_count == 60
        for shard, container in decoded.containers.items():
            full = decoded.with_keys(shard, np.arange(container.series_count, dtype=np.int32))
            keys = full.part_keys()
            for index, time in enumerate(full.timestamps.tolist()):  # one sample each
                part_key = encode_part_key({"__name__": "m", "id": str(time)})
                assert keys[index] == part_key
                assert part_key_hash(part_key) == (full.hash_high[index], full.hash_low[index])
        decoded.acknowledged()

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(one_request, range(200)))


# ---- what is refused, with the rest kept


@pytest.mark.parametrize(
    ("bad", "reason", "words"),
    [
        (label(b"__name__", b"x") + label(b"", b"v"), "invalid label name", "empty name"),
        (label(b"__name__", b"x") + label(b"job", b"a") + label(b"job", b"b"), "duplicate label name", '"job"'),
        (label(b"__name__", b"x") + label(b"job", b"a") + label(b"job", b"a"), "duplicate label name", '"job"'),
        (label(b"job", b"api"), "no metric name", "__name__"),
        (label(b"__name__", b"") + label(b"job", b"api"), "no metric name", "__name__"),
        (b"", "no metric name", "series {}"),
        (b"".join(label(b"n%d" % i, b"v") for i in range(9)), "too many labels", "over 8 labels"),
        (label(b"__name__", b"x") + label(b"n" * 41, b"v"), "label name too long", "over 40 bytes"),
        (label(b"__name__", b"x") + label(b"n", b"v" * 61), "label value too long", "over 60 bytes"),
        (label(b"__name__", b"x\xff"), "invalid UTF-8 in a label", "UTF-8"),
        (label(b"__name__", b"x") + label(b"\xc0\x80", b"v"), "invalid UTF-8 in a label", "UTF-8"),
        (label(b"__name__", b"\xed\xa0\x80"), "invalid UTF-8 in a label", "UTF-8"),
        (label(b"__name__", b"\xf4\x90\x80\x80"), "invalid UTF-8 in a label", "UTF-8"),
        (label(b"__name__", b"cut \xe2\x82"), "invalid UTF-8 in a label", "UTF-8"),
    ],
)
def test_a_series_with_bad_labels_is_refused_and_the_rest_is_kept(bad: bytes, reason: str, words: str) -> None:
    decoder = make_decoder()
    message = bytes_field(1, bad + sample(1, 1.0) + sample(2, 1.0)) + UP_SERIES

    for _ in range(2):  # seen for the first time, and remembered
        decoded = decode(message, decoder)
        assert decoded.outcome.refused == {reason: 2}
        assert words in decoded.outcome.example
        assert stored(decoded) == {encode_part_key(UP): [(1000, 1.0)]}


def test_a_duplicate_of_an_empty_label_is_none() -> None:
    message = bytes_field(1, label(b"job", b"") + label(b"__name__", b"up") + label(b"job", b"api") + sample(1, 1.0))

    assert stored(decode(message)) == {encode_part_key(UP): [(1, 1.0)]}


def test_native_histograms_are_refused_and_counted_and_floats_kept() -> None:
    message = bytes_field(1, label_fields(UP) + bytes_field(4, b"\x08\x01") * 3 + sample(1, 1.0))
    decoded = decode(message)

    assert decoded.outcome.refused == {RefusalReason.NATIVE_HISTOGRAM: 3}
    assert "classic histograms" in decoded.outcome.example
    assert stored(decoded) == {encode_part_key(UP): [(1, 1.0)]}


# ---- what is malformed: nothing of it counts


def wrong(prefix: bytes, rest: bytes) -> tuple[bytes, int]:
    """A message that is malformed at the byte where ``rest`` begins."""
    return prefix + rest, len(prefix)


MALFORMED = {
    "varint cut": (*wrong(UP_SERIES, b"\x78"), "ends within a varint"),
    "tag cut": (*wrong(UP_SERIES, b"\xff"), "ends within a varint"),
    "varint of 11 bytes": (*wrong(UP_SERIES, b"\x78" + b"\x80" * 11 + b"\x01"), "longer than 10 bytes"),
    "field number 0": (*wrong(UP_SERIES, b"\x02\x00"), "number 0"),
    "field number over 2^29": (*wrong(UP_SERIES, varint(1 << 33 | 2) + b"\x00"), "over 536870911"),
    "field number of 64 bits": (*wrong(UP_SERIES, varint((1 << 64) - 6) + b"\x00"), "number 0"),
    "series longer than the message": (*wrong(UP_SERIES, b"\x0a\x05abcd"), "past the end"),
    "length of 63 bits": (*wrong(UP_SERIES, b"\x0a" + varint((1 << 63) - 1)), "past the end"),
    "length of 64 bits": (*wrong(UP_SERIES, b"\x0a" + varint((1 << 64) - 1)), "past the end"),
    "unknown field longer than the message": (*wrong(UP_SERIES, b"\x7a\x05abcd"), "past the end"),
    "fixed64 cut": (*wrong(UP_SERIES, b"\x79abcdefg"), "fixed-size"),
    "fixed32 cut": (*wrong(UP_SERIES, b"\x7dabc"), "fixed-size"),
    "wire type 6": (*wrong(UP_SERIES, b"\x7e"), "wire type that"),
    "wire type 7": (*wrong(UP_SERIES, b"\x7f"), "wire type that"),
    "group not closed": (*wrong(UP_SERIES, b"\x7b\x08\x01"), "group"),
    "group not open": (*wrong(UP_SERIES, b"\x7c"), "group"),
    "series as a varint": (*wrong(UP_SERIES, b"\x08\x01"), "another wire type"),
    "metadata as a varint": (*wrong(UP_SERIES, b"\x18\x01"), "another wire type"),
    "label longer than its series": (*wrong(b"\x0a\x03", b"\x0a\x02a"), "past the end"),
    "label as a varint": (*wrong(b"\x0a\x02", b"\x08\x01"), "another wire type"),
    "sample as a fixed64": (*wrong(b"\x0a\x09", b"\x11abcdefgh"), "another wire type"),
    "histogram as a varint": (*wrong(b"\x0a\x02", b"\x20\x01"), "another wire type"),
    "value as a varint": (*wrong(b"\x0a\x04\x12\x02", b"\x08\x01"), "another wire type"),
    "value cut": (*wrong(b"\x0a\x04\x12\x02", b"\x09a"), "fixed-size"),
    "time as bytes": (*wrong(b"\x0a\x04\x12\x02", b"\x12\x00"), "another wire type"),
    "time cut": (*wrong(b"\x0a\x04\x12\x02", b"\x10\x80"), "ends within a varint"),
    "name as a varint": (*wrong(b"\x0a\x04\x0a\x02", b"\x08\x01"), "another wire type"),
    "name longer than its label": (*wrong(b"\x0a\x05\x0a\x03", b"\x0a\x02a"), "past the end"),
    "value longer than its label": (*wrong(b"\x0a\x05\x0a\x03", b"\x12\x02a"), "past the end"),
    "unknown field of a label cut": (*wrong(b"\x0a\x05\x0a\x03", b"\x1a\x02a"), "past the end"),
    "help as a varint": (*wrong(b"\x1a\x02", b"\x20\x01"), "another wire type"),
}


@pytest.mark.parametrize(("message", "offset", "words"), MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_message_is_bad_data_that_says_what_and_where(message: bytes, offset: int, words: str) -> None:
    with pytest.raises(BadData, match=words) as caught:
        decode(message)

    assert f"(byte {offset} of the decompressed body)" in caught.value.message
    assert caught.value.http_status == 400


def test_a_malformed_label_leaves_nothing_behind() -> None:
    decoder = make_decoder()
    with pytest.raises(BadData):
        decode(UP_SERIES + b"\x0a\x04\x0a\x02\x08\x01", decoder)

    assert decoder.cached_series_count() == 0
    assert stored(decode(UP_SERIES, decoder)) == {encode_part_key(UP): [(1000, 1.0)]}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"\x80", "ends within its length"),
        (b"\xff\xff\xff\xff\xff\x01", "over 32 bits"),
        (b"\xff\xff\xff\xff\x7f", "over 32 bits"),
        (b"\x05", "of 1 bytes, 5 decompressed"),
        (b"\x00more", "follow the declared length of 0"),
        (b"\x05\x10hello!", "malformed snappy"),
        (b"\x08\x04ab\x05\x40", "malformed snappy"),
        (snappy(UP_SERIES)[:-3], "malformed snappy"),
        (snappy(UP_SERIES) + b"x", "malformed snappy"),
        (UP_SERIES, "malformed"),
        (b'{"json": true}', "malformed"),
    ],
)
def test_a_malformed_snappy_block_is_bad_data(body: bytes, words: str) -> None:
    with pytest.raises(BadData, match=words):
        make_decoder().decode("metrics", body, 4, 1)


def test_a_snappy_bomb_is_refused_by_its_declared_length() -> None:
    bomb = snappy(bytes((1 << 20) + 1))
    lie = varint(1 << 31) + b"\x00a"

    for body in (bomb, lie):
        with pytest.raises(PayloadTooLarge, match=r"limit of 1048576 \(filoray.write.max-decoded-size\)") as caught:
            make_decoder().decode("metrics", body, 4, 1)
        assert caught.value.http_status == 413


@pytest.mark.parametrize(
    "message",
    [
        bytes_field(1, b"") * 200_001,
        bytes_field(3, b"") * 20_001,
        bytes_field(1, bytes_field(2, b"") * 10_000_001),
    ],
    ids=["series", "metadata", "samples"],
)
def test_what_would_claim_much_memory_for_few_bytes_is_bad_data(message: bytes) -> None:
    with pytest.raises(BadData, match="200000 series, 10000000 samples or 20000 metadata"):
        decode(message, make_decoder(max_decoded_bytes=1 << 25))


def test_requests_at_the_limits_are_decoded() -> None:
    decoded = decode(bytes_field(1, b"") * 200_000 + bytes_field(3, b"") * 20_000)

    assert not decoded.containers
    assert not decoded.outcome.refused.get("no metric name")
