"""Events reach a core one at a time, in order, whoever brings them."""

from __future__ import annotations

import threading

import pytest

from filoray.cluster.control.one_at_a_time import OneAtATime


def test_what_comes_from_inside_waits_until_the_present_event_is_done() -> None:
    told: list[str] = []

    def handle(event: int) -> None:
        told.append(f"begin {event}")
        if event < 2:
            events.take(event + 1)
        told.append(f"end {event}")

    events = OneAtATime(handle)
    events.take(0)
    assert told == ["begin 0", "end 0", "begin 1", "end 1", "begin 2", "end 2"]


def test_events_of_many_threads_are_handled_one_at_a_time() -> None:
    inside, handled = 0, 0

    def handle(event: int) -> None:
        nonlocal inside, handled
        inside += 1
        assert inside == 1
        handled += 1
        inside -= 1

    events = OneAtATime(handle)
    threads = [threading.Thread(target=lambda: [events.take(n) for n in range(2000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert handled == 8000


def test_what_waits_behind_an_event_that_fails_is_handled_with_the_next() -> None:
    handled: list[int] = []

    def handle(event: int) -> None:
        if event == 0:
            events.take(1)
            raise ValueError
        handled.append(event)

    events = OneAtATime(handle)
    with pytest.raises(ValueError):  # noqa: PT011
        events.take(0)
    events.take(2)
    assert handled == [1, 2]


def test_nothing_is_handled_after_the_end() -> None:
    handled: list[int] = []

    def handle(event: int) -> None:
        handled.append(event)
        events.take(event + 1)
        events.end()

    events = OneAtATime(handle)
    events.take(0)
    events.take(5)
    assert handled == [0]
