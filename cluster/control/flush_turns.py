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
        self._places: dict[SlotKey, _Place] = {}

    def add(self, key: SlotKey, opening: OpeningId) -> None:
        """At the end of the line, unless it is there already."""
        if key not in self._places:
            self._places[key] = _Place(FlushTurn(key, opening), self._delay_ms)

    def remove(self, key: SlotKey) -> None:
        self._places.pop(key, None)

    def stepped(self, key: SlotKey, *, is_more_due: bool) -> None:
        place = self._places[key]
        self._places[key] = _Place(replace(place.turn, is_retry=False), self._delay_ms)
        if is_more_due:
            line = list(self._places)
            behind = line.index(key) + 1
            self._places = {key: self._places[key] for key in (*line[behind:], *line[:behind])}

    def failed(self, key: SlotKey, now_ms: int) -> int:
        """For how many milliseconds it is passed over."""
        place = self._places[key]
        delay_max_ms = min(2 * place.delay_ms, self._delay_max_ms)
        self._places[key] = _Place(replace(place.turn, is_retry=True), delay_max_ms, now_ms + place.delay_ms)
        return place.delay_ms

    def turns(self, now_ms: int) -> tuple[FlushTurn, ...]:
        """In the order in which they are to be looked at."""
        return tuple(place.turn for place in self._places.values() if place.from_ms <= now_ms)

    def delayed_until_ms(self, now_ms: int) -> list[int]:
        """When those that are passed over will be in the line."""
        return [place.from_ms for place in self._places.values() if place.from_ms > now_ms]
