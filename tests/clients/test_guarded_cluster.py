"""Prometheus, promtool, vmagent and our own command as clients of a cluster that speaks TLS and asks who comes."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import time
from urllib.parse import quote

import bcrypt
import pytest
import requests
from certificates import Authority, write_web_config
from client_programs import free_ports, missing_programs, program, prometheus
from running_cluster import RunningCluster, filoray, wait_until

missing = missing_programs("prometheus", "promtool", "vmagent")
pytestmark = [
    pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}"),
    pytest.mark.timeout(400),
]
TOKEN = "the agent's token"
USERS = {"root": "secret of root", "grafana": "secret of grafana"}


class GuardedCluster:
    """``ask``: as root, over TLS, of the one gateway."""

    def __init__(self, running, authority):
        self.authority = authority
        self.directory = running.data_dir
        self.url = running.url.replace("http:", "https:")
        self.data = f"{self.url}/promql/timeseries"

    def ask(self, method, path, name="root", **options):
        return requests.request(
            method,
            self.url + path,
            auth=(name, USERS[name]),
            verify=str(self.authority.certificate),
            timeout=60,
            **options,
        )

    def number(self, query):
        result = self.ask("GET", "/promql/timeseries/api/v1/query", params={"query": query}).json()["data"]["result"]
        return float(result[0]["value"][1]) if result else 0.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    directory = tmp_path_factory.mktemp("access")
    authority = Authority(directory / "authority")
    hashes = {name: bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode() for name, password in USERS.items()}
    digest = hashlib.sha256(TOKEN.encode()).hexdigest()
    extra = f"""
basic_auth_users: {json.dumps(hashes)}
filoray:
  users: {{grafana: {{roles: {{timeseries: read}}}}}}
  tokens: [{{name: agent, sha256: {digest}, roles: {{timeseries: write}}}}]
"""
    web = write_web_config(directory / "web.yml", authority.sign("server", "127.0.0.1"), users=extra)
    config = f'filoray.http.web-config-file = "{web}"'
    with RunningCluster(directory / "data", nodes=1, config=config) as running:
        guarded = GuardedCluster(running, authority)
        body = {"dataset": "timeseries", "num-shards": 2, "min-num-nodes": 1, "sourceconfig": {},
                "sourcefactory": "filoray.nodes.streams.LogStreamFactory"}  # fmt: skip
        assert guarded.ask("POST", "/api/v1/cluster/timeseries", json=body).status_code == 200
        wait_until(
            lambda: "ShardStatusActive" in guarded.ask("GET", "/api/v1/cluster/timeseries/status").text,
            30,
            "it is active",
        )
        yield guarded


@pytest.fixture(scope="module")
def scraped(cluster, tmp_path_factory):
    """The URL of a Prometheus that scrapes itself and the cluster, and writes to the cluster with a token."""
    directory = tmp_path_factory.mktemp("scrape")
    trusted = f"{{ca_file: {cluster.authority.certificate}}}"
    gateway = cluster.url.removeprefix("https://")
    config = f"""
global: {{scrape_interval: 1s}}
scrape_configs:
  - {{job_name: prometheus, static_configs: [{{targets: ['127.0.0.1:{{port}}']}}]}}
  - job_name: filoray
    scheme: https
    tls_config: {trusted}
    basic_auth: {{username: root, password: {USERS["root"]}}}
    static_configs: [{{targets: ['{gateway}']}}]
remote_write:
  - url: {cluster.data}/api/v1/write
    tls_config: {trusted}
    authorization: {{credentials: "{TOKEN}"}}
    queue_config: {{batch_send_deadline: 200ms}}
remote_read:
  - url: {cluster.data}/api/v1/read
    read_recent: true
    required_matchers: {{origin: filoray}}
    tls_config: {trusted}
    basic_auth: {{username: grafana, password: {USERS["grafana"]}}}
"""
    with prometheus(directory / "prometheus", config) as url:
        yield url


def test_prometheus_scrapes_writes_and_reads_over_tls_with_names(cluster, scraped):
    wait_until(lambda: cluster.number("sum(up)") == 2, 60, "Prometheus has written that it scrapes both")
    query = {"query": 'count_over_time({origin="filoray", __name__="nothing"}[1m])'}
    assert requests.get(f"{scraped}/api/v1/query", params=query, timeout=30).json()["status"] == "success"
    reads = 'filoray_http_requests_total{code="200",method="POST",route="/promql/{dataset}/api/v1/read"}'
    assert reads in cluster.ask("GET", "/metrics").text


def test_promtool_asks_over_tls_with_a_name(cluster, scraped):
    wait_until(lambda: cluster.number('up{job="prometheus"}') == 1, 60, "Prometheus has written")

    def ask(password):
        # Every version of it knows these two ways; --http.config.file is newer than Debian's.
        url = cluster.data.replace("://", f"://grafana:{quote(password)}@")
        environment = {**os.environ, "SSL_CERT_FILE": str(cluster.authority.certificate)}
        command = ["promtool", "query", "instant", url, 'up{job="prometheus"}']
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)

    assert "=> 1 @" in ask(USERS["grafana"]).stdout
    wrong = ask("a guess")
    assert wrong.returncode != 0
    assert "unauthorized" in wrong.stderr


def test_vmagent_writes_over_tls_with_a_token(cluster, tmp_path):
    (port,) = free_ports(1)
    scrapes = f"""
global: {{scrape_interval: 1s}}
scrape_configs:
  - {{job_name: agent, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}
"""
    (tmp_path / "scrape.yml").write_text(scrapes)
    (tmp_path / "token").write_text(TOKEN)
    command = [
        "vmagent", f"-promscrape.config={tmp_path / 'scrape.yml'}", f"-remoteWrite.url={cluster.data}/api/v1/write",
        f"-remoteWrite.bearerTokenFile={tmp_path / 'token'}", "-remoteWrite.flushInterval=200ms",
        f"-remoteWrite.tlsCAFile={cluster.authority.certificate}", f"-remoteWrite.tmpDataPath={tmp_path / 'queue'}",
        f"-httpListenAddr=127.0.0.1:{port}",
    ]  # fmt: skip
    with program(command, tmp_path / "log", f"http://127.0.0.1:{port}/health"):
        wait_until(lambda: cluster.number('up{job="agent"}') == 1, 60, "vmagent has written")


def test_our_own_command_goes_in_with_the_launcher_s_token(cluster):
    token = ("--token-file", str(cluster.directory / "launch.token"), "--url", cluster.url)
    trusting = (*token, "--ca-file", str(cluster.authority.certificate))
    done = filoray("status", *trusting)
    assert (done.returncode, "ShardStatusActive" in done.stdout) == (0, True), done.stderr
    assert filoray("write-demo", *trusting, "--instances", "1", "--minutes", "1").returncode == 0
    assert filoray("query", "count(http_requests_total)", *trusting, "--time", str(time.time())).returncode == 0
    untrusted = filoray("status", *token)
    assert (untrusted.returncode, "--ca-file" in untrusted.stderr) == (1, True)
    stranger = filoray("status", "--url", cluster.url, "--ca-file", str(cluster.authority.certificate))
    assert (stranger.returncode, "asks who you are" in stranger.stderr) == (1, True)


def test_a_second_launch_on_the_directory_leaves_the_first_one_s_token(cluster):
    before = (cluster.directory / "launch.token").read_bytes()
    done = filoray("up", "--data-dir", str(cluster.directory), "--config", str(cluster.directory / "test.conf"))
    assert (done.returncode, "runs on" in done.stderr) == (1, True)
    assert (cluster.directory / "launch.token").read_bytes() == before
