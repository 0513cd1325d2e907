"""vmalert evaluates rules on filoray and writes results and alert states back; vmagent scrapes into filoray."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests
from client_programs import free_ports, missing_programs, program
from running_cluster import RunningCluster, wait_until

missing = missing_programs("vmalert", "vmagent")
pytestmark = [
    pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}"),
    pytest.mark.timeout(300),
]
RULES = """
groups:
  - name: requests
    interval: 1s
    rules:
      - record: job:requests:sum
        expr: sum by (job) (requests)
        labels: {origin: vmalert}
      - alert: ManyRequests
        expr: requests > 50
        labels: {severity: page}
        annotations: {summary: "{{ $labels.instance }} has {{ $value }} requests"}
      - alert: NoRequests
        expr: absent(requests)
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with RunningCluster(tmp_path_factory.mktemp("vm"), nodes=1) as running:
        running.setup(min_num_nodes=1)
        yield running


@contextmanager
def notifier() -> Iterator[tuple[str, list[dict]]]:
    """What takes the alerts in place of an Alertmanager: its URL and the alerts it got."""
    alerts: list[dict] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            alerts.extend(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", alerts
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_vmalert_evaluates_rules_and_writes_their_results_back(cluster, tmp_path):
    now_ms = int(time.time() * 1000)
    # Rules are evaluated at the time of the clock: samples ahead of it keep the series alive for the whole test.
    times = list(range(now_ms - 60_000, now_ms + 600_000, 30_000))
    requests_by_instance = {"a": 40.0, "b": 60.0}
    answer = cluster.write(
        ({"__name__": "requests", "job": "shop", "instance": instance}, times, [value] * len(times))
        for instance, value in requests_by_instance.items()
    )
    assert answer.status_code == 204, answer.text
    rules = tmp_path / "rules.yml"
    rules.write_text(RULES)
    data = f"{cluster.url}/promql/timeseries"
    (port,) = free_ports(1)
    with notifier() as (notifier_url, notified):
        command = [
            "vmalert", f"-rule={rules}", f"-datasource.url={data}", f"-remoteWrite.url={data}",
            f"-remoteRead.url={data}", f"-notifier.url={notifier_url}", "-remoteWrite.flushInterval=200ms",
            f"-httpListenAddr=127.0.0.1:{port}",
        ]  # fmt: skip
        with program(command, tmp_path / "log", f"http://127.0.0.1:{port}/health"):

            def written(query: str) -> list[tuple[dict, float]]:
                result = cluster.query(query, time.time())
                return [(series["metric"], float(series["value"][1])) for series in result]

            wait_until(lambda: bool(written("job:requests:sum")), 60, "the recorded series has been written")
            assert written("job:requests:sum") == [
                ({"__name__": "job:requests:sum", "job": "shop", "origin": "vmalert"}, 100.0)
            ]
            wait_until(lambda: bool(written('ALERTS{alertstate="firing"}')), 60, "the alert fires")
            ((labels, value),) = written('ALERTS{alertstate="firing"}')
            assert value == 1
            expected = {"alertname": "ManyRequests", "instance": "b", "job": "shop", "severity": "page"}
            assert expected.items() <= labels.items()
            wait_until(lambda: bool(notified), 60, "the notifier was told")
            assert notified[0]["annotations"] == {"summary": "b has 60 requests"}
            alerts = requests.get(f"http://127.0.0.1:{port}/api/v1/alerts", timeout=10).json()["data"]["alerts"]
            assert [(alert["name"], alert["state"]) for alert in alerts] == [("ManyRequests", "firing")]


def test_vmagent_scrapes_into_filoray(cluster, tmp_path):
    (port,) = free_ports(1)
    config = tmp_path / "scrape.yml"
    config.write_text(
        f"""
global: {{scrape_interval: 1s}}
scrape_configs:
  - {{job_name: agent, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}
"""
    )
    command = [
        "vmagent", f"-promscrape.config={config}", f"-remoteWrite.url={cluster.url}/promql/timeseries/api/v1/write",
        f"-remoteWrite.tmpDataPath={tmp_path / 'queue'}", "-remoteWrite.flushInterval=200ms",
        f"-httpListenAddr=127.0.0.1:{port}",
    ]  # fmt: skip
    with program(command, tmp_path / "log", f"http://127.0.0.1:{port}/health"):
        wait_until(
            lambda: cluster.number('count_over_time(up{job="agent"}[5m])', time.time()) >= 3, 60, "scrapes have arrived"
        )
        assert cluster.number('up{job="agent"}', time.time()) == 1
        started = cluster.query('process_start_time_seconds{job="agent"}', time.time())
        assert [series["metric"]["instance"] for series in started] == [f"127.0.0.1:{port}"]
