"""``filoray up`` and ``filoray down``: a whole cluster on this machine, or its actors on a Ray that is there already.

Up: check the ports, start Ray (or join one), fill the kernels' compile cache meanwhile, start the actors, wait until
every shard is Active, print what to try. If anything fails, all that was started is stopped again.
What is started is written to ``launch.json`` in the data directory, before it is; down stops exactly that.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
import psutil
from rich.console import Console

from filoray.cluster.config import ServerConfig, load_server_config
from filoray.cluster.directory_lock import DirectoryLock
from filoray.cluster.errors import FilorayError
from filoray.http.ray_runtime import RAY_ENVIRONMENT, RayRuntime, RayStart, port_problem

if TYPE_CHECKING:
    from filoray.cluster.coordinator import ReadyReport

STATE_FILE = "launch.json"
DEMO_DATASET = "timeseries"
_NODE_PORT_BLOCK = 100
_CLOSING_TIMEOUT_S = 60
_JOIN_TIMEOUT_S = 5

console = Console(highlight=False, soft_wrap=True)  # printed commands must stay whole to be copied


@dataclass(frozen=True, slots=True)
class LaunchOptions:
    """What ``filoray up`` was told; None means what the configuration says."""

    node_count: int | None = None
    http_port: int | None = None
    node_port: int | None = None
    data_dir: Path | None = None
    config_path: Path | None = None
    ray_address: str | None = None
    demo: bool = False


@dataclass(slots=True)
class LaunchState:
    """What runs for a data directory. ``ray`` is None on a Ray that was there already."""

    cluster_name: str
    ray_address: str
    ray: RayRuntime | None
    urls: list[str]
    feeder_pid: int | None = None
    feeder_created_s: float = 0.0

    def write(self, data_dir: Path) -> None:
        path = data_dir / STATE_FILE
        part = path.with_suffix(".part")
        part.write_bytes(orjson.dumps(dataclasses.asdict(self), option=orjson.OPT_INDENT_2))
        part.replace(path)

    @classmethod
    def read(cls, data_dir: Path) -> LaunchState | None:
        try:
            plain = orjson.loads((data_dir / STATE_FILE).read_bytes())
        except FileNotFoundError:
            return None
        ray = RayRuntime(**plain.pop("ray")) if plain["ray"] else plain.pop("ray")
        return cls(ray=ray, **plain)


def up(options: LaunchOptions) -> int:
    """Start a cluster; returns 0 when it is ready. Raises FilorayError, with nothing left running."""
    config = _config(options)
    with _lock(config.data_dir):
        before = LaunchState.read(config.data_dir)
        if before is not None and _is_running(before):
            raise FilorayError(
                f"a cluster runs on {config.data_dir} already ({before.urls[0]}); stop it first: "
                f"scripts/stop.sh --data-dir {config.data_dir}"
            )
        if before is not None:
            _end_leftovers(before)
        _check_http_ports(config)
        undo: list[Callable[[], None]] = []
        _undo_when_interrupted()
        try:
            _launch(config, options, undo)
        except BaseException:
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            for step in reversed(undo):
                step()
            raise
    return 0


def _undo_when_interrupted() -> None:
    """An interrupted launch is undone like a failed one."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))


def _lock(data_dir: Path) -> DirectoryLock:
    try:
        return DirectoryLock(data_dir, "launch")
    except OSError as error:
        raise FilorayError(f"cannot keep data in {data_dir}: {error}") from None


def _is_running(state: LaunchState) -> bool:
    if state.ray is not None:
        return state.ray.is_running()
    return any(_answers(f"{url}/__health") for url in state.urls)  # on a Ray that is not ours to look into


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except OSError:
        return False


