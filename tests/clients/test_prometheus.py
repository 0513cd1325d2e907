"""Clients that nobody here wrote: node_exporter, Prometheus and promtool of Debian, in both directions."""

from __future__ import annotations

import json
import subprocess
import time
from dataclasses import dataclass

import pytest
from client_programs import free_ports, missing_programs, program, prometheus
from running_cluster import RunningCluster, wait_until

missing = missing_programs("prometheus", "promtool", "prometheus-node-exporter")
pytestmark = [
    pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}"),
    pytest.mark.timeout(400),
]
SCRAPES = 14


def promtool(*arguments: str) -> str:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with RunningCluster(tmp_path_factory.mktemp("clients")) as running:
        running.setup()
        yield running


@dataclass(frozen=True)
class Scraped:
    """A Prometheus that wrote all that it scraped to filoray. Both have everything up to ``end_s``."""

    url: str
    start_s: float
    end_s: float


@pytest.fixture(scope="module")
def scraped(cluster, tmp_path_factory):
    directory = tmp_path_factory.mktemp("scrape")
    (port,) = free_ports(1)
    exporter = ["prometheus-node-exporter", f"--web.listen-address=127.0.0.1:{port}"]
    # One remote write shard: when a scrape has arrived, all before it have.
    config = f"""
global: {{scrape_interval: 1s}}
scrape_configs:
  - {{job_name: node, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}
  - {{job_name: prometheus, static_configs: [{{targets: ['127.0.0.1:{{port}}']}}]}}
remote_write:
  - url: {cluster.url}/promql/timeseries/api/v1/write
    queue_config: {{batch_send_deadline: 200ms, max_shards: 1}}
    metadata_config: {{send_interval: 2s}}
"""
    exporter_log, exporter_url = directory / "exporter.log", f"http://127.0.0.1:{port}/"
    with program(exporter, exporter_log, exporter_url), prometheus(directory / "prometheus", config) as url:
        wait_until(
            lambda: cluster.number(f"count(count_over_time(up[5m]) >= {SCRAPES})", time.time()) == 2,
            120,
            f"{SCRAPES} scrapes of both jobs have arrived",
        )
        now_s = time.time()
        end_s = _between_scrapes(cluster, cluster.number("min(timestamp(up))", now_s) - 1)
        start_s = cluster.number("max(min_over_time(timestamp(up)[5m:1s]))", now_s)
        yield Scraped(url, start_s, end_s)


def _between_scrapes(cluster: RunningCluster, time_s: float) -> float:
    """A time a little earlier which is far from the phases at which the targets are scraped each second.

    Prometheus before 3.0 counts a sample on the left edge of a range in, and later ones do not.
    """
    phases = [float(series["value"][1]) % 1 for series in cluster.query("timestamp(up)", time_s + 1)]
    candidates = [place / 8 for place in range(8)]
    phase = max(candidates, key=lambda one: min(min(abs(one - other), 1 - abs(one - other)) for other in phases))
    return int(time_s) - 1 + phase


QUERIES = [
    "up",
    "node_load1",
    "count(node_cpu_seconds_total)",
    "sum by (mode) (rate(node_cpu_seconds_total[8s]))",
    "node_memory_MemTotal_bytes - node_memory_MemFree_bytes",
    "topk(3, node_scrape_collector_duration_seconds)",
    "irate(node_network_receive_bytes_total[8s])",
    "avg_over_time(node_load1[8s])",
    "max_over_time(deriv(node_memory_MemFree_bytes[5s])[6s:2s])",
    "histogram_quantile(0.9, irate(prometheus_http_request_duration_seconds_bucket[8s]))",
    "node_filesystem_avail_bytes / on (device, mountpoint, instance, job, fstype) node_filesystem_size_bytes",
    'count by (__name__) ({job="node"})',
    "absent(nothing_of_the_kind)",
]


@pytest.mark.parametrize("query", QUERIES)
def test_promtool_gets_prometheus_answers_from_filoray(cluster, scraped, query):
    ours = f"{cluster.url}/promql/timeseries"
    instant = ("query", "instant", "-o", "json", f"--time={scraped.end_s}")
    _assert_same(promtool(*instant, ours, query), promtool(*instant, scraped.url, query))
    window = ("query", "range", "-o", "json", f"--start={scraped.end_s - 6}", f"--end={scraped.end_s}", "--step=2s")
    _assert_same(promtool(*window, ours, query), promtool(*window, scraped.url, query))


def test_promtool_lists_the_same_series_and_labels(cluster, scraped):
    ours = f"{cluster.url}/promql/timeseries"
    window = (f"--start={scraped.start_s}", f"--end={scraped.end_s}")
    series = ("query", "series", "--match=node_load1", "--match=up", *window)
    assert sorted(promtool(*series, ours).split("\n")) == sorted(promtool(*series, scraped.url).split("\n"))
    labels = ("query", "labels", *window)
    assert promtool(*labels, ours, "job") == promtool(*labels, scraped.url, "job") == "node\nprometheus\n"


def test_metadata_of_remote_write_is_answered(cluster, scraped):
    def known() -> bool:
        return "node_load1" in cluster.get("/promql/timeseries/api/v1/metadata").json()["data"]

    wait_until(known, 60, "Prometheus has sent its metadata")
    (entry,) = cluster.get("/promql/timeseries/api/v1/metadata", metric="node_load1").json()["data"]["node_load1"]
    assert entry == {"type": "gauge", "help": "1m load average.", "unit": ""}


def test_prometheus_reads_through_filoray(cluster, scraped, tmp_path):
    config = f"""
remote_read:
  - {{url: '{cluster.url}/promql/timeseries/api/v1/read', read_recent: true}}
"""
    with prometheus(tmp_path / "reader", config) as reader:
        for query in ("node_load1", "sum by (mode) (rate(node_cpu_seconds_total[8s]))", '{job="node", device="lo"}'):
            instant = ("query", "instant", "-o", "json", f"--time={scraped.end_s}")
            through = promtool(*instant, reader, query)
            assert json.loads(through)
            _assert_same(through, promtool(*instant, scraped.url, query))


def _assert_same(ours: str, theirs: str) -> None:
    """Label sets and times are equal, values to within what different orders of summation give."""
    left, right = (_by_labels(json.loads(text)) for text in (ours, theirs))
    assert left.keys() == right.keys()
    for labels, points in left.items():
        assert [time for time, _ in points] == [time for time, _ in right[labels]], labels
        values = [(float(a), float(b)) for (_, a), (_, b) in zip(points, right[labels], strict=True)]
        assert all(a == pytest.approx(b, rel=1e-9, nan_ok=True) for a, b in values), (labels, values)


def _by_labels(result: list[dict]) -> dict[tuple, list]:
    return {tuple(sorted(series["metric"].items())): series.get("values") or [series["value"]] for series in result}
