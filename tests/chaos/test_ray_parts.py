"""Ray's own processes killed or stopped under load: the supervisor brings all back by itself, and nothing is lost.

The raylet ends with each of its two agents, which is then what the supervisor sees: the second of them is killed only
where FILORAY_CHAOS_LONG says so.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from running_cluster import RunningCluster, filoray, wait_until
from steady_load import SERIES, START_MS, Load, assert_nothing_lost

from filoray.cluster.process.process_identity import process_name
from filoray.command.ray_runtime import RayRuntime
from filoray.command.supervisor import ENDED_RAY

CONFIG = "filoray.supervisor { hang-timeout = 2s, restart-backoff = 100ms, restart-backoff-max = 100ms }"
LONG = pytest.mark.skipif(not os.environ.get("FILORAY_CHAOS_LONG"), reason="one agent will do: FILORAY_CHAOS_LONG=1")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCluster]:
    running = RunningCluster(tmp_path_factory.mktemp("parts"), nodes=2, config=CONFIG, nodes_max=3)
    running.start()
    yield running
    if (running.data_dir / "launch.json").exists():
        running.stop()


def runtime(cluster: RunningCluster) -> RayRuntime:
    return RayRuntime(**cluster.launched()["ray"])


def pid_of(ray: RayRuntime, name: str) -> int:
    return next(process.pid for process in ray.processes() if process_name(process.pid).startswith(name))


@pytest.mark.parametrize(
    ("part", "number"),
    [
        ("gcs_server", signal.SIGKILL),
        ("raylet", signal.SIGKILL),
        ("ray::DashboardAgent", signal.SIGKILL),
        pytest.param("ray::RuntimeEnvAgent", signal.SIGKILL, marks=LONG),
        ("raylet", signal.SIGSTOP),  # the GCS server's: test_launch.py
    ],
)
def test_what_ends_ray_ends_no_cluster(cluster: RunningCluster, part: str, number: signal.Signals) -> None:
    dataset = f"{part.rpartition(':')[2]}-{number.name}".lower()
    cluster.setup(dataset, num_shards=4, min_num_nodes=1)
    before = cluster.launched()
    members = cluster.get("/__members").json()
    ray = runtime(cluster)
    with Load(cluster, dataset=dataset) as load:
        load.wait_for_more(5)
        os.kill(pid_of(ray, part), number)
        struck_s = time.monotonic()
        wait_until(lambda: cluster.launched()["ray"]["session"] != ray.session, 120, "another Ray is started")
        wait_until(lambda: is_whole(cluster, dataset), 120, "everything is answered again")
        print(f"{part} {number.name}: whole again {time.monotonic() - struck_s:.1f} s later")
        load.wait_for_more(5)
    assert_nothing_lost(cluster, load, dataset=dataset)
    assert ray.processes() == []
    assert not Path(ray.temp_dir).exists()
    assert (cluster.data_dir / ENDED_RAY / "raylet.out").read_bytes()
    assert cluster.get("/__members").json() == members
    after = cluster.launched()
    assert [after[name] for name in ("urls", "supervisor", "token")] == [
        before[name] for name in ("urls", "supervisor", "token")
    ]
    # The supervisor has seen it ready before it looks for the next: one restart per part.
    wait_until(lambda: is_told(cluster), 60, "the supervisor says that the cluster is back")


def test_a_cluster_that_loses_ray_while_it_is_scaled_is_brought_back_at_once(cluster: RunningCluster) -> None:
    """Ray's client would wait for it for a minute, with the launch's lock in its hand."""
    wait_until(lambda: len(cluster.get("/__members").json()["members"]) == 2, 60, "all are there")
    tells = len(restarts(cluster))
    ray = runtime(cluster)
    command = [sys.executable, "-m", "filoray.command.cli", "scale", "3", "--data-dir", str(cluster.data_dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as scaling:
        wait_until(lambda: "the cluster is to have 3 nodes" in coordinator_log(cluster), 60, "it is at work")
        os.kill(pid_of(ray, "gcs_server"), signal.SIGKILL)
        _, said = scaling.communicate(timeout=120)
    assert scaling.returncode == 1, said
    wait_until(lambda: cluster.launched()["ray"]["session"] != ray.session, 120, "another Ray is started")
    wait_until(lambda: is_told(cluster), 120, "the supervisor says that the cluster is back")
    assert len(restarts(cluster)) == tells + 1
    done = filoray("scale", "3", "--data-dir", str(cluster.data_dir))
    assert done.returncode == 0, done.stderr
    done = filoray("scale", "2", "--data-dir", str(cluster.data_dir))
    assert done.returncode == 0, done.stderr


def coordinator_log(cluster: RunningCluster) -> str:
    return (cluster.data_dir / "coordinator.log").read_text()


def restarts(cluster: RunningCluster) -> list[str]:
    lines = (cluster.data_dir / "supervisor.log").read_text().splitlines()
    return [line for line in lines if "bringing Ray and the actors back" in line]


def test_nothing_that_is_kept_is_for_others_to_read(cluster: RunningCluster) -> None:
    """Nor is there a file with the secret that lets into Ray, which could be lost under a cluster that runs."""
    cluster.setup("private", num_shards=2, min_num_nodes=1)
    ray = runtime(cluster)
    for folder in (cluster.data_dir, Path(ray.temp_dir)):
        assert folder.stat().st_mode & 0o077 == 0
    for path in cluster.data_dir.rglob("*"):
        # What a test or an operator puts there is theirs; all else is in a directory that only its owner enters.
        assert path.suffix == ".conf" or path.stat().st_mode & 0o077 == 0, path
    for path in Path(ray.temp_dir).rglob("*"):
        if path.is_file():
            assert ray.secret.encode() not in path.read_bytes(), path
    killed = cluster.kill("node-1")
    wait_until(lambda: cluster.pids().get("node-1", killed) != killed, 60, "the node is replaced")


def test_a_gateway_whose_port_is_taken_meanwhile_serves_when_it_is_free(cluster: RunningCluster) -> None:
    port = cluster.http_port + 1
    cluster.kill("gateway-1")
    with contextlib.ExitStack() as held:
        wait_until(lambda: take_port(port, held), 20, "the port is taken before the gateway is back")
        log = cluster.data_dir / "gateway-1.log"
        wait_until(lambda: "gateway cannot serve yet" in log.read_text(), 60, "it says so")
    wait_until(lambda: cluster.get("/__health", gateway=1).text == "All good", 60, "the gateway is back")


def take_port(port: int, held: contextlib.ExitStack) -> bool:
    try:
        held.enter_context(socket.create_server(("127.0.0.1", port)))
        return True
    except OSError:
        return False


def is_told(cluster: RunningCluster) -> bool:
    return "the cluster is back" in (cluster.data_dir / "supervisor.log").read_text().splitlines()[-1]


def is_whole(cluster: RunningCluster, dataset: str) -> bool:
    """Through each gateway."""
    return all(
        set(cluster.statuses(dataset, gateway)) == {"ShardStatusActive"}
        and cluster.number("count(count_over_time(load[1h]))", START_MS / 1000 + 60, dataset, gateway) == len(SERIES)
        for gateway in range(cluster.nodes)
    )


def test_without_its_supervisor_a_cluster_goes_on_and_says_so(cluster: RunningCluster) -> None:
    cluster.setup("alone", num_shards=4, min_num_nodes=1)
    supervisor = psutil.Process(cluster.launched()["supervisor"]["pid"])
    arguments = ("up", "--data-dir", str(cluster.data_dir), "--http-port", str(cluster.http_port))
    assert f"a cluster runs on {cluster.data_dir} already ({cluster.url}); stop it" in filoray(*arguments).stderr
    supervisor.kill()
    psutil.wait_procs([supervisor], timeout=10)
    with Load(cluster, dataset="alone") as load:
        load.wait_for_more(5)
        again = filoray(*arguments)
        assert again.returncode == 1
        assert "its supervisor has ended, so that nobody brings Ray back" in again.stderr
        status = filoray("status", "--url", cluster.url, "--data-dir", str(cluster.data_dir))
        assert "the supervisor has ended: nobody brings Ray back if it dies" in " ".join(status.stdout.split())
        load.wait_for_more(5)
    assert_nothing_lost(cluster, load, dataset="alone")
    assert set(cluster.statuses("alone")) == {"ShardStatusActive"}


def test_a_cluster_whose_ray_stands_still_is_stopped_all_the_same(cluster: RunningCluster) -> None:
    """After the test above: nobody brings it back."""
    ray = runtime(cluster)
    os.kill(pid_of(ray, "gcs_server"), signal.SIGSTOP)
    done = filoray("down", "--data-dir", str(cluster.data_dir), timeout_s=60)
    assert done.returncode == 0, done.stderr
    assert "the actors did not close in order (Ray's gcs_server stood still for 1 s)" in done.stdout
    assert ray.processes() == []
    assert not Path(ray.temp_dir).exists()
