"""Programs that nobody here wrote, started for a test on free ports and stopped at its end."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import requests
from running_cluster import wait_until


def missing_programs(*names: str) -> list[str]:
    return [name for name in names if shutil.which(name) is None]


def free_ports(count: int) -> list[int]:
    """Distinct free loopback ports."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


@contextmanager
def program(command: Sequence[str], log: Path, ready_url: str) -> Iterator[None]:
    """Runs a program while the block does; the block starts when the URL answers."""
    with log.open("wb") as output:
        started = subprocess.Popen(list(command), stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)

    def ready() -> bool:
        assert started.poll() is None, f"{command[0]} ended:\n{log.read_text(errors='replace')[-3000:]}"
        return requests.get(ready_url, timeout=5).status_code == 200

    try:
        wait_until(ready, 60, f"{command[0]} answers")
        yield
    finally:
        started.terminate()
        try:
            started.wait(timeout=30)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


@contextmanager
def prometheus(directory: Path, config: str) -> Iterator[str]:
    """A Prometheus with this configuration, ``{port}`` in it being its own port; gives its URL."""
    directory.mkdir()
    (port,) = free_ports(1)
    (directory / "prometheus.yml").write_text(config.replace("{port}", str(port)))
    url = f"http://127.0.0.1:{port}"
    command = [
        "prometheus", f"--config.file={directory / 'prometheus.yml'}", f"--storage.tsdb.path={directory / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn",
    ]  # fmt: skip
    with program(command, directory / "log", f"{url}/-/ready"):
        yield url
