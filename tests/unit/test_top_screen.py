"""``filoray top`` in a terminal of its own: what keys do, what it says when nobody answers, and how it leaves."""

from __future__ import annotations

import http.server
import os
import pty
import re
import select
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from certificates import Authority
from gateway_thread import GatewayThread
from running_cluster import filoray

from filoray.cluster.errors import FilorayError, Unavailable
from filoray.cluster.process.process_figures import ProcessFigures
from filoray.command.client_access import ClientAccess
from filoray.command.top import Gateways
from filoray.http.access.web_config_file import WebConfigFile
from filoray.http.fanout.cluster_figures import GatewayFigures, GatewayReading, Presence, Standing

_CONTROLS = re.compile(r"\x1b\[[?0-9;]*[A-Za-z]")


class Terminal:
    """A pseudo-terminal of 24 lines with ``filoray top`` in it."""

    def __init__(self, url: str) -> None:
        self.master, self.slave = pty.openpty()
        termios.tcsetwinsize(self.slave, (24, 100))
        self.settings = termios.tcgetattr(self.slave)
        environment = {**os.environ, "TERM": "xterm-256color", "FILORAY_URL": url}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "filoray.command.cli", "top", "--interval", "200ms"],
            stdin=self.slave, stdout=self.slave, stderr=self.slave, env=environment,
        )  # fmt: skip
        self._shown = ""

    def press(self, key: str) -> None:
        os.write(self.master, key.encode())

    def wait_for(self, text: str, timeout_s: float = 20) -> str:
        """The screen as soon as the text is there; only what is drawn from now on counts."""
        self._shown = ""
        deadline_s = time.monotonic() + timeout_s
        while text not in self._shown:
            assert time.monotonic() < deadline_s, f"no {text!r} in {self._shown!r}"
            if select.select([self.master], [], [], 0.1)[0]:
                self._shown += _CONTROLS.sub("", os.read(self.master, 65536).decode(errors="replace"))
        return self._shown

    def end(self) -> int:
        """Its exit code."""
        deadline_s = time.monotonic() + 20
        while self.process.poll() is None:  # what it still says must be taken, or it waits
            assert time.monotonic() < deadline_s
            if select.select([self.master], [], [], 0.05)[0]:
                os.read(self.master, 65536)
        return self.process.returncode

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def gateway() -> Iterator[GatewayThread]:
    made = GatewayThread("shop")
    yield made
    made.stop()


@pytest.fixture
def terminal(gateway: GatewayThread) -> Iterator[Terminal]:
    made = Terminal(gateway.api.url)
    yield made
    made.close()


def test_keys_sort_and_quit_and_the_terminal_is_left_as_it_was(terminal: Terminal) -> None:
    shown = terminal.wait_for("by name; q quits")
    assert "by gateway-0" in shown
    terminal.press("s")
    terminal.wait_for("by samples/s; q quits")
    terminal.press("q")
    assert terminal.end() == 0
    assert termios.tcgetattr(terminal.slave) == terminal.settings


def test_an_interrupt_ends_it_in_order(terminal: Terminal) -> None:
    terminal.wait_for("by name; q quits")
    terminal.process.send_signal(2)
    assert terminal.end() == 0
    assert termios.tcgetattr(terminal.slave) == terminal.settings


def test_when_nobody_answers_any_more_it_says_so_and_how_old_is_what_it_shows() -> None:
    gateway = GatewayThread("shop")
    terminal = Terminal(gateway.api.url)
    try:
        terminal.wait_for("by name; q quits")
        gateway.stop()
        shown = terminal.wait_for(f"no gateway answers at {gateway.api.url}")
        assert re.search(r"this is [0-9.]+s old: no gateway", shown)
        assert "by gateway-0" in shown
        terminal.press("q")
        assert terminal.end() == 0
    finally:
        terminal.close()


def test_where_the_output_is_no_terminal_one_view_is_printed(gateway: GatewayThread) -> None:
    done = filoray("top", "--interval", "200ms", "--url", gateway.api.url)
    assert done.returncode == 0
    assert done.stdout.startswith("here  by gateway-0")
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--url", "http://127.0.0.1:9"], 1, "no gateway answers at http://127.0.0.1:9"),
        (["--interval", "10ms"], 2, "is below 200 ms"),
        (["--interval", "often"], 2, "a duration such as"),
    ],
)
def test_what_cannot_be_shown_is_said(arguments: list[str], code: int, says: str) -> None:
    done = filoray("top", "--once", *arguments)
    assert (done.returncode, says in done.stderr) == (code, True), done.stderr


# ---- which gateway is asked


def told(url: str) -> GatewayReading:
    figures = GatewayFigures(url, ProcessFigures(1, 1_000, 0, 0), 0, 0, 0)
    return GatewayReading("gateway-1", Standing(Presence.UP), figures)


def test_when_a_gateway_is_gone_or_refuses_the_next_that_it_named_is_asked() -> None:
    first, second = GatewayThread("shop"), GatewayThread("shop")
    try:
        first.api.figures.others = [told(second.api.url)]
        gateways = Gateways(ClientAccess(first.api.url))
        gateways.snapshot()
        assert gateways.urls[0] == first.api.url
        first.api.figures.error = Unavailable("not now")
        gateways.snapshot()
        assert gateways.urls[0] == second.api.url
        second.api.figures.error = Unavailable("nor here")
        with pytest.raises(FilorayError, match="nor here"):
            gateways.snapshot()
    finally:
        first.stop()
        second.stop()


def test_a_name_and_a_password_never_go_from_https_to_http(tmp_path: Path, authority: Authority) -> None:
    web = tmp_path / "web.yml"
    pair = authority.sign("gateway", "127.0.0.1")
    web.write_text(f"tls_server_config: {{cert_file: {pair.certificate}, key_file: {pair.key}}}")
    web.chmod(0o600)
    gateway = GatewayThread("shop", access=WebConfigFile(web))
    try:
        gateway.api.figures.others = [told("http://127.0.0.1:9"), told("https://127.0.0.1:9")]
        gateways = Gateways(ClientAccess(gateway.api.url, ca_file=authority.certificate))
        gateways.snapshot()
        assert gateways.urls == [gateway.api.url, "https://127.0.0.1:9"]
    finally:
        gateway.stop()


def test_what_is_no_gateway_is_said_so(tmp_path: Path) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        with pytest.raises(FilorayError, match=f"what answers at {url}/admin/figures is no gateway"):
            Gateways(ClientAccess(url)).snapshot()
        server.shutdown()


class _Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>hello</html>")

    def log_message(self, *words: object) -> None:
        """Tests need no log."""
