"""Remote read over a service that answers from a dictionary: requests, negotiation, both response types."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import cramjam
import numpy as np
import pytest

from filoray.cluster.errors import BadData, LimitExceeded, PayloadTooLarge, Unavailable
from filoray.http.fanout.requests import MetadataRequest, RawSeriesAnswer
from filoray.http.remote.protobuf_reader import Field, fields
from filoray.http.remote.protobuf_writer import bytes_field, varint, varint_field
from filoray.http.remote.remote_read import (
    CHUNKS_CONTENT_TYPE,
    RemoteReadAnswer,
    RemoteReadLimits,
    answer_remote_read,
    stream_frames,
)
from filoray.http.server.bodies import UnsupportedMediaType
from filoray.nodes.data.label_table import LabelTable
from filoray.nodes.data.matching import LabelMatcher, MatchOp
from filoray.nodes.data.series_batch import STALE_NAN_BITS, SeriesBatch
from filoray.nodes.kernels.edge.hashing import crc32c

Samples = list[tuple[int, int]]  # times and the values' bits
Series = list[tuple[dict[str, str], Samples]]

STALE = float(np.array([STALE_NAN_BITS], np.uint64).view(np.float64)[0])


def batch(*series: tuple[Mapping[str, str], Sequence[int], Sequence[float]]) -> SeriesBatch:
    return SeriesBatch(
        LabelTable.from_label_sets([labels for labels, _, _ in series]),
        np.cumsum([0, *(len(times) for _, times, _ in series)]).astype(np.int64),
        np.array([time for _, times, _ in series for time in times], np.int64),
        np.array([value for _, _, values in series for value in values], np.float64),
    )


def bits(*values: float) -> list[int]:
    return [int(number) for number in np.array(values, np.float64).view(np.uint64)]


@dataclass
class Service:
    """Answers every read with the next of its batches."""

    batches: list[SeriesBatch]
    asked: list[MetadataRequest] = field(default_factory=list)
    error: Exception | None = None

    async def read_raw(self, request: MetadataRequest) -> RawSeriesAnswer:
        self.asked.append(request)
        if self.error:
            raise self.error
        return RawSeriesAnswer(self.batches[len(self.asked) - 1], ("shard 3 is missing",), partial=True)


def matcher(kind: int, name: str, value: str) -> bytes:
    return bytes_field(3, varint_field(1, kind) + bytes_field(2, name.encode()) + bytes_field(3, value.encode()))


def query(start_ms: int = 0, end_ms: int = 10_000, *matchers: bytes) -> bytes:
    hints = bytes_field(4, varint_field(1, 15_000) + bytes_field(2, b"rate"))
    return bytes_field(1, varint_field(1, start_ms) + varint_field(2, end_ms) + b"".join(matchers) + hints)


def accepting(*types: int) -> bytes:
    return b"".join(varint_field(2, kind) for kind in types)


async def read(message: bytes, service: Service, **options: Any) -> RemoteReadAnswer:
    body = bytes(cramjam.snappy.compress_raw(message))
    return await answer_remote_read(body, "snappy", service, "metrics", RemoteReadLimits(**options))  # type: ignore[arg-type]


# ---- slow readers of the answers


def labels_of(series: Sequence[Field]) -> dict[str, str]:
    found = {}
    for part in series:
        if part.number == 1:
            name, value = part.message_fields("Label")
            found[name.as_text()] = value.as_text()
    return found


def read_samples_answer(answer: RemoteReadAnswer) -> list[Series]:
    assert answer.content_type == "application/x-protobuf"
    assert answer.content_encoding == "snappy"
    data = bytes(cramjam.snappy.decompress_raw(b"".join(answer.frames)))
    results: list[Series] = []
    for result in fields(data, "ReadResponse"):
        assert result.number == 1
        results.append([])
        for series in result.message_fields("QueryResult"):
            parts = list(series.message_fields("TimeSeries"))
            samples = []
            for part in parts:
                if part.number == 2:
                    value, time = part.message_fields("Sample")
                    samples.append((time.as_int64(), value.value))
            results[-1].append((labels_of(parts), samples))
    return results


def read_stream(stream: bytes) -> list[tuple[int, dict[str, str], list[Samples]]]:
    """(query index, labels, chunks) of every frame."""
    found = []
    position = 0
    while position < len(stream):
        length = shift = 0
        while True:
            byte = stream[position]
            position += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        checksum = int.from_bytes(stream[position : position + 4], "big")
        message = stream[position + 4 : position + 4 + length]
        assert len(message) == length
        assert checksum == slow_crc32c(message)
        position += 4 + length
        query_index = 0
        series: list[Field] = []
        for part in fields(message, "ChunkedReadResponse"):
            if part.number == 1:
                series = list(part.message_fields("ChunkedSeries"))
            else:
                query_index = part.as_int64()
        chunks = []
        for part in series:
            if part.number == 2:
                low, high, kind, data = part.message_fields("Chunk")
                chunk = decode_xor_chunk(data.as_bytes())
                assert kind.as_int64() == 1
                assert (low.as_int64(), high.as_int64()) == (chunk[0][0], chunk[-1][0])
                chunks.append(chunk)
        found.append((query_index, labels_of(series), chunks))
    return found


def slow_crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


class Bits:
    def __init__(self, data: bytes) -> None:
        self.text = "".join(f"{byte:08b}" for byte in data)
        self.at = 0

    def take(self, count: int) -> int:
        part = self.text[self.at : self.at + count]
        assert len(part) == count
        self.at += count
        return int(part, 2) if part else 0

    def take_uvarint(self) -> int:
        value = shift = 0
        while True:
            byte = self.take(8)
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value


def decode_xor_chunk(data: bytes) -> Samples:
    """Bit by bit as the format's page tells it."""
    (count,) = struct.unpack_from(">H", data)
    stream = Bits(data[2:])
    samples: Samples = []
    time = delta = value = leading = width = 0
    for index in range(count):
        if index == 0:
            zigzag = stream.take_uvarint()
            time, value = zigzag >> 1 ^ -(zigzag & 1), stream.take(64)
        else:
            if index == 1:
                delta = stream.take_uvarint()
            else:
                size = 0
                for size in (0, 14, 17, 20, 64):
                    if size == 64 or not stream.take(1):
                        break
                change = stream.take(size)
                if change > 1 << (size - 1 if size else 0):
                    change -= 1 << size
                delta += change
            time += delta
            if stream.take(1):
                if stream.take(1):
                    leading, width = stream.take(5), stream.take(6) or 64
                value ^= stream.take(width) << (64 - leading - width)
        samples.append(((time + (1 << 63)) % (1 << 64) - (1 << 63), value))
    assert len(stream.text) - stream.at < 8
    return samples


