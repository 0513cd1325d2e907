"""``launch.json``: what it says of a launch, and what is said of one that cannot be understood."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from filoray.cluster.errors import FilorayError
from filoray.cluster.process.process_identity import LAUNCH_VARIABLE, ProcessIdentity
from filoray.command.launch_state import STATE_FILE, LaunchState
from filoray.command.ray_runtime import RayRuntime

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]


def state_of(session: int, supervisor: ProcessIdentity | None = None) -> LaunchState:
    ray = RayRuntime("127.0.0.1:1", session, "t0ken", "/nonexistent", "secret")
    return LaunchState("filoray", "t0ken", "127.0.0.1:1", ray, ["http://127.0.0.1:8080"], supervisor, supervisor)


def started(environment: dict[str, str]) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(SLEEP, env=environment, start_new_session=True)
    while not Path(f"/proc/{process.pid}/environ").read_bytes():  # the kernel shows it a moment after the start
        pass
    return process


def test_what_is_written_is_read_and_is_private(tmp_path: Path) -> None:
    (tmp_path / "launch.part").mkdir()  # a data set may have had that name
    assert LaunchState.read(tmp_path) is None
    state = state_of(7, ProcessIdentity(8, 9, "boot"))
    state.write(tmp_path)
    assert LaunchState.read(tmp_path) == state
    assert (tmp_path / STATE_FILE).stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == [STATE_FILE, "launch.part"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"{", "is not what a launch wrote"),
        (b"\x00" * 300, "is not what a launch wrote"),
        (b"[]", "is not what a launch wrote"),
        (b'"text"', "is not what a launch wrote"),
        (b'{"version": 2}', "is not what a launch wrote"),
        (b'{"version": 2, "ray": {"odd": 1}, "feeder": null, "supervisor": null}', "is not what a launch wrote"),
        (b'{"ray": {"pid": 1, "created_s": 1.0}, "urls": []}', "is of another version of filoray (form 1"),
        (b'{"version": 3}', "is of another version of filoray (form 3, this one reads 2)"),
    ],
)
def test_what_cannot_be_understood_is_said_with_what_to_do(tmp_path: Path, text: bytes, words: str) -> None:
    (tmp_path / STATE_FILE).write_bytes(text)
    with pytest.raises(FilorayError) as caught:
        LaunchState.read(tmp_path)
    assert f"{tmp_path / STATE_FILE} {words}" in caught.value.message
    assert "remove the file" in caught.value.message
    assert (tmp_path / STATE_FILE).read_bytes() == text


def test_a_directory_in_its_place_is_named(tmp_path: Path) -> None:
    (tmp_path / STATE_FILE).mkdir()
    with pytest.raises(FilorayError, match=r"launch\.json cannot be read.*Is a directory"):
        LaunchState.read(tmp_path)
    with pytest.raises(FilorayError, match=r"launch\.json cannot be written"):
        state_of(7).write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [STATE_FILE]


@pytest.mark.parametrize("has_token", [True, False], ids=["ours", "a stranger's"])
def test_what_is_ended_is_what_was_launched(tmp_path: Path, has_token: bool) -> None:
    """After a restart of the machine the numbers of an old file are somebody else's."""
    environment = {**os.environ, LAUNCH_VARIABLE: "t0ken" if has_token else "other"}
    process = started(environment)
    try:
        identity = ProcessIdentity.of(process.pid)
        assert identity is not None
        if not has_token:
            identity = ProcessIdentity(process.pid, identity.start_ticks, "before the restart")
        state = state_of(process.pid, identity)
        assert state.is_supervised() is has_token
        assert (len(state.ray.processes()) == 1) is has_token  # type: ignore[union-attr]
        state.end_feeder()
        state.end_supervisor()
        state.ray.stop()  # type: ignore[union-attr]
        state.end_carriers()
        assert (process.poll() is None) is not has_token
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def test_what_was_started_and_not_noted_is_ended_too(tmp_path: Path) -> None:
    environments = [{**os.environ, LAUNCH_VARIABLE: token} for token in ("t0ken", "other")]
    processes = [started(environment) for environment in environments]
    try:
        state_of(2**22 + 1).end_carriers()
        assert processes[0].wait(10) == -signal.SIGKILL
        assert processes[1].poll() is None
    finally:
        for process in processes:
            process.kill()
            process.wait()


