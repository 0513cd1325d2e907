"""``filoray scale N``: nodes and gateways added to, or taken from, a cluster that runs on this machine's launch.

Added: the coordinator launches the nodes, gateways are made beside them. Taken: the last ones are drained, end when
they are empty, and their gateways finish what runs. ``launch.json`` has the gateways, so a Ray that the supervisor
brings back has as many. Run again after an interruption it goes on.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filoray.cluster.config.server_config import ServerConfig
from filoray.cluster.errors import FilorayError
from filoray.cluster.process.directory_lock import DirectoryLock
from filoray.command.cluster_start import connected_to, set_ray_environment
from filoray.command.launch_state import LaunchState
from filoray.command.process_environment import prepare_environment
from filoray.command.ray_runtime import port_problem
from filoray.command.start_watch import ended_with_ray

if TYPE_CHECKING:
    from filoray.command.cluster_actors import ClusterActors

_POLL_S = 0.2


def scale(data_dir: Path, count: int) -> int:
    """Returns when there are ``count`` nodes with a gateway each. Raises FilorayError, naming what is in the way."""
    data_dir = data_dir.resolve()
    with DirectoryLock(data_dir, "launch"):
        state = LaunchState.of_launch(data_dir)
        if state.ray is not None and not state.ray.is_running():
            raise FilorayError(f"the Ray of {data_dir} does not run; scale again when its supervisor has it back")
        prepare_environment(data_dir, ())
        with ended_with_ray(state), _actors(state, count) as actors:
            if count >= len(state.urls):
                _grow(actors, state, data_dir, count)
            else:
                _shrink(actors, state, data_dir, count)
    return 0


@contextmanager
def _actors(state: LaunchState, count: int) -> Iterator[ClusterActors]:
    """Those of a cluster of ``count`` nodes that is otherwise as the one that runs."""
    set_ray_environment(state)
    import ray

    from filoray.command.cluster_actors import ClusterActors, running_config

    try:
        with connected_to(state):
            yield ClusterActors(dataclasses.replace(running_config(), node_count=count))
    except (ConnectionError, ray.exceptions.RayError) as error:
        raise FilorayError(f"the cluster's actors do not answer: {error}") from None


def _grow(actors: ClusterActors, state: LaunchState, data_dir: Path, count: int) -> None:
    config, present = actors.config, len(state.urls)
    _check_ports(config, range(present, count))
    actors.scale(count)
    for index in range(present, count):
        state.urls.append(actors.add_gateway(index))
        state.write(data_dir)
    waited: Any = None
    while (absent := actors.absent_nodes())[0]:
        if waited != absent:
            print(f"{', '.join(absent[0])}: not there yet, of {count} nodes", flush=True)
            waited = absent
        time.sleep(_POLL_S)
    for away in absent[1]:  # that may be for long, and nothing here has to wait for it
        print(away)
    print(f"{count} nodes; shards move to the new ones by themselves, a few seconds from now")
    for url in state.urls[present:]:
        print(f"  {url}")


def _shrink(actors: ClusterActors, state: LaunchState, data_dir: Path, count: int) -> None:
    actors.scale(count)
    waited: Any = None
    while left := actors.surplus_nodes():
        if waited != left:
            print(f"{', '.join(left)}: shards move away", flush=True)
            waited = left
        time.sleep(_POLL_S)
    while len(state.urls) > count:
        actors.end_gateway(len(state.urls) - 1)
        state.urls.pop()
        state.write(data_dir)
    print(f"{count} nodes")


def _check_ports(config: ServerConfig, indexes: range) -> None:
    for index in indexes:
        for host, first, what in (
            (config.http.host, config.http.port, f"gateway-{index}"),
            (config.node.host, config.node.port_base, f"node-{index}"),
        ):
            if problem := port_problem(host, first + index):
                raise FilorayError(f"{what} cannot listen on {host}:{first + index}: {problem.strerror}")
