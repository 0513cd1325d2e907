"""What the supervisor runs to bring a cluster back: a launch with the very configuration that the first one had.

Standard input: that ServerConfig, pickled by the launcher. Exit code 0 when the cluster is ready.
"""

from __future__ import annotations

import dataclasses
import pickle
import sys
import time
from pathlib import Path

from filoray.cluster.config.server_config import ServerConfig
from filoray.cluster.errors import FilorayError
from filoray.cluster.process.directory_lock import DirectoryInUse, DirectoryLock
from filoray.command.cluster_start import Undo, start_cluster, undo_all, undo_when_interrupted
from filoray.command.launch_state import LaunchState
from filoray.command.start_watch import watched_start

_LOCK_LOOK_S = 0.2


def _lock(data_dir: Path) -> DirectoryLock:
    """Waits for who changes the cluster just now; that ends soon, as its Ray is gone."""
    while True:
        try:
            return DirectoryLock(data_dir, "launch")
        except DirectoryInUse:
            time.sleep(_LOCK_LOOK_S)


def relaunch(config: ServerConfig) -> None:
    """Raises FilorayError; no Ray is left running then, and ``launch.json`` tells of the last one still."""
    with _lock(config.data_dir):
        state = LaunchState.read(config.data_dir)
        if state is None or state.ray is None:
            raise FilorayError("the cluster was stopped meanwhile")
        state.ray.stop(polite_s=0)
        undo = Undo()
        undo_when_interrupted()
        with watched_start(config, state, undo):
            try:
                # As many as there were, whatever the launch had.
                config = dataclasses.replace(config, node_count=len(state.urls))
                report = start_cluster(config, state, undo, is_joined=False)
            except BaseException:
                undo_all(undo)
                raise
    for problem in report.ready.problems:
        print(problem)


if __name__ == "__main__":
    try:
        relaunch(pickle.load(sys.stdin.buffer))
    except FilorayError as error:
        sys.exit(error.message)
