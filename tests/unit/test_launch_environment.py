"""What a launch's processes find around them: no proxy in the way, a place for kernels, files of their own."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from filoray.command.private_files import make_private
from filoray.command.process_environment import kernel_cache, without_proxies


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(
    ("given", "listed"),
    [
        ({}, "127.0.0.1,localhost,::1,10.0.0.7"),
        ({"no_proxy": "corp.example, localhost"}, "corp.example,localhost,127.0.0.1,::1,10.0.0.7"),
        ({"NO_PROXY": "10.0.0.7"}, "10.0.0.7,127.0.0.1,localhost,::1"),
    ],
)
def test_our_own_addresses_need_no_proxy(given: dict[str, str], listed: str) -> None:
    assert without_proxies(given, ["127.0.0.1", "10.0.0.7"]) == {"no_proxy": listed, "NO_PROXY": listed}


def test_a_proxy_that_does_not_answer_is_not_asked_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    server = HTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    url = f"http://127.0.0.1:{server.server_port}/"
    try:
        with pytest.raises(OSError, match="refused"):
            urllib.request.urlopen(url, timeout=5)
        for name, value in without_proxies(os.environ, ()).items():
            monkeypatch.setenv(name, value)
        assert urllib.request.urlopen(url, timeout=5).status == 204
    finally:
        server.shutdown()
        server.server_close()


def test_kernels_are_kept_beside_the_sources_or_else_with_the_data(tmp_path: Path) -> None:
    data_dir, sources, read_only = tmp_path / "data", tmp_path / "kernels", tmp_path / "read-only"
    sources.mkdir()
    assert kernel_cache({}, sources, data_dir) == {}
    assert list((sources / "__pycache__").iterdir()) == []
    read_only.write_text("no folder can be made in it")
    assert kernel_cache({}, read_only, data_dir) == {"NUMBA_CACHE_DIR": str(data_dir / "kernel-cache")}
    assert kernel_cache({"NUMBA_CACHE_DIR": "/elsewhere"}, read_only, data_dir) == {}


def make(path: Path, mode: int, *, folder: bool = False) -> Path:
    path.mkdir() if folder else path.write_text("secret")
    path.chmod(mode)
    return path


def modes(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in [folder, *folder.rglob("*")]}


def test_what_another_version_left_open_is_closed(tmp_path: Path) -> None:
    data = make(tmp_path / "data", 0o755, folder=True)
    names = ("coordinator.db", "coordinator.db-wal", "launch.json", "launch.lock", "gateway-0.log", "node-0.log.1")
    for name in names:
        make(data / name, 0o644)
    dataset = make(data / "timeseries", 0o755, folder=True)
    for name in ("shard-0.db", "shard-0.db-wal", "shard-0.metrics"):
        make(dataset / name, 0o664)
    copies = make(data / "copies", 0o755, folder=True)
    node = make(copies / "node-0", 0o755, folder=True)
    replicated = make(node / "replicated", 0o755, folder=True)
    for name in ("shard-0.db", "shard-0.joining", "dataset.json"):
        make(replicated / name, 0o664)
    assert make_private(data) == []
    assert {mode & 0o077 for mode in modes(data).values()} == {0}
    assert modes(data)["data"] == 0o700


def test_what_is_not_ours_stays_as_it_is(tmp_path: Path) -> None:
    home = make(tmp_path / "home", 0o755, folder=True)
    make(home / "letter.txt", 0o644)
    make(home / "music", 0o755, folder=True)
    make(home / "music" / "song", 0o644)
    make(home / "coordinator.db", 0o644)
    assert make_private(home) == []
    assert modes(home) == {"home": 0o755, "letter.txt": 0o644, "music": 0o755, "song": 0o644, "coordinator.db": 0o600}


def test_an_actors_log_is_private_whoever_started_its_process(tmp_path: Path) -> None:
    program = (
        "import os, pathlib, sys; os.umask(0o022); from filoray.cluster.process.process_log import log_to_file; "
        "log_to_file(pathlib.Path(sys.argv[1]), 'node-0'); open(sys.argv[1] + '/shard', 'w')"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "data")], check=True)
    assert {mode & 0o077 for mode in modes(tmp_path / "data").values()} == {0}
