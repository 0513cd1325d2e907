"""What travels between gateways and nodes comes out as it went in."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest

from filoray.cluster.errors import BadData, ExecutionError, FilorayError, StaleRoute
from filoray.nodes.data.matching import LabelMatcher, MatchOp
from filoray.nodes.data.metric_metadata import HELP_CHARACTERS_MAX, MetricMetadata
from filoray.nodes.wire.copy_bodies import (
    ENTRIES_MAX,
    BatchRange,
    Entries,
    SessionEntries,
    Step,
    Stored,
    SyncStep,
    decode_held,
    decode_stored,
    encode_held,
    encode_stored,
    frames_by_shard,
)
from filoray.nodes.wire.protocol import Kind, MalformedRequest, ReplyHeader, RequestHeader
from filoray.nodes.wire.request_bodies import (
    MetadataQuestion,
    MetricEntries,
    MetricQuestion,
    RequestBody,
    read_body,
    write_body,
)

NOT_UTF8 = "\udcff \ud800"  # the byte 0xff as a query's "\xff" has it, and a lone surrogate of other origin


def test_a_request_comes_out_as_it_went_in():
    header = RequestHeader(7, Kind.VALUES, 3, "timeseries", ((0, 1), (5, 9)), 1_500, ["up", NOT_UTF8, None, 1.5])
    assert RequestHeader.decode(header.encode()) == header


@pytest.mark.parametrize(
    ("error", "arrives_as"),
    [
        (StaleRoute("epoch 3 was asked, this is 4"), (StaleRoute, "epoch 3 was asked, this is 4")),
        (
            ExecutionError(f"invalid label name: {NOT_UTF8}"),
            (ExecutionError, f"invalid label name: {NOT_UTF8}"),
        ),
        (ZeroDivisionError("by zero"), (FilorayError, "ZeroDivisionError: by zero")),
    ],
)
def test_an_error_arrives_with_its_class_and_text(error, arrives_as):
    header = ReplyHeader.decode(ReplyHeader.of_error(7, error).encode())
    with pytest.raises(FilorayError) as raised:
        header.raise_error()
    assert (type(raised.value), raised.value.message) == arrives_as


GOOD_HEADER = [7, int(Kind.QUERY), 3, "timeseries", [[0, 1]], 1_000, None]


def header_with(place: int, value: Any) -> bytes:
    fields = list(GOOD_HEADER)
    fields[place] = value
    return msgpack.packb(fields)


@pytest.mark.parametrize(
    ("data", "request_id", "says"),
    [
        (b"", None, "data-plane message"),
        (b"\xc1", None, "data-plane message"),
        (msgpack.packb("text"), None, "the header"),
        (msgpack.packb([]), None, "the header"),
        (msgpack.packb({1: 2}), None, "data-plane message"),
        (b"\x91" * 5000 + b"\x90", None, "data-plane message"),
        (msgpack.packb(GOOD_HEADER) + b"\x00", None, "extra"),
        (msgpack.packb(GOOD_HEADER)[:-3], None, "data-plane message"),
        (msgpack.packb(GOOD_HEADER[:6]), 7, "an array of 7 entries"),
        (header_with(0, -1), None, "request_id is -1"),
        (header_with(0, 1.0), None, "request_id is 1.0"),
        (header_with(0, []), None, "request_id is []"),
        (header_with(1, 99), 7, "kind is 99"),
        (header_with(1, True), 7, "kind is True"),
        (header_with(2, "3"), 7, "incarnation is '3'"),
        (header_with(2, 1 << 40), 7, "incarnation is"),
        (header_with(3, []), 7, "dataset is []"),
        (header_with(3, {"a": 1}), 7, "dataset is {'a': 1}"),
        (header_with(3, "d" * 129), 7, "dataset is str of length 129"),
        (header_with(3, b"timeseries"), 7, "dataset is b'timeseries'"),
        (header_with(4, 5), 7, "shards is 5"),
        (header_with(4, [[0]]), 7, "a shard with its epoch is [0]"),
        (header_with(4, [[0, 1, 2]]), 7, "a shard with its epoch"),
        (header_with(4, [["0", 1]]), 7, "a shard is '0'"),
        (header_with(4, [[-1, 1]]), 7, "a shard is -1"),
        (header_with(4, [[0, 1 << 63]]), 7, "an epoch is 9223372036854775808"),
        (header_with(4, [[0, None]]), 7, "an epoch is None"),
        (header_with(4, [[0, 1], [0, 2]]), 7, "pairs of different shards"),
        (header_with(5, "1000"), 7, "timeout_ms is '1000'"),
        (header_with(5, -1), 7, "timeout_ms is -1"),
        (header_with(5, 1 << 62), 7, "timeout_ms is"),
        (header_with(5, float("nan")), 7, "timeout_ms is nan"),
        (header_with(6, msgpack.ExtType(1, b"x")), None, ""),
    ],
)
def test_what_is_no_header_is_said_so(data: bytes, request_id: int | None, says: str) -> None:
    if says:
        with pytest.raises(MalformedRequest, match="malformed") as raised:
            RequestHeader.decode(data)
        assert (raised.value.request_id, says in raised.value.message) == (request_id, True), raised.value.message
    else:
        with pytest.raises(BadData, match="body is ExtType"):  # what is in it is for its kind to judge
            read_body(RequestHeader.decode(data), 1)


def question(kind: Kind, body: Any, shards: tuple[tuple[int, int], ...] = ((0, 1),)) -> RequestHeader:
    return RequestHeader(7, kind, 3, "timeseries", shards, 1_000, body)


@pytest.mark.parametrize(
    ("kind", "body", "frames", "says"),
    [
        (Kind.WRITE, None, 0, "a container for each of its shards, not 0 for 1"),
        (Kind.WRITE, None, 2, "a container for each of its shards, not 2 for 1"),
        (Kind.WRITE, "x", 1, "body is 'x'"),
        (Kind.QUERY, None, 0, "QUERY has 1 frames, not 0"),
        (Kind.QUERY, [], 1, "body is []"),
        (Kind.SERIES, None, 0, "body is None"),
        (Kind.SERIES, [[], 0, 1, 0, None], 1, "SERIES has 0 frames"),
        (Kind.SERIES, [[], 0, 1, 0], 0, "an array of 5 entries"),
        (Kind.SERIES, [[], 0, 1, 0, "job"], 0, "label name is 'job'"),
        (Kind.SERIES, [[], "0", 1, 0, None], 0, "start_ms is '0'"),
        (Kind.SERIES, [[], 0, 1 << 64, 0, None], 0, "end_ms is"),
        (Kind.SERIES, [[], 0, 1, -1, None], 0, "limit is -1"),
        (Kind.SERIES, ["up", 0, 1, 0, None], 0, "selectors is 'up'"),
        (Kind.SERIES, [["up"], 0, 1, 0, None], 0, "a selector is 'up'"),
        (Kind.SERIES, [[[["job", "="]]], 0, 1, 0, None], 0, "a label matcher is ['job', '=']"),
        (Kind.SERIES, [[[[7, "=", "x"]]], 0, 1, 0, None], 0, "a label's name is 7"),
        (Kind.SERIES, [[[["job", "=", b"x"]]], 0, 1, 0, None], 0, "a label's value is b'x'"),
        (Kind.SERIES, [[[["job", "~", "x"]]], 0, 1, 0, None], 0, "operator is '~'"),
        (Kind.SERIES, [[[["job", [], "x"]]], 0, 1, 0, None], 0, "operator is []"),
        (Kind.SERIES, [[[["a", "=", "b"]] * 60_000] * 2, 0, 1, 0, None], 0, "120000 label matchers"),
        (Kind.VALUES, [[], 0, 1, 0, None], 0, "label name is None"),
        (Kind.RAW, [[], 0, 1, 0, None], 0, "at least one selector"),
        (Kind.METADATA, ["up"], 0, "an array of 2 entries"),
        (Kind.METADATA, [5, 0], 0, "metric is 5"),
        (Kind.METADATA, ["up", None], 0, "limit is None"),
        (Kind.PUT_METADATA, [], 0, "an array of 1 entries"),
        (Kind.PUT_METADATA, [[["up", "gauge", "help"]]], 0, "an array of 4 entries"),
        (Kind.PUT_METADATA, [[[5, "gauge", "help", ""]]], 0, "a metric's name is 5"),
        (Kind.PUT_METADATA, [[["", "gauge", "help", ""]]], 0, "a metric's name is ''"),
        (Kind.PUT_METADATA, [[["up", None, "help", ""]]], 0, "a metric's type is None"),
        (Kind.PUT_METADATA, [[["up", "gauge", b"help", ""]]], 0, "a metric's help is b'help'"),
        (Kind.PUT_METADATA, [[["up", "gauge", "h" * (HELP_CHARACTERS_MAX + 1), ""]]], 0, "a metric's help is str"),
        (Kind.PUT_METADATA, [[["up", "gauge", "help", "\ud800"]]], 0, "text in UTF-8"),
        (Kind.SYNC, [0, 9, int(Step.BEGIN), 0], 0, "an array of 5 entries"),
        (Kind.SYNC, [-1, 9, int(Step.BEGIN), 0, []], 0, "generation is -1"),
        (Kind.SYNC, [0, "9", int(Step.BEGIN), 0, []], 0, "session is '9'"),
        (Kind.SYNC, [0, 9, 6, 0, []], 0, "step is 6"),
        (Kind.SYNC, [0, 9, int(Step.PIECE), None, []], 1, "number is None"),
        (Kind.SYNC, [0, 9, int(Step.METRICS), 0, [["up", "gauge"]]], 0, "an array of 4 entries"),
        (Kind.SYNC, [0, 9, int(Step.PIECE), 0, []], 0, "SYNC has 1 frames here, not 0"),
        (Kind.SYNC, [0, 9, int(Step.END), 0, []], 1, "SYNC has 0 frames here, not 1"),
        (Kind.REPLICATE, [0], 0, "an array of 2 entries"),
        (Kind.REPLICATE, [0, []], 0, "an array of 1 entries"),
        (Kind.REPLICATE, [0, [[9, 1]]], 0, "an array of 3 entries"),
        (Kind.REPLICATE, [0, [[9, 0, 1]]], 1, "the first entry's number is 0"),
        (Kind.REPLICATE, [0, [[9, 1, 0]]], 0, "a count of entries is 0"),
        (Kind.REPLICATE, [0, [[9, 1, ENTRIES_MAX + 1]]], 1, "a count of entries is"),
        (Kind.REPLICATE, [0, [[9, 1, 2]]], 1, "REPLICATE has 2 frames here, not 1"),
        (Kind.REPLICATE, [None, [[9, 1, 1]]], 1, "generation is None"),
        (Kind.CHECK, [0, 1, 2], 0, "an array of 4 entries"),
        (Kind.CHECK, [0, "1", 2, 1 << 20], 0, "the first batch's id is '1'"),
        (Kind.CHECK, [0, 1, None, 1 << 20], 0, "the last batch's id is None"),
        (Kind.CHECK, [0, 1, 2, 0], 0, "bytes a second is 0"),
        (Kind.CHECK, [0, 1, 2, 1 << 20], 1, "CHECK has 0 frames, not 1"),
    ],
)
def test_a_body_that_is_not_its_kinds_is_said_so(kind: Kind, body: Any, frames: int, says: str) -> None:
    with pytest.raises(BadData) as raised:
        read_body(question(kind, body), frames)
    assert says in raised.value.message


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind not in (Kind.CANCEL, Kind.FIGURES)])
def test_a_request_names_its_shards(kind: Kind) -> None:
    with pytest.raises(BadData, match=r"shards is \[\]"):
        read_body(question(kind, None, shards=()), 0)


def test_a_request_for_figures_names_none() -> None:
    assert read_body(question(Kind.FIGURES, None, shards=()), 0) is None
    with pytest.raises(BadData, match=r"shards is \[\(0, 1\)\]"):
        read_body(question(Kind.FIGURES, None), 0)


def test_bodies_come_out_as_their_kind() -> None:
    selectors = [[["job", "=~", NOT_UTF8]]]
    assert read_body(question(Kind.WRITE, None), 1) is None
    values = read_body(question(Kind.VALUES, [selectors, -1, 2, 3, NOT_UTF8]), 0)
    assert isinstance(values, MetadataQuestion)
    assert (values.selectors[0][0].value, values.start_ms, values.limit, values.name) == (NOT_UTF8, -1, 3, NOT_UTF8)
    assert read_body(question(Kind.METADATA, ["up", 5]), 0) == MetricQuestion("up", 5)
    entries = read_body(question(Kind.PUT_METADATA, [[["up", "gauge", "hélp", ""]]]), 0)
    assert entries == MetricEntries(((MetricMetadata("up", "gauge", "hélp", ""),),))
    step = SyncStep(2, 9, Step.METRICS, 3, (MetricMetadata("up", "gauge", "hélp", ""),))
    assert read_body(question(Kind.SYNC, as_sent(step.encode())), 0) == step
    batches = BatchRange(2, -7, 9, 1 << 20)
    assert read_body(question(Kind.CHECK, as_sent(batches.encode())), 0) == batches
    sent = Entries(2, (SessionEntries(9, 4, 2), SessionEntries(8, 1, 1)))
    found = read_body(question(Kind.REPLICATE, as_sent(sent.encode()), ((0, 1), (5, 2))), 3)
    assert found == sent
    assert frames_by_shard(sent, [b"a", b"b", b"c"]) == [[b"a", b"b"], [b"c"]]


def test_answers_to_leaders_come_out_as_they_went_in() -> None:
    stored = [Stored(7), Stored(0, ("StaleRoute", "that session is over"))]
    assert decode_stored(as_sent(encode_stored(stored)), 2) == stored
    with pytest.raises(BadData, match="an array of 1 entries"):
        decode_stored(as_sent(encode_stored(stored)), 1)
    held = [(1, (1 << 64) - 1), (2, 0)]
    assert decode_held(as_sent(encode_held(held))) == held
    with pytest.raises(BadData, match="a batch's checksum is -1"):
        decode_held([[1, -1]])


def as_sent(plain: object) -> Any:
    return msgpack.unpackb(msgpack.packb(plain))


@pytest.mark.parametrize(
    ("kind", "body", "plain"),
    [
        (Kind.SERIES, MetadataQuestion((), -5, 7, 0), [[], -5, 7, 0, None]),
        (
            Kind.VALUES,
            MetadataQuestion(((LabelMatcher("job", MatchOp.REGEX, "a|b"),), ()), 0, 1, 2, NOT_UTF8),
            [[[["job", "=~", "a|b"]], []], 0, 1, 2, NOT_UTF8],
        ),
        (Kind.VALUES, MetadataQuestion((), 0, 1, 0, ""), [[], 0, 1, 0, ""]),
        (Kind.METADATA, MetricQuestion("", 9), ["", 9]),
        (
            Kind.PUT_METADATA,
            MetricEntries(((MetricMetadata("up", "gauge", "hélp", ""),),)),
            [[("up", "gauge", "hélp", "")]],
        ),
        (Kind.QUERY, None, None),
    ],
)
def test_a_body_that_was_written_is_read_as_it_was(kind: Kind, body: RequestBody, plain: object) -> None:
    assert write_body(kind, body) == plain
    header = question(kind, write_body(kind, body))
    assert read_body(RequestHeader.decode(header.encode()), int(kind is Kind.QUERY)) == body


@pytest.mark.parametrize(
    "fields",
    [[], [1], "x", [[], None, None], [1, "x", None], [1, ["StaleRoute"], None], [1, [1, 2], None], [-1, None, 0]],
)
def test_what_is_no_reply_is_said_so(fields: Any) -> None:
    with pytest.raises(BadData, match="malformed"):
        ReplyHeader.decode(msgpack.packb(fields))
