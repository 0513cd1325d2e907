"""Requests that are answered later: each a generator that says what it waits for, stepped by the CoordinatorCore.

    def steps() -> Steps:
        do_something()
        yield Until(lambda: it_is_done, timeout_ms=2000)
        return what to answer            or raise the FilorayError to refuse with

Pure: waiting is an entry here and a reminder among the effects, nothing sleeps.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass

from filoray.cluster.control.coordinator_effects import Answer, AnswerValue, Refuse
from filoray.cluster.control.coordinator_events import PatienceEnded, RequestId
from filoray.cluster.control.turn import Turn
from filoray.cluster.errors import FilorayError, Unavailable

NOBODY: RequestId = 0
"""Asks for what the coordinator does by itself, and hears no answer."""


@dataclass(frozen=True, slots=True)
class Until:
    """Go on when ``condition`` holds, at the latest after ``timeout_ms``; None: whenever it does."""

    condition: Callable[[], bool]
    timeout_ms: int | None = None


Steps = Generator[Until, None, AnswerValue]


@dataclass(slots=True)
class _Conversation:
    """``wait``: the number of the thing it waits for now."""

    steps: Steps
    condition: Callable[[], bool]
    wait: int


class Conversations:
    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self._waiting: dict[RequestId, _Conversation] = {}

    def begin(self, request: RequestId, steps: Steps) -> None:
        """Take the first steps of ``steps``, and more as soon as they can be taken."""
        assert request not in self._waiting, f"request {request} was used before"
        self._go_on(request, steps, 0)

    def look(self) -> None:
        """Let all go on that have what they wait for. One's steps may be what another waits for."""
        while ready := [request for request, one in self._waiting.items() if one.condition()]:
            for request in ready:
                conversation = self._waiting.pop(request, None)
                if conversation is not None:
                    self._go_on(request, conversation.steps, conversation.wait)

    def end_patience(self, event: PatienceEnded) -> None:
        conversation = self._waiting.get(event.request)
        if conversation is not None and conversation.wait == event.wait:
            del self._waiting[event.request]
            self._go_on(event.request, conversation.steps, conversation.wait)

    def refuse_all(self, why: str) -> None:
        """Nobody is left who would go on with what is asked."""
        for request, conversation in self._waiting.items():
            conversation.steps.close()
            self._refuse(request, Unavailable(why))
        self._waiting.clear()

    def _go_on(self, request: RequestId, steps: Steps, wait: int) -> None:
        try:
            until = next(steps)
            while until.condition():
                until = next(steps)
        except StopIteration as end:
            if request != NOBODY:
                self._turn.emit(Answer(request, end.value, cause=self._turn.cause))
        except FilorayError as error:
            self._refuse(request, error)
        except Exception as error:  # a programmer's; what is going on now is seldom the request's own affair
            self._refuse(request, FilorayError(f"{type(error).__name__}: {error}"))
            raise
        else:
            self._waiting[request] = _Conversation(steps, until.condition, wait + 1)
            if until.timeout_ms is not None:
                self._turn.remind(until.timeout_ms, PatienceEnded(request, wait + 1, cause=self._turn.cause))

    def _refuse(self, request: RequestId, error: FilorayError) -> None:
        if request != NOBODY:
            self._turn.emit(Refuse(request, error, cause=self._turn.cause))
