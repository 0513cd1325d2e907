"""Requests as bytes on a socket: what no handler sees is refused in the API's envelope, in our words."""

import asyncio
import json

import pytest
from yarl import URL


@pytest.fixture
async def api(gateways):
    return await gateways.start("timeseries")


class Connection:
    """A socket that reads whole answers."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    @classmethod
    async def to(cls, api):
        return cls(*await asyncio.open_connection("127.0.0.1", int(api.url.rpartition(":")[2])))

    def send(self, data):
        self.writer.write(data)

    async def answer(self):
        """Status, lower-case headers, body."""
        async with asyncio.timeout(30):
            head = await self.reader.readuntil(b"\r\n\r\n")
            first, *lines = head.decode().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)}
            return int(first.split()[1]), headers, await self.reader.readexactly(int(headers.get("content-length", 0)))

    async def is_ended(self):
        async with asyncio.timeout(30):
            try:
                return await self.reader.read() == b""
            except ConnectionError:
                return True


def get(path="/__health", *headers, version="HTTP/1.1"):
    lines = (f"GET {path} {version}", "Host: localhost", *headers, "", "")
    return "\r\n".join(lines).encode()


def post(path, body, *headers):
    return get(path, f"Content-Length: {len(body)}", *headers).replace(b"GET", b"POST", 1) + body


FORM = "Content-Type: application/x-www-form-urlencoded"
CHUNKED = "Transfer-Encoding: chunked"

NEVER_SEEN = [
    (b"\x00\x01\x02\r\n\r\n", 400, "begins with no method"),
    (b"\x16\x03\x01\x02\x00\x01\x00\r\n", 400, "what came is TLS; use http://"),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "is not HTTP/1.1"),
    (b"FETCH / HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, "begins with no method"),
    (get(version="HTTP/9.9"), 400, "does not end in HTTP/1.1"),
    (get(version="SMTP/1.1"), 400, "does not end in HTTP/1.1"),
    (get("/api/v1/query?query=1 + 1"), 400, "does not end in HTTP/1.1"),
    (get("/api/v1/query?query=\x01"), 400, "no valid URL"),
    (get("http://[x/"), 400, "no valid URL"),
    (get("health"), 400, "no valid URL"),
    (get("/" + "x" * 600_000), 414, "filoray.http.max-url-size allows"),
    (get("/__health", "X: " + "x" * 70_000), 431, "filoray.http.max-header-size allows"),
    (get("/__health", "x" * 70_000 + ": 1"), 431, "filoray.http.max-header-size allows"),
    (get("/__health", *(f"X{i}: 1" for i in range(200))), 431, "more than 128 headers"),
    (get("/__health", "Host: y"), 400, "a header that may be there once"),
    (b"GET / HTTP/1.1\r\n\r\n", 400, "no Host header"),
    (get("/__health", "Bad Name: 1"), 400, "a header is malformed"),
    (get("/__health", "NoColon"), 400, "a header is malformed"),
    (get("/__health", "X: a\0b"), 400, "a header is malformed"),
    (get("/api/v1/query", "Content-Length: abc"), 400, "Content-Length is not a number"),
    (get("/api/v1/query", "Content-Length: -1"), 400, "Content-Length is not a number"),
    (get("/api/v1/query", "Content-Length: 99999999999999999999999"), 400, "Content-Length is not a number"),
    (get("/api/v1/query", "Content-Length: 1", CHUNKED), 400, "Transfer-Encoding is malformed"),
    (get("/api/v1/query", "Transfer-Encoding: gzip"), 400, "Transfer-Encoding is malformed"),
    (get("/api/v1/query", FORM, CHUNKED).replace(b"GET", b"POST") + b"zz\r\nquery=1\r\n", 400, "chunk of the body"),
    (get("/api/v1/query", FORM, CHUNKED).replace(b"GET", b"POST") + b"3\r\nquery=1\r\n", 400, "chunk of the body"),
]

REFUSED_BY_HANDLERS = [
    (post("/api/v1/query", b"query=1", FORM, "Content-Encoding: gzip"), 400, "the body is not gzip"),
    (post("/api/v1/query", b"query=1", FORM, "Content-Encoding: zstd"), 415, "gzip and deflate are"),
    (post("/api/v1/query", b"query=1", FORM, "Content-Encoding: br"), 415, "gzip and deflate are"),
    (post("/api/v1/write", b"x", "Content-Encoding: zstd"), 415, "only snappy is"),
    (post("/api/v1/write", b"x", "Content-Encoding: snappy", "Content-Encoding: gzip"), 415, "only snappy is"),
    (post("/api/v1/read", b"x", "Content-Encoding: br"), 415, "only snappy is"),
    (get("/api/v1/query", FORM, "Content-Length: 9999999999").replace(b"GET", b"POST"), 413, "max-query-size"),
    (post("/api/v1/write", b"x", "Expect: magic"), 417, "only 100-continue can"),
    (post("/api/v1/write", b"x", "Expect: x").replace(b"Expect: x", b"Expect: \xff"), 417, "only 100-continue can"),
    (get("/nope"), 404, "no endpoint /nope"),
    (get("/").replace(b"GET /", b"CONNECT x:80"), 404, "no endpoint CONNECT"),
    (get("*").replace(b"GET", b"OPTIONS"), 404, "no endpoint *"),
    (get("/api/v1/%ff%00%zz"), 404, "no endpoint"),
    (get("/api/v1/query").replace(b"GET", b"PATCH"), 405, "it takes GET, HEAD, OPTIONS, POST"),
    (get("/api/v1/query?query=1%zz"), 400, 'invalid URL escape "%zz"'),
]


@pytest.mark.parametrize(("sent", "status", "text"), NEVER_SEEN + REFUSED_BY_HANDLERS)
async def test_whatever_is_refused_is_in_the_envelope(api, sent, status, text):
    connection = await Connection.to(api)
    connection.send(sent)
    answered, headers, body = await connection.answer()
    assert (answered, headers["content-type"]) == (status, "application/json"), body
    envelope = json.loads(body)
    assert (envelope["status"], envelope["errorType"]) == ("error", "not_found" if status == 404 else "bad_data")
    assert text in envelope["error"]
    assert not any(word in envelope["error"] for word in ("bytearray", "b'", "Traceback", "aiohttp", "llhttp"))
    if (sent, status, text) in NEVER_SEEN:
        assert await connection.is_ended()
    connection.writer.close()
    assert (await api.get("/api/v1/cluster"))[0] == 200


async def test_a_fault_outside_of_the_handlers_is_no_html(api):
    api.server._runner.server._handle = lambda request: 1 / 0
    connection = await Connection.to(api)
    connection.send(get("/__health", "Accept: text/html"))
    status, headers, body = await connection.answer()
    assert (status, headers["content-type"]) == (500, "application/json")
    assert json.loads(body)["error"] == "an unexpected error occurred; the gateway's log has it"
    connection.writer.close()


@pytest.mark.parametrize("pieces", [1, 2, 1000])
async def test_a_url_with_bytes_above_ascii_is_read_as_utf_8(api, pieces):
    connection = await Connection.to(api)
    sent = get('/api/v1/query?query=x{v="ü",w="日本"}')
    for _ in range(2):  # on a connection that has answered before too
        size = -(-len(sent) // pieces)
        for first in range(0, len(sent), size):
            connection.send(sent[first : first + size])
            await asyncio.sleep(0)
        assert (await connection.answer())[0] == 200
    assert [request.query for request in api.queries.requests] == ['x{v="ü",w="日本"}'] * 2
    connection.writer.close()


async def test_bodies_keep_their_bytes(api):
    connection = await Connection.to(api)
    body = 'query=x{v="ü"}'.encode()
    sent = post("/api/v1/query", body, FORM)
    for cut in (len(sent), len(sent) - len(body), len(sent) - 3):
        connection.send(sent[:cut])
        await asyncio.sleep(0.02)
        connection.send(sent[cut:])
        assert (await connection.answer())[0] == 200
    assert {request.query for request in api.queries.requests} == {'x{v="ü"}'}
    connection.writer.close()


@pytest.mark.parametrize(
    "path",
    [
        "//api/v1/query",
        "/api/v1/query/",
        "///api//v1///query//",
        "http://x//api/v1/query",
        "//promql/timeseries//api/v1/query",
    ],
)
async def test_doubled_and_trailing_slashes_mean_nothing(api, path):
    connection = await Connection.to(api)
    connection.send(get(f"{path}?query=1"))
    status, _, body = await connection.answer()
    assert status == 200, body
    connection.writer.close()


async def test_a_slash_that_is_encoded_stays(api):
    async with api.client.get(URL(f"{api.url}/api/v1/label/a%2F%2Fb/values", encoded=True)) as response:
        assert response.status == 200
    assert api.queries.requests[0][1] == "a//b"


async def test_a_url_of_200_kb_is_answered(api):
    connection = await Connection.to(api)
    connection.send(get("/api/v1/query?query=up" + "%20" * 70_000))
    assert (await connection.answer())[0] == 200
    assert api.queries.requests[0].query == "up" + " " * 70_000
    connection.writer.close()
