"""``filoray top``: asks a gateway for the cluster's figures again and again, and shows them.

Whoever answers names the other gateways, which are asked in turn when it does not answer any more. Where the output is
no terminal, or with ``once``, one view is printed and that is all; for its rates the cluster is asked twice.
"""

from __future__ import annotations

import dataclasses
import time
from urllib.parse import urlsplit

import orjson
from rich.console import Console
from rich.live import Live

from filoray.cluster.errors import FilorayError
from filoray.cluster.process.clocks import steady_ms
from filoray.command.client_access import ClientAccess
from filoray.command.http_client import Answer, send
from filoray.command.terminal_keys import TerminalKeys
from filoray.command.top_rows import Snapshot, SortBy, overview
from filoray.command.top_view import Frame, age_text, render
from filoray.http.fanout.cluster_figures import ClusterFigures, read_cluster_figures

PATH = "/admin/figures"
_TIMEOUT_S = 2.0
_PIPE_WIDTH = 200
_KEYS = "q quits, s sorts by the next column"


class Gateways:
    """The gateways that are known, the one that answered last first."""

    def __init__(self, access: ClientAccess) -> None:
        self._access = access
        self.urls = [access.url.rstrip("/")]

    def snapshot(self) -> Snapshot:
        """From the first that tells it. Raises FilorayError, the first one's, if none does."""
        problems: list[FilorayError] = []
        for url in list(self.urls):
            try:
                answer = send(dataclasses.replace(self._access, url=url), PATH, timeout_s=_TIMEOUT_S)
                snapshot = Snapshot(_figures_in(answer, url), steady_ms())
            except FilorayError as error:
                problems.append(error)
            else:
                self._learn(url, snapshot)
                return snapshot
        raise problems[0]

    def _learn(self, answered: str, snapshot: Snapshot) -> None:
        told = [reading.figures.url for reading in snapshot.figures.gateways if reading.figures is not None]
        # Never from https to http: what proves who asks would be for all to see.
        same = [url for url in told if urlsplit(url).scheme == urlsplit(answered).scheme]
        self.urls = list(dict.fromkeys([answered, *same, *self.urls]))


def _figures_in(answer: Answer, url: str) -> ClusterFigures:
    if answer.status == 404:
        raise FilorayError(f"the gateway at {url} knows no {PATH}: it is of an older version")
    if not answer.is_good:
        raise FilorayError(answer.error or f"{url}{PATH} answered {answer.status} {answer.reason}")
    try:
        plain = orjson.loads(answer.body)["data"]
    except (ValueError, KeyError, TypeError):
        raise FilorayError(f"what answers at {url}{PATH} is no gateway") from None
    return read_cluster_figures(plain)


def top(access: ClientAccess, interval_s: float, *, once: bool) -> int:
    """Until q is pressed; or once."""
    console = Console()
    gateways = Gateways(access)
    if once or not console.is_terminal:
        return _print_once(gateways, console, interval_s)
    try:
        _show(gateways, console, interval_s)
    except KeyboardInterrupt:
        pass
    return 0


def _print_once(gateways: Gateways, console: Console, interval_s: float) -> int:
    frame = Frame(console.width)
    if not console.is_terminal:
        console, frame = Console(width=_PIPE_WIDTH), Frame()  # whoever reads it wants every column
    before = gateways.snapshot()
    time.sleep(interval_s)
    console.print(render(overview(before, gateways.snapshot()), frame), highlight=False)
    return 0


def _show(gateways: Gateways, console: Console, interval_s: float) -> None:
    before: Snapshot | None = None
    asked_s, now = time.monotonic(), gateways.snapshot()
    problem = ""
    order = list(SortBy)

    def draw() -> None:
        note, style = f"by {order[0]}; {_KEYS}", "dim"
        if problem:
            note, style = f"this is {age_text(steady_ms() - now.taken_ms)} old: {problem}", "red"
        frame = Frame(console.width, console.height, order[0], note, style)
        live.update(render(overview(before, now), frame), refresh=True)

    with TerminalKeys() as keys, Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            draw()
            due_s = asked_s + interval_s
            while (key := keys.next(due_s - time.monotonic())) or time.monotonic() < due_s:
                if key == "q":
                    return
                if key == "s":
                    order.append(order.pop(0))
                    draw()
            asked_s = time.monotonic()
            try:
                newer = gateways.snapshot()
            except FilorayError as error:
                problem = error.message
            else:
                before, now, problem = now, newer, ""
