"""What comes in at each door of a cluster when somebody leans on it: requests made from a seed, and what they are owed.

A door is a function that makes one raw HTTP request; ``lean_on`` sends such requests and checks every answer: it
arrives, it is no 500, and what is refused is refused in the JSON envelope.
"""

from __future__ import annotations

import random
import socket
from collections import Counter
from collections.abc import Callable
from urllib.parse import quote

import orjson

from filoray.http.remote.remote_write_client import encode_write_request
from filoray.http.remote.snappy_block import compress

ANSWER_TIMEOUT_S = 60
"""Far longer than any of these requests takes: an answer that is not there by then never comes."""
_PATIENCE_S = 0.2
DATASET = "timeseries"
_PATH = f"/promql/{DATASET}/api/v1"

_PARAMETERS = (
    "query", "time", "start", "end", "step", "timeout", "limit", "match[]", "stats", "spread", "metric", "dataset",
    "lookback_delta", "explainOnly", "allowPartialResults", "verbose", "histogramMap",
)  # fmt: skip
_VALUES = (
    "", "0", "1", "-1", "1e3", "1e400", "-1e17", "NaN", "Inf", "0x1p3", "9223372036854775807", "99999999999999999999",
    "1_0", "5m", "1y", "-5m", "1h30m", "300d0", "2024-01-01T00:00:00Z", "9999-99-99T00:00:00Z", "true", "all", "up",
    "{}", '{__name__=~".+"}', "up{", "\x00", "é", "\udcff", "x" * 5000, "(" * 500, "sum(" * 300 + "up" + ")" * 300,
    "+".join(["up"] * 400), "-" * 999 + "1", "up[5m:1s]", "rate(up[5m]) @ 1700000500000000000", "up offset 9999y",
    'label_replace(up, "a", "$1", "b", "((a*)*)*")', '{a=~"(x|y){1,500}"}', "count_values('v', up)", "topk(1e9, up)",
    "quantile(NaN, up)", "up and on() up", "1 / 0", "vector(1) ^ -5",
)  # fmt: skip
_HOCON = (
    "{", "}", "[", "]", "=", ":", "+=", ",", "\n", " ", '"', '"""', "${a}", "${?a}", "${a.b}", "include",
    'include "x"', "include file(\"/etc/passwd\")", "#", "//", "a", "b.c", '"a.b"', "dataset", "num-shards",
    "sourceconfig", "store", "1", "1.5", "1e9", "-", "5m", "512MB", "true", "null", "é", "\\", "\\u12",
    "a=${a}${a}\n", "${PATH}", "${HOME}", "\ufeff", "\x00", "x" * 300, "{a={" * 30,
    "sourcefactory = filodb.kafka.KafkaIngestionStreamFactory", "plugin.library.paths=/tmp/x.so",
    "bootstrap.servers=\"127.0.0.1:1\"", "sourcefactory = filodb.coordinator.sources.CsvStreamFactory",
    'file = "/etc/passwd"',
)  # fmt: skip
_HEADERS = (
    "Content-Length", "Transfer-Encoding", "Content-Type", "Content-Encoding", "Accept-Encoding", "Expect", "Origin",
    "Range", "Connection", "Upgrade", "X-Request-Id", "X-Forwarded-For", "Authorization", "Cookie", "If-None-Match",
    "Accept",
)  # fmt: skip
_HEADER_VALUES = (
    "", "0", "-1", "5", "99999999999999999999", "chunked", "gzip", "deflate", "snappy", "zstd", "br", "identity", "*",
    "100-continue", "null", "http://evil.example", "bytes=0-1", "close", "keep-alive", "websocket", "h2c", "a" * 9000,
    "é", "\x01", "x\ty", "application/x-www-form-urlencoded", "multipart/form-data; boundary=b",
    "multipart/form-data", "application/json", "text/plain", "application/x-protobuf",
    "application/x-protobuf;proto=io.prometheus.write.v2.Request", "Basic Og==", "Bearer x", "Basic \udcff",
)  # fmt: skip

