"""When the supervisor finds something standing still, when it starts anew and when it gives up."""

from __future__ import annotations

import dataclasses
import logging
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from types import SimpleNamespace

import pytest

from filoray.cluster.config.server_config import default_server_config
from filoray.cluster.errors import FilorayError
from filoray.cluster.process.directory_lock import DirectoryLock
from filoray.cluster.process.process_identity import times_scheduled
from filoray.command import supervisor as supervisor_module
from filoray.command.launch_state import LaunchState
from filoray.command.ray_runtime import RayRuntime
from filoray.command.relaunch import relaunch
from filoray.command.start_watch import _ended_finder
from filoray.command.supervision import HangWatch, Restarts, SupervisionLimits
from filoray.command.supervisor import Settings, Supervisor

LIMITS = SupervisionLimits(
    check_interval_ms=1, hang_timeout_ms=5000, actor_hang_timeout_ms=5000, restarts_max=5, restarts_period_ms=60_000,
    backoff_ms=1000, backoff_max_ms=3000, start_timeout_ms=1000,
)  # fmt: skip


@pytest.mark.parametrize(
    ("seen", "stands_still"),
    [
        # Of each look: its time (ms), and the number of the process.
        ([(0, 1), (1000, 2), (2000, 3), (3000, 4), (4000, 5), (5000, 6), (6000, 7)], False),
        ([(0, 1), (1000, 1), (2000, 1), (3000, 1), (4000, 1), (5000, 1)], True),
        ([(0, 1), (1000, 1), (2000, 1), (3000, 1), (4000, 1)], False),
        ([(0, 1), (1000, 1), (2000, 1), (3000, 1), (4000, 2), (5000, 2), (8000, 2)], False),
        # The watcher was away itself: an hour in which nothing moved is one look.
        ([(0, 1), (3_600_000, 1), (3_601_000, 1)], False),
        ([(0, 1), (3_600_000, 1), (3_602_000, 1), (3_604_000, 1)], True),
    ],
)
def test_what_does_not_move_for_so_long_of_watching_stands_still(seen: list[tuple[int, int]], stands_still: bool):
    watch: HangWatch[str] = HangWatch(timeout_ms=5000, interval_ms=1000)
    found = [watch.observe({"raylet": number, "gcs_server": now_ms}, now_ms) for now_ms, number in seen]
    assert found[-1] == (["raylet"] if stands_still else [])
    assert not any(found[:-1])


def test_a_process_that_is_new_begins_anew():
    watch: HangWatch[str] = HangWatch(timeout_ms=2000, interval_ms=1000)
    for now_ms in (0, 1000):
        assert watch.observe({"a": 1}, now_ms) == []
    assert watch.observe({}, 2000) == []
    assert watch.observe({"a": 1}, 3000) == []
    assert watch.observe({"a": 1}, 4000) == []
    assert watch.observe({"a": 1}, 5000) == ["a"]


def test_restarts_wait_longer_each_time_and_end():
    restarts = Restarts(LIMITS)
    began = []
    now_ms = 0
    while (at_ms := restarts.next_at_ms(now_ms)) is not None:
        began.append(at_ms)
        restarts.begun(at_ms)
        now_ms = at_ms
    assert began == [0, 1000, 3000, 6000, 9000]
    # What was long ago does not count.
    assert restarts.next_at_ms(59_999) is None
    assert restarts.next_at_ms(60_000) == 60_000
    # One that ran well for longer than the pause is brought back at once.
    later = Restarts(LIMITS)
    later.begun(0)
    assert later.next_at_ms(30_000) == 30_000


def test_a_ray_that_does_not_come_back_is_given_up_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    tried = []
    monkeypatch.setattr(Supervisor, "_relaunch", lambda self: tried.append(1) is not None)
    limits = dataclasses.replace(LIMITS, restarts_max=3, backoff_ms=1, backoff_max_ms=1)
    gone = RayRuntime("127.0.0.1:1", 2**22 + 1, "t", str(tmp_path / "gone"), "s")
    LaunchState("c", "t", gone.address, gone, ["http://127.0.0.1:1"]).write(tmp_path)
    with caplog.at_level(logging.INFO):
        Supervisor(Settings(str(tmp_path), "t", limits), b"").run()
    assert len(tried) == 3
    last = caplog.messages[-1]
    assert "Ray's gcs_server ended; not bringing Ray back again: that was done 3 times within 60 s" in last
    assert "filoray.supervisor.restarts-max" in last


