"""``filoray top`` in a terminal of its own: what keys do, what it says when nobody answers, and how it leaves."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from collections.abc import Iterator

import pytest
from gateway_thread import GatewayThread
from running_cluster import filoray

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
    assert "filoray  by gateway-0" in shown
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
        assert "filoray  by gateway-0" in shown
        terminal.press("q")
        assert terminal.end() == 0
    finally:
        terminal.close()


def test_where_the_output_is_no_terminal_one_view_is_printed(gateway: GatewayThread) -> None:
    done = filoray("top", "--interval", "200ms", "--url", gateway.api.url)
    assert done.returncode == 0
    assert done.stdout.startswith("filoray  by gateway-0")
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
