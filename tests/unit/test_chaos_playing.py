"""Playing a scenario: what is repeated, what is made up for, what ends it."""

from __future__ import annotations

from filoray.cluster.chaos.actions import Deed, Drain, Undrain
from filoray.cluster.chaos.driver import NodeShards
from filoray.cluster.chaos.injector import DrawnFault
from filoray.cluster.chaos.language import parse_scenario
from filoray.cluster.chaos.playing import Player, Record, is_even
from filoray.cluster.control.shard_status import StatusKind


class Cluster:
    """Does nothing, in no time, and says so. ``refusals``: how often orders are refused at first."""

    poll_ms = 1

    def __init__(self, refusals: int = 0) -> None:
        self.done: list[tuple[int, Deed]] = []
        self._now_ms = 0
        self._refusals = refusals

    def now_ms(self) -> int:
        return self._now_ms

    def advance(self, duration_ms: int) -> None:
        self._now_ms += duration_ms

    def perform(self, deed: Deed) -> str:
        if isinstance(deed, Undrain) and self._refusals:
            self._refusals -= 1
            return "nobody is there"
        self.done.append((self._now_ms, deed))
        return ""

    def statuses(self) -> dict[str, list[StatusKind]]:
        return {}

    def passed(self, dataset: str, shard: int) -> set[StatusKind]:
        return set()

    def members(self) -> frozenset[int]:
        return frozenset((0,))

    def nodes(self) -> list[NodeShards]:
        return []

    def lacking_copies(self) -> list[str] | None:
        return []

    def is_restarting(self) -> bool:
        return False

    def read_everything(self) -> str:
        return ""


class Drains:
    def draw(self, lasting_ms_max: int) -> DrawnFault:
        return DrawnFault("drain node 0", Drain(0), "undrain node 0", Undrain(0), lasting_ms_max // 2)


def play(text: str, cluster: Cluster) -> tuple[object, Record]:
    record = Record()
    return Player(parse_scenario("nodes 1\n" + text), cluster, record, Drains()).play(), record  # type: ignore[arg-type]


def test_what_is_repeated_comes_at_its_times() -> None:
    cluster = Cluster()
    play("wait 1s\nevery 2s for 6s: drain node 0\nundrain node 0", cluster)
    assert cluster.done == [(1000, Drain(0)), (3000, Drain(0)), (5000, Drain(0)), (7000, Undrain(0))]


def test_a_random_fault_is_remedied_before_the_next() -> None:
    cluster = Cluster()
    play("every 2s for 4s: random fault", cluster)
    assert cluster.done == [(0, Drain(0)), (1000, Undrain(0)), (2000, Drain(0)), (3000, Undrain(0))]


def test_a_remedy_that_nobody_took_is_made_up_for() -> None:
    cluster = Cluster(refusals=2)
    play("every 2s for 2s: random fault\nwait 1s", cluster)
    assert cluster.done == [(0, Drain(0)), (3000, Undrain(0))]


def test_the_first_expectation_that_does_not_come_true_ends_it() -> None:
    cluster = Cluster()
    failure, record = play("expect node 0 up within 1s\nexpect node 0 away within 1s\ndrain node 0", cluster)
    assert str(failure) == "line 3: expect node 0 away within 1s: members are 0"
    assert cluster.done == []
    assert [(mark.text, mark.is_failure) for mark in record.timeline.marks] == [
        ("expect node 0 up within 1s", False),
        ("expect node 0 away within 1s", True),
    ]


def test_an_even_spread_is_one_of_each_data_set_over_nodes_that_may_have_shards() -> None:
    def nodes(*counts: int, drained: int = 0) -> list[NodeShards]:
        return [NodeShards(0, True, {"a": drained})] + [NodeShards(1, False, {"a": count}) for count in counts]

    assert is_even(nodes(2, 3, 3))
    assert not is_even(nodes(1, 3, 3))
    assert not is_even(nodes(3, 3, drained=1)), "a drained node has some left"
    assert not is_even(nodes()), "there is nobody who may have shards"
