"""Remote read over HTTP: which answers are sent how."""

import logging

import pytest
from in_process_gateway import error

from filoray.http.remote.protobuf_writer import bytes_field, varint_field
from filoray.http.remote.snappy_block import compress, decompress
from filoray.nodes.data.matching import LabelMatcher, MatchOp

EQUAL, REGEX = 0, 2
CHUNKS = varint_field(2, 1)


@pytest.fixture
async def api(gateways):
    return await gateways.start("timeseries")


def read_request(kind, value, more=b""):
    matcher = varint_field(1, kind) + bytes_field(2, b"__name__") + bytes_field(3, value)
    return compress(bytes_field(1, varint_field(1, 1000) + varint_field(2, 2000) + bytes_field(3, matcher)) + more)


HEADERS = {"Content-Encoding": "snappy", "Content-Type": "application/x-protobuf"}


@pytest.mark.parametrize("path", ["/api/v1/read", "/promql/timeseries/api/v1/read"])
async def test_samples_come_as_one_snappy_message(api, path, caplog):
    with caplog.at_level(logging.WARNING, "filoray.http"):
        async with api.client.post(path, data=read_request(EQUAL, b"up"), headers=HEADERS) as response:
            body = await response.read()
            assert (response.status, response.content_type) == (200, "application/x-protobuf")
            assert response.headers["Content-Encoding"] == "snappy"
            assert response.headers["X-Request-Id"]
    assert decompress(body, 1 << 20, "test").tobytes().count(b"__name__") == 2
    request = api.queries.requests[0]
    assert (request.dataset, request.start_ms, request.end_ms) == ("timeseries", 1000, 2000)
    assert list(request.selectors) == [(LabelMatcher("__name__", MatchOp.EQUAL, "up"),)]
    assert "a chunk was skipped" in caplog.text


async def test_chunks_are_streamed_where_they_are_accepted(api):
    async with api.client.post("/api/v1/read", data=read_request(EQUAL, b"up", CHUNKS), headers=HEADERS) as response:
        body = await response.read()
        assert (response.status, response.content_type) == (200, "application/x-streamed-protobuf")
        assert response.headers["Content-Type"].endswith("proto=prometheus.ChunkedReadResponse")
        assert "Content-Encoding" not in response.headers
    assert body.count(b"__name__") == 2


async def test_reads_that_make_no_sense_are_400(api):
    for data in (b"\xff\xff", compress(b"\x0a\xff"), read_request(REGEX, b"a(")):
        async with api.client.post("/api/v1/read", data=data, headers=HEADERS) as response:
            answer = await response.json()
            assert (response.status, answer["errorType"]) == (400, "bad_data")
    assert "a(" in answer["error"]
    assert api.queries.requests == []


async def test_a_read_over_its_limit_is_413(api):
    async with api.client.post("/api/v1/read", data=b"x" * (1024 * 1024 + 1), headers=HEADERS) as response:
        assert (response.status, await response.json()) == (
            413,
            error("bad_data", "the body has 1048577 bytes; a remote read request may have 1048576"),
        )