def _launch(config: ServerConfig, options: LaunchOptions, undo: list[Callable[[], None]]) -> None:
    started_s = time.monotonic()
    ray_start = None
    state = LaunchState(config.cluster_name, str(options.ray_address), None, _expected_urls(config))
    if options.ray_address is None:
        ray_start = RayStart.begin(config.data_dir / "ray.log")
        undo.append(ray_start.runtime.stop)
        state.ray, state.ray_address = ray_start.runtime, ray_start.runtime.address
        _keep(state, config, undo)
    warm_up = threading.Thread(target=_warm_up_kernels)
    warm_up.start()
    _set_ray_environment(state)
    # Imported while Ray's own processes start.
    import ray

    from filoray.http.cluster_actors import ClusterActors

    if ray_start is not None:
        ray_start.wait()
    warm_up.join()
    _connect(ray, state.ray_address, config)
    # A driver that outlives its Ray waits a minute for it, then ends the process without a word.
    undo.append(ray.shutdown)
    actors = ClusterActors(config)
    actors.prepare_other_machines()
    if ray_start is None:
        undo.append(actors.kill)
    actors.start()
    if ray_start is None:
        _keep(state, config, undo)
    report, state.urls = actors.wait_until_ready()
    state.write(config.data_dir)
    if options.demo:
        _start_demo(config, state, undo)
    left_out = actors.left_out_machine_count
    ray.shutdown()
    undo.clear()  # it is up, and stays so when nobody reads what is printed (launch.sh | head)
    _print_ready(state, report, time.monotonic() - started_s, config, demo=options.demo)
    if left_out:
        console.print(
            f"\nAll nodes are on this machine, none on the {left_out} others of this Ray: for those, "
            "filoray.column-store-url and filoray.node.host must be set (conf/filoray-defaults.conf)."
        )


def _expected_urls(config: ServerConfig) -> list[str]:
    return [f"http://{config.http.host}:{config.http.port + index}" for index in range(config.node_count)]


def _keep(state: LaunchState, config: ServerConfig, undo: list[Callable[[], None]]) -> None:
    state.write(config.data_dir)
    undo.append(lambda: (config.data_dir / STATE_FILE).unlink(missing_ok=True))


def _set_ray_environment(state: LaunchState) -> None:
    """For this process as Ray's client, before it imports ray.

    On somebody else's Ray what the environment says of it goes first; without a word about logging in there is none.
    """
    if state.ray is not None:
        os.environ.update(state.ray.environment)
    else:
        os.environ.update({**RAY_ENVIRONMENT, "RAY_AUTH_MODE": "disabled", **os.environ})


def _config(options: LaunchOptions) -> ServerConfig:
    overrides = {}
    if options.node_count is not None:
        overrides["node-count"] = str(options.node_count)
    if options.http_port is not None:
        overrides["http.port"] = str(options.http_port)
    if options.node_port is not None:
        overrides["node.port-base"] = str(options.node_port)
    if options.data_dir is not None:
        overrides["data-dir"] = str(options.data_dir)
    config = load_server_config(options.config_path, overrides)
    config = dataclasses.replace(config, data_dir=config.data_dir.resolve())
    return config if options.node_port is not None else _with_free_node_ports(config)


def _with_free_node_ports(config: ServerConfig) -> ServerConfig:
    """FiloDB's ports, or the first block above them that is free: a second cluster needs no flag for it."""
    first = config.node.port_base
    while first + config.node_count < 65_536:
        if all(port_problem(config.node.host, first + i) is None for i in range(config.node_count)):
            return dataclasses.replace(config, node=dataclasses.replace(config.node, port_base=first))
        first += _NODE_PORT_BLOCK
    raise FilorayError(f"no {config.node_count} free ports in a row at or above {config.node.port_base}")


def _check_http_ports(config: ServerConfig) -> None:
    host = config.http.host
    for index in range(config.node_count):
        port = config.http.port + index
        problem = port_problem(host, port)
        if problem is not None and problem.errno == errno.EADDRINUSE:
            raise FilorayError(
                f"port {port} on {host} is taken (gateway {index} needs it); "
                f"choose others with --http-port, or stop what listens there"
            )
        if problem is not None:
            raise FilorayError(f"gateway {index} cannot listen on {host}:{port}: {problem.strerror}")


def _warm_up_kernels() -> None:
    from filoray.http.kernel_warm_up import warm_up_kernels

    try:
        warm_up_kernels()
    except RuntimeError as error:  # whoever needs a kernel compiles it
        print(error, file=sys.stderr)


def _connect(ray, address: str, config: ServerConfig) -> None:
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
    _undo_when_interrupted()  # Ray's own handler, set meanwhile, aborts the process


