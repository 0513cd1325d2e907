"""``filoray up`` and ``filoray down``: a whole cluster on this machine, or its actors on a Ray that is there already.

Up: check the ports, start Ray (or join one) and the actors (``cluster_start.py``), wait until every shard is Active,
start the supervisor, print what to try. If anything fails, all that was started is stopped again.
What is started is written to ``launch.json`` in the data directory, before it is; down stops exactly that.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import pickle
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from filoray.cluster.config.server_config import ServerConfig, load_server_config
from filoray.cluster.errors import FilorayError
from filoray.cluster.process.directory_lock import DirectoryLock
from filoray.cluster.process.owner_files import PRIVATE_UMASK
from filoray.cluster.process.process_identity import ProcessIdentity
from filoray.command.actor_closing import close_actors_in_time
from filoray.command.client_access import ClientAccess
from filoray.command.cluster_start import START_S, StartReport, Undo, start_cluster, undo_all, undo_when_interrupted
from filoray.command.http_client import is_answered
from filoray.command.launch_access import (
    access_environment,
    access_hint,
    check_demo,
    launch_remarks,
    launcher_access,
    scheme,
    settle_access,
)
from filoray.command.launch_state import STATE_FILE, LaunchState
from filoray.command.private_files import make_private
from filoray.command.process_environment import prepare_environment
from filoray.command.ray_runtime import port_problem
from filoray.command.start_watch import watched_start
from filoray.command.supervision import SupervisionLimits
from filoray.command.supervisor import Settings, start_supervisor

DEMO_DATASET = "timeseries"
_NODE_PORT_BLOCK = 100
_OUR_FILES = (
    STATE_FILE,
    "ray.log",
    "coordinator.lock",
    "coordinator.db",
    "coordinator.db-journal",
    "coordinator.db-wal",
    "coordinator.db-shm",  # SQLite's own
)

console = Console(highlight=False, soft_wrap=True)  # printed commands must stay whole to be copied


@dataclass(frozen=True, slots=True)
class LaunchOptions:
    """What ``filoray up`` was told; None means what the configuration says. ``settings``: keys below ``filoray``."""

    node_count: int | None = None
    http_port: int | None = None
    node_port: int | None = None
    data_dir: Path | None = None
    config_path: Path | None = None
    ray_address: str | None = None
    demo: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)


def up(options: LaunchOptions) -> int:
    """Start a cluster; returns 0 when it is ready. Raises FilorayError, with nothing left running."""
    config = _config(options)
    os.umask(PRIVATE_UMASK)
    prepare_environment(config.data_dir, (config.http.host, config.node.host))
    with _lock(config.data_dir):
        _check_nothing_is_in_the_way(config.data_dir)
        for path in make_private(config.data_dir):
            console.print(f"others may read {path}, which is not ours to change", style="red")
        before = LaunchState.read(config.data_dir)
        if before is not None:
            if before.is_unfinished():
                console.print("the last launch here was killed before it was done; ending what it started")
            else:
                _refuse_if_running(before, config.data_dir)
            _end_leftovers(before)
        _check_http_ports(config)
        for folder, key in ((config.data_dir, "filoray.data-dir"), (Path(tempfile.gettempdir()), "TMPDIR")):
            _check_room(folder, key, config.min_free_disk_bytes)
        config = settle_access(config)
        if options.demo:
            check_demo(config.http)
        state = LaunchState(
            config.cluster_name, secrets.token_hex(16), str(options.ray_address), None, _expected_urls(config)
        )
        # An interruption may come between a start and the note of it.
        undo = Undo([lambda: (config.data_dir / STATE_FILE).unlink(missing_ok=True), state.end_carriers])
        undo_when_interrupted()
        with watched_start(config, state, undo):
            try:
                _launch(config, options, state, undo)
            except BaseException:
                undo_all(undo)
                raise
    return 0


def _lock(data_dir: Path) -> DirectoryLock:
    try:
        return DirectoryLock(data_dir, "launch")
    except OSError as error:
        raise FilorayError(f"cannot keep data in {data_dir}: {error}") from None


def _check_nothing_is_in_the_way(data_dir: Path) -> None:
    """Earlier versions accepted data sets of such names; their samples are nothing that a launch may move."""
    for name in _OUR_FILES:
        if (data_dir / name).is_dir():
            raise FilorayError(
                f"{data_dir / name} is a directory, and a launch needs a file of that name: if it is a data set of an "
                f"earlier version, take its samples out (filoray tsdb dump), move it elsewhere and launch again"
            )


def _refuse_if_running(state: LaunchState, data_dir: Path) -> None:
    what_to_do = f"stop it first: scripts/stop.sh --data-dir {data_dir}"
    if state.is_supervised():
        raise FilorayError(f"a cluster runs on {data_dir} already ({state.urls[0]}); {what_to_do}")
    if state.ray is not None and state.ray.is_running():
        raise FilorayError(
            f"a cluster runs on {data_dir} already ({state.urls[0]}), but its supervisor has ended, so that "
            f"nobody brings Ray back if it dies (see supervisor.log there); {what_to_do}"
        )
    # Where Ray is not ours to look into, its gateways tell.
    if state.ray is None and any(is_answered(ClientAccess(url), "/__health", timeout_s=2) for url in state.urls):
        raise FilorayError(f"a cluster runs on {data_dir} already ({state.urls[0]}); {what_to_do}")


def _launch(config: ServerConfig, options: LaunchOptions, state: LaunchState, undo: Undo) -> None:
    started_s = time.monotonic()
    report = start_cluster(config, state, undo, is_joined=options.ray_address is not None)
    if state.ray is not None:
        undo.append(state.end_supervisor)

        def note(supervisor: ProcessIdentity) -> None:
            state.supervisor = supervisor
            state.write(config.data_dir)

        start_supervisor(_supervision(config, state), pickle.dumps(config), note)
    if options.demo:
        _start_demo(config, state, undo)
    undo.clear()  # it is up, and stays so when nobody reads what is printed (launch.sh | head)
    _print_ready(state, report, time.monotonic() - started_s, config, demo=options.demo)


def _supervision(config: ServerConfig, state: LaunchState) -> Settings:
    limits = config.supervisor
    return Settings(
        str(config.data_dir),
        state.token,
        SupervisionLimits(
            check_interval_ms=limits.check_interval_ms,
            hang_timeout_ms=limits.hang_timeout_ms,
            actor_hang_timeout_ms=limits.actor_hang_timeout_ms,
            restarts_max=limits.restarts_max,
            restarts_period_ms=limits.restarts_period_ms,
            backoff_ms=limits.restart_backoff_ms,
            backoff_max_ms=limits.restart_backoff_max_ms,
            start_timeout_ms=config.seed.timeout_ms + START_S * 1000,
        ),
    )


def _expected_urls(config: ServerConfig) -> list[str]:
    spoken = scheme(config.http)
    return [f"{spoken}://{config.http.host}:{config.http.port + index}" for index in range(config.node_count)]


def _config(options: LaunchOptions) -> ServerConfig:
    overrides = dict(options.settings)  # an option of its own wins
    if options.demo:  # there is nothing to lose in it
        overrides.setdefault("http.allow-chaos", "true")
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
    is_port_given = options.node_port is not None or "node.port-base" in options.settings
    return config if is_port_given else _with_free_node_ports(config)


def _with_free_node_ports(config: ServerConfig) -> ServerConfig:
    """FiloDB's ports, or the first block above them that is free: a second cluster needs no flag for it."""
    first = config.node.port_base
    while first + config.node_count < 65_536:
        if all(port_problem(config.node.host, first + i) is None for i in range(config.node_count)):
            return dataclasses.replace(config, node=dataclasses.replace(config.node, port_base=first))
        first += _NODE_PORT_BLOCK
    raise FilorayError(f"no {config.node_count} free ports in a row at or above {config.node.port_base}")


