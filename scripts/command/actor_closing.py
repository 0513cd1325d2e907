"""Lets a cluster's nodes flush and close, in a process that can be ended: Ray's client waits as long as Ray is silent.

Run as ``python -m filoray.command.actor_closing DIR`` by ``filoray down``. A cluster that does not close is ended all
the same: its logs have everything.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from filoray.cluster.process.process_identity import ProcessIdentity, times_scheduled
from filoray.command.cluster_start import connected_to, set_ray_environment
from filoray.command.launch_state import LaunchState

_CLOSING_TIMEOUT_S = 60
_STILL_S = 1.0


def close_actors_in_time(data_dir: Path, state: LaunchState) -> str:
    """Returns what kept the actors from closing; empty if nothing did."""
    if state.ray is not None and (still := _standing_still(state.ray.essential())):
        return f"Ray's {' and '.join(still)} stood still for {_STILL_S:.0f} s"
    command = [sys.executable, "-m", "filoray.command.actor_closing", str(data_dir)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_CLOSING_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return f"it took more than {_CLOSING_TIMEOUT_S} s"
    lines = done.stderr.strip().splitlines()
    return (lines[-1] if lines else f"exit code {done.returncode}") if done.returncode else ""


def _standing_still(processes: dict[str, ProcessIdentity]) -> list[str]:
    """Asked of something that hangs, Ray's client would wait for minutes."""
    before = {name: times_scheduled(process.pid) for name, process in processes.items()}
    deadline_s = time.monotonic() + _STILL_S
    while before and time.monotonic() < deadline_s:
        for name in list(before):
            if before[name] is None or times_scheduled(processes[name].pid) != before[name]:
                del before[name]
        time.sleep(0.01)
    return sorted(before)


def main() -> None:
    state = LaunchState.read(Path(sys.argv[1]))
    assert state is not None
    set_ray_environment(state)
    from filoray.command.cluster_actors import stop_actors

    try:
        with connected_to(state):
            stop_actors(len(state.urls))
    except Exception as error:  # one line for the operator
        sys.exit(" ".join(str(error).split()))


if __name__ == "__main__":
    main()
