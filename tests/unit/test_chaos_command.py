"""``filoray chaos run``: exit codes and words, whom it leaves alone, what it makes of answers, and its report."""

from __future__ import annotations

import http.server
import re
import threading
import xml.etree.ElementTree
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from gateway_thread import GatewayThread

from filoray.cluster.chaos.clients import Writer
from filoray.cluster.chaos.ledger import Ledger
from filoray.cluster.chaos.operations import Operation, Outcome, Write
from filoray.cluster.chaos.timeline import StatusSeen
from filoray.cluster.control.shard_status import StatusKind
from filoray.cluster.report.shard_statuses import StatusSpan
from filoray.command import launcher
from filoray.command.chaos.cluster_access import ClusterAccess
from filoray.command.chaos.real_clients import RealClients
from filoray.command.chaos.report_chart import status_spans
from filoray.command.chaos.small_disk import SmallDisk, mount_problem
from filoray.command.cli import main
from filoray.command.client_access import ClientAccess
from filoray.command.launch_state import LaunchState

SCENARIO = """
nodes 2
dataset one shards 4 min-nodes 1
expect all Active within 10s
write 100 samples/s with 1 writers
query continuously with 1 readers
every 1s for 10s: random fault
expect all Active within {within}
expect no acknowledged sample lost
"""


@pytest.fixture
def scenario(tmp_path: Path) -> Callable[[str], str]:
    def write(text: str) -> str:
        path = tmp_path / "scenario.txt"
        path.write_text(text)
        return str(path)

    return write


def test_what_holds_ends_with_0_and_the_command_that_plays_it_again(scenario, capsys) -> None:
    file = scenario(SCENARIO.format(within="60s"))
    assert main(["chaos", "run", file, "--simulate", "--seed", "4"]) == 0
    said = capsys.readouterr().out
    assert f"{file} by the simulator, seed 4" in said
    assert "all that was expected held" in said
    assert re.search(r"[1-9][\d,]* samples acknowledged \(\d+ more of unknown outcome\), 0 lost", said)
    assert f"the same faults again: filoray chaos run {file} --seed 4 --simulate" in said


def test_what_does_not_hold_ends_with_1_what_was_seen_and_what_was_before(scenario, capsys) -> None:
    file = scenario("nodes 2\ndataset one shards 4 min-nodes 2\nexpect all Active within 9s\n"
                    "kill node 0\nkill node 1\nwait 300ms\nexpect spread even within 10ms")  # fmt: skip
    assert main(["chaos", "run", file, "--simulate", "--seed", "4"]) == 1
    said = capsys.readouterr().out
    assert "not as expected: line 7: expect spread even within 10ms: members are none; one has " in said
    assert "what happened before:" in said
    assert "line 4   kill node 0" in said


@pytest.mark.parametrize(
    ("text", "arguments", "said"),
    [
        (
            "nodes 2\nkill all",
            (),
            "line 2: 'all' cannot stand there; node or gateway or coordinator or seed",
        ),
        (
            "nodes 2\nkill raylet",
            ("--simulate",),
            "line 2: `kill raylet` cannot be played by the simulator: there",
        ),
        ("nodes 2\njump clock 1h ahead", (), "line 2: `jump clock 1h ahead` cannot be played by a real cluster: all"),
        ("nodes 2\nslow disk 1s", (), "line 2: `slow disk 1s` cannot be played by a real cluster: no disk can be made"),
        (
            "nodes 2 on machines of their own",
            (),
            "line 1: `on machines of their own` cannot be played by a",
        ),
        ("nodes 2\nwait 1s", ("--simulate", "--url", "http://127.0.0.1:1"), "a scenario is played in one world"),
    ],
)
def test_what_cannot_be_played_ends_with_2_before_anything_is_started(
    scenario, capsys, text: str, arguments: tuple[str, ...], said: str
) -> None:
    assert main(["chaos", "run", scenario(text), *arguments]) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert "starting a cluster" not in captured.out


def test_a_file_that_is_not_there_ends_with_2(tmp_path: Path, capsys) -> None:
    assert main(["chaos", "run", str(tmp_path / "none.txt")]) == 2
    assert "none.txt cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("nodes", "other_url", "said"),
    [
        (1, False, "does not allow chaos: launch it with --set http.allow-chaos=true (or --demo)"),
        (2, False, "the scenario is for 2 nodes, and that cluster has 1"),
        (1, True, "is none of the gateways of the cluster on"),
    ],
)
def test_a_cluster_that_is_not_meant_is_left_alone(
    scenario, tmp_path: Path, capsys, nodes: int, other_url: bool, said: str
) -> None:
    gateway = GatewayThread("timeseries")
    try:
        launched = "http://127.0.0.1:1" if other_url else gateway.api.url
        LaunchState("name", "token", "address", None, [launched]).write(tmp_path)
        file = scenario(f"nodes {nodes}\nkill node 0")
        assert main(["chaos", "run", file, "--url", gateway.api.url, "--data-dir", str(tmp_path)]) == 2
        assert said in capsys.readouterr().err
        assert gateway.api.control.calls == []
    finally:
        gateway.stop()


@pytest.mark.parametrize(
    ("is_demo", "settings", "allowed"),
    [
        (False, {}, False),
        (True, {}, True),
        (True, {"http.allow-chaos": "false"}, False),
        (False, {"http.allow-chaos": "true"}, True),
    ],
)
def test_a_demo_allows_chaos_unless_it_is_told_not_to(
    tmp_path: Path, is_demo: bool, settings: dict[str, str], allowed: bool
) -> None:
    options = launcher.LaunchOptions(demo=is_demo, data_dir=tmp_path, settings=settings)
    assert launcher._config(options).http.allow_chaos is allowed


