"""The one way in which commands ask a gateway: what an answer is, when it is asked again, and what imports count."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import numpy as np
import pytest

from filoray.cluster.errors import FilorayError
from filoray.command import http_client
from filoray.command.client_access import ClientAccess
from filoray.command.http_client import NoAnswer, get_json, is_answered, send, send_until_taken
from filoray.command.node_orders import restart
from filoray.command.tsdb_import_target import RemoteWriteTarget
from filoray.nodes.data.label_table import LabelTable
from filoray.nodes.data.series_batch import SeriesBatch
from filoray.nodes.data.write_outcome import RefusalReason, WriteOutcome

NOBODY = ClientAccess(url="http://127.0.0.1:1")
Given = tuple[int, dict[str, str], bytes]


class Gateway(HTTPServer):
    """Answers with what it is given, in turn; the last goes on."""

    def __init__(self, answers: Sequence[Given]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers = list(answers)
        self.asked: list[tuple[str, str, bytes]] = []
        self.access = ClientAccess(url=f"http://127.0.0.1:{self.server_port}/")


class Handler(BaseHTTPRequestHandler):
    server: Gateway

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append((self.command, self.path, body))
        status, headers, answer = self.server.answers[min(len(self.server.asked), len(self.server.answers)) - 1]
        self.send_response(status)
        for name, value in {"Content-Length": str(len(answer)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer)

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def gateway() -> Iterator[Callable[..., Gateway]]:
    started: list[Gateway] = []

    def start(*answers: Given) -> Gateway:
        started.append(Gateway(answers))
        threading.Thread(target=started[-1].serve_forever, daemon=True).start()
        return started[-1]

    yield start
    for server in started:
        server.shutdown()
        server.server_close()


@pytest.fixture
def slept_s(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    slept: list[float] = []
    monkeypatch.setattr(http_client.time, "sleep", slept.append)
    return slept


CUT_SHORT: Given = (200, {"Content-Length": "100"}, b"half")
BUSY: Given = (503, {"Retry-After": "3"}, b'{"error": "later"}')
DONE: Given = (204, {}, b"")


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ((400, {}, b'{"status": "error", "errorType": "bad_data", "error": "so wrong"}'), "so wrong"),
        ((502, {}, b"<html>a proxy</html>"), "URL/a?b=1 answered 502 Bad Gateway"),
        ((404, {}, b'{"message": "x"}'), "URL/a?b=1 answered 404 Not Found"),
    ],
)
def test_json_or_the_words_of_who_answers(gateway: Any, answer: Given, text: str) -> None:
    server = gateway((200, {}, b'{"data": 1}'), answer)
    assert get_json(server.access, "/a") == {"data": 1}
    with pytest.raises(FilorayError) as raised:
        get_json(server.access, "/a", {"b": "1"})
    assert raised.value.message == text.replace("URL", server.access.url)


def test_every_status_is_an_answer_and_half_a_one_is_none(gateway: Any) -> None:
    server = gateway((418, {"X-Odd": "yes"}, b"x" * 600), CUT_SHORT)
    answer = send(server.access, "/a", b"body", {"X-Ours": "1"}, timeout_s=10)
    assert (answer.status, answer.headers["x-odd"], answer.error, answer.error_text) == (418, "yes", None, "x" * 500)
    assert server.asked == [("POST", "/a", b"body")]
    for access in (server.access, NOBODY):
        with pytest.raises(NoAnswer, match=f"no gateway answers at {access.url}: "):
            send(access, "/a", timeout_s=10)


def test_whoever_is_there_answers(gateway: Any) -> None:
    assert is_answered(gateway((500, {}, b"")).access, "/__health", timeout_s=2)
    assert not is_answered(NOBODY, "/__health", timeout_s=2)


class Alert(ssl.SSLError):
    """As the library raises it where a server wants a certificate of ours: after the handshake, its name for reason."""

    reason = "TLSV13_ALERT_CERTIFICATE_REQUIRED"


class Alarmed:
    def open(self, *_: object, **__: object) -> None:
        raise Alert(1, "certificate required")


def test_whoever_wants_a_certificate_of_ours_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "_opener", lambda access: Alarmed())
    assert is_answered(NOBODY, "/__health", timeout_s=2)


@pytest.mark.parametrize(
    ("answers", "waits_s", "status"),
    [
        ([DONE], [], 204),
        ([(400, {}, b"")], [], 400),
        ([BUSY, BUSY, DONE], [3.0, 3.0], 204),
        ([(429, {}, b""), (503, {"Retry-After": "soon"}, b""), DONE], [0.4, 0.8], 204),
        ([(503, {"Retry-After": "3600"}, b""), DONE], [10.0], 204),
        ([CUT_SHORT, DONE], [0.4], 204),
        ([BUSY], [3.0, 3.0, 3.0], 503),
    ],
)
def test_what_is_to_come_again_is_sent_again(
    gateway: Any, slept_s: list[float], answers: list[Given], waits_s: list[float], status: int
) -> None:
    server = gateway(*answers)
    assert send_until_taken(server.access, "/a", b"x", {}, timeout_s=10, attempts=4).status == status
    assert (slept_s, len(server.asked)) == (waits_s, len(waits_s) + 1)


def test_nobody_is_asked_as_often_as_allowed(slept_s: list[float]) -> None:
    with pytest.raises(NoAnswer):
        send_until_taken(NOBODY, "/a", b"x", {}, timeout_s=10, attempts=8)
    assert slept_s == [0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]


def batch(count: int) -> SeriesBatch:
    labels = LabelTable.from_label_sets([{"__name__": "up"}])
    return SeriesBatch(labels, np.array([0, count]), np.arange(count, dtype=np.int64), np.ones(count))


async def test_an_import_counts_what_the_gateway_says_of_it(gateways: Any) -> None:
    api = await gateways.start("timeseries")
    target = RemoteWriteTarget(ClientAccess(url=api.url), "timeseries")
    await asyncio.to_thread(target.write, batch(5))
    assert target.outcome == WriteOutcome(5)
    example = 'm{text="(a: 1), 2 were stored; for example é"} at 3'
    refused = Counter({RefusalReason.TOO_OLD: 1, RefusalReason.DIFFERENT_VALUE: 2})
    api.writes.outcome = WriteOutcome(2, refused, example)
    await asyncio.to_thread(target.write, batch(5))
    assert target.outcome == WriteOutcome(7, refused, example)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ((400, {}, b'{"error": "samples were refused"}'), "/api/v1/write answered 400: samples were refused"),
        (BUSY, "/api/v1/write answered 503: later"),
    ],
)
def test_an_import_that_is_not_taken_says_so(gateway: Any, slept_s: list[float], answer: Given, text: str) -> None:
    target = RemoteWriteTarget(gateway(answer).access, None)
    with pytest.raises(FilorayError, match=text):
        target.write(batch(1))
    assert target.outcome == WriteOutcome()
    target = RemoteWriteTarget(NOBODY, "a b")
    with pytest.raises(FilorayError, match=r"no gateway answers at http://127.0.0.1:1/promql/a%20b/api/v1/write: \["):
        target.write(batch(1))


def test_a_rolling_restart_that_ended_as_soon_as_it_began_is_no_success(gateway: Callable[..., Gateway]) -> None:
    ended = b'{"status": "success", "data": {"left": [], "problem": "node-0 is the last node"}}'
    with pytest.raises(FilorayError, match="the rolling restart ended early: node-0 is the last node"):
        restart(gateway((200, {}, b"{}"), (200, {}, ended)).access)