def test_a_file_that_cannot_be_read_for_a_while_ends_no_supervision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    ray = RayRuntime("127.0.0.1:1", 2**22 + 1, "t", str(tmp_path / "gone"), "s")
    state = LaunchState("c", "t", ray.address, ray, ["http://127.0.0.1:1"])
    state.write(tmp_path)
    watching = Supervisor(Settings(str(tmp_path), "t", LIMITS), b"")
    assert watching._state() == state
    (tmp_path / "launch.json").write_text("")
    assert [watching._state(), watching._state()] == [state, state]
    assert len(caplog.messages) == 1
    (tmp_path / "launch.json").unlink()
    assert watching._state() is None


@pytest.mark.parametrize("ending", ["stopped", "launched anew", "garbled"])
def test_it_ends_with_its_launch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str):
    monkeypatch.setattr(Supervisor, "_relaunch", lambda self: pytest.fail("not its cluster any more"))
    ray = RayRuntime("127.0.0.1:1", 2**22 + 1, "t", str(tmp_path / "gone"), "s")
    if ending == "launched anew":
        LaunchState("c", "another", ray.address, ray, ["http://127.0.0.1:1"]).write(tmp_path)
    elif ending == "garbled":
        (tmp_path / "launch.json").write_text("{")
    Supervisor(Settings(str(tmp_path), "t", LIMITS), b"").run()


def test_a_ray_is_there_while_one_of_its_workers_makes_its_link_anew(tmp_path: Path):
    """As each does when it starts: by the link a Ray that was well looked gone for that moment, and was ended."""
    ray = RayRuntime("127.0.0.1:1", 1, "t", str(tmp_path), "s")
    assert not ray.raylet_socket().exists()
    session = tmp_path / "r" / "session_2026-11-30_19-26-55_1"
    (session / "sockets").mkdir(parents=True)
    (session / "sockets" / "raylet").touch()
    link = tmp_path / "r" / "session_latest"
    assert ray.raylet_socket().exists()
    link.symlink_to(session)
    assert ray.raylet_socket().parent == session / "sockets"
    (session / "sockets" / "raylet").unlink()
    assert not ray.raylet_socket().exists()


def test_a_relaunch_waits_for_who_changes_the_cluster_just_now(tmp_path: Path):
    config = dataclasses.replace(default_server_config(), data_dir=tmp_path)
    with ThreadPoolExecutor(1) as aside:
        with DirectoryLock(tmp_path, "launch"):
            relaunching = aside.submit(relaunch, config)
            assert not wait([relaunching], timeout=0.5).done
        with pytest.raises(FilorayError, match="the cluster was stopped meanwhile"):
            relaunching.result(30)


def test_a_failed_relaunch_is_told_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    failing = [sys.executable, "-c", "import sys; sys.stdin.read(); sys.exit('port 8080 is taken')"]
    started = subprocess.Popen
    monkeypatch.setattr(supervisor_module.subprocess, "Popen", lambda _, **more: started(failing, **more))
    assert not Supervisor(Settings(str(tmp_path), "t", LIMITS), b"config")._relaunch()
    assert "relaunch: port 8080 is taken" in caplog.messages
    slow = [sys.executable, "-c", "import time; time.sleep(600)"]
    monkeypatch.setattr(supervisor_module.subprocess, "Popen", lambda _, **more: started(slow, **more))
    assert not Supervisor(Settings(str(tmp_path), "t", LIMITS), b"config")._relaunch()
    assert "the cluster was not back within 1000 ms" in caplog.messages


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        (["", "", "", ""], ""),  # the one before, which is brought back
        (["", "g", "gr", "gr", "gr"], ""),
        (["g", "gr", "r", "r"], ""),
        (["g", "gr", "r", "r", "r"], "g"),
        (["gr", "", "", ""], "g and r"),
        (["gr", "r", "r", "gr", "r", "r"], ""),
    ],
)
def test_a_start_whose_ray_ends_is_noticed(seen: list[str], said: str):
    """Ray's client would wait for a minute."""
    looks = iter(seen)
    state = SimpleNamespace(ray=SimpleNamespace(essential=lambda: dict.fromkeys(next(looks))))
    find = _ended_finder(state)  # type: ignore[arg-type]
    assert [find() for _ in seen][-1] == said


def test_a_process_that_runs_is_scheduled():
    before = times_scheduled(os.getpid())
    assert before is not None
    os.sched_yield()
    for _ in range(100):
        subprocess.run(["true"], check=True)
    after = times_scheduled(os.getpid())
    assert after is not None
    assert after > before
    assert times_scheduled(2**22 + 1) is None
