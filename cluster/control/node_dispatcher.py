"""Carries out what the NodeCore says, over a ``NodeWorld``: written once, for the real world and the simulated one.

One event at a time: those that come while the effects of one are being carried out wait in order. An effect that takes
time is only begun; what becomes of it is an event again, as ``node_effects.py`` says.
"""

from __future__ import annotations

import logging
from typing import Protocol

from filoray.cluster.control.node_core import NodeCore
from filoray.cluster.control.node_effects import (
    AbandonOpening,
    AnswerRequest,
    CloseShard,
    DeleteFiles,
    EndOpening,
    FlushInTurn,
    FlushTurn,
    NodeEffect,
    Note,
    OpenShard,
    PromoteShard,
    Report,
    ServeShard,
    TellCopies,
    WakeAt,
)
from filoray.cluster.control.node_events import (
    FilesDeleted,
    NodeEvent,
    OpeningFailed,
    OpeningId,
    Order,
    RequestId,
    StoreDoubted,
)
from filoray.cluster.control.one_at_a_time import OneAtATime

logger = logging.getLogger(__name__)


class NodeWorld(Protocol):
    """What a node's process can do, in small primitives that decide nothing and return at once."""

    def now_ms(self) -> int:
        """Of a clock that never jumps."""

    def open_shard(self, order: OpenShard) -> None: ...
    def promote_shard(self, order: PromoteShard) -> None: ...
    def tell_copies(self, copies: TellCopies) -> None: ...
    def abandon_opening(self, opening: OpeningId) -> None: ...
    def end_opening(self, opening: OpeningId) -> None: ...
    def serve_shard(self, opening: OpeningId) -> None: ...
    def close_shard(self, opening: OpeningId) -> None: ...
    def delete_files(self, deletion: DeleteFiles) -> None: ...
    def flush_in_turn(self, turns: tuple[FlushTurn, ...]) -> None: ...
    def report(self, report: Report) -> None: ...
    def answer(self, request: RequestId, problem: str) -> None: ...
    def wake_at(self, at_ms: int) -> None: ...
    def note(self, note: Note) -> None: ...


class NodeDispatcher:
    """Any thread may use it. An effect that fails is told in the log and keeps no other from being carried out.

    One that needs a thread to begin and got none ends in the event that tells of its failure.
    """

    def __init__(self, core: NodeCore, world: NodeWorld) -> None:
        self._core = core
        self._world = world
        self._events = OneAtATime(self._handle)

    def take(self, event: NodeEvent) -> None:
        """Returns when all that it calls for is done or begun; from inside an effect, at once."""
        self._events.take(event)

    def _handle(self, event: NodeEvent) -> None:
        try:
            effects = self._core.handle(event, self._world.now_ms())
        except Exception as error:
            logger.exception("what happened does not fit the state of the node: %s", event)
            if isinstance(event, Order):  # a node's orders wait for each other
                self._world.answer(event.request, _reason(error))
            return
        for effect in effects:
            try:
                self._carry_out(effect)
            except Exception as error:
                logger.exception("not carried out: %s", effect)
                if (failure := failure_of(effect, error)) is not None:
                    self._events.take(failure)

    def _carry_out(self, effect: NodeEffect) -> None:
        world = self._world
        match effect:
            case OpenShard():
                world.open_shard(effect)
            case PromoteShard():
                world.promote_shard(effect)
            case TellCopies():
                world.tell_copies(effect)
            case AbandonOpening(_, opening):
                world.abandon_opening(opening)
            case EndOpening(_, opening):
                world.end_opening(opening)
            case ServeShard(_, opening):
                world.serve_shard(opening)
            case CloseShard(_, opening):
                world.close_shard(opening)
            case DeleteFiles():
                world.delete_files(effect)
            case FlushInTurn(turns):
                world.flush_in_turn(turns)
            case Report():
                world.report(effect)
            case AnswerRequest(request, problem):
                world.answer(request, problem)
            case WakeAt(at_ms):
                world.wake_at(at_ms)
            case Note():
                world.note(effect)


def failure_of(effect: NodeEffect, error: Exception) -> NodeEvent | None:
    """What has happened when ``effect`` could not even be begun; None: no event can say so."""
    reason = _reason(error)
    match effect:
        case OpenShard(opening=opening) | PromoteShard(opening=opening):
            return OpeningFailed(effect.key, opening, reason)
        case ServeShard(key, opening) | TellCopies(key, opening):  # what feeds it may not run: it is opened anew
            return StoreDoubted(key, opening, reason)
        case DeleteFiles(request):
            return FilesDeleted(request, reason)
        case _:
            return None


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
