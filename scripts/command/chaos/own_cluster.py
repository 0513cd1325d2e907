"""``filoray up``, ``down`` and ``scale`` run for a scenario, whose own cluster is ended whatever happens."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from filoray.cluster.errors import FilorayError
from filoray.command.chaos.cluster_access import ClusterAccess
from filoray.command.chaos.small_disk import SmallDisk
from filoray.command.client_access import ClientAccess
from filoray.command.launch_state import STATE_FILE
from filoray.command.ray_runtime import port_problem

_HOST = "127.0.0.1"
_FIRST_PORT, _LAST_PORT = 20_000, 30_000


@contextlib.contextmanager
def own_cluster(node_count: int, data_dir: Path | None, disk: SmallDisk | None) -> Iterator[ClusterAccess]:
    """``data_dir``: kept afterwards; None: a temporary one. ``disk``: mounted there for the cluster's data."""
    folder = data_dir.resolve() if data_dir is not None else Path(tempfile.mkdtemp(prefix="filoray-chaos-"))
    if (folder / STATE_FILE).exists():
        raise FilorayError(f"there is a cluster on {folder} already; choose another --data-dir, or play with its --url")
    cluster_dir = folder / "cluster" if disk is not None else folder
    try:
        with disk.mounted(cluster_dir) if disk is not None else contextlib.nullcontext():
            try:
                yield _start(cluster_dir, node_count)
            finally:
                with _undisturbed():
                    _stop(cluster_dir)
    finally:
        if data_dir is None:
            shutil.rmtree(folder, ignore_errors=True)


def _start(data_dir: Path, node_count: int) -> ClusterAccess:
    first = free_ports(2 * node_count)
    arguments = ["up", "--nodes", str(node_count), "--http-port", str(first), "--node-port", str(first + node_count)]
    starting = subprocess.Popen(
        [*_COMMAND, *arguments, "--data-dir", str(data_dir), "--set", "http.allow-chaos=true"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,  # an interruption is ours to pass on, once
    )  # fmt: skip
    try:
        said, _ = starting.communicate()
    except BaseException:
        with _undisturbed():
            starting.terminate()
            starting.communicate()
        raise
    if starting.returncode:
        raise FilorayError(f"the scenario's cluster could not be started: {said.strip()}")
    urls = tuple(f"http://{_HOST}:{first + index}" for index in range(node_count))
    return ClusterAccess(data_dir, urls, ClientAccess(urls[0]))


def _stop(data_dir: Path) -> None:
    if (data_dir / STATE_FILE).exists():
        command = [*_COMMAND, "down", "--data-dir", str(data_dir)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, start_new_session=True)
        if done.returncode:
            print(f"filoray: {done.stderr.strip()}", file=sys.stderr)


def scale(data_dir: Path, nodes: int) -> str:
    """``filoray scale``; why it failed, or ""."""
    done = subprocess.run(
        [*_COMMAND, "scale", str(nodes), "--data-dir", str(data_dir)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, start_new_session=True,
    )  # fmt: skip
    return done.stderr.strip() or f"exit code {done.returncode}" if done.returncode else ""


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Who interrupts twice would leave a cluster behind."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, signal.SIG_IGN) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def free_ports(count: int) -> int:
    """The first of so many in a row that nobody listens on now, searched from a place of this process's own."""
    first = _FIRST_PORT + os.getpid() % 400 * 20
    while first + count <= _LAST_PORT:
        if all(port_problem(_HOST, port) is None for port in range(first, first + count)):
            return first
        first += count
    raise FilorayError(f"no {count} free ports in a row from {_FIRST_PORT} to {_LAST_PORT}")


_COMMAND = (sys.executable, "-m", "filoray.command.cli")