@pytest.mark.parametrize(
    ("has_ray", "is_supervised", "words"),
    [
        (False, False, "on a Ray that it joined: it has no supervisor"),
        (True, False, "the supervisor has ended: nobody brings Ray back if it dies"),
        (True, True, f"the supervisor brings Ray back if it dies (process {os.getpid()}"),
    ],
)
def test_who_brings_ray_back_is_said(has_ray: bool, is_supervised: bool, words: str) -> None:
    state = state_of(7, ProcessIdentity.of(os.getpid()) if is_supervised else ProcessIdentity(7, 8, "boot"))
    state.ray = state.ray if has_ray else None
    assert words in state.supervision()


BEGIN_RAY = """
started = subprocess.Popen
subprocess.Popen = lambda _, **more: started([sys.executable, "-c", "import time; time.sleep(600)"], **more)
state = LaunchState("filoray", "t0ken", "", None, ["http://127.0.0.1:8080"])

def note(ray):
    if state.ray is not None:  # what is to be written now is never written
        os.kill(os.getpid(), signal.SIGKILL)
    state.ray = ray
    state.write(Path(folder))

RayStart.begin(Path(folder) / "ray.log", "t0ken", note)
"""
BEGIN_SUPERVISOR = """
def note(supervisor):
    (Path(folder) / "pid").write_text(str(supervisor.pid))
    os.kill(os.getpid(), signal.SIGKILL)

limits = SupervisionLimits(100, 1000, 1000, 1, 1000, 1, 1, 1000)
start_supervisor(Settings(folder, "t0ken", limits), b"config", note)
"""


def killed_in(folder: Path, program: str) -> None:
    """Runs the program, which kills itself."""
    imports = (
        "import os, signal, subprocess, sys; from pathlib import Path; from filoray.command.launch_state import *; "
        "from filoray.command.ray_runtime import *; from filoray.command.supervisor import *\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"folder = {str(folder)!r}\n{imports}{program}"],
        env={**os.environ, "TMPDIR": str(folder)}, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL


def test_a_ray_whose_starter_was_killed_at_that_moment_is_known_and_ended(tmp_path: Path) -> None:
    killed_in(tmp_path, BEGIN_RAY)
    state = LaunchState.read(tmp_path)
    assert state is not None
    assert state.is_unfinished()
    assert state.ray is not None
    assert state.ray.session == 0
    (process,) = state.ray.processes()
    assert Path(state.ray.temp_dir).is_dir()
    state.ray.stop(polite_s=0)
    assert not process.is_running()
    assert not Path(state.ray.temp_dir).exists()


def test_a_supervisor_whose_starter_was_killed_at_that_moment_ends(tmp_path: Path) -> None:
    killed_in(tmp_path, BEGIN_SUPERVISOR)
    supervisor = ProcessIdentity.of(int((tmp_path / "pid").read_text()))
    deadline_s = time.monotonic() + 60
    while supervisor is not None and supervisor.is_running():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("has_ray", "supervisor", "is_unfinished"),
    [(True, None, True), (True, ProcessIdentity(7, 8, "boot"), False), (False, None, False)],
)
def test_a_launch_is_done_when_it_has_its_supervisor(
    has_ray: bool, supervisor: ProcessIdentity | None, is_unfinished: bool
) -> None:
    state = state_of(7, supervisor)
    state.ray = state.ray if has_ray else None
    assert state.is_unfinished() is is_unfinished
