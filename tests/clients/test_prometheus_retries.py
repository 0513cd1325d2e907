"""Prometheus's remote write against a gateway that cannot take samples for a while: none may be dropped."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from client_programs import missing_programs, prometheus
from gateway_thread import GatewayThread
from in_process_gateway import dataset
from running_cluster import wait_until

from filoray.cluster.cluster_view import ClusterView
from filoray.cluster.errors import FilorayError, QueryTimeout, TooManyRequests, Unavailable

missing = missing_programs("prometheus")
pytestmark = [
    pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}"),
    pytest.mark.timeout(200),
]
CONFIG = """
global: {scrape_interval: 1s}
scrape_configs:
  - {job_name: prometheus, static_configs: [{targets: ['127.0.0.1:{port}']}]}
remote_write:
  - url: URL/promql/timeseries/api/v1/write
    queue_config: {batch_send_deadline: 100ms, max_shards: 1, min_backoff: 50ms, max_backoff: 200ms}
"""


@pytest.fixture
def gateway() -> Iterator[GatewayThread]:
    made = GatewayThread()
    yield made
    made.stop()


def test_prometheus_drops_nothing(gateway: GatewayThread, tmp_path: Path) -> None:
    api = gateway.api
    nodes = api.control.current.nodes
    api.control.current = ClusterView(0)
    api.control.error = Unavailable("the coordinator is not there")
    with prometheus(tmp_path / "prometheus", CONFIG.replace("URL", api.url)) as url:

        def figure(name: str) -> float:
            pattern = rf"^prometheus_remote_storage_{name}{{.*}} (\S+)$"
            lines = re.findall(pattern, requests.get(f"{url}/metrics", timeout=30).text, re.MULTILINE)
            assert lines or name == "samples_dropped_total", name  # Prometheus 3 has that one when there are some
            return sum(map(float, lines))

        def sends_again(what: str) -> None:
            before = figure("samples_retried_total")
            wait_until(lambda: figure("samples_retried_total") > before, 60, f"Prometheus sends again {what}")

        sends_again("to a gateway without a view")
        api.control.error = None
        api.control.current = ClusterView(5, nodes, {"timeseries": dataset("timeseries")})
        errors: list[FilorayError] = [
            TooManyRequests("the queue is full"), QueryTimeout("no answer"), Unavailable("shard 1 is moving"),
        ]  # fmt: skip
        for error in errors:
            api.writes.error = error
            sends_again(f"after {error}")
        api.writes.error = None
        taken = len(api.writes.calls)
        wait_until(lambda: len(api.writes.calls) > taken + 3, 60, "samples arrive")
        assert figure("samples_failed_total") == 0
        assert figure("samples_dropped_total") == 0