def _start_demo(config: ServerConfig, state: LaunchState, undo: list[Callable[[], None]]) -> None:
    from filoray.http import demo

    demo.set_up(state.urls[0], DEMO_DATASET)
    demo.write_demo(state.urls[0], DEMO_DATASET, instances=20, minutes=60, follow=False)
    log = (config.data_dir / "demo-feeder.log").open("wb")
    feeder = subprocess.Popen(
        [sys.executable, "-m", "filoray.http.cli", "write-demo", "--url", state.urls[0], "--minutes", "1", "--follow"],
        stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    log.close()
    undo.append(feeder.kill)
    state.feeder_pid = feeder.pid
    state.feeder_created_s = psutil.Process(feeder.pid).create_time()
    state.write(config.data_dir)


def down(data_dir: Path) -> int:
    """Stop the cluster of a data directory: flush, close, end its processes. Raises FilorayError if there is none."""
    data_dir = data_dir.resolve()
    state = LaunchState.read(data_dir)
    if state is None:
        raise FilorayError(f"no cluster was launched on {data_dir} (there is no {STATE_FILE} in it)")
    if state.ray is None or state.ray.is_running():
        _stop_actors(state)
    _end_leftovers(state)
    (data_dir / STATE_FILE).unlink(missing_ok=True)
    console.print(f"The cluster on {data_dir} is stopped.")
    return 0


def _end_leftovers(state: LaunchState) -> None:
    """What still runs of a cluster: all of it, or what outlived the killing of its Ray."""
    _stop_feeder(state)
    if state.ray is not None:
        state.ray.stop()


def _stop_feeder(state: LaunchState) -> None:
    if state.feeder_pid is None:
        return
    with contextlib.suppress(psutil.Error):
        feeder = psutil.Process(state.feeder_pid)
        if abs(feeder.create_time() - state.feeder_created_s) < 1:
            feeder.terminate()


def _stop_actors(state: LaunchState) -> None:
    """Let nodes flush and close. A cluster that does not answer is ended all the same: its log has everything."""
    closing = threading.Thread(target=_close_actors, args=[state], daemon=True)
    closing.start()
    closing.join(_CLOSING_TIMEOUT_S)
    if closing.is_alive():
        console.print(f"the actors did not close within {_CLOSING_TIMEOUT_S} s; ending their processes")


def _close_actors(state: LaunchState) -> None:
    _set_ray_environment(state)
    import ray

    from filoray.http.cluster_actors import stop_actors

    try:
        ray.init(
            address=state.ray_address,
            namespace=f"filoray-{state.cluster_name}",
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
        stop_actors(len(state.urls))
    except Exception as error:
        console.print(f"the actors did not close in order ({error}); ending their processes")
    finally:
        ray.shutdown()


def _print_ready(state: LaunchState, report: ReadyReport, took_s: float, config: ServerConfig, *, demo: bool) -> None:
    console.print(f"filoray is ready after {took_s:.1f} s, data in {config.data_dir}\n")
    for address, url in zip(report.addresses, state.urls, strict=True):
        console.print(f"  {address}   {url}")
    for problem in report.problems:
        console.print(f"  {problem}", style="red")
    base = state.urls[0]
    console.print("\nTry:")
    console.print(f"  open {base}/ in a browser: shards, and PromQL with graphs")
    if demo:
        console.print(
            f"  curl -s '{base}/promql/{DEMO_DATASET}/api/v1/query' "
            "--data-urlencode 'query=sum by (job) (rate(http_requests_total[5m]))'"
        )
        console.print(f"  curl -s {base}/api/v1/cluster/{DEMO_DATASET}/status")
    elif report.datasets:
        console.print(f"  .venv/bin/filoray status --url {base}")
        console.print(f"  curl -s '{base}/promql/{report.datasets[0]}/api/v1/labels'")
    else:
        console.print(
            f"  curl -s {base}/api/v1/cluster/{DEMO_DATASET} --data-binary @conf/timeseries-dev-source.conf"
            "   # set up a data set"
        )
        console.print(
            f"  .venv/bin/filoray write-demo --url {base}   # feed it, then: .venv/bin/filoray status --url {base}"
        )
    console.print(f"  scripts/stop.sh --data-dir {config.data_dir}   # stops it; the data stay")
