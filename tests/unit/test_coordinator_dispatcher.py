"""The dispatcher over a world that only writes down what it was told to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from filoray.cluster.addresses import NodeAddress
from filoray.cluster.config.server_config import default_server_config
from filoray.cluster.control.conversations import Conversations
from filoray.cluster.control.coordinator_dispatcher import CoordinatorDispatcher
from filoray.cluster.control.coordinator_effects import (
    AnswerValue,
    Call,
    CallResult,
    LaunchProcess,
    NodeProcess,
    Say,
    WatchProcess,
)
from filoray.cluster.control.coordinator_events import RequestId, Started, Ticked, ViewAsked
from filoray.cluster.errors import FilorayError, Unavailable
from filoray.cluster.node_protocol import NodeAnnouncement
from filoray.cluster.store.coordinator_store import remember
from filoray.cluster.store.meta_store import MetaStore


@dataclass
class Ledger:
    """A ``World``. ``done``: what it was told, by name; ``calls``: how each is to be ended."""

    store: MetaStore = field(default_factory=lambda: MetaStore("sqlite://"))
    now_ms: int = 0
    leads: bool = True
    done: list[str] = field(default_factory=list)
    calls: dict[Call, Callable[[CallResult], None]] = field(default_factory=dict)
    lines: list[Say] = field(default_factory=list)
    on_call: Callable[[Call], None] = lambda call: None

    def monotonic_ms(self) -> int:
        return self.now_ms

    def may_act(self) -> bool:
        return self.leads

    def calendar_ms(self) -> int:
        return self.now_ms

    def call(self, call: Call, ended: Callable[[CallResult], None], failed: Callable[[Exception], None]) -> None:
        self.done.append(type(call).__name__)
        self.calls[call] = ended
        self.on_call(call)

    def after(self, delay_ms: int, action: Callable[[], None]) -> None:
        self.done.append(f"after {delay_ms}")

    def answer(self, request: RequestId, value: AnswerValue) -> None:
        self.done.append(f"answer {request}")

    def refuse(self, request: RequestId, error: FilorayError) -> None:
        self.done.append(f"refuse {request}: {error}")

    def say(self, line: Say) -> None:
        self.lines.append(line)

    def retire(self) -> None:
        self.done.append("retire")

    def abort(self, problem: str) -> None:
        self.done.append(f"abort: {problem}")


@pytest.fixture
def world() -> Iterator[Ledger]:
    ledger = Ledger()
    yield ledger
    ledger.store.close()


def test_what_must_be_durable_is_so_before_the_next_effect(world: Ledger) -> None:
    seen: list[int] = []
    world.on_call = lambda call: seen.append(world.store.nodes()["node-0"].incarnation)
    CoordinatorDispatcher(default_server_config(), world).start()
    assert seen[0] == 1


def test_events_that_come_while_one_is_carried_out_wait(world: Ledger) -> None:
    dispatcher = CoordinatorDispatcher(default_server_config(), world)

    def ask(call: Call) -> None:
        if isinstance(call, LaunchProcess):
            dispatcher.take(ViewAsked(1))
            world.done.append("asked")

    world.on_call = ask
    dispatcher.take(Started())
    assert world.done.index("asked") < world.done.index("after 500") < world.done.index("answer 1")


def test_a_store_that_cannot_be_written_ends_the_process_before_anything_else_is_done(
    world: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    dispatcher = CoordinatorDispatcher(default_server_config(), world)

    def full(*_: object) -> None:
        raise Unavailable("disk full")

    monkeypatch.setattr(world.store, "put_incarnation", full)
    with pytest.raises(Unavailable, match="disk full"):
        dispatcher.start()
    assert world.done == ["abort: Unavailable: disk full"]
    dispatcher.take(ViewAsked(1))
    assert world.done == ["abort: Unavailable: disk full"], "it is over"


def test_a_coordinator_that_leads_no_more_does_nothing_but_end(world: Ledger) -> None:
    dispatcher = CoordinatorDispatcher(default_server_config(), world)
    world.leads = False
    dispatcher.start()
    assert world.done == ["abort: its lease has ended: another coordinator may lead"]
    world.leads = True
    dispatcher.take(Ticked())
    assert len(world.done) == 1, "it has ended for good"


def test_a_coordinator_that_loses_the_lead_while_it_persists_tells_nobody_what_it_decided(world: Ledger) -> None:
    put = world.store.put_incarnation

    def slow(node: str, incarnation: int) -> None:
        put(node, incarnation)
        world.leads = False

    world.store.put_incarnation = slow  # type: ignore[method-assign]
    CoordinatorDispatcher(default_server_config(), world).start()
    assert world.done == ["abort: its lease has ended: another coordinator may lead"]


def test_what_was_decided_before_an_error_that_nobody_expects_is_carried_out(
    world: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    dispatcher = CoordinatorDispatcher(default_server_config(), world)

    def fail(_: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(Conversations, "look", fail)
    with pytest.raises(ZeroDivisionError):
        dispatcher.start()
    assert world.store.nodes()["node-0"].incarnation == 1
    assert {"LaunchProcess", "after 500"} <= set(world.done), "and time goes on"


def test_the_end_of_a_call_is_an_event_with_the_calls_cause(world: Ledger) -> None:
    dispatcher = CoordinatorDispatcher(default_server_config(), world)
    dispatcher.start()
    launch = next(call for call in world.calls if isinstance(call, LaunchProcess))
    announcement = NodeAnnouncement(launch.node, launch.incarnation, NodeAddress("127.0.0.1", 1), 7, "here")
    world.calls[launch](NodeProcess(announcement, 2.5))
    watch = next(call for call in world.calls if isinstance(call, WatchProcess))
    assert watch.cause == launch.cause != ""
    assert remember(world.store).processes[launch.node].pid == 7


def test_time_in_which_the_coordinator_did_not_run_is_said_and_not_counted(world: Ledger) -> None:
    dispatcher = CoordinatorDispatcher(default_server_config(), world)
    dispatcher.start()
    world.now_ms += 60_000
    dispatcher.take(ViewAsked(1))
    assert [line.text % line.values for line in world.lines if "did not run" in line.text] == [
        "the coordinator itself did not run; no node's silence counts meanwhile ms=59000"
    ]
