"""Every limit of a running cluster: what is over it is refused with limit, value and key, and disturbs nobody else."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlencode

import orjson
import psutil
import pytest
import requests
from running_cluster import WRITE_HEADERS, RunningCluster, wait_until

START_MS = 1_700_000_000_000
SAMPLES = 240
END_S = START_MS // 1000 + SAMPLES * 15 - 15
CONFIG = """
filoray {
  query {
    max-samples = 45000, max-series = 300, max-result-size = 20 MB, max-points-per-series = 11000
    max-concurrent = 2, max-waiting = 1, max-query-size = 32 KiB, max-depth = 50, label-values-limit = 100
  }
  write {
    max-body-size = 128 KiB, max-decoded-size = 256 KiB, timeout = 2s
    max-label-count = 10, max-label-name-size = 32, max-label-value-size = 64
  }
}
"""
HEAVY = {
    # Two hundred series x ten thousand steps x 7,200 points, twice: a minute, if nobody stops it.
    "query": "sum(stdvar_over_time(deriv(heavy[1h:500ms])[1h:500ms]))",
    "start": str(END_S - 1000),
    "end": str(END_S),
    "step": "100ms",
}
PATH = "/promql/timeseries/api/v1"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with RunningCluster(tmp_path_factory.mktemp("guard"), nodes=2, config=CONFIG) as running:
        running.setup(num_shards=4, min_num_nodes=1)
        times = [START_MS + step * 15_000 for step in range(SAMPLES)]
        for metric, count in (("heavy", 200), ("wide", 280)):
            for first in range(0, count, 20):
                labels = [{"__name__": metric, "i": str(i), "_ns_": str(i % 16)} for i in range(first, first + 20)]
                answer = running.write(
                    [(one, times, [float((i * 7 + n) % 101) for n in range(SAMPLES)]) for i, one in enumerate(labels)]
                )
                assert answer.status_code == 204, answer.text
        many = [({"__name__": "many", "i": str(i), "_ns_": str(i % 16)}, [START_MS], [1.0]) for i in range(1000)]
        assert running.write(many).status_code == 204
        yield running


def error_of(answer: requests.Response) -> tuple[int, str, str]:
    body = answer.json()
    assert set(body) == {"status", "errorType", "error"}, body
    return answer.status_code, body["errorType"], body["error"]


def ask(cluster: RunningCluster, path: str = "query", gateway: int = 0, **parameters: Any) -> requests.Response:
    if path == "query":
        parameters.setdefault("time", END_S)
    return requests.post(f"{cluster.gateway(gateway)}{PATH}/{path}", data=parameters, timeout=130)


def running(cluster: RunningCluster, gateway: int = 0) -> list[dict[str, Any]]:
    return cluster.get("/api/v1/queries", gateway).json()["data"]


class HeavyQuery:
    """A query of minutes, running in a connection of its own while the block runs."""

    def __init__(self, cluster: RunningCluster, identity: str) -> None:
        self._cluster = cluster
        self.identity = identity
        self._socket = socket.create_connection(("127.0.0.1", cluster.http_port))

    def __enter__(self) -> HeavyQuery:
        body = urlencode(HEAVY).encode()
        head = (
            f"POST {PATH}/query_range HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: {self.identity}\r\n"
            f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self._socket.sendall(head.encode() + body)
        wait_until(lambda: self.identity in {q["id"] for q in running(self._cluster)}, 20, "the query runs")
        wait_until(lambda: nodes_busy(self._cluster), 20, "the nodes work on it")
        return self

    def __exit__(self, *_: object) -> None:
        self.go_away()
        requests.delete(f"{self._cluster.url}/api/v1/queries/{self.identity}", timeout=30)

    def go_away(self) -> None:
        """As a client that is killed: the connection is reset."""
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def answer(self) -> tuple[int, dict[str, Any]]:
        received = b""
        while b"\r\n\r\n" not in received or not received.endswith(b"}"):
            piece = self._socket.recv(65536)
            assert piece, received
            received += piece
        head, _, body = received.partition(b"\r\n\r\n")
        return int(head.split()[1]), orjson.loads(body)


def cpu_seconds(cluster: RunningCluster) -> float:
    pids = cluster.pids()
    return sum(sum(psutil.Process(pid).cpu_times()[:2]) for name, pid in pids.items() if name.startswith("node-"))


def nodes_busy(cluster: RunningCluster) -> bool:
    """Whether the nodes' processes use much processor time now: a heartbeat takes a thousandth of this."""
    before = cpu_seconds(cluster)
    threading.Event().wait(0.5)
    return cpu_seconds(cluster) - before > 0.1


