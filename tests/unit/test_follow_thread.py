"""The thread that changes a node's copies: in order, whatever fails, and with upkeep however much there is to do."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from waiting import wait_until

from filoray.cluster.process.thread_watch import ThreadWatch
from filoray.nodes.host.replication.follow_thread import FollowThread


@contextmanager
def running(upkeep: Callable[[], bool]) -> Iterator[FollowThread]:
    thread = FollowThread(upkeep)
    yield thread
    thread.close()


def test_things_are_done_in_their_order_and_what_fails_ends_nothing() -> None:
    done: list[int] = []

    def fail() -> None:
        raise OSError("the disk is gone")

    with running(lambda: False) as thread:
        for number in range(100):
            thread.submit("a number", lambda number=number: done.append(number))  # type: ignore[misc]
            thread.submit("what fails", fail)
    assert done == list(range(100))


def test_upkeep_is_done_also_while_there_is_always_something_else_to_do() -> None:
    pieces: list[int] = []
    is_over = threading.Event()

    def upkeep() -> bool:
        pieces.append(1)
        return len(pieces) < 5

    with running(upkeep) as thread:

        def again() -> None:
            if not is_over.wait(0.001):
                thread.submit("the same again", again)

        thread.submit("the same again", again)
        wait_until(lambda: len(pieces) >= 6, "upkeep goes on, more at once and then again")
        is_over.set()


def test_a_thing_that_never_ends_is_told_by_the_watch() -> None:
    watch = ThreadWatch(100)
    go_on = threading.Event()
    with running(lambda: False) as thread:
        thread.watch_with(watch)
        assert watch.problem() == ""
        thread.submit("waiting for the test", lambda: go_on.wait() and None)
        wait_until(lambda: "follow has not got on with waiting for the test" in watch.problem(), watch.problem)
        go_on.set()
