"""Processes of a launch are told from strangers that have their numbers."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from waiting import wait_until

from filoray.cluster.actors import ray_actors
from filoray.cluster.process.process_identity import (
    LAUNCH_VARIABLE,
    ProcessIdentity,
    end_processes,
    process_name,
    session_of_launch,
    started_after_boot_s,
)

Start = Callable[..., subprocess.Popen[bytes]]
SLEEP = "import time; time.sleep(600)"
CHILD = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {SLEEP!r}], env={{}}); {SLEEP}"


@pytest.fixture
def start() -> Iterator[Start]:
    started: list[subprocess.Popen[bytes]] = []

    def begin(program: str = SLEEP, token: str | None = None, argv0: str | None = None) -> subprocess.Popen[bytes]:
        environment = {name: value for name, value in os.environ.items() if name != LAUNCH_VARIABLE}
        if token is not None:
            environment[LAUNCH_VARIABLE] = token
        command = [argv0 or sys.executable, "-c", program]
        process = subprocess.Popen(command, executable=sys.executable, env=environment, start_new_session=True)
        started.append(process)
        wait_until(lambda: process_name(process.pid), "the kernel shows it, a moment after the start")
        return process

    yield begin
    for process in started:
        for member in session_members(process.pid):
            os.kill(member, signal.SIGKILL)
        process.wait()


def session_members(session: int) -> list[int]:
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                if os.getsid(int(entry)) == session:
                    found.append(int(entry))
            except ProcessLookupError:
                pass
    return found


def identity(pid: int) -> ProcessIdentity:
    found = ProcessIdentity.of(pid)
    assert found is not None
    return found


def test_a_process_is_itself_until_it_ends(start: Start) -> None:
    process = start()
    itself = identity(process.pid)
    assert itself.is_running()
    assert started_after_boot_s(process.pid) == itself.start_ticks / os.sysconf("SC_CLK_TCK")
    itself.send(signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not itself.is_running()  # a zombie
    process.wait()
    assert not itself.is_running()
    assert ProcessIdentity.of(process.pid) is None
    itself.send(signal.SIGKILL)


@pytest.mark.parametrize(
    "change",
    [
        {"start_ticks": lambda ticks: ticks - 1},
        {"start_ticks": lambda ticks: ticks + 1},
        {"boot_id": lambda _: "of another start of the machine"},
    ],
)
def test_a_stranger_with_the_number_is_not_it(start: Start, change: dict[str, Callable]) -> None:
    process = start()
    (name, changed), own = *change.items(), identity(process.pid)
    former = dataclasses.replace(own, **{name: changed(getattr(own, name))})
    assert not former.is_running()
    former.send(signal.SIGKILL)
    end_processes([former], polite_s=0)
    assert own.is_running()


@pytest.mark.parametrize(("token", "is_ours"), [("a1", True), (None, False), ("a2", False), ("a11", False)], ids=repr)
def test_a_session_is_a_launchs_by_its_token(start: Start, token: str | None, is_ours: bool) -> None:
    leader = start(CHILD, token)
    wait_until(lambda: len(session_members(leader.pid)) == 2, "its child runs")
    members = session_of_launch(leader.pid, "a1")
    # The child has no token, as Ray's helpers: the session says whose it is.
    assert sorted(member.pid for member in members) == (sorted(session_members(leader.pid)) if is_ours else [])


def test_an_end_is_polite_first_and_certain(start: Start, tmp_path: Path) -> None:
    is_deaf = tmp_path / "deaf"
    deafen = "import pathlib, signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    deaf = start(f"{deafen}; pathlib.Path({str(is_deaf)!r}).touch(); {SLEEP}")
    polite = start()
    wait_until(is_deaf.exists, "it takes no SIGTERM any more")
    both = [identity(deaf.pid), identity(polite.pid)]
    end_processes(both, polite_s=0.3)
    assert not any(process.is_running() for process in both)
    assert polite.wait() == -signal.SIGTERM
    assert deaf.wait() == -signal.SIGKILL


@pytest.mark.parametrize(
    ("title", "ticks_off", "is_it"), [("ray::NodeActor", 0, True), ("ray::NodeActor", 1, False), ("sshd", 0, False)]
)
def test_only_the_actors_own_process_is_killed_for_it(start: Start, title: str, ticks_off: int, is_it: bool) -> None:
    process = start(argv0=title)
    started_s = started_after_boot_s(process.pid)
    assert started_s is not None
    found = ray_actors._process(process.pid, started_s + ticks_off / os.sysconf("SC_CLK_TCK"))
    assert (found == identity(process.pid)) is is_it


def test_nothing_of_it_is_read_from_a_pid_that_is_not_there(tmp_path: Path) -> None:
    assert ProcessIdentity.of(2**22 + 1) is None
    assert started_after_boot_s(2**22 + 1) is None
    assert session_of_launch(2**22 + 1, "a1") == []
