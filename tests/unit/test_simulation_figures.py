"""For how long nobody served a shard, how often it moved, and what many histories come to."""

from __future__ import annotations

from collections import Counter

import pytest

from filoray.cluster.control.shard_map import ShardEntry, ShardMap
from filoray.cluster.control.shard_status import OWNED, ShardStatus, StatusKind
from filoray.cluster.report.histogram import histogram
from filoray.cluster.simulation.faults import FaultRates
from filoray.cluster.simulation.shard_watch import ShardWatch
from filoray.cluster.simulation.simulated_actors import read_once
from filoray.cluster.simulation.simulated_config import simulated_config
from filoray.cluster.simulation.tally import Failure, GapFigures, HistoryResult, Spread, Tally
from filoray.cluster.simulation.world import SimulatedWorld
from filoray.command.simulate_words import in_time

KEY = ("d", 0)
TEXT = 'dataset = "d", num-shards = 1, min-num-nodes = 1, sourcefactory = "filoray.nodes.streams.LogStreamFactory"'
CONFIG = read_once(simulated_config(3, FaultRates()), "d", TEXT + ", sourceconfig {}")


class Desk:
    """One shard, watched."""

    def __init__(self) -> None:
        self.world = SimulatedWorld(1, FaultRates())
        self.watch = ShardWatch(self.world)
        self._map = ShardMap.initial("d", 1)

    def says(self, kind: StatusKind, epoch: int = 1) -> None:
        node = "node-0" if kind in OWNED else None
        self._map = self._map.with_entries([ShardEntry(0, ShardStatus(kind), node, epoch)])
        self.watch.look({"d": (CONFIG, self._map)})


def test_the_time_between_two_servers_is_counted() -> None:
    desk = Desk()
    desk.world.advance(700)  # before the first one there is nothing to miss
    desk.watch.began(KEY, ("node-0", 1))
    desk.world.advance(100)
    desk.watch.ended(KEY, ("node-0", 1))
    desk.world.advance(30)
    desk.watch.began(KEY, ("node-1", 1))
    desk.world.advance(5)
    desk.watch.ended(KEY, ("node-1", 1))
    desk.world.advance(2)
    assert desk.watch.gap_lengths_ms() == Counter({30: 1, 2: 1})


def test_a_shard_that_two_serve_is_not_without_one_of_them() -> None:
    desk = Desk()
    desk.watch.began(KEY, ("node-0", 1))
    desk.watch.began(KEY, ("node-1", 1))
    desk.watch.ended(KEY, ("node-0", 1))
    assert list(desk.watch.holders(KEY)) == [("node-1", 1)]
    desk.world.advance(10)
    assert desk.watch.gap_lengths_ms() == Counter()


def test_what_an_operator_stopped_is_not_missed() -> None:
    desk = Desk()
    desk.says(StatusKind.ASSIGNED)
    desk.watch.began(KEY, ("node-0", 1))
    desk.says(StatusKind.STOPPED)
    desk.watch.ended(KEY, ("node-0", 1))
    desk.world.advance(1000)
    desk.says(StatusKind.ASSIGNED, epoch=2)
    desk.world.advance(40)
    desk.watch.began(KEY, ("node-0", 1))
    assert desk.watch.gap_lengths_ms() == Counter({40: 1})


def test_nor_what_was_deleted() -> None:
    desk = Desk()
    desk.says(StatusKind.ASSIGNED)
    desk.watch.began(KEY, ("node-0", 1))
    desk.watch.look({})
    desk.watch.ended(KEY, ("node-0", 1))
    desk.world.advance(1000)
    assert desk.watch.gap_lengths_ms() == Counter()


def test_a_move_is_an_assignment_beyond_the_first() -> None:
    desk = Desk()
    desk.says(StatusKind.ASSIGNED, epoch=1)
    desk.says(StatusKind.ACTIVE, epoch=1)
    desk.says(StatusKind.DOWN, epoch=1)
    assert desk.watch.moves == 0
    desk.says(StatusKind.ASSIGNED, epoch=2)
    desk.says(StatusKind.ASSIGNED, epoch=3)
    assert desk.watch.moves == 2


def result(seed: int, gaps_ms: dict[int, int], failure: Failure | None = None) -> HistoryResult:
    spread = Spread(seed, seed + 1)
    return HistoryResult(seed, 1000, {"a": 2}, Counter(kill=1), ("lose",), Counter(gaps_ms), 3, spread, failure)


def test_many_histories_are_added_up() -> None:
    tally = Tally()
    for one in (result(1, {10: 2}), result(2, {400: 1}, Failure("b", "because")), result(3, {20: 1})):
        tally.add(one)
    assert (tally.histories, tally.lasted_ms, tally.moves, tally.worst_seed) == (3, 3000, 9, 2)
    assert (dict(tally.checks), tally.broken) == ({"a": 6, "b": 0}, {"b": [2]})
    assert (tally.faults["kill"], tally.troubles["lose"], tally.spread) == (3, 3, Spread(1, 4))
    assert tally.gaps == GapFigures(count=4, median_ms=10, p99_ms=400, max_ms=400, total_ms=440)


def test_nothing_has_no_figures() -> None:
    assert Tally().gaps == GapFigures(0, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.25, "0.2 s"), (59.9, "59.9 s"), (61, "1 min 1 s"), (3661, "1 h 1 min"), (180_000, "2 d 2 h")],
)
def test_times_are_told_in_their_largest_units(seconds: float, words: str) -> None:
    assert in_time(seconds) == words


def test_a_histogram_has_a_column_for_each_step_between_the_shortest_and_the_longest() -> None:
    drawn = histogram(Counter({3: 5, 80: 1_000})).markup
    assert "&lt; 10 ms: 5<" in drawn
    assert "&lt; 50 ms: 0<" in drawn
    assert "&lt; 100 ms: 1,000<" in drawn
    assert "200 ms" not in drawn
