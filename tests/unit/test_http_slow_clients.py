"""Clients that begin and do not go on, or ask and do not listen: they end, and keep nobody else from being served."""

from __future__ import annotations

import asyncio
import re

import numpy as np
import pytest
from aiohttp import ClientConnectionError
from in_process_gateway import vector

from filoray.http.fanout.requests import QueryOutcome, RawSeriesAnswer
from filoray.http.remote.protobuf_writer import bytes_field, varint_field
from filoray.http.remote.remote_write_client import encode_write_request
from filoray.http.remote.snappy_block import compress
from filoray.nodes.data.label_table import LabelTable
from filoray.nodes.data.series_batch import SeriesBatch

FORM = "application/x-www-form-urlencoded"
HEADERS = {"Content-Encoding": "snappy", "Content-Type": "application/x-protobuf"}
WRITE = encode_write_request([({"__name__": "up"}, [1000], [1.0])])


async def connect(api):
    return await asyncio.open_connection("127.0.0.1", int(api.url.rpartition(":")[2]), limit=1024)


async def end_of(reader) -> bytes:
    """What the server still says, up to the end of the connection."""
    said = b""
    async with asyncio.timeout(30):
        try:
            while piece := await reader.read(65536):
                said += piece
        except ConnectionError:
            pass
    return said


@pytest.mark.parametrize("beginning", [b"", b"GET /__health HTTP/1.1\r\nHost: localhost\r\nX-Slow: ", b"POST"])
async def test_a_head_that_does_not_become_complete_ends_the_connection(gateways, beginning):
    api = await gateways.start("timeseries", http={"keepalive_timeout_ms": 200})
    reader, writer = await connect(api)
    writer.write(beginning)
    assert b"200" not in await end_of(reader)
    writer.close()
    assert (await api.get("/api/v1/cluster"))[0] == 200


@pytest.mark.parametrize(
    ("path", "kind", "status"),
    [
        ("/api/v1/write", "application/x-protobuf", 503),  # the samples are to be sent again
        ("/api/v1/read", "application/x-protobuf", 408),
        ("/api/v1/query", "application/x-www-form-urlencoded", 408),
        ("/api/v1/series", "application/x-www-form-urlencoded", 408),
        ("/api/v1/cluster/other", "text/plain", 408),
        ("/api/v1/cluster/timeseries/stopshards", "application/json", 408),
        ("/admin/loglevel/filoray", "text/plain", 408),
    ],
)
async def test_a_body_that_does_not_become_complete_is_refused(gateways, path, kind, status):
    api = await gateways.start("timeseries", http={"body_timeout_ms": 100})
    reader, writer = await connect(api)
    writer.write(
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: 100\r\n\r\nquery=".encode()
    )
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"filoray.http.body-timeout" in await reader.read(1024)
    writer.close()


async def test_slow_senders_keep_nobody_from_writing(gateways):
    api = await gateways.start("timeseries", write={"max_concurrent": 1})
    senders = [await connect(api) for _ in range(5)]
    head = "POST /api/v1/write HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: snappy\r\nContent-Length: 9000\r\n\r\nx"
    for _, writer in senders:
        writer.write(head.encode())
    while b"filoray_http_requests_in_flight 6.0" not in await (await api.client.get("/metrics")).read():
        await asyncio.sleep(0)
    async with asyncio.timeout(30), api.client.post("/api/v1/write", data=WRITE, headers=HEADERS) as response:
        assert response.status == 204
    for _, writer in senders:
        writer.close()


async def test_unfinished_bodies_are_given_up_for_complete_ones(gateways):
    api = await gateways.start("timeseries", write={"max_pending_bytes": 10_000})
    senders = [await connect(api) for _ in range(17)]
    head = "POST /api/v1/write HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: snappy\r\nContent-Length: 9000\r\n\r\n"
    for _, writer in senders:
        writer.write(head.encode() + b"x" * 990)
    body = encode_write_request([({"__name__": "up", "i": str(i)}, [1000], [1.0]) for i in range(30)])
    for _ in range(20):
        async with api.client.post("/api/v1/write", data=body, headers=HEADERS) as response:
            assert response.status == 204
    reader, writer = senders[0]
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"Retry-After: 1" in head
    assert b"the body was not complete when its place was needed for others" in await reader.read(1024)
    for _, writer in senders:
        writer.close()