def assert_nodes_come_to_rest(cluster: RunningCluster) -> None:
    wait_until(lambda: not nodes_busy(cluster), 15, "the nodes have stopped working on the query")
    assert running(cluster) == []


# ---- a query that is over a limit


@pytest.mark.parametrize(
    ("path", "parameters", "status", "words"),
    [
        ("query", {"query": "sum(sum_over_time({__name__=~'heavy|wide'}[1h]))"}, 422, ["max-samples = 45000"]),
        ("query", {"query": "many", "time": START_MS // 1000}, 422, ["max-series = 300"]),
        ("query", {"query": "count(many)", "time": START_MS // 1000}, 422, ["max-series = 300"]),
        ("series", {"match[]": "many"}, 422, ["max-series = 300"]),
        (
            "query_range",
            {"query": "wide", "start": END_S - 1099, "end": END_S, "step": "100ms"},
            422,
            ["max-result-size = 20000000", "bytes"],
        ),
        (
            "query_range",
            {"query": "heavy", "start": END_S - 1100.1, "end": END_S, "step": "100ms"},
            400,
            ["11,000 points", "max-points-per-series"],
        ),
        ("query", {"query": f"heavy{{i='{'x' * 33_000}'}}"}, 400, ["32768", "max-query-size"]),
        ("query", {"query": "+".join(["1"] * 5_001)}, 400, ["5000", "max-terms"]),
        ("query", {"query": "(" * 10_000 + "1" + ")" * 10_000}, 400, ["50", "max-depth"]),
        ("query", {"query": "-" * 10_000 + "1"}, 400, ["50", "max-depth"]),
        ("query", {"query": "x" * 200_000}, 413, ["max-query-size"]),
        ("query_range", {**HEAVY, "timeout": "300ms"}, 503, [" ms"]),
        ("query", {"query": "heavy", "timeout": "0s"}, 503, ["timed out"]),
    ],
    ids=[
        "samples", "series", "series-of-an-aggregate", "series-endpoint", "result-size", "points", "query-size",
        "chain", "parentheses", "signs", "form-size", "timeout", "no-time",
    ],
)  # fmt: skip
def test_over_a_limit(cluster, path, parameters, status, words):
    given, kind, text = error_of(ask(cluster, path, **parameters))
    assert (given, kind) == (status, {400: "bad_data", 413: "bad_data", 422: "execution", 503: "timeout"}[status])
    for word in words:
        assert word in text
    assert_nodes_come_to_rest(cluster)


def test_just_under_the_limits_is_answered(cluster):
    assert len(ask(cluster, query="heavy").json()["data"]["result"]) == 200
    assert ask(cluster, query="sum(count_over_time(heavy[1h]))").json()["data"]["result"][0]["value"][1] == "48000"
    assert ask(cluster, query="+".join(["1"] * 5_000)).json()["data"]["result"][1] == "5000"
    deep = "(" * 40 + "1" + ")" * 40
    assert ask(cluster, query=deep).json()["data"]["result"][1] == "1"


def test_label_values_stop_at_the_configured_limit_and_say_so(cluster):
    answer = cluster.get(f"{PATH}/label/i/values").json()
    assert len(answer["data"]) == 100
    assert answer["warnings"] == ["results truncated due to limit"]


# ---- queries at once


def test_queries_beyond_those_at_once_wait_and_beyond_those_are_refused(cluster):
    with HeavyQuery(cluster, "first"), HeavyQuery(cluster, "second"), ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ask, cluster, query="1", timeout="1s")
        wait_until(lambda: b"filoray_queries_waiting 1.0" in cluster.get("/metrics").content, 10, "one waits")
        status, kind, text = error_of(ask(cluster, query="1"))
        assert (status, kind) == (503, "unavailable")
        assert "filoray.query.max-concurrent = 2" in text
        assert error_of(waiting.result())[:2] == (503, "timeout")
        assert ask(cluster, query="1 + 1", gateway=1).status_code == 200  # the other gateway has its own
    assert_nodes_come_to_rest(cluster)
    assert ask(cluster, query="1 + 1").status_code == 200


# ---- stopping


def test_what_runs_is_listed(cluster):
    with HeavyQuery(cluster, "listed"):
        (query,) = running(cluster)
        assert set(query) == {"id", "dataset", "query", "startedAt", "elapsedSeconds"}
        assert (query["id"], query["dataset"], query["query"]) == ("listed", "timeseries", HEAVY["query"])
        assert running(cluster, gateway=1) == []
    assert_nodes_come_to_rest(cluster)


def test_a_client_that_goes_away_stops_its_query_on_the_nodes(cluster):
    with HeavyQuery(cluster, "abandoned") as query:
        query.go_away()
        assert_nodes_come_to_rest(cluster)


def test_a_deleted_query_is_answered_at_once_and_stops_on_the_nodes(cluster):
    with HeavyQuery(cluster, "unwanted") as query:
        answer = requests.delete(f"{cluster.url}/api/v1/queries/unwanted", timeout=30)
        assert (answer.status_code, answer.json()) == (200, {"status": "success", "data": []})
        status, body = query.answer()
        assert (status, body["errorType"]) == (503, "canceled")
        assert_nodes_come_to_rest(cluster)
    answer = requests.delete(f"{cluster.url}/api/v1/queries/unwanted", timeout=30)
    assert error_of(answer)[:2] == (404, "not_found")


def test_a_timeout_stops_the_work_on_the_nodes(cluster):
    status, kind, text = error_of(ask(cluster, "query_range", **{**HEAVY, "timeout": "1s"}))
    assert (status, kind) == (503, "timeout"), text
    assert_nodes_come_to_rest(cluster)


# ---- bad requests beside good ones


def snappy_bomb() -> bytes:
    return b"\xff\xff\xff\xff\x0f" + b"\xfe\x00\x00" * 1000  # declares 4 GiB


def test_bad_requests_do_not_disturb_good_ones(cluster):
    good = {"query": "sum by (_ns_) (sum_over_time(heavy[30m]))", "time": END_S}
    expected = ask(cluster, **good).json()
    write = f"{cluster.url}{PATH}/write"
    stop = threading.Event()
    answers: list[Any] = []

    def keep_asking() -> None:
        while not stop.is_set():
            answers.append(ask(cluster, **good).json())

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(keep_asking)
        statuses = []
        for _ in range(3):
            statuses += [
                ask(cluster, query="(" * 10_000 + ")" * 10_000).status_code,
                ask(cluster, query="+".join(["1"] * 5_001)).status_code,
                ask(cluster, query="many", time=START_MS // 1000, timeout="20s").status_code,
                requests.post(write, data=snappy_bomb(), headers=WRITE_HEADERS, timeout=30).status_code,
                requests.post(write, data=b"\x03\x08abc", headers=WRITE_HEADERS, timeout=30).status_code,
                requests.post(write, data=os.urandom(200_000), headers=WRITE_HEADERS, timeout=30).status_code,
            ]
        stop.set()
        asking.result()
    assert statuses == [400, 400, 422, 413, 400, 413] * 3
    assert answers
    assert all(answer == expected for answer in answers)


# ---- writes over a limit


def test_a_body_over_its_limit(cluster):
    answer = requests.post(f"{cluster.url}{PATH}/write", data=b"x" * 131_073, headers=WRITE_HEADERS, timeout=30)
    status, kind, text = error_of(answer)
    assert (status, kind) == (413, "bad_data")
    assert "131073" in text
    assert "filoray.write.max-body-size allows 131072" in text


def test_a_snappy_bomb_is_refused_by_its_declared_length(cluster):
    answer = requests.post(f"{cluster.url}{PATH}/write", data=snappy_bomb(), headers=WRITE_HEADERS, timeout=30)
    status, kind, text = error_of(answer)
    assert (status, kind) == (413, "bad_data")
    assert "4294967295" in text
    assert "262144 (filoray.write.max-decoded-size)" in text


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ({f"label_{i}": "x" for i in range(10)}, "over 10 labels (filoray.write.max-label-count)"),
        ({"x" * 33: "y"}, "over 32 bytes (filoray.write.max-label-name-size)"),
        ({"x": "y" * 65}, "over 64 bytes (filoray.write.max-label-value-size)"),
    ],
)
def test_a_series_over_a_label_limit_is_refused_and_the_others_are_kept(cluster, labels, words):
    time_ms = START_MS + 7_000_000
    good = {"__name__": "kept_beside", "case": words[:20]}
    answer = cluster.write([({"__name__": "over", **labels}, [time_ms], [1.0]), (good, [time_ms], [1.0])])
    status, kind, text = error_of(answer)
    assert (status, kind) == (400, "bad_data")
    assert words in text
    assert "1 were stored" in text
    kept = {series["metric"]["case"] for series in cluster.query("kept_beside", time_ms / 1000)}
    assert words[:20] in kept
    assert cluster.query("over", time_ms / 1000) == []


# ---- shards that are not there


@contextlib.contextmanager
def stopped(cluster: RunningCluster, shards: list[int]) -> Iterator[None]:
    entry = cluster.get("/api/v1/cluster/timeseries/status").json()["data"][shards[0]]
    url = f"{cluster.url}/api/v1/cluster/timeseries"
    order = orjson.dumps({"address": entry["address"], "shardList": shards})
    assert requests.post(f"{url}/stopshards", data=order, timeout=30).status_code == 200
    try:
        yield
    finally:
        requests.post(f"{url}/startshards", data=order, timeout=30)
        cluster.wait_active()


def test_a_missing_shard_is_waited_for_then_named(cluster):
    with stopped(cluster, [1]):
        for path, parameters in [
            ("query", {"query": "sum(heavy)"}),
            ("query_range", {"query": "heavy", "start": END_S - 60, "end": END_S, "step": 15}),
            ("series", {"match[]": "heavy"}),
            ("labels", {}),
        ]:
            status, kind, text = error_of(ask(cluster, path, timeout="1s", **parameters))
            assert (status, kind) == (503, "unavailable")
            assert "dataset timeseries: shard 1 (ShardStatusStopped) not available" in text


def test_partial_results_are_given_only_where_they_are_asked_for_and_say_so(cluster):
    whole = cluster.number("count(heavy)", END_S)
    with stopped(cluster, [1]):
        body = ask(cluster, query="count(heavy)", allowPartialResults="true").json()
        assert body["partial"] is True
        assert any("shard 1 (ShardStatusStopped) not available" in warning for warning in body["warnings"])
        assert 0 < float(body["data"]["result"][0]["value"][1]) < whole
        names = ask(cluster, "labels", allowPartialResults="true").json()
        assert names["partial"] is True
        assert names["warnings"]
    body = ask(cluster, query="count(heavy)", allowPartialResults="true").json()
    assert "partial" not in body
    assert "warnings" not in body


def test_a_query_that_waits_is_answered_when_the_shard_is_back(cluster):
    whole = cluster.number("sum(heavy)", END_S)
    with ThreadPoolExecutor(1) as pool:
        with stopped(cluster, [2]):
            waiting = pool.submit(cluster.number, "sum(heavy)", END_S)
            wait_until(lambda: len(running(cluster)) == 1, 10, "the query waits")
        assert waiting.result() == whole


def test_a_write_to_a_missing_shard_is_503_with_retry_after(cluster):
    series = [({"__name__": f"elsewhere_{i}", "i": str(i)}, [START_MS], [1.0]) for i in range(40)]
    with stopped(cluster, [3]):
        answer = cluster.write(series)
        status, kind, text = error_of(answer)
        assert (status, kind) == (503, "unavailable")
        assert "3 (ShardStatusStopped)" in text
        assert int(answer.headers["Retry-After"]) >= 1
    assert cluster.write(series).status_code == 204  # what was stored the first time is stored once
    assert cluster.number("sum(sum_over_time({__name__=~'elsewhere_.*'}[1h]))", END_S) == 40


def test_a_directory_that_is_gone_is_an_error_until_it_is_back_whoever_owns_the_shards(cluster):
    cluster.setup("volume", num_shards=2, min_num_nodes=1)
    series = [({"__name__": "kept", "i": str(i)}, [START_MS], [1.0]) for i in range(40)]
    assert cluster.write(series, "volume").status_code == 204
    place, away = cluster.data_dir / "volume", cluster.data_dir / "unmounted"
    place.rename(away)
    in_error = {"ShardStatusError"}
    wait_until(lambda: set(cluster.statuses("volume")) == in_error, 30, "the owner notices")
    answer = cluster.write([({"__name__": "kept", "i": "1"}, [START_MS + 1], [1.0])], "volume")
    assert (answer.status_code, "ShardStatusError" in answer.text) == (503, True)
    cluster.kill("node-0")
    cluster.wait_active()  # the other data set's
    wait_until(lambda: set(cluster.statuses("volume")) == in_error, 30, "the next owners find nothing either")
    assert not place.exists(), "nothing is made in its place"
    away.rename(place)
    cluster.wait_active("volume", timeout_s=60)
    answer = cluster.get("/promql/volume/api/v1/query", query="count(kept)", time=START_MS // 1000)
    assert answer.json()["data"]["result"][0]["value"][1] == "40"


def test_a_hung_node_is_waited_for_and_replaced(cluster):
    whole = ask(cluster, query="sum(heavy)").json()
    pid = cluster.pid("node-1")
    os.kill(pid, signal.SIGSTOP)
    try:
        status, kind, _ = error_of(ask(cluster, query="sum(heavy)", timeout="1s"))
        assert (status, kind) in ((503, "timeout"), (503, "unavailable"))
        assert ask(cluster, query="sum(heavy)", timeout="60s").json() == whole
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    cluster.wait_active()
