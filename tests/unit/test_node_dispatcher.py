from __future__ import annotations

import threading

import pytest

from filoray.cluster.config.dataset import LOG_STREAM_FACTORY, DatasetConfig
from filoray.cluster.config.server_config import default_server_config
from filoray.cluster.control.node_core import NodeCore
from filoray.cluster.control.node_dispatcher import NodeDispatcher
from filoray.cluster.control.node_effects import DeleteFiles, FlushTurn, Note, OpenShard, Report
from filoray.cluster.control.node_events import (
    Closed,
    DeleteOrdered,
    FilesDeleted,
    Opened,
    OpeningEnded,
    OpeningFailed,
    OpeningId,
    RequestId,
    StartOrdered,
    StopOrdered,
)

KEY = ("d", 0)
CONFIG = DatasetConfig("d", "prom-counter", 8, 1, LOG_STREAM_FACTORY, 1, {}, default_server_config().store)


class World:
    """Writes down what it is to do. What takes time ends at once, from inside the effect."""

    def __init__(self) -> None:
        self.core = NodeCore()
        self.dispatcher = NodeDispatcher(self.core, self)
        self.done: list[str] = []

    def now_ms(self) -> int:
        return 0

    def open_shard(self, order: OpenShard) -> None:
        self.done.append(f"open {order.opening}")
        self.dispatcher.take(Opened(order.key, order.opening))

    def abandon_opening(self, opening: OpeningId) -> None:
        self.done.append(f"abandon {opening}")

    def end_opening(self, opening: OpeningId) -> None:
        self.done.append(f"end {opening}")
        self.dispatcher.take(OpeningEnded(KEY, opening))

    def serve_shard(self, opening: OpeningId) -> None:
        self.done.append(f"serve {opening}")

    def close_shard(self, opening: OpeningId) -> None:
        self.done.append(f"close {opening}")
        self.dispatcher.take(Closed(KEY, opening))

    def delete_files(self, deletion: DeleteFiles) -> None:
        self.done.append(f"delete {deletion.generation}")
        self.dispatcher.take(FilesDeleted(deletion.request))

    def flush_in_turn(self, turns: tuple[FlushTurn, ...]) -> None:
        self.done.append(f"flush {[turn.opening for turn in turns]}")

    def report(self, report: Report) -> None:
        self.done.append(type(report.event).__name__)

    def answer(self, request: RequestId, problem: str) -> None:
        self.done.append(f"answer {request}: {problem}" if problem else f"answer {request}")

    def wake_at(self, at_ms: int) -> None:
        self.done.append(f"wake at {at_ms}")

    def note(self, note: Note) -> None:
        self.done.append("note")


def test_effects_are_carried_out_in_order_and_what_happens_meanwhile_comes_after_them() -> None:
    world = World()
    world.dispatcher.take(StartOrdered(1, CONFIG, ((0, 1),)))
    assert world.done == ["open 1", "answer 1", "serve 1", "IngestionStarted", "flush [1]"]
    world.done.clear()
    world.dispatcher.take(DeleteOrdered(2, "d", 0, (0,)))
    assert world.done == ["close 1", "flush []", "IngestionStopped", "delete 0", "answer 2"]
    assert world.core.held() == ()


def test_an_effect_that_fails_keeps_no_other_from_being_carried_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world = World()

    def fail(report: Report) -> None:
        raise OSError("nobody listens")

    with monkeypatch.context() as patch:
        patch.setattr(world, "report", fail)
        world.dispatcher.take(StartOrdered(1, CONFIG, ((0, 1),)))
    assert world.done == ["open 1", "answer 1", "serve 1", "flush [1]"]
    assert "not carried out: Report(" in caplog.text


def test_an_event_that_fits_no_state_is_told_in_the_log_and_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    world.dispatcher.take(OpeningFailed(KEY, 5, "?"))
    assert "opening failed is not possible in a slot that is closed" in caplog.text
    world.dispatcher.take(StopOrdered(1, "d", ((0, 1),)))
    assert world.done == ["answer 1"]


def test_whoever_gave_an_order_is_answered_also_if_the_core_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()

    def fail(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(world.core, "handle", fail)
        world.dispatcher.take(StopOrdered(1, "d", ((0, 1),)))
    world.dispatcher.take(StopOrdered(2, "d", ((0, 1),)))
    assert world.done == ["answer 1: ZeroDivisionError: a bug", "answer 2"]


def test_threads_take_turns() -> None:
    world = World()

    def order(first: int) -> None:
        for number in range(first, first + 200):
            world.dispatcher.take(StartOrdered(number, CONFIG, ((0, number),)))

    threads = [threading.Thread(target=order, args=(1000 * index,)) for index in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    world.core.check_invariants()
    assert sum(line.startswith("answer") for line in world.done) == 800
    (held,) = world.core.held()
    assert held.epoch == 4199
    opened = [int(line.split()[1]) for line in world.done if line.startswith("open ")]
    assert opened == list(range(1, len(opened) + 1))
