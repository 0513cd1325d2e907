"""Ray and the actors of one cluster, from nothing to ready: what a launch does, and the supervisor when Ray has gone.

Each step that must be undone if a later one fails is put into ``undo``; the caller runs that, last first. What is
started is in ``launch.json`` before it can be forgotten.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from filoray.cluster.config.server_config import ServerConfig
from filoray.cluster.errors import FilorayError
from filoray.cluster.process.process_identity import LAUNCH_VARIABLE
from filoray.command.launch_state import LaunchState
from filoray.command.ray_runtime import RAY_ENVIRONMENT, RayRuntime, RayStart

if TYPE_CHECKING:
    from filoray.cluster.control.launch_report import ReadyReport

START_S = 600
"""What a start may take beside ``filoray.seed.timeout``: the first compiles the kernels, minutes on a busy machine."""

_JOIN_TIMEOUT_S = 5


class Undo(list[Callable[[], None]]):
    """Steps, in the order in which what they undo was done."""

    has_begun = False


@dataclass(frozen=True, slots=True)
class StartReport:
    """``left_out_machines``: how many of this Ray's get no nodes, as the shards' files are here."""

    ready: ReadyReport
    left_out_machines: int


def start_cluster(config: ServerConfig, state: LaunchState, undo: Undo, *, is_joined: bool) -> StartReport:
    """``is_joined``: on the Ray at ``state.ray_address``, else on one that is started for it.

    Returns when the cluster is ready and ``state`` is written. Raises FilorayError with the first cause otherwise.
    """
    ray_start = None
    if not is_joined:

        def note(runtime: RayRuntime) -> None:
            state.ray, state.ray_address = runtime, runtime.address
            state.write(config.data_dir)

        undo.append(lambda: state.ray.stop() if state.ray is not None else None)
        ray_start = RayStart.begin(config.data_dir / "ray.log", state.token, note)
    warm_up = threading.Thread(target=_warm_up_kernels)
    warm_up.start()
    set_ray_environment(state)
    # Imported while Ray's own processes start.
    import ray

    from filoray.command.cluster_actors import ClusterActors

    if ray_start is not None:
        ray_start.wait()
    warm_up.join()
    _connect(state.ray_address, config)
    # A driver that outlives its Ray waits a minute for it, then ends the process without a word.
    undo.append(ray.shutdown)
    actors = ClusterActors(config)
    actors.prepare_other_machines()
    if is_joined:
        undo.append(actors.kill)
    actors.take_name()
    if is_joined:  # before there is anything that only ``down`` could end
        state.write(config.data_dir)
    actors.start()
    report, state.urls = actors.wait_until_ready()
    state.write(config.data_dir)
    left_out = actors.left_out_machine_count
    ray.shutdown()
    return StartReport(report, left_out)


def set_ray_environment(state: LaunchState) -> None:
    """For this process as Ray's client, before it imports ray.

    On somebody else's Ray what the environment says of it goes first; without a word about logging in there is none.
    """
    os.environ[LAUNCH_VARIABLE] = state.token
    if state.ray is not None:
        os.environ.pop("RAY_AUTH_TOKEN_PATH", None)
        os.environ.update(state.ray.environment)
    else:
        os.environ.update({**RAY_ENVIRONMENT, "RAY_AUTH_MODE": "disabled", **os.environ})


@contextmanager
def connected_to(state: LaunchState) -> Iterator[None]:
    """This process is a client of a cluster's Ray meanwhile; ``set_ray_environment`` comes first."""
    import ray  # not before the environment is set

    try:
        ray.init(
            address=state.ray_address,
            namespace=f"filoray-{state.cluster_name}",
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
        yield
    finally:
        ray.shutdown()


def undo_all(undo: Undo) -> None:
    """Nothing interrupts it."""
    undo.has_begun = True
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    for step in reversed(undo):
        step()


def undo_when_interrupted() -> None:
    """An interrupted launch is undone like a failed one."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))


def _warm_up_kernels() -> None:
    from filoray.command.kernel_warm_up import warm_up_kernels

    try:
        warm_up_kernels()
    except (RuntimeError, OSError) as error:  # whoever needs a kernel compiles it
        print(error, file=sys.stderr)


def _connect(address: str, config: ServerConfig) -> None:
    import ray  # as above: not before the environment is set

    host, _, port = address.rpartition(":")
    if host and port.isdecimal():  # else Ray's own word for it, such as "auto"
        try:  # Ray itself tries for minutes
            socket.create_connection((host, int(port)), timeout=_JOIN_TIMEOUT_S).close()
        except (OSError, OverflowError) as error:
            raise FilorayError(f"cannot join Ray at {address}: {error}") from None
    try:
        ray.init(address=address, namespace=config.namespace, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise FilorayError(f"cannot join Ray at {address}: {error}") from None
    undo_when_interrupted()  # Ray's own handler, set meanwhile, aborts the process
