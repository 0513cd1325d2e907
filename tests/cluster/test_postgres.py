"""A whole cluster whose nodes keep nothing to themselves: coordinator's store and shards in PostgreSQL."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from postgres_server import PostgresServer, running_postgres
from running_cluster import RunningCluster, filoray, wait_until
from steady_load import Load, assert_nothing_lost

START_MS = 1_600_000_000_000
STEPS = 50
SERIES = [{"__name__": "load", "instance": str(i)} for i in range(40)]
END_S = START_MS / 1000 + 1000


def config(url: str) -> str:
    return f'filoray {{ meta-store-url = "{url}", column-store-url = "{url}" }}'


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="module")
def url(server: PostgresServer) -> str:
    return server.new_database()


@pytest.fixture(scope="module")
def cluster(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCluster]:
    with RunningCluster(tmp_path_factory.mktemp("postgres"), config=config(url)) as running:
        running.setup(num_shards=4, min_num_nodes=2)
        yield running


def write_steps(cluster: RunningCluster, first: int, count: int) -> None:
    for step in range(first, first + count):
        answer = cluster.write([(labels, [START_MS + step * 1000], [float(step)]) for labels in SERIES])
        assert answer.status_code == 204, answer.text


def assert_answered(cluster: RunningCluster, steps: int, gateway: int = 0) -> None:
    """Every sample that was written, each once."""
    counts = cluster.query("count_over_time(load[2000s])", END_S, gateway=gateway)
    assert [float(series["value"][1]) for series in counts] == [steps] * len(SERIES)
    total = cluster.number("sum(sum_over_time(load[2000s]))", END_S, gateway=gateway)
    assert total == len(SERIES) * steps * (steps - 1) / 2


def rows(server: PostgresServer, url: str, table: str, dataset: str = "timeseries") -> int:
    ((count,),) = server.sql(f"SELECT count(*) FROM {table} WHERE dataset = '{dataset}'", url.rpartition("/")[2])
    return int(str(count))


def test_samples_are_in_the_database_and_survive_a_node(cluster, server, url):
    write_steps(cluster, 0, STEPS)
    assert_answered(cluster, STEPS)
    assert rows(server, url, "column_stores") == 4
    assert rows(server, url, "log") > 0
    assert not list(cluster.data_dir.rglob("*.db"))
    cluster.kill("node-0")
    write_steps(cluster, STEPS, 10)  # waits for the new owners
    assert_answered(cluster, STEPS + 10, gateway=1)


def test_the_whole_cluster_finds_everything_again(cluster):
    cluster.kill_everything()
    cluster.start()
    cluster.wait_active()
    assert_answered(cluster, STEPS + 10)
    cluster.stop()
    cluster.start()
    cluster.wait_active()
    write_steps(cluster, STEPS + 10, 10)
    assert_answered(cluster, STEPS + 20)


def test_a_crash_of_the_database_is_waited_out(cluster, server):
    server.stop()
    refused = cluster.write([(SERIES[0], [START_MS + 900_000], [0.0])])
    assert refused.status_code == 503
    assert f"127.0.0.1:{server.port}" in refused.text
    assert_answered(cluster, STEPS + 20)  # from memory
    server.start()
    cluster.wait_active(timeout_s=60)
    write_steps(cluster, STEPS + 20, 10)
    assert_answered(cluster, STEPS + 30)


def test_a_coordinator_that_starts_while_its_store_is_away_waits_for_it(cluster, server):
    server.stop()
    pid = cluster.kill("coordinator")
    assert_answered(cluster, STEPS + 30, gateway=2)
    server.start()

    def is_back() -> bool:
        return int(cluster.pids().get("coordinator") or pid) != pid

    wait_until(is_back, 60, "the coordinator is back")
    cluster.setup("other", num_shards=2, min_num_nodes=1)
    write_steps(cluster, STEPS + 30, 10)
    assert_answered(cluster, STEPS + 40)


def test_a_node_that_kept_a_shard_warm_leads_it_when_its_leader_is_killed(cluster, server):
    body = {
        "dataset": "warm", "num-shards": 2, "min-num-nodes": 2, "num-replicas": 2,
        "sourcefactory": "filoray.nodes.streams.LogStreamFactory", "sourceconfig": {},
    }  # fmt: skip
    answer = requests.post(f"{cluster.url}/api/v1/cluster/warm", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    wait_until(lambda: all(len(shard["inSync"]) == 2 for shard in warm_shards(cluster)), 60, "all are kept warm")
    with Load(cluster, gateway=2, dataset="warm") as load:
        load.wait_for_more(20)
        before = {shard["shard"]: shard for shard in warm_shards(cluster)}
        killed = next(shard for shard in before.values() if shard["leader"] != "node-2")
        cluster.kill(killed["leader"], gateway=2)
        load.wait_for_more(20)
        wait_until(lambda: all(len(shard["inSync"]) == 2 for shard in warm_shards(cluster)), 60, "all are warm again")
        load.wait_for_more(5)
    assert_nothing_lost(cluster, load, gateway=2, dataset="warm")
    after = warm_shards(cluster)[killed["shard"]]
    assert after["leader"] in {follower["node"] for follower in killed["followers"]}
    assert after["epoch"] == killed["epoch"] + 1
    log = (cluster.data_dir / f"{after['leader']}.log").read_text()
    assert f"dataset warm shard {killed['shard']}: taken over warm" in log
    assert requests.delete(f"{cluster.url}/api/v1/cluster/warm", timeout=30).status_code == 200


def warm_shards(cluster: RunningCluster) -> list[dict[str, Any]]:
    shards: list[dict[str, Any]] = cluster.get("/api/v1/cluster/warm/status", 2, verbose="true").json()["data"]
    return shards


def test_a_deleted_data_set_leaves_no_rows(cluster, server, url):
    assert rows(server, url, "column_stores", "other") == 2
    answer = requests.delete(f"{cluster.url}/api/v1/cluster/other", timeout=30)
    assert answer.status_code == 200, answer.text
    tables = "column_stores", "log", "part_keys", "chunks", "checkpoints"
    wait_until(lambda: not any(rows(server, url, table, "other") for table in tables), 30, "all rows are gone")
    assert rows(server, url, "column_stores") == 4


def test_a_launch_without_its_database_says_which(tmp_path: Path, server: PostgresServer):
    absent = server.url("nowhere")
    done = launch(tmp_path, config(absent))
    assert done.returncode == 1
    assert f"PostgreSQL at 127.0.0.1:{server.port}, database nowhere" in done.stderr
    assert "s3cret" not in done.stderr


def launch(data_dir: Path, text: str) -> subprocess.CompletedProcess[str]:
    (data_dir / "test.conf").write_text(text)
    return filoray("up", "--data-dir", str(data_dir), "--config", str(data_dir / "test.conf"))
