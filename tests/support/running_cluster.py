"""A real cluster for tests: started by the ``filoray`` command on free ports in its own directory, stopped by it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
import requests

from filoray.http.remote.remote_write_client import encode_write_request

WRITE_HEADERS = {"Content-Encoding": "snappy", "Content-Type": "application/x-protobuf"}
_PORT_SEARCH_FIRST = 20_000


class RunningCluster:
    """Use as a context manager. ``url`` is the first gateway's. ``nodes_max``: ports are free for as many."""

    def __init__(self, data_dir: Path, nodes: int = 3, config: str = "", nodes_max: int = 0) -> None:
        self.data_dir = data_dir
        self.nodes = nodes
        # Both kinds of ports in one block of this process's own: tests may run beside other clusters.
        port_count = max(nodes, nodes_max)
        self.http_port = free_port_block(2 * port_count)
        self.node_port = self.http_port + port_count
        self._config = config

    def __enter__(self) -> RunningCluster:
        try:
            self.start()
        except BaseException:  # a launch that was cut off leaves what it had started
            filoray("down", "--data-dir", str(self.data_dir))
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        arguments = [
            "up",
            "--nodes",
            str(self.nodes),
            "--http-port",
            str(self.http_port),
            "--node-port",
            str(self.node_port),
            "--data-dir",
            str(self.data_dir),
        ]
        if self._config:
            self.data_dir.mkdir(parents=True, exist_ok=True)
            path = self.data_dir / "test.conf"
            path.write_text(self._config)
            arguments += ["--config", str(path)]
        done = filoray(*arguments)
        assert done.returncode == 0, f"filoray up failed:\n{done.stdout}\n{done.stderr}\n{self.logs()}"

    def stop(self) -> None:
        done = filoray("down", "--data-dir", str(self.data_dir))
        assert done.returncode == 0, f"filoray down failed:\n{done.stdout}\n{done.stderr}"

    def kill_everything(self) -> None:
        """SIGKILL to every process of the cluster, Ray's own and the supervisor included, at once."""
        sessions = self._sessions()

        def all_are_gone() -> bool:
            living = [pid for session in sessions for pid in _pids_of_session(session)]
            _signal(living, signal.SIGKILL)  # again, for those that were being started meanwhile
            return not living

        wait_until(all_are_gone, 10, "all processes are gone")

    @contextlib.contextmanager
    def halted(self) -> Iterator[None]:
        """No process of the cluster, Ray's own included, runs meanwhile: its files are those of one moment."""
        sessions = self._sessions()

        def pids() -> list[int]:
            return [pid for session in sessions for pid in _pids_of_session(session)]

        def all_are_halted() -> bool:
            running = [pid for pid in pids() if _state(str(pid)) != b"T"]
            _signal(running, signal.SIGSTOP)  # again, for those that began meanwhile
            return not running

        try:
            wait_until(all_are_halted, 10, "all processes are halted")
            yield
        finally:
            _signal(reversed(pids()), signal.SIGCONT)  # the supervisor last, which is in the first session

    def launched(self) -> dict[str, Any]:
        """What ``launch.json`` says."""
        state: dict[str, Any] = orjson.loads((self.data_dir / "launch.json").read_bytes())
        return state

    def _sessions(self) -> tuple[int, int]:
        """The supervisor's, which must not see the other one's end, and Ray's."""
        state = self.launched()
        return state["supervisor"]["pid"], state["ray"]["session"]

    def logs(self) -> str:
        """The ends of the actors' error logs, for a failed test's message."""
        with contextlib.suppress(OSError, KeyError, ValueError, TypeError):
            return (self.data_dir / "ray.log").read_text()[-2000:]
        return ""

    # ---- HTTP

    @property
    def url(self) -> str:
        return self.gateway(0)

    def gateway(self, index: int) -> str:
        return f"http://127.0.0.1:{self.http_port + index}"

    def get(self, path: str, gateway: int = 0, **parameters: Any) -> requests.Response:
        return requests.get(self.gateway(gateway) + path, params=parameters, timeout=130)

    def setup(
        self, dataset: str = "timeseries", num_shards: int = 4, min_num_nodes: int = 2, replicas: int = 1, **store: Any
    ) -> None:
        """Set a data set up and wait until all its shards are Active."""
        body = {
            "dataset": dataset,
            "schema": "prom-counter",
            "num-shards": num_shards,
            "min-num-nodes": min_num_nodes,
            "num-replicas": replicas,
            "sourcefactory": "filoray.nodes.streams.LogStreamFactory",
            "sourceconfig": {"store": store},
        }
        answer = requests.post(f"{self.url}/api/v1/cluster/{dataset}", data=orjson.dumps(body), timeout=30)
        assert answer.status_code == 200, answer.text
        self.wait_active(dataset)

    def statuses(self, dataset: str = "timeseries", gateway: int = 0) -> list[str]:
        answer = self.get(f"/api/v1/cluster/{dataset}/status", gateway)
        assert answer.status_code == 200, answer.text
        return [entry["status"] for entry in answer.json()["data"]]

    def wait_active(self, dataset: str = "timeseries", timeout_s: float = 30) -> None:
        wait_until(
            lambda: set(self.statuses(dataset)) == {"ShardStatusActive"},
            timeout_s,
            f"all shards of {dataset} are Active",
        )

    def write(
        self, series: Iterable[tuple[Mapping[str, str], Any, Any]], dataset: str = "timeseries", gateway: int = 0
    ) -> requests.Response:
        """One remote write request; label sets with times (ms) and values."""
        return requests.post(
            f"{self.gateway(gateway)}/promql/{dataset}/api/v1/write",
            data=encode_write_request(series),
            headers=WRITE_HEADERS,
            timeout=60,
        )

    def query(self, promql: str, time_s: float, dataset: str = "timeseries", gateway: int = 0, **more: Any) -> Any:
        """The ``data.result`` of an instant query; fails the test on an error."""
        answer = self.get(f"/promql/{dataset}/api/v1/query", gateway, query=promql, time=time_s, **more)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]["result"]

    def number(self, promql: str, time_s: float, dataset: str = "timeseries", gateway: int = 0) -> float:
        """The value of a query that gives one series (0 for none)."""
        result = self.query(promql, time_s, dataset, gateway)
        assert len(result) <= 1, result
        return float(result[0]["value"][1]) if result else 0.0

    # ---- processes

    def pids(self, gateway: int = 0) -> dict[str, int]:
        """Of every actor that is known and answers: ``node-0``, ``gateway-1``, ``coordinator`` and the like."""
        pids: dict[str, int] = self.get("/admin/actors", gateway).json()["data"]
        return pids

    def pid(self, actor: str, gateway: int = 0) -> int:
        """Waits for an actor that is away: on a busy machine any of them may just be made anew."""
        found: list[int] = []

        def is_there() -> bool:
            found.extend(pid for name, pid in self.pids(gateway).items() if name == actor)
            return bool(found)

        wait_until(is_there, 60, f"{actor} is there")
        return found[0]

    def kill(self, actor: str, gateway: int = 0) -> int:
        """SIGKILL to an actor's process; returns the pid it had."""
        pid = self.pid(actor, gateway)
        os.kill(pid, signal.SIGKILL)
        return pid


def filoray(*arguments: str, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
    """Run the ``filoray`` command."""
    return subprocess.run(
        [sys.executable, "-m", "filoray.command.cli", *arguments],
        capture_output=True, text=True, timeout=timeout_s, check=False,
    )  # fmt: skip


def wait_until(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Poll until the condition holds; connection errors count as not yet."""
    deadline_s = time.monotonic() + timeout_s
    while True:
        with contextlib.suppress(requests.RequestException):
            if condition():
                return
        assert time.monotonic() < deadline_s, f"not within {timeout_s} s: {what}"
        time.sleep(0.02)


def free_port_block(count: int) -> int:
    """The first of ``count`` consecutive free loopback ports, searched from a place of this process's own."""
    first = _PORT_SEARCH_FIRST + os.getpid() % 500 * 20
    while True:
        if all(_is_free(port) for port in range(first, first + count)):
            return first
        first += count


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _pids_of_session(session: int) -> Iterator[int]:
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(ProcessLookupError, FileNotFoundError):
                if os.getsid(int(entry)) == session and b"Z" not in _state(entry):
                    yield int(entry)


def _state(pid: str) -> bytes:
    return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