# ---- samples


async def test_samples_are_answered_with_everything_in_the_range_sorted_by_labels() -> None:
    service = Service(
        [
            batch(
                ({"__name__": "up", "job": "web"}, [5, 6], [1.0, STALE]),
                ({"__name__": "up", "job": "api", "a": "1"}, [-7], [float("nan")]),
                ({"__name__": "up", "job": "api"}, [8], [-0.0]),
            ),
            batch(),
        ]
    )
    answer = await read(query(-10, 10, matcher(0, "__name__", "up"), matcher(1, "job", "")) + query(5, 5), service)

    assert read_samples_answer(answer) == [
        [
            ({"__name__": "up", "a": "1", "job": "api"}, [(-7, bits(float("nan"))[0])]),
            ({"__name__": "up", "job": "api"}, [(8, 1 << 63)]),
            ({"__name__": "up", "job": "web"}, [(5, bits(1.0)[0]), (6, STALE_NAN_BITS)]),
        ],
        [],
    ]
    assert answer.warnings == ("shard 3 is missing",)
    assert answer.partial
    first, second = service.asked
    assert first.selectors == (
        (LabelMatcher("__name__", MatchOp.EQUAL, "up"), LabelMatcher("job", MatchOp.NOT_EQUAL, "")),
    )
    assert (first.dataset, first.start_ms, first.end_ms) == ("metrics", -10, 10)
    assert (second.selectors, second.start_ms, second.end_ms) == ((), 5, 5)


@pytest.mark.parametrize(("kind", "op"), [(2, MatchOp.REGEX), (3, MatchOp.NOT_REGEX)])
async def test_regex_matchers_are_handed_on(kind: int, op: MatchOp) -> None:
    service = Service([batch()])
    await read(query(0, 1, matcher(kind, "job", "a|b.*")), service)

    assert service.asked[0].selectors == ((LabelMatcher("job", op, "a|b.*"),),)


async def test_an_empty_request_has_an_empty_answer() -> None:
    answer = await read(b"", Service([]))

    assert read_samples_answer(answer) == []


async def test_the_services_errors_come_through() -> None:
    with pytest.raises(Unavailable, match="shard 7"):
        await read(query(), Service([], error=Unavailable("shard 7 is Down")))


async def test_an_answer_in_one_message_has_a_limit() -> None:
    service = Service([batch(({"__name__": "up"}, range(1000), [1.0] * 1000))])

    with pytest.raises(LimitExceeded, match="STREAMED_XOR_CHUNKS"):
        await read(query(), service, answer_bytes_max=10_000)


# ---- which response type


@pytest.mark.parametrize(
    ("accepted", "is_stream"),
    [
        (b"", False),
        (accepting(0), False),
        (accepting(1), True),
        (accepting(1, 0), True),
        (accepting(0, 1), False),
        (accepting(9, 1), True),
        (bytes_field(2, b"\x01\x00"), True),
    ],
)
async def test_the_first_accepted_type_that_there_is_is_answered(accepted: bytes, is_stream: bool) -> None:
    answer = await read(query() + accepted, Service([batch()]))

    assert (answer.content_type == CHUNKS_CONTENT_TYPE) is is_stream
    assert answer.content_encoding == (None if is_stream else "snappy")


