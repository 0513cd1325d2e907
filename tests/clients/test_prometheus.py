"""Clients that nobody here wrote: node_exporter, Prometheus and promtool of Debian, in both directions."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from running_cluster import RunningCluster, free_port_block, wait_until

PROGRAMS = ("prometheus", "promtool", "prometheus-node-exporter")
SCRAPED_S = 40

missing = [program for program in PROGRAMS if shutil.which(program) is None]
pytestmark = [
    pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}"),
    pytest.mark.timeout(600),
]


@contextmanager
def process(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        started = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield started
    finally:
        started.terminate()
        started.wait(timeout=20)


@contextmanager
def prometheus(directory: Path, config: str) -> Iterator[str]:
    """A Prometheus with this configuration; gives its URL."""
    directory.mkdir()
    (directory / "prometheus.yml").write_text(config)
    port = free_port_block(1)
    command = [
        "prometheus", f"--config.file={directory / 'prometheus.yml'}", f"--storage.tsdb.path={directory / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    with process(command, directory / "log"):
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: requests.get(f"{url}/-/ready", timeout=5).status_code == 200, 30, "Prometheus is ready")
        yield url


def promtool(*arguments: str) -> str:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with RunningCluster(tmp_path_factory.mktemp("clients")) as running:
        running.setup()
        yield running


@pytest.fixture(scope="module")
def scraped(cluster, tmp_path_factory):
    """A Prometheus that scraped node_exporter for a while and wrote all of it to filoray; (URL, end of the data)."""
    directory = tmp_path_factory.mktemp("scrape")
    port = free_port_block(1)
    exporter = ["prometheus-node-exporter", f"--web.listen-address=127.0.0.1:{port}"]
    config = f"""
global: {{scrape_interval: 2s}}
scrape_configs:
  - {{job_name: node, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}
remote_write:
  - url: {cluster.url}/promql/timeseries/api/v1/write
    queue_config: {{batch_send_deadline: 200ms}}
"""
    with process(exporter, directory / "exporter.log"), prometheus(directory / "prometheus", config) as url:
        wait_until(
            lambda: cluster.number("count(count_over_time(node_load1[5m]) >= 15)", time.time()) == 1, 120,
            "fifteen scrapes have arrived",
        )  # fmt: skip
        end_s = int(time.time()) - 5
        wait_until(
            lambda: cluster.number("max(max_over_time(timestamp(node_load1)[1m:1s]))", time.time()) > end_s, 60,
            "everything up to the end of the comparison has arrived",
        )  # fmt: skip
        yield url, end_s


QUERIES = [
    "up",
    "node_load1",
    "count(node_cpu_seconds_total)",
    "sum by (mode) (rate(node_cpu_seconds_total[20s]))",
    "node_memory_MemTotal_bytes - node_memory_MemFree_bytes",
    "topk(3, node_scrape_collector_duration_seconds)",
    "irate(node_network_receive_bytes_total[20s])",
    "avg_over_time(node_load1[20s])",
    "histogram_quantile(0.9, rate(prometheus_http_request_duration_seconds_bucket[20s]))",
    "node_filesystem_avail_bytes / on (device, mountpoint, instance, job, fstype) node_filesystem_size_bytes",
    'count by (__name__) ({job="node"})',
    "absent(nothing_of_the_kind)",
]


@pytest.mark.parametrize("query", QUERIES)
def test_promtool_gets_prometheus_answers_from_filoray(cluster, scraped, query):
    url, end_s = scraped
    ours = f"{cluster.url}/promql/timeseries"
    instant = ("query", "instant", "-o", "json", f"--time={end_s}")
    assert _same(promtool(*instant, ours, query), promtool(*instant, url, query))
    window = ("query", "range", "-o", "json", f"--start={end_s - 15}", f"--end={end_s}", "--step=3s")
    assert _same(promtool(*window, ours, query), promtool(*window, url, query))


def test_promtool_lists_the_same_series_and_labels(cluster, scraped):
    url, end_s = scraped
    ours = f"{cluster.url}/promql/timeseries"
    window = (f"--start={end_s - 20}", f"--end={end_s}")
    for arguments in (("query", "series", "--match=node_load1", *window), ("query", "labels", *window)):
        *command, extra = [*arguments, "job"] if arguments[1] == "labels" else [*arguments, None]
        tail = [extra] if extra else []
        assert promtool(*command, ours, *tail) == promtool(*command, url, *tail)


def test_metadata_of_remote_write_is_answered(cluster, scraped):
    def known() -> bool:
        return "node_load1" in cluster.get("/promql/timeseries/api/v1/metadata").json()["data"]

    wait_until(known, 90, "Prometheus has sent its metadata (it does so every minute)")
    (entry,) = cluster.get("/promql/timeseries/api/v1/metadata", metric="node_load1").json()["data"]["node_load1"]
    assert entry == {"type": "gauge", "help": "1m load average.", "unit": ""}


def test_prometheus_reads_through_filoray(cluster, scraped, tmp_path):
    _, end_s = scraped
    config = f"""
remote_read:
  - {{url: '{cluster.url}/promql/timeseries/api/v1/read', read_recent: true}}
"""
    with prometheus(tmp_path / "reader", config) as reader:
        for query in ("node_load1", "sum by (mode) (rate(node_cpu_seconds_total[20s]))"):
            instant = ("query", "instant", "-o", "json", f"--time={end_s}")
            through = promtool(*instant, reader, query)
            assert json.loads(through)
            assert _same(promtool(*instant, f"{cluster.url}/promql/timeseries", query), through)


def _same(ours: str, theirs: str) -> bool:
    """Label sets and times are equal, values to within what different orders of summation give."""
    left, right = (_by_labels(json.loads(text)) for text in (ours, theirs))
    assert left.keys() == right.keys()
    for labels, points in left.items():
        assert [time for time, _ in points] == [time for time, _ in right[labels]]
        values = [(float(a), float(b)) for (_, a), (_, b) in zip(points, right[labels], strict=True)]
        assert all(a == pytest.approx(b, rel=1e-9, nan_ok=True) for a, b in values), (labels, values)
    return True


def _by_labels(result: list[dict]) -> dict[tuple, list]:
    return {tuple(sorted(series["metric"].items())): series.get("values") or [series["value"]] for series in result}
