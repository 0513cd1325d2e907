"""Which process it is: a number alone is soon another's, and so is a number with an age after the clock was set.

A process is known by its id, by when it started in clock ticks after the machine's start (which no clock setting
moves), and by which start of the machine that was. What belongs to one launch also carries the launch's random token in
its environment, so that a session whose number a stranger got after a reboot is never taken for ours.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

LAUNCH_VARIABLE = "FILORAY_LAUNCH"
"""In the environment of every process of a launch: its token."""

_WAIT_POLL_S = 0.01


@dataclass(frozen=True, slots=True)
class _Stat:
    state: str
    session: int
    start_ticks: int


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """``start_ticks``: clock ticks (hundredths of a second) from the machine's start to the process's."""

    pid: int
    start_ticks: int
    boot_id: str

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity | None:
        """Of the process that has the id now; None if there is none."""
        stat = _stat(pid)
        return cls(pid, stat.start_ticks, boot_id()) if stat is not None else None

    def is_running(self) -> bool:
        """Whether this very process lives; one that ended and was not waited for (a zombie) does not."""
        stat = _stat(self.pid) if self.boot_id == boot_id() else None
        return stat is not None and stat.start_ticks == self.start_ticks and stat.state not in "ZX"

    def send(self, number: signal.Signals) -> None:
        """The signal to this very process, or to none."""
        with contextlib.suppress(ProcessLookupError):
            if not hasattr(os, "pidfd_open"):
                if self.is_running():
                    os.kill(self.pid, number)
                return
            descriptor = os.pidfd_open(self.pid)  # held, so that it cannot become another's between look and kill
            try:
                if self.is_running():
                    signal.pidfd_send_signal(descriptor, number)
            finally:
                os.close(descriptor)


@functools.cache
def boot_id() -> str:
    """Names this start of the machine."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return str(round(psutil.boot_time()))


def started_after_boot_s(pid: int) -> float | None:
    """When the process started, in seconds after the machine's start; None if there is none."""
    stat = _stat(pid)
    return stat.start_ticks / _ticks_per_s() if stat is not None else None


def session_of_launch(session: int, token: str) -> list[ProcessIdentity]:
    """What runs in the session, if the session is that launch's: if anything in it carries the token.

    Not each must carry it: Ray's helpers overwrite their environment with their title. A session's number is not given
    to another as long as one of its processes lives.
    """
    found = []
    is_ours = False
    for pid in psutil.pids():
        stat = _stat(pid)
        if stat is not None and stat.session == session and stat.state not in "ZX":
            found.append(ProcessIdentity(pid, stat.start_ticks, boot_id()))
            is_ours = is_ours or carries_token(pid, token)
    return found if is_ours else []


def carriers_of(token: str, variable: str = LAUNCH_VARIABLE) -> list[ProcessIdentity]:
    """All processes that were started with the token in that variable, in whatever session."""
    found = (ProcessIdentity.of(pid) for pid in psutil.pids() if carries_token(pid, token, variable))
    return [process for process in found if process is not None and process.is_running()]


def carries_token(pid: int, token: str, variable: str = LAUNCH_VARIABLE) -> bool:
    try:
        if Path("/proc/self/environ").exists():
            return f"{variable}={token}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        return bool(psutil.Process(pid).environ().get(variable) == token)
    except (OSError, psutil.Error):
        return False


def process_name(pid: int) -> str:
    """Of its program, or, for Ray's workers, of their class (``ray::Gateway``); empty if it is gone."""
    try:
        program = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode(errors="replace")
        return program.rpartition("/")[2] if not program.startswith("ray::") else program
    except OSError:
        with contextlib.suppress(psutil.Error):
            return str(psutil.Process(pid).name())
        return ""


def times_scheduled(pid: int) -> int | None:
    """How often the kernel let threads of the process run: grows while it lives, even if it only keeps its timers.

    None where the kernel does not say.
    """
    total = 0
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            total += int(Path(f"/proc/{pid}/task/{thread}/schedstat").read_bytes().split()[2])
    except (OSError, IndexError):
        return None
    return total


def end_processes(processes: Iterable[ProcessIdentity], polite_s: float) -> None:
    """SIGTERM, SIGKILL to what is left after ``polite_s`` (0: at once); returns when all are gone, or 5 s later."""
    living = [process for process in processes if process.is_running()]
    for number, wait_s in ((signal.SIGTERM, polite_s), (signal.SIGKILL, 5.0)):
        if wait_s:
            for process in living:
                process.send(number)
            living = _still_running(living, wait_s)


def _still_running(processes: list[ProcessIdentity], wait_s: float) -> list[ProcessIdentity]:
    deadline_s = time.monotonic() + wait_s
    while (processes := [process for process in processes if process.is_running()]) and time.monotonic() < deadline_s:
        time.sleep(_WAIT_POLL_S)
    return processes


def _stat(pid: int) -> _Stat | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except FileNotFoundError:
        return _stat_elsewhere(pid) if not Path("/proc/self/stat").exists() else None
    except OSError:  # it ended while it was read
        return None
    fields = text.rpartition(b")")[2].split()  # the name before may have blanks and brackets of its own
    return _Stat(fields[0].decode(), int(fields[3]), int(fields[19]))


def _stat_elsewhere(pid: int) -> _Stat | None:
    """Where there is no /proc (macOS)."""
    try:
        process = psutil.Process(pid)
        state = "Z" if process.status() == psutil.STATUS_ZOMBIE else "R"
        ticks = round((process.create_time() - psutil.boot_time()) * _ticks_per_s())
        return _Stat(state, os.getsid(pid), ticks)
    except (psutil.Error, OSError):
        return None


def _ticks_per_s() -> int:
    return os.sysconf("SC_CLK_TCK")