async def test_a_request_that_accepts_nothing_there_is_is_bad_data() -> None:
    with pytest.raises(BadData, match=r"\[7, 9\].*SAMPLES \(0\), STREAMED_XOR_CHUNKS \(1\)"):
        await read(query() + accepting(7, 9), Service([]))


# ---- chunks


async def test_chunks_are_streamed_in_frames_of_one_series() -> None:
    times = [1_700_000_000_000 + 15_000 * index + index % 3 for index in range(250)]
    values = [float(index * index) for index in range(249)] + [STALE]
    service = Service([batch(), batch(({"__name__": "b"}, times, values), ({"__name__": "a"}, [3], [1.5]))])
    answer = await read(query() + query() + accepting(1), service)
    first, second = read_stream(b"".join(answer.frames))

    assert first == (1, {"__name__": "a"}, [[(3, bits(1.5)[0])]])
    query_index, labels, chunks = second
    assert (query_index, labels) == (1, {"__name__": "b"})
    assert [len(chunk) for chunk in chunks] == [120, 120, 10]
    assert [sample for chunk in chunks for sample in chunk] == list(zip(times, bits(*values), strict=True))


def test_a_series_over_the_frame_size_goes_on_in_further_frames() -> None:
    random = np.random.default_rng(1)
    values = random.normal(size=1200).tolist()
    frames = list(stream_frames([batch(({"__name__": "m"}, range(1200), values))], frame_bytes_max=2500))
    read_frames = [one for frame in frames for one in read_stream(frame)]

    assert len(frames) > 3
    assert max(map(len, frames)) < 2600
    assert {labels["__name__"] for _, labels, _ in read_frames} == {"m"}
    assert [value for _, _, chunks in read_frames for chunk in chunks for _, value in chunk] == bits(*values)


async def test_a_chunk_larger_than_the_frame_size_still_goes() -> None:
    answer = await read(query() + accepting(1), Service([batch(({"a": "b"}, [1], [2.0]))]), frame_bytes_max=1)

    assert len(read_stream(b"".join(answer.frames))) == 1


def test_crc32c_is_castagnolis() -> None:
    assert crc32c(np.frombuffer(b"123456789", np.uint8)) == 0xE3069283  # the check value of RFC 3720's CRC
    for length in (0, 1, 7, 8, 9, 40):
        data = bytes(range(100, 100 + length))
        assert crc32c(np.frombuffer(data, np.uint8)) == slow_crc32c(data)


# ---- malformed requests


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (b"\x0a\x05abc", r"malformed ReadRequest: .*past the end.* \(byte 0 "),
        (varint_field(1, 5), "malformed ReadRequest: a known field"),
        (b"\x08", "malformed ReadRequest: the message ends within a varint"),
        (b"\x02\x01", "malformed ReadRequest: a field has number 0"),
        (b"\x7e", "malformed ReadRequest: .*wire type that protobuf"),
        (b"\x7b", "malformed ReadRequest: a group"),
        (b"\x7c", "malformed ReadRequest: a group"),
        (b"\x78" + b"\xff" * 11, "malformed ReadRequest: .*longer than 10 bytes"),
        (b"\x7dabc", "malformed ReadRequest: .*fixed-size"),
        (bytes_field(1, bytes_field(1, b"x")), "malformed Query: a known field"),
        (query(0, 1, bytes_field(3, b"\x10\x01")), "malformed LabelMatcher: a known field"),
        (query(0, 1, bytes_field(3, bytes_field(2, b"\xff"))), "malformed LabelMatcher: field 2 is not valid UTF-8"),
        (query(0, 1, matcher(4, "job", "x")), "'job' has type 4"),
        (query(0, 1, matcher(-1 & (1 << 64) - 1, "job", "x")), "'job' has type -1"),
        (query(0, 1, matcher(2, "job", "a(")), "'job': error parsing regexp: missing closing"),
        (query(5, 4), "ends at 4 ms, before it starts at 5 ms"),
        (query() * 65, "more than 64 queries"),
        (query(0, 1, matcher(0, "a", "b") * 257), "more than 256 matchers"),
        (bytes_field(2, b"\x80"), "malformed ReadRequest: the message ends within a varint"),
    ],
)
async def test_a_malformed_request_is_bad_data(message: bytes, words: str) -> None:
    with pytest.raises(BadData, match=words):
        await read(message, Service([batch()]))


async def test_a_snappy_bomb_is_refused() -> None:
    with pytest.raises(PayloadTooLarge, match="1048577 bytes"):
        await read(bytes((1 << 20) + 1), Service([]))
    with pytest.raises(BadData, match="malformed snappy"):
        await answer_remote_read(varint(9) + b"!", None, Service([]), "metrics", RemoteReadLimits())  # type: ignore[arg-type]


async def test_another_content_encoding_is_bad_data() -> None:
    with pytest.raises(UnsupportedMediaType, match="content encoding gzip is not read here; only snappy is"):
        await answer_remote_read(b"", "gzip", Service([]), "metrics", RemoteReadLimits())  # type: ignore[arg-type]