_READ_ENDPOINTS = (
    "query", "query", "query_range", "series", "labels", "label/job/values", "label/é/values", "metadata",
    "format_query", "parse_query", "query_exemplars", "rules",
)  # fmt: skip
_TARGETS = (
    "/", "//", "/__health", "/__members", "/metrics", "/admin/actors", "/api/v1/cluster",
    f"/api/v1/cluster/{DATASET}/status", f"/api/v1/cluster/{DATASET}/shards/99999999999/story",
    f"/api/v1/cluster/{DATASET}/startshards", f"/api/v1/cluster/{DATASET}/stopshards", "/api/v1/queries",
    "/api/v1/queries/x", f"{_PATH}/read", f"{_PATH}/write", f"{_PATH}/query", "/%2e%2e/etc/passwd", "/a/../b",
    "/%ff", "/%", "*", "http://x/y", "/" + "a" * 2000,
)  # fmt: skip
_BODIES = (
    b"", b"{", b'{"shardList": [9999999999999999999]}', b'{"shardList": "x"}', b'{"address": 5}', b"[" * 5000,
    b"--b\r\n\r\nx\r\n--b--", b"query=1", b"DEBUG", b"5\r\nhello\r\n0\r\n\r\n", b"ZZ\r\n",
)  # fmt: skip


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def request(method: str, target: str, body: bytes = b"", headers: tuple[tuple[str, str], ...] = ()) -> bytes:
    """One HTTP/1.1 request that asks for the connection to be closed."""
    named = {name.lower() for name, _ in headers}
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    if "host" not in named:
        lines.insert(1, "Host: localhost")
    if "content-length" not in named and "transfer-encoding" not in named and (body or method in ("POST", "PUT")):
        lines.append(f"Content-Length: {len(body)}")
    if "connection" not in named:
        lines.append("Connection: close")
    return _bytes("\r\n".join(lines) + "\r\n\r\n") + body


def _damaged(source: random.Random, data: bytes) -> bytes:
    """Some bytes of ``data`` flipped, cut out, doubled or replaced."""
    damaged = bytearray(data)
    for _ in range(source.randint(1, 6)):
        at = source.randrange(len(damaged) + 1)
        match source.randrange(4):
            case 0 if at < len(damaged):
                damaged[at] ^= 1 << source.randrange(8)
            case 1:
                del damaged[at : at + source.randint(1, 20)]
            case 2:
                damaged[at:at] = damaged[at : at + source.randint(1, 50)]
            case _:
                damaged[at:at] = source.randbytes(source.randint(1, 8))
    return bytes(damaged)


def _form(source: random.Random) -> str:
    fields = []
    for _ in range(source.randint(0, 5)):
        value = source.choice(_VALUES)
        as_sent = quote(_bytes(value)) if source.random() < 0.8 else value.replace(" ", "+").replace("\x00", "%00")
        fields.append(f"{quote(source.choice(_PARAMETERS))}={as_sent}")
    return source.choice("&&&;").join(fields)


def parameters(source: random.Random) -> bytes:
    """The read API with parameters of all kinds, in the URL and in forms."""
    endpoint = source.choice(_READ_ENDPOINTS)
    base = source.choice((_PATH, _PATH, "/api/v1", f"/{_PATH}", "/promql/none/api/v1"))
    query = _form(source)
    if source.random() < 0.6:
        target = f"{base}/{endpoint}?{query}"
        for raw in (" ", "\r", "\n", "\t", "\x01"):
            target = target.replace(raw, "%20")
        return request("GET", target)
    return request(
        "POST", f"{base}/{endpoint}", _bytes(query), (("Content-Type", "application/x-www-form-urlencoded"),)
    )


def bodies(source: random.Random) -> bytes:
    """Every endpoint with every method, hostile headers and bodies, and requests that are hardly HTTP."""
    method = source.choice(("GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE", "get", "X" * 40))
    target = source.choice((*_TARGETS, f"/admin/loglevel/{'a.' * source.randint(0, 400)}x"))
    headers = tuple((source.choice(_HEADERS), source.choice(_HEADER_VALUES)) for _ in range(source.randint(0, 4)))
    body = source.choice((*_BODIES, source.randbytes(200)))
    if method in ("DELETE", "POST", "PUT") and target.endswith(("stopshards", DATASET)):
        body = b"{"  # what would really stop or delete is another test's
    whole = request(method, target, body, headers)
    return _damaged(source, whole) if source.random() < 0.2 else whole


