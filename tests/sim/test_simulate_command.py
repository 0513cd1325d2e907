"""``filoray simulate``: what it says, what it writes, and that a failure's command makes it again."""

from __future__ import annotations

import os
import re
import runpy
import shlex
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from filoray.cluster.control.node_keeper import NodeKeeper
from filoray.cluster.simulation.checkers import AnyMachineMayGo, Checkers, InSyncHaveIt, LeaderHasAll, WarmIsTheStore
from filoray.cluster.simulation.history import HistoryShape
from filoray.cluster.simulation.shrinking import shrink
from filoray.cluster.simulation.tally import HistoryResult, Tally
from filoray.command.cli import main

SEEDED = runpy.run_path(str(Path(__file__).with_name("test_seeded_bugs.py")))
BUGS = list(SEEDED["SHAPES"].items())
"""Each a function that plants one, and the shape of histories that it takes to show."""
COPIES = {LeaderHasAll.rule, InSyncHaveIt.rule}


def lines_after(head: str, output: str) -> str:
    """What is broken, and by what; how many samples were there by then is no matter."""
    return re.sub(r"\d+ samples of \d+", "some samples of some", output[output.rindex(head) :].partition("\n\n")[0])


@pytest.mark.parametrize(("bug", "shape"), BUGS, ids=[bug.__name__ for bug, _ in BUGS])
def test_a_planted_bug_is_found_shortened_and_made_again(
    bug: Callable[[pytest.MonkeyPatch], None],
    shape: HistoryShape,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bug(monkeypatch)
    database = ["--database"] * shape.has_standby
    assert main(["simulate", "--histories", "30", "--replicas", str(shape.num_replicas), *database]) == 1
    found = capsys.readouterr().out
    command = re.findall(r"^again: filoray (simulate .*)$", found, re.MULTILINE)[-1]
    faults = int(re.findall(r"shortest story, with (\d+) of the faults", found)[0])
    assert faults <= 10, "a story of more is no short one"

    assert main(shlex.split(command)) == 1
    again = capsys.readouterr().out
    assert lines_after("broken: ", again) == lines_after("broken: ", found)
    assert re.search(rf"^1 history in .*, {faults} faults$", again, re.MULTILINE)


@pytest.mark.parametrize(
    ("words", "untested"),
    [([], {WarmIsTheStore.rule}), (["--database"], COPIES | {AnyMachineMayGo.rule})],
    ids=["in files", "in a database"],
)
def test_histories_that_hold_are_told_of(
    words: list[str], untested: set[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    report = tmp_path / "report.html"
    options = ["--histories", "8", "--seed", "20", "--replicas", "2", *words, "--report", str(report)]
    assert main(["simulate", *options]) == 0
    output = capsys.readouterr().out
    assert re.search("^8 histories in ", output, re.MULTILINE)
    for rule in Checkers(1000).counts().keys() - untested:
        assert re.search(rf"held +[\d,]+ checks  {re.escape(rule)}", output)
    assert re.search(r"without an owner: \d+ times a shard; median [\d.]+ s, p99 [\d.]+ s, longest", output)
    html = report.read_text(encoding="utf-8")
    assert "8 histories: all held" in html
    assert "filoray simulate --seed 20 --histories 8" in html
    assert re.findall(r"(?:src|href)=|@import|url\(|https?:", html) == [], "it needs nothing from elsewhere"


def test_a_failure_s_report_has_its_story(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    report = tmp_path / "report.html"
    monkeypatch.setattr("filoray.cluster.simulation.checkers.RETRY_MIN_MS", 10**9)
    assert main(["simulate", "--histories", "30", "--report", str(report)]) == 1
    story = capsys.readouterr().out
    html = report.read_text(encoding="utf-8")
    assert "broken by seed" in html
    assert re.findall(r"^again: .*$", story, re.MULTILINE)[-1] in html


def test_several_processes_come_to_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    said = []
    for processes in ("1", "2"):
        assert main(["simulate", "--histories", "10", "--minutes", "0.3", "--processes", processes]) == 0
        said.append(capsys.readouterr().out.rpartition("/s: ")[2])
    assert said[0] == said[1]


@pytest.mark.parametrize("processes", ["1", "2"])
def test_an_interrupt_ends_with_what_was_done(
    processes: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add = Tally.add

    def interrupted(tally: Tally, result: HistoryResult) -> None:
        add(tally, result)
        if tally.histories == 3:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Tally, "add", interrupted)
    options = ["--histories", "1000", "--minutes", "0.1", "--processes", processes]
    assert main(["simulate", *options]) == 130
    output = capsys.readouterr().out
    assert re.search("^3 histories in ", output, re.MULTILINE)
    assert "interrupted after 3 of 1000 histories" in output


def test_a_large_cluster_does_with_a_great_loss(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    options = ["--nodes", "100", "--shards", "4096", "--lose", "10", "--report", str(report)]
    assert main(["simulate", *options]) == 0
    output = capsys.readouterr().out
    for phase in (
        "100 nodes come up",
        "4,096 shards are set",
        "5 nodes are killed at once",
        "5 nodes are killed one",
    ):
        assert re.search(rf"^ +[\d.]+ s of one core, +[\d.]+ s of the cluster's: {phase}", output, re.MULTILINE)
    assert re.search(r"^spread in the end: 4\d to 4\d shards a node", output, re.MULTILINE)
    assert "every shard was Active again" in report.read_text(encoding="utf-8")


def test_a_great_loss_that_is_not_made_good_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(NodeKeeper, "killed", lambda keeper, event: None)
    assert main(["simulate", "--nodes", "8", "--shards", "16", "--lose", "2"]) == 1
    output = capsys.readouterr().out
    assert re.search(
        r"^broken: When all that went wrong is healed.*\n  1 nodes are killed at once", output, re.MULTILINE
    )
    assert "again: filoray simulate --nodes 8 --shards 16 --lose 2 --seed 0" in output


def test_a_history_that_holds_has_nothing_to_shorten() -> None:
    assert shrink(0, HistoryShape(duration_ms=10_000)) is None


@pytest.mark.parametrize(
    "options",
    [
        ["--nodes", "0"],
        ["--seed", "x"],
        ["--minutes", "-1"],
        ["--only-faults", "1,b"],
        ["--without", "rain"],
        ["--processes", "none"],
        ["--shards", "48"],
    ],
)
def test_what_is_no_option_is_refused(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["simulate", *options])
    assert options[-1].split(",")[-1] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "why"),
    [([], "needs --nodes"), (["--nodes", "3"], "needs --nodes"), (["--nodes", "9", "--faults", "1"], "its own faults")],
)
def test_a_great_loss_takes_what_goes_with_it(options: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["simulate", "--lose", "3", *options])
    assert why in capsys.readouterr().err
