"""A candidate's threads over a row in memory: one leads, the other follows when it is silent."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from waiting import wait_until

from filoray.cluster.actors.candidate import Candidate
from filoray.cluster.control.leadership import NOBODY_YET, LeaderRow
from filoray.cluster.errors import Unavailable

LEASE_MS = 1000
OVER = threading.Event()


@pytest.fixture(autouse=True)
def _no_thread_stays() -> Iterator[None]:
    """A candidate stands for as long as its process lives; here it ends with the test."""
    OVER.clear()
    yield
    OVER.set()
    names = {"candidate", "lease", "lead"}
    wait_until(lambda: not any(thread.name in names for thread in threading.enumerate()), "their threads have ended")


@dataclass
class Rows:
    """``LeaderRows`` that may be cut off."""

    board: list[LeaderRow]
    is_cut: bool = False
    gate: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    def _reach(self) -> None:
        self.gate.wait()
        if OVER.is_set():
            raise RuntimeError("the test is over")
        if self.is_cut:
            raise Unavailable("it cannot be reached")

    def row(self) -> LeaderRow:
        self._reach()
        return self.board[0]

    def take(self, seen: LeaderRow, name: str) -> LeaderRow | None:
        self._reach()
        if self.board[0] != seen:
            return None
        self.board[0] = LeaderRow(name, seen.term + 1, seen.beat + 1)
        return self.board[0]

    def renew(self, term: int) -> bool:
        self._reach()
        row = self.board[0]
        if row.term == term:
            self.board[0] = LeaderRow(row.holder, term, row.beat + 1)
        return row.term == term

    def release(self, term: int) -> None:
        self._reach()
        row = self.board[0]
        if row.term == term:
            self.board[0] = LeaderRow("", term, row.beat + 1)


class Process:
    def __init__(self, name: str, board: list[LeaderRow]) -> None:
        self.rows = Rows(board)
        self.begun: list[bool] = []
        self.ended: list[str] = []
        self.candidate = Candidate(name, LEASE_MS, lambda: self.rows, self._begin, self.ended.append)

    def _begin(self) -> None:
        self.begun.append(self.candidate.may_act())


def pair() -> tuple[Process, Process]:
    board = [NOBODY_YET]
    first, second = Process("a", board), Process("b", board)
    first.candidate.start()
    wait_until(lambda: first.begun, "the first leads")
    second.candidate.start()
    return first, second


def test_one_that_cannot_reach_the_store_ends_before_the_other_leads() -> None:
    first, second = pair()
    first.rows.is_cut = True
    wait_until(lambda: second.begun, "the second leads")
    assert second.begun == [True]
    assert not first.candidate.may_act()
    wait_until(lambda: first.ended, "the first ends")
    assert not second.ended


def test_one_whose_store_does_not_come_back_ends_all_the_same() -> None:
    first, second = pair()
    first.rows.gate.clear()
    wait_until(lambda: first.ended, "the first ends, though its call has not returned")
    wait_until(lambda: second.begun, "the second leads")
    first.rows.gate.set()


def test_one_that_goes_in_order_is_followed_at_once() -> None:
    first, second = pair()
    first.candidate.release()
    wait_until(lambda: second.begun, "the second leads")
    assert second.rows.board[0].holder == "b"


def test_one_that_cannot_begin_ends() -> None:
    process = Process("a", [NOBODY_YET])
    process._begin = lambda: (_ for _ in ()).throw(Unavailable("the store is away"))  # type: ignore[method-assign]
    process.candidate = Candidate("a", LEASE_MS, lambda: process.rows, process._begin, process.ended.append)
    process.candidate.start()
    wait_until(lambda: process.ended, "it ends")
    assert process.ended[0] == "cannot lead: the store is away"


def test_one_whose_look_at_the_store_fails_as_nobody_expected_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    process = Process("a", [NOBODY_YET])
    monkeypatch.setattr(process.rows, "row", lambda: 1 / 0)
    process.candidate.start()
    wait_until(lambda: process.ended, "it ends, and is made anew")
    assert process.ended == ["cannot stand: division by zero"]