def hocon(source: random.Random) -> bytes:
    """Source configurations: pieces of HOCON in any order, and damaged JSON; few of them are accepted."""
    if source.random() < 0.7:
        text = _bytes("".join(source.choices(_HOCON, k=source.randint(1, 40))))
    else:
        plain = {
            "dataset": "fuzzed",
            "num-shards": source.choice((0, -1, 3, 1 << 62, "x", None, 2.5)),
            "min-num-nodes": source.choice((0, 1, "1", [])),
            "sourcefactory": source.choice(("filoray.nodes.streams.LogStreamFactory", "x", 7, None)),
            "sourceconfig": source.choice(
                ({}, [], {"store": {"flush-interval": source.choice(_VALUES)}}, {"store": 5})
            ),
        }
        text = orjson.dumps(plain, option=orjson.OPT_INDENT_2)
        text = _damaged(source, text) if source.random() < 0.5 else text
    return request("POST", "/api/v1/cluster/fuzzed", text)


def remote_write(source: random.Random) -> bytes:
    """Remote writes: good ones, damaged before and after compression, and of hostile samples and labels."""
    labels = {
        source.choice(("__name__", "a", "é", "", "0", "x" * 2000, "_ws_")): source.choice(_VALUES) for _ in range(4)
    }
    labels = {_clean(name): _clean(value) for name, value in labels.items()}
    times = [
        source.choice((0, -1, 1_700_000_000_000, 1_700_000_000, (1 << 63) - 1, -(1 << 63)))
        for _ in range(source.randint(0, 5))
    ]
    values = [source.choice((0.0, float("nan"), float("inf"), -0.0, 1e308)) for _ in times]
    body = encode_write_request([({"__name__": "fuzzed", **labels}, times, values)])
    match source.randrange(4):
        case 0:
            body = _damaged(source, body)
        case 1:
            body = compress(_damaged(source, bytes(source.randbytes(source.randint(0, 300)))))
        case 2:
            body = source.randbytes(source.randint(0, 400))
    endpoint = source.choice(("write", "write", "write", "read"))
    headers = (("Content-Encoding", "snappy"), ("Content-Type", "application/x-protobuf"))
    return request("POST", f"{_PATH}/{endpoint}", body, headers)


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


DOORS: dict[str, Callable[[random.Random], bytes]] = {
    "parameters": parameters,
    "bodies": bodies,
    "hocon": hocon,
    "remote-write": remote_write,
}


def lean_on(door: str, port: int, seed: int, is_over: Callable[[int], bool]) -> Counter[int]:
    """Send requests made from ``seed`` until ``is_over(count)``; returns how often each status came (0: none did).

    Raises AssertionError that names seed, number and request of the first answer that owes something.
    """
    source = random.Random(seed)
    statuses: Counter[int] = Counter()
    while not is_over(statuses.total()):
        sent = DOORS[door](source)
        where = f"{door} seed {seed} request {statuses.total()}: {sent[:2000]!r}"
        try:
            answer = exchange(port, sent, is_whole=door != "bodies")
        except TimeoutError:
            raise AssertionError(f"no answer to {where}") from None
        statuses[_status(answer, sent, where)] += 1
    return statuses


def exchange(port: int, sent: bytes, *, is_whole: bool) -> bytes:
    """All that comes back until the server closes.

    A request that may not be whole ends after a moment without an answer; for a whole one that would be to hang up.
    """
    with socket.create_connection(
        ("127.0.0.1", port), timeout=ANSWER_TIMEOUT_S if is_whole else _PATIENCE_S
    ) as connection:
        received = b""
        try:
            connection.sendall(sent)
            while True:
                try:
                    piece = connection.recv(1 << 16)
                except TimeoutError:
                    if connection.gettimeout() == ANSWER_TIMEOUT_S:
                        raise
                    connection.shutdown(socket.SHUT_WR)
                    connection.settimeout(ANSWER_TIMEOUT_S)
                    continue
                if not piece:
                    return received
                received += piece
        except (ConnectionResetError, BrokenPipeError):
            return received


def _status(answer: bytes, sent: bytes, where: str) -> int:
    if not answer:
        return 0
    head, _, body = answer.partition(b"\r\n\r\n")
    if head.startswith(b"HTTP/1.1 100 "):
        head, _, body = body.partition(b"\r\n\r\n")
    status = int(head.split()[1])
    assert status != 500, f"{answer[:600]!r} to {where}"
    if status >= 400 and not sent.startswith(b"HEAD"):
        assert b"application/json" in head, f"{answer[:600]!r} to {where}"
        envelope = orjson.loads(body)
        assert set(envelope) == {"status", "errorType", "error"}, f"{body[:600]!r} to {where}"
        assert b"Traceback" not in body, f"{body[:600]!r} to {where}"
    return status
