"""Whose turn it is to flush: open shards one after the other, and those whose flush failed only after a while.

A part of the NodeCore. A shard that had a step done with more due goes to the end of the line, so that each gets
a step before any gets two; one that has none due keeps its place.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from filoray.cluster.control.node_effects import FlushTurn
from filoray.cluster.control.node_events import OpeningId, SlotKey


@dataclass(frozen=True, slots=True)
class _Place:
    """``from_ms``: not before that, after a flush that failed; ``delay_ms``: how long the next failure will count."""

    turn: FlushTurn
    delay_ms: int
    from_ms: int = 0


class FlushTurns:
    """``delay_ms``: after a first failure; it doubles up to ``delay_max_ms`` until a step goes well."""

    def __init__(self, delay_ms: int, delay_max_ms: int) -> None:
        self._delay_ms = delay_ms
        self._delay_max_ms = delay_max_ms
        self._line: dict[SlotKey, _Place] = {}
        self._delayed: set[SlotKey] = set()
        self._is_changed = False
        """Since ``news`` was last asked."""

    def add(self, key: SlotKey, opening: OpeningId) -> None:
        """At the end of the line, unless it is there already."""
        if key not in self._line:
            self._put(key, _Place(FlushTurn(key, opening), self._delay_ms))

    def remove(self, key: SlotKey) -> None:
        if self._line.pop(key, None) is not None:
            self._delayed.discard(key)
            self._is_changed = True

    def stepped(self, key: SlotKey, *, is_more_due: bool) -> None:
        turn = self._line[key].turn
        if turn.is_retry:
            self._put(key, _Place(replace(turn, is_retry=False), self._delay_ms))
        if is_more_due:
            keys = list(self._line)
            behind = keys.index(key) + 1
            self._line = {key: self._line[key] for key in (*keys[behind:], *keys[:behind])}
            self._is_changed = True

    def failed(self, key: SlotKey, now_ms: int) -> int:
        """For how many milliseconds it is passed over."""
        place = self._line[key]
        next_delay_ms = min(2 * place.delay_ms, self._delay_max_ms)
        self._put(key, _Place(replace(place.turn, is_retry=True), next_delay_ms, now_ms + place.delay_ms))
        self._delayed.add(key)
        return place.delay_ms

    def news(self, now_ms: int) -> tuple[FlushTurn, ...] | None:
        """The order in which they are to be looked at; None: as it was told last."""
        back = {key for key in self._delayed if self._line[key].from_ms <= now_ms}
        if not (self._is_changed or back):
            return None
        self._is_changed = False
        self._delayed -= back
        return tuple(place.turn for key, place in self._line.items() if key not in self._delayed)

    def delayed_until_ms(self) -> list[int]:
        """When those that are passed over will be in the line."""
        return [self._line[key].from_ms for key in self._delayed]

    def _put(self, key: SlotKey, place: _Place) -> None:
        self._line[key] = place
        self._delayed.discard(key)
        self._is_changed = True