# ---- what a real client makes of an answer


class Answers(http.server.BaseHTTPRequestHandler):
    status, headers_sent, body = 204, {}, b""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.status == 0:
            self.close_connection = True
            return
        self.send_response(self.status)
        for name, value in {"Content-Length": str(len(self.body)), **self.headers_sent}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: object) -> None:
        pass


class Heard:
    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.ledger = Ledger()

    def begins(self, write: Write, now_ms: int) -> None:
        self.ledger.begin(write, now_ms)

    def ended(self, operation: Operation) -> None:
        self.operations.append(operation)

    def saw(self, seen: StatusSeen) -> None:
        raise AssertionError("clients see no shards")


@pytest.fixture
def answering() -> Iterator[Callable[..., str]]:
    servers = []

    def start(status: int, **headers: str) -> str:
        handler = type("Given", (Answers,), {"status": status, "headers_sent": headers})
        server = http.server.HTTPServer(("127.0.0.1", 0), handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def outcome_of_a_write(url: str, folder: Path) -> Outcome:
    heard = Heard()
    clients = RealClients(ClusterAccess(folder, (url,), ClientAccess(url)), heard, lambda: 5, 1_600_000_000_000)
    writer = Writer("writer-0", "one", ("writer-0/0",))
    outcome = clients.ask(writer.name, writer, writer.next_write(7), 0)
    assert [one.outcome for one in heard.operations] == [outcome]
    return outcome


NONE_STORED = '{"accepted": 0, "refused": {"too old": 1}, "example": ""}'
SOME_STORED = '{"accepted": 1, "refused": {"too old": 1}, "example": ""}'


@pytest.mark.parametrize(
    ("status", "headers", "outcome"),
    [
        (204, {}, Outcome.OK),
        (503, {"Retry-After": "1"}, Outcome.UNKNOWN),
        (429, {}, Outcome.UNKNOWN),
        (500, {}, Outcome.UNKNOWN),
        (0, {}, Outcome.UNKNOWN),  # it hangs up without a word
        (404, {}, Outcome.FAILED),
        (400, {"X-Filoray-Write-Outcome": NONE_STORED}, Outcome.FAILED),
        (400, {"X-Filoray-Write-Outcome": SOME_STORED}, Outcome.UNKNOWN),
    ],
)
def test_a_write_happened_did_not_or_nobody_knows(answering, tmp_path: Path, status, headers, outcome) -> None:
    assert outcome_of_a_write(answering(status, **headers), tmp_path) is outcome


def test_a_write_that_nobody_was_there_to_take_did_not_happen(tmp_path: Path) -> None:
    assert outcome_of_a_write("http://127.0.0.1:1", tmp_path) is Outcome.FAILED


# ---- the small disk


def test_a_full_disk_takes_nothing_and_a_freed_one_does(tmp_path: Path) -> None:
    if problem := mount_problem():
        pytest.skip(f"no small disk can be mounted: {problem}")
    disk, folder = SmallDisk(), tmp_path / "small"
    with disk.mounted(folder):
        (folder / "before").write_bytes(b"x" * 5000)
        disk.fill()
        with pytest.raises(OSError, match="No space left"):
            (folder / "meanwhile").write_bytes(b"x" * 5000)
        assert (folder / "before").read_bytes() == b"x" * 5000
        disk.free()
        (folder / "after").write_bytes(b"x" * 5000)
    assert list(folder.iterdir()) == []
    assert str(folder) not in Path("/proc/mounts").read_text()


# ---- the report


def test_the_report_is_one_whole_page_that_asks_nobody(scenario, tmp_path: Path) -> None:
    file, page = scenario(SCENARIO.format(within="60s")), tmp_path / "report.html"
    assert main(["chaos", "run", file, "--simulate", "--seed", "4", "--report", str(page)]) == 0
    text = page.read_text()
    assert not re.search(r"(?:src|href)=|url\(|@import|<script", text)
    (svg,) = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    drawn = xml.etree.ElementTree.fromstring(svg)
    bands = [one for one in drawn.iter("rect") if one.get("class", "").startswith("s-")]
    assert {one.get("class") for one in bands} >= {"s-active", "s-assigned"}
    assert all(one.find("title") is not None for one in bands)
    for variable in set(re.findall(r"var\((--[\w-]+)\)", text)):
        assert text.count(f"{variable}:") == 2, f"{variable} has a colour for light and for dark"


def test_what_a_scenario_says_is_text_in_the_report(tmp_path: Path) -> None:
    file, page = tmp_path / "<b>&.txt", tmp_path / "report.html"
    file.write_text("nodes 1\nwait 1s")
    assert main(["chaos", "run", str(file), "--simulate", "--report", str(page)]) == 0
    assert "<b>&.txt" not in page.read_text()
    assert "&lt;b&gt;&amp;.txt" in page.read_text()


def test_a_band_has_each_status_once_with_the_owner_that_is_told_later() -> None:
    active, down = StatusKind.ACTIVE, StatusKind.DOWN
    told = [(0, active, "node-0"), (50, down, ""), (60, active, ""), (80, active, "node-1"), (90, active, "node-2")]
    seen = [StatusSeen(at_ms, "one", 0, status, node) for at_ms, status, node in told]
    assert status_spans(reversed(seen), 100) == [
        StatusSpan(0, 50, active, "node-0"),
        StatusSpan(50, 60, down, ""),
        StatusSpan(60, 90, active, "node-1"),
        StatusSpan(90, 100, active, "node-2"),
    ]