async def test_clients_that_take_nothing_go_when_others_need_their_place(gateways):
    http = {"max_unsent_bytes": 60_000_000, "slow_client_patience_ms": 50, "max_client_percent": 100}
    api = await gateways.start("timeseries", http=http, query={"max_concurrent": 2})
    api.queries.outcome = QueryOutcome(vector(*np.random.default_rng(1).random((2_000, 1_000))))
    readers = [await connect(api) for _ in range(8)]
    for _, writer in readers:
        writer.write(b"GET /api/v1/query_range?query=up&start=0&end=999&step=1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
    async with asyncio.timeout(30):
        while len(api.queries.requests) < 8:  # no slot is held by who does not read
            await asyncio.sleep(0.01)
        async with api.client.get("/api/v1/query_range?query=up&start=0&end=999&step=1") as response:
            assert len(await response.read()) > 10_000_000
    metrics = (await (await api.client.get("/metrics")).read()).decode()
    counted = r'filoray_http_requests_total{code="499",method="GET",route="/api/v1/query_range"} (\d)'
    assert int(re.search(counted, metrics)[1]) >= 6  # three answers fit beside each other, of the nine that there were
    for _, writer in readers:
        writer.close()


async def test_a_client_that_does_not_take_its_answer_is_cut_off(gateways):
    api = await gateways.start("timeseries", http={"send_timeout_ms": 200})
    api.queries.outcome = QueryOutcome(vector(*np.random.default_rng(1).random((2_000, 1_000))))
    reader, writer = await connect(api)
    writer.write(b"GET /api/v1/query_range?query=up&start=0&end=999&step=1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    metrics = b""
    async with asyncio.timeout(30):
        while b"filoray_http_requests_in_flight 1.0" not in metrics:
            metrics = await (await api.client.get("/metrics")).read()
    assert b'code="499",method="GET",route="/api/v1/query_range"} 1.0' in metrics
    assert not (await end_of(reader)).endswith(b"0\r\n\r\n"), "the answer was taken whole"
    writer.close()


@pytest.mark.parametrize("size_bytes", [600_000, 5_000_000])
async def test_a_head_over_its_limit_is_refused(gateways, size_bytes):
    api = await gateways.start("timeseries")
    for line in ("X-Large: {}", "Cookie: a={}"):
        reader, writer = await connect(api)
        try:
            writer.write(
                f"GET /__health HTTP/1.1\r\nHost: localhost\r\n{line.format('x' * size_bytes)}\r\n\r\n".encode()
            )
            await writer.drain()
        except ConnectionError:
            pass
        answer = await end_of(reader)
        assert answer[8:13] in (b" 431 ", b""), answer[:100]  # reset, where it was still sending
        writer.close()
    with pytest.raises((ClientConnectionError, AssertionError)):
        async with api.client.get("/api/v1/query?query=" + "x" * size_bytes) as response:
            assert response.status == 200
    assert (await api.get("/api/v1/cluster"))[0] == 200


@pytest.mark.parametrize("before", [b"", b"GET /__health HTTP/1.1\r\nHost: localhost\r\n\r\n"])
async def test_the_headers_of_one_request_together_have_a_limit(gateways, before):
    api = await gateways.start("timeseries")
    line = b"X-Long: " + b"a" * 60_000 + b"\r\n"
    reader, writer = await connect(api)
    for url in (b"/__health", b"/__health?a=" + b"x" * 400_000):
        writer.write(b"GET " + url + b" HTTP/1.1\r\nHost: localhost\r\n" + 2 * line + b"\r\n")
        assert b" 200 " in await reader.readuntil(b"All good")  # what is below the limit is answered
    writer.close()
    reader, writer = await connect(api)
    if before:
        writer.write(before)
        assert (await reader.readuntil(b"All good")).startswith(b"HTTP/1.1 200 ")
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n" + 11 * line)  # and no end
    said = await end_of(reader)
    assert (said[:13], said.count(b"HTTP/1.0 ")) == (b"HTTP/1.0 431 ", 1)
    assert b"all headers together are longer than 655360 bytes" in said
    writer.close()


async def test_unfinished_forms_are_given_up_for_complete_ones(gateways):
    api = await gateways.start("timeseries", http={"max_pending_bytes": 10_000})
    senders = [await connect(api) for _ in range(17)]
    head = f"POST /api/v1/query HTTP/1.1\r\nHost: localhost\r\nContent-Type: {FORM}\r\nContent-Length: 9000\r\n\r\n"
    for _, writer in senders:
        writer.write(head.encode() + b"x" * 990)
    form = {"query": "up" + " " * 3000}
    for _ in range(20):
        assert (await api.post("/api/v1/query", data=form))[0] == 200
    reader, _ = senders[0]
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 503 ")
    for _, writer in senders:
        writer.close()


async def test_forms_that_wait_for_their_turn_are_held_within_a_limit(gateways):
    api = await gateways.start("timeseries", http={"max_pending_bytes": 10_000, "max_client_percent": 100})
    api.queries.hold = asyncio.Event()
    form = {"query": "up" + " " * 4000}
    asking = [asyncio.create_task(api.post("/api/v1/query", data=form)) for _ in range(4)]
    while sum(task.done() for task in asking) < 2:
        await asyncio.sleep(0.01)
    api.queries.hold.set()
    answers = await asyncio.gather(*asking)
    assert sorted(status for status, _ in answers) == [200, 200, 503, 503]
    assert "filoray.http.max-pending-size = 10000" in next(body["error"] for status, body in answers if status == 503)


async def test_a_remote_read_that_is_not_taken_holds_no_slot(gateways):
    api = await gateways.start("timeseries", query={"max_concurrent": 1})
    count, samples = 100, 20_000
    labels = LabelTable.from_label_sets([{"__name__": "up", "i": str(i)} for i in range(count)])
    offsets = np.arange(count + 1) * samples
    times = np.tile(np.arange(samples) * 1000, count)
    batch = SeriesBatch(labels, offsets, times, np.random.default_rng(1).random(count * samples))
    reading = asyncio.Event()

    async def read_raw(request):
        reading.set()
        return RawSeriesAnswer(batch)

    api.queries.read_raw = read_raw
    _, writer = await connect(api)
    body = compress(bytes_field(1, varint_field(2, 10**12)) + varint_field(2, 1))
    writer.write(
        f"POST /api/v1/read HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    )
    await reading.wait()
    async with asyncio.timeout(30):
        assert (await api.get("/api/v1/query?query=1"))[0] == 200
        metrics = await (await api.client.get("/metrics")).read()
    assert b"filoray_http_requests_in_flight 2.0" in metrics  # this one, and the read, which is still being sent
    writer.close()


@pytest.mark.parametrize("path", ["/", "/nope", "/metrics"])
async def test_a_client_that_takes_no_small_answers_is_cut_off_too(gateways, path):
    api = await gateways.start("timeseries", http={"send_timeout_ms": 100})
    _, writer = await connect(api)
    sent = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() * 200
    async with asyncio.timeout(60):
        try:
            while not writer.is_closing():
                writer.write(sent)
                await writer.drain()
        except ConnectionError:
            pass
        while api.server._runner.server.connections:
            await asyncio.sleep(0.01)
    writer.close()
    assert (await api.get("/api/v1/cluster"))[0] == 200


async def test_requests_that_are_sent_ahead_are_read_as_others_are_answered(gateways):
    api = await gateways.start("timeseries")
    api.queries.hold = asyncio.Event()
    _, writer = await connect(api)
    writer.write(b"GET /api/v1/query?query=up HTTP/1.1\r\nHost: localhost\r\n\r\n")
    while not api.queries.requests:
        await asyncio.sleep(0.01)
    ahead = b"GET /__health HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"x" * 1000 + b"\r\n\r\n"
    writer.write(ahead * 60_000)
    unsent = [writer.transport.get_write_buffer_size()]
    while len(set(unsent[-10:])) > 1 or len(unsent) < 10:
        await asyncio.sleep(0.05)
        unsent.append(writer.transport.get_write_buffer_size())
    assert unsent[-1] > 20_000_000  # the server takes what its socket's buffers hold, and little beyond
    api.queries.hold.set()
    writer.transport.abort()
