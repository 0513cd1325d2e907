"""Ray for one cluster: started in a session of its own, stopped by exactly the processes that were started.

``ray stop`` would end every Ray on the machine, so it is never used. All that is started shares one session, which the
launch's token in the environment of its processes tells from a stranger's that got the same number later.

Nothing of Ray's own stays behind to watch it: its parts end or hang and the supervisor (``supervisor.py``) sees it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from filoray.cluster.errors import FilorayError
from filoray.cluster.process.owner_files import PRIVATE_UMASK
from filoray.cluster.process.process_identity import (
    LAUNCH_VARIABLE,
    ProcessIdentity,
    carriers_of,
    end_processes,
    process_name,
    session_of_launch,
)

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
ESSENTIAL = ("gcs_server", "raylet")
"""Ray's processes without which no actor lives long."""

_SECRET_VARIABLE = "RAY_AUTH_TOKEN"
_RAYS_OWN = "r"  # Ray lets everybody into its temporary directory, so it is inside one that only we enter
_OBJECT_STORE_BYTES = 80 * 1024 * 1024
_LOGS = ("raylet.out", "raylet.err", "gcs_server.out", "gcs_server.err", "dashboard_agent.log", "runtime_env_agent.log")
_LOG_BYTES = 1 << 20
_START_TIMEOUT_S = 60
_POLITE_S = 2.0


@dataclass(frozen=True, slots=True)
class RayRuntime:
    """A Ray that this cluster started. ``session``: that of its processes. ``token``: the launch's.

    The session is 0 while it is not known: it is being started, or who started it was killed at that moment. What runs
    of it then is known by the secret in its environment.
    """

    address: str
    session: int
    token: str
    temp_dir: str
    secret: str = field(repr=False)

    @property
    def environment(self) -> dict[str, str]:
        """What its processes and its clients need. Set it before ray is imported.

        Ray listens on every interface of the machine whatever it is told, and runs the code of whoever may speak to it:
        that is who knows the secret. It is in no file of Ray's, which would be read anew for each process that is
        started and might be gone by then.
        """
        return {
            **RAY_ENVIRONMENT,
            "RAY_AUTH_MODE": "token",
            _SECRET_VARIABLE: self.secret,
            LAUNCH_VARIABLE: self.token,
        }

    def processes(self) -> list[ProcessIdentity]:
        """What still runs of it: Ray's own and the actors'."""
        if not self.session:
            return carriers_of(self.secret, _SECRET_VARIABLE)
        return session_of_launch(self.session, self.token)

    def essential(self) -> dict[str, ProcessIdentity]:
        """Those of ``ESSENTIAL`` that run."""
        named = ((process_name(process.pid), process) for process in self.processes())
        return {name: process for name, process in named if name in ESSENTIAL}

    def is_running(self) -> bool:
        """Whether it can have actors; what it started may outlive it."""
        return len(self.essential()) == len(ESSENTIAL)

    def raylet_socket(self) -> Path:
        """Through which new processes find it."""
        return self._session_dir() / "sockets" / "raylet"

    def _session_dir(self) -> Path:
        """Not by the link ``session_latest``: each of Ray's workers removes it when it starts, and makes it anew."""
        rays_own = Path(self.temp_dir) / _RAYS_OWN
        found = (path for path in rays_own.glob("session_*") if not path.is_symlink())
        return next(found, rays_own / "session")

    def keep_logs(self, directory: Path) -> None:
        """Copy what its own parts said last there, in place of a former Ray's: ``stop`` removes it."""
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(mode=0o700)
        for name in _LOGS:
            with contextlib.suppress(FileNotFoundError), (self._session_dir() / "logs" / name).open("rb") as log:
                log.seek(max(0, os.fstat(log.fileno()).st_size - _LOG_BYTES))
                (directory / name).write_bytes(log.read())
                (directory / name).chmod(0o600)

    def stop(self, polite_s: float = _POLITE_S) -> None:
        """End it and its actors; removes its temporary directory."""
        for wait_s in (polite_s, 0, 0):  # again, for those that were being started meanwhile
            end_processes(self.processes(), wait_s)
        shutil.rmtree(self.temp_dir, ignore_errors=True)


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
    """A Ray on its way up: ``begin`` returns at once, ``wait`` when it takes drivers."""

    def __init__(self, process: subprocess.Popen[bytes], runtime: RayRuntime, log_path: Path) -> None:
        self._process = process
        self._log_path = log_path
        self.runtime = runtime

    @classmethod
    def begin(
        cls, log_path: Path, token: str | None = None, note: Callable[[RayRuntime], None] = lambda _: None
    ) -> RayStart:
        """``token``: the launch's; a new one by default. Raises FilorayError if there is no room to start it in.

        ``note`` is given what will be started before it is, and again with its session: whoever is killed at any
        moment has left word of what is to be ended.
        """
        try:
            # Not under the data directory: Unix socket paths are limited to 107 bytes.
            temp_dir = tempfile.mkdtemp(prefix="filoray-ray-")
            log = log_path.open("wb")
        except OSError as error:
            raise FilorayError(f"Ray cannot be started: {error}") from None
        port = free_port()
        runtime = RayRuntime(
            f"127.0.0.1:{port}", 0, token or secrets.token_hex(16), temp_dir, secret=secrets.token_hex(32)
        )
        note(runtime)
        command = [
            sys.executable,
            "-m",
            "filoray.command.ray_head",
            "start",
            "--head",
            "--node-ip-address=127.0.0.1",
            f"--port={port}",
            f"--temp-dir={temp_dir}/{_RAYS_OWN}",
            "--include-dashboard=false",
            "--disable-usage-stats",
            "--min-worker-port=0",
            "--max-worker-port=0",
            f"--object-store-memory={_OBJECT_STORE_BYTES}",
            # No autoscaler, and nobody to send log lines to: two processes and a second of processor time less.
            "--no-monitor",
            "--include-log-monitor=false",
        ]
        with log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                umask=PRIVATE_UMASK,
                env={**os.environ, **runtime.environment},
            )
        runtime = dataclasses.replace(runtime, session=process.pid)
        note(runtime)
        return cls(process, runtime, log_path)

    def wait(self) -> RayRuntime:
        """Raises FilorayError with the end of Ray's log if it does not come up; nothing is left running then."""
        deadline_s = time.monotonic() + _START_TIMEOUT_S
        while self._process.poll() is None and time.monotonic() < deadline_s:
            time.sleep(0.01)
        if self._process.returncode == 0 and self.runtime.is_running():
            return self.runtime
        self.runtime.stop()
        tail = self._log_path.read_text(errors="replace").strip().splitlines()[-8:]
        raise FilorayError("Ray did not start; the end of its log:\n  " + "\n  ".join(tail))