def _check_room(folder: Path, key: str, needed_bytes: int) -> None:
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < needed_bytes:
        raise FilorayError(
            f"the disk of {folder} is full: {free_bytes:,} bytes are free and a launch needs {needed_bytes:,} "
            f"(filoray.min-free-disk-size); make room, or choose another place ({key})"
        )


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


def _start_demo(config: ServerConfig, state: LaunchState, undo: Undo) -> None:
    from filoray.command import demo

    access = launcher_access(config, state.urls[0])
    demo.set_up(access, DEMO_DATASET)
    demo.write_demo(access, DEMO_DATASET, instances=20, minutes=60, follow=False)
    gateways = [launcher_access(config, url) for url in state.urls]
    demo.wait_until_served(gateways, DEMO_DATASET, config.seed.timeout_ms / 1000)
    log = (config.data_dir / "demo-feeder.log").open("wb")
    feeder = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "filoray.command.cli",
            "write-demo",
            "--url",
            state.urls[0],
            "--minutes",
            "1",
            "--follow",
        ],
        env={**os.environ, **access_environment(config)},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    log.close()
    undo.append(feeder.kill)
    state.feeder = ProcessIdentity.of(feeder.pid)
    state.write(config.data_dir)


def down(data_dir: Path) -> int:
    """Stop the cluster of a data directory: flush, close, end its processes. Raises FilorayError if there is none."""
    data_dir = data_dir.resolve()
    state = LaunchState.of_launch(data_dir)
    state.end_supervisor()
    state = LaunchState.read(data_dir) or state  # it may just have started another Ray
    prepare_environment(data_dir, ())
    if (state.ray is None or state.ray.is_running()) and (problem := close_actors_in_time(data_dir, state)):
        console.print(f"the actors did not close in order ({problem}); ending their processes")
    _end_leftovers(state)
    (data_dir / STATE_FILE).unlink(missing_ok=True)
    console.print(f"The cluster on {data_dir} is stopped.")
    return 0


def _end_leftovers(state: LaunchState) -> None:
    """What still runs of a cluster: all of it, or what outlived the killing of its Ray."""
    state.end_feeder()
    if state.ray is not None:
        state.ray.stop()
    state.end_carriers()


def _print_ready(state: LaunchState, started: StartReport, took_s: float, config: ServerConfig, *, demo: bool) -> None:
    report = started.ready
    console.print(f"filoray is ready after {took_s:.1f} s, data in {config.data_dir}\n")
    for address, url in zip(report.addresses, state.urls, strict=True):
        console.print(f"  {address}   {url}")
    for problem in (*report.problems, *launch_remarks(config.http)):
        console.print(f"  {problem}", style="red")
    base = state.urls[0]
    console.print("\nTry:" + access_hint(config))
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
    dataset = DEMO_DATASET if demo or not report.datasets else report.datasets[0]
    console.print(f"  {base}/promql/{dataset}   # the URL for Grafana's Prometheus data source: the whole cluster")
    console.print(f"  scripts/stop.sh --data-dir {config.data_dir}   # stops it; the data stay")
    if state.ray is None:
        console.print(f"  {state.supervision()}")
    if started.left_out_machines:
        console.print(
            f"\nAll nodes are on this machine, none on the {started.left_out_machines} others of this Ray: for those, "
            "filoray.column-store-url and filoray.node.host must be set (conf/filoray-defaults.conf)."
        )
