"""The scenarios of ``conf/scenarios`` as a user plays them, against real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from running_cluster import RunningCluster, filoray, wait_until
from scenario_files import FILES, plays_in, short_form

from filoray.cluster.chaos.language import parse_scenario
from filoray.cluster.chaos.worlds import Word, World, words_needed
from filoray.command.chaos.small_disk import mount_problem

CONFIG = """filoray {
  http.allow-chaos = true
  node { heartbeat-interval = 200ms, heartbeat-timeout = 2s, encryption = always }  # as between machines
  supervisor.restart-backoff = 100ms
  balance.wait = 1s  # the default would be waited for by nearly every scenario
}"""
REAL = [path for path in FILES if plays_in(World.REAL, path)]
OWN_DISK = [path for path in REAL if Word.FULL_DISK in words_needed(parse_scenario(path.read_text()))]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCluster]:
    with RunningCluster(tmp_path_factory.mktemp("scenarios"), nodes=3, config=CONFIG) as running:
        yield running


@pytest.mark.parametrize("path", [path for path in REAL if path not in OWN_DISK], ids=lambda path: path.stem)
def test_scenario(cluster: RunningCluster, path: Path, tmp_path: Path) -> None:
    text = short_form(path, "12s").replace("every 10s", "every 4s")
    played = tmp_path / path.name
    played.write_text(text)
    report = tmp_path / "report.html"
    done = filoray(
        "chaos", "run", str(played), "--seed", "5", "--report", str(report),
        "--url", cluster.url, "--data-dir", str(cluster.data_dir),
    )  # fmt: skip
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all that was expected held" in done.stdout
    assert " 0 lost; " in done.stdout
    assert "<svg" in report.read_text()
    assert cluster.get("/api/v1/cluster").json()["data"] == [], "it leaves no data set behind"


@pytest.mark.parametrize("path", OWN_DISK, ids=lambda path: path.stem)
def test_scenario_on_a_small_disk(path: Path, tmp_path: Path) -> None:
    if problem := mount_problem():
        pytest.skip(f"no small disk can be mounted: {problem}")
    done = filoray("chaos", "run", str(path), "--data-dir", str(tmp_path / "data"))
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert_nothing_is_left(tmp_path)


def test_an_interrupted_scenario_ends_its_cluster(tmp_path: Path) -> None:
    path = tmp_path / "long.txt"
    path.write_text("nodes 1\ndataset one shards 2 min-nodes 1\nkill node 0\nwait 10m\n")
    playing = subprocess.Popen(
        [sys.executable, "-m", "filoray.command.cli", "chaos", "run", str(path), "--data-dir", str(tmp_path / "data")],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert playing.stdout is not None
    assert any("kill node 0" in line for line in playing.stdout)
    playing.send_signal(signal.SIGINT)
    playing.communicate(timeout=60)
    assert playing.returncode == 130
    assert_nothing_is_left(tmp_path)


def assert_nothing_is_left(folder: Path) -> None:
    """No process that was started on it, and nothing mounted in it."""

    def left() -> list[int]:
        return [one.pid for one in psutil.process_iter() if str(folder) in " ".join(command_line(one))]

    wait_until(lambda: left() == [], 10, "no process is left")
    assert str(folder) not in Path("/proc/mounts").read_text()
    assert not (folder / "data" / "launch.json").exists()


def command_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
