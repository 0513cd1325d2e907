"""Ray for one cluster: started in a session of its own, stopped by exactly the processes that were started.

``ray stop`` would end every Ray on the machine, so it is never used. The head's process and all its
descendants share one session id, which with the head's creation time names them for as long as one lives.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from filoray.cluster.errors import FilorayError

RAY_ENVIRONMENT = {
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    # A dead raylet is noticed in seconds, not in Ray's default of half a minute.
    "RAY_health_check_initial_delay_ms": "2000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
    # The actors are a few, known, idle-cheap processes: no worker is started ahead of need for others.
    "RAY_prestart_worker_first_driver": "1",
    "RAY_enable_metrics_collection": "0",
    # Ray runs workers at niceness 15: behind every other process of the machine, heartbeats included.
    "RAY_worker_niceness": "0",
}
_TOKEN_FILE = "auth-token"
_RAYS_OWN = "r"  # Ray lets everybody into its temporary directory, so it is inside one that only we enter
_OBJECT_STORE_BYTES = 80 * 1024 * 1024
_START_TIMEOUT_S = 60


@dataclass(frozen=True, slots=True)
class RayRuntime:
    """A Ray head that this cluster started. ``pid`` is also its session id."""

    address: str
    pid: int
    created_s: float
    temp_dir: str

    @property
    def environment(self) -> dict[str, str]:
        """What its processes and its clients need. Set it before ray is imported.

        Ray listens on every interface of the machine whatever it is told, and runs the code of whoever may speak to it:
        that is who can read the token in the temporary directory.
        """
        token_path = str(Path(self.temp_dir) / _TOKEN_FILE)
        return {**RAY_ENVIRONMENT, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": token_path}

    def processes(self) -> list[psutil.Process]:
        """What still runs of it: the head and everything that it started."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                is_of_session = os.getsid(process.pid) == self.pid and process.create_time() >= self.created_s - 1
                if is_of_session and _runs(process):
                    found.append(process)
        return found

    def is_running(self) -> bool:
        """Whether the head lives; what it started may outlive it."""
        with contextlib.suppress(psutil.Error):
            head = psutil.Process(self.pid)
            return abs(head.create_time() - self.created_s) < 1 and _runs(head)
        return False

    def stop(self, timeout_s: float = 10) -> None:
        """End it and its descendants, politely first; removes its temporary directory."""
        if self.is_running():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)
        processes = self.processes()
        _, alive = psutil.wait_procs(processes, timeout=timeout_s)
        for process in {*alive, *self.processes()}:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(alive, timeout=5)
        shutil.rmtree(self.temp_dir, ignore_errors=True)


def _runs(process: psutil.Process) -> bool:
    """A killed process that nobody waited for yet is still listed, as a zombie."""
    return process.status() != psutil.STATUS_ZOMBIE


def free_port() -> int:
    """A loopback TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def port_problem(host: str, port: int) -> OSError | None:
    """What keeps a process from listening there now, if anything."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error
        return None


class RayStart:
    """A Ray head on its way up: ``begin`` returns at once, ``wait`` when it takes drivers."""

    def __init__(self, process: subprocess.Popen[bytes], runtime: RayRuntime, log_path: Path) -> None:
        self._process = process
        self._log_path = log_path
        self.runtime = runtime

    @classmethod
    def begin(cls, log_path: Path) -> RayStart:
        # Not under the data directory: Unix socket paths are limited to 107 bytes.
        temp_dir = tempfile.mkdtemp(prefix="filoray-ray-")
        port = free_port()
        runtime = RayRuntime(f"127.0.0.1:{port}", 0, 0.0, temp_dir)
        token_path = Path(temp_dir) / _TOKEN_FILE
        token_path.touch(mode=0o600)
        token_path.write_text(secrets.token_hex(32))
        command = [
            sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--node-ip-address=127.0.0.1",
            f"--port={port}", f"--temp-dir={temp_dir}/{_RAYS_OWN}", "--include-dashboard=false",
            "--disable-usage-stats", "--min-worker-port=0", "--max-worker-port=0",
            f"--object-store-memory={_OBJECT_STORE_BYTES}",
            # No autoscaler, and nobody to send log lines to: two processes and a second of processor time less.
            "--no-monitor", "--include-log-monitor=false",
        ]  # fmt: skip
        with log_path.open("wb") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, **runtime.environment},
            )
        created_s = psutil.Process(process.pid).create_time()
        return cls(process, dataclasses.replace(runtime, pid=process.pid, created_s=created_s), log_path)

    def wait(self) -> RayRuntime:
        """Raises FilorayError with the end of Ray's log if it does not come up; nothing is left running then."""
        deadline_s = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline_s:
            if b"Ray runtime started" in self._log_path.read_bytes():
                return self.runtime
            if self._process.poll() is not None:
                break
            time.sleep(0.05)
        self.runtime.stop()
        tail = self._log_path.read_text(errors="replace").strip().splitlines()[-8:]
        raise FilorayError("Ray did not start; the end of its log:\n  " + "\n  ".join(tail))
