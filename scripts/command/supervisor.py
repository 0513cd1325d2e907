"""The supervisor: a small process outside Ray that brings Ray and the actors back on the same data.

Ray's parts end together: when its GCS server, its raylet or a helper of the raylet dies or hangs, all actors go and
nothing of Ray starts them again. The supervisor looks whether those two run and move, whether the raylet can be found,
and whether there is a coordinator; else it ends what is left of that Ray and runs ``relaunch`` (a process of its own:
Ray's clients end with their Ray). Actors that die are Ray's and the coordinator's to replace; one that hangs is killed.

It is started by ``filoray up``, and ended first by ``filoray down``. Without it the cluster goes on, but nobody brings
Ray back. Standard input: a line of JSON (``Settings``), then a pickled ServerConfig that is only handed on.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from filoray.cluster.errors import FilorayError
from filoray.cluster.process.process_identity import ProcessIdentity, process_name, times_scheduled
from filoray.cluster.process.process_log import log_to_file
from filoray.command.launch_state import LaunchState
from filoray.command.ray_runtime import ESSENTIAL, RayRuntime
from filoray.command.supervision import HangWatch, Restarts, SupervisionLimits

logger = logging.getLogger("filoray.supervisor")

NAME = "supervisor"
ENDED_RAY = "ended-ray"
"""In the data directory: the logs of the Ray that was brought back last."""
_HANG_CHECK_S = 1.0
_REPLACED_BY_RAY = ("ray::CoordinatorActor", "ray::Gateway", "ray::SeedDiscovery")


@dataclass(frozen=True, slots=True)
class Settings:
    data_dir: str
    token: str
    limits: SupervisionLimits


class Supervisor:
    def __init__(self, settings: Settings, pickled_config: bytes) -> None:
        self._data_dir = Path(settings.data_dir)
        self._token = settings.token
        self._limits = settings.limits
        self._pickled_config = pickled_config
        self._restarts = Restarts(settings.limits)
        self._held: int | None = None
        self._last_state: LaunchState | None = None
        self._unreadable = ""
        self._forget_what_was_seen()

    def _forget_what_was_seen(self) -> None:
        self._essential: dict[str, ProcessIdentity] = {}
        interval_ms, limits = round(_HANG_CHECK_S * 1000), self._limits
        self._hangs: HangWatch[ProcessIdentity] = HangWatch(limits.hang_timeout_ms, interval_ms)
        self._actor_hangs: HangWatch[ProcessIdentity] = HangWatch(limits.actor_hang_timeout_ms, interval_ms)
        self._next_hang_check_s = 0.0
        self._coordinator_seen_s = time.monotonic()

    def run(self) -> None:
        """Until the cluster is stopped, another launch is there, or it gives up."""
        while (state := self._state()) is not None and state.ray is not None:
            problem = self._what_is_wrong(state.ray)
            if problem and not self._bring_back(state.ray, problem):
                return
            time.sleep(self._limits.check_interval_ms / 1000)
        logger.info("the cluster was stopped; so does its supervisor")

    def _state(self) -> LaunchState | None:
        """Of this launch; the last that could be read, while it cannot."""
        try:
            state = LaunchState.read(self._data_dir)
        except FilorayError as error:
            if error.message != self._unreadable:
                logger.error("%s", error.message)
                self._unreadable = error.message
            return self._last_state
        self._last_state = state if state is not None and state.token == self._token else None
        return self._last_state

    # ---- what is wrong

    def _what_is_wrong(self, ray: RayRuntime) -> str:
        """Why Ray must be brought back; empty if it need not."""
        if not self._essential:
            self._essential = ray.essential()
            self._hold(Path(ray.temp_dir))
        for name in ESSENTIAL:
            process = self._essential.get(name)
            if process is None:  # look again, before something is ended that was only not seen
                self._essential = ray.essential()
                process = self._essential.get(name)
            if process is None or not process.is_running():
                return f"Ray's {name} ended"
        if not ray.raylet_socket().exists():
            return f"Ray's socket {ray.raylet_socket()} is gone, new processes cannot find it"
        now_s = time.monotonic()
        if now_s < self._next_hang_check_s:
            return ""
        self._next_hang_check_s = now_s + _HANG_CHECK_S
        if self._is_coordinator_there():
            self._coordinator_seen_s = now_s
        elif (now_s - self._coordinator_seen_s) * 1000 > self._limits.actor_hang_timeout_ms:
            return f"there has been no coordinator for {self._limits.actor_hang_timeout_ms} ms, Ray starts it no more"
        return self._what_hangs(ray, now_s)

    def _hold(self, temp_dir: Path) -> None:
        """Whoever cleans temporary directories of what is old (systemd-tmpfiles) leaves one that is locked alone."""
        if self._held is not None:
            os.close(self._held)
            self._held = None
        with contextlib.suppress(OSError):
            self._held = os.open(temp_dir, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(self._held, fcntl.LOCK_SH | fcntl.LOCK_NB)

    def _is_coordinator_there(self) -> bool:
        """It holds its lock on the directory as long as its process lives."""
        try:
            with (self._data_dir / "coordinator.lock").open("r") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return False
        except BlockingIOError:
            return True
        except OSError:
            return False

    def _what_hangs(self, ray: RayRuntime, now_s: float) -> str:
        named = {process: process_name(process.pid).partition(".")[0] for process in ray.processes()}
        now_ms = round(now_s * 1000)
        for process in self._actor_hangs.observe(_moves(named, _REPLACED_BY_RAY), now_ms):
            logger.warning("killing an actor that stands still, for Ray to start it anew actor=%s", named[process])
            process.send(signal.SIGKILL)
        for process in self._hangs.observe(_moves(named, ESSENTIAL), now_ms):
            return f"Ray's {named[process]} has stood still for {self._limits.hang_timeout_ms} ms"
        return ""

    # ---- bringing back

    def _bring_back(self, ray: RayRuntime, problem: str) -> bool:
        """Whether to go on watching."""
        now_ms = time.monotonic_ns() // 1_000_000
        at_ms = self._restarts.next_at_ms(now_ms)
        if at_ms is None:
            logger.critical(
                "%s; not bringing Ray back again: that was done %d times within %d s "
                "(filoray.supervisor.restarts-max, restarts-period). See ray.log and coordinator.log here; "
                "what is left is ended by `filoray down`, `filoray up` starts it anew",
                problem,
                self._limits.restarts_max,
                self._limits.restarts_period_ms // 1000,
            )
            return False
        logger.warning("%s; bringing Ray and the actors back in %d ms", problem, at_ms - now_ms)
        self._keep_logs(ray)
        ray.stop(polite_s=0)
        time.sleep((at_ms - now_ms) / 1000)
        began_s = time.monotonic()
        self._restarts.begun(round(began_s * 1000))
        if self._relaunch():
            logger.warning("the cluster is back took_s=%.1f", time.monotonic() - began_s)
        self._forget_what_was_seen()
        return True

    def _keep_logs(self, ray: RayRuntime) -> None:
        """Why it ended is in there, if anywhere."""
        try:
            ray.keep_logs(self._data_dir / ENDED_RAY)
        except OSError as error:
            logger.warning("the logs of that Ray cannot be kept: %s", error)

    def _relaunch(self) -> bool:
        # In our session, so that what ends us ends it.
        process = subprocess.Popen(
            [sys.executable, "-m", "filoray.command.relaunch"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            said, _ = process.communicate(self._pickled_config, timeout=self._limits.start_timeout_ms / 1000)
        except subprocess.TimeoutExpired:
            process.kill()
            said, _ = process.communicate()
            logger.error("the cluster was not back within %d ms", self._limits.start_timeout_ms)
        for line in said.decode(errors="replace").splitlines():
            logger.warning("relaunch: %s", line)
        return process.returncode == 0


def _moves(named: Mapping[ProcessIdentity, str], names: Sequence[str]) -> dict[ProcessIdentity, int]:
    counts = {process: times_scheduled(process.pid) for process, name in named.items() if name in names}
    return {process: count for process, count in counts.items() if count is not None}


def start_supervisor(settings: Settings, pickled_config: bytes, note: Callable[[ProcessIdentity], None]) -> None:
    """Start the process. It is at work only when ``note`` has written it down: nobody could end it else.

    It waits for its settings, and ends without them if the launch is killed meanwhile.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "filoray.command.supervisor"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    identity = ProcessIdentity.of(process.pid)
    assert identity is not None
    assert process.stdin is not None
    note(identity)
    process.stdin.write(orjson.dumps(dataclasses.asdict(settings)) + b"\n" + pickled_config)
    process.stdin.close()


def main() -> None:
    settings_line, _, pickled_config = sys.stdin.buffer.read().partition(b"\n")
    if not pickled_config:
        sys.exit("the launch was ended before it said what to watch")
    plain = orjson.loads(settings_line)
    settings = Settings(plain["data_dir"], plain["token"], SupervisionLimits(**plain["limits"]))
    log_to_file(Path(settings.data_dir), NAME)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    logger.info("supervisor watches pid=%d", os.getpid())
    try:
        Supervisor(settings, pickled_config).run()
    except Exception:
        logger.critical("the supervisor failed; nobody brings Ray back now", exc_info=True)
        raise


if __name__ == "__main__":
    main()
