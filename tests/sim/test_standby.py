"""Two coordinators, one of which may lead: whatever is killed, hung and cut off, never do both act."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from filoray.cluster.control.leadership import LeaderRow, Leadership, Role
from filoray.cluster.simulation.cluster import SimulatedCluster
from filoray.cluster.simulation.faults import FaultRates
from filoray.cluster.simulation.history import HistoryShape, run_history

SHAPE = HistoryShape(has_standby=True)
TWO_ACT = "does .* while .* leads"


def test_what_failed_for_a_coordinator_that_wakes_up_its_successor_may_do_at_once() -> None:
    assert run_history(7400371, shape=HistoryShape(num_replicas=2, has_standby=True)).acknowledged_count > 0


@pytest.mark.parametrize("seed", range(25))
def test_no_history_with_a_standby_has_two_that_act(seed: int) -> None:
    run_history(seed, shape=SHAPE)


@pytest.mark.parametrize(
    ("from_store", "from_nodes"), [(True, True), (True, False)], ids=["from everything", "from its store only"]
)
def test_a_leader_that_is_cut_off_is_followed_by_the_other(from_store: bool, from_nodes: bool) -> None:
    cluster = SimulatedCluster(1, 3, FaultRates(lease_ms=5000), has_standby=True)
    cluster.advance(15_000)
    cluster.set_up_dataset("d", 4, 2)
    cluster.advance(10_000)
    assert cluster.is_healthy(), cluster.ailment()
    former = cluster.coordinator
    cluster.cut_coordinator(from_store=from_store, from_nodes=from_nodes)
    cluster.advance(8000)
    assert cluster.coordinator is not former
    cluster.advance(30_000)
    assert cluster.is_healthy(), cluster.ailment()
    cluster.mend_coordinators()
    cluster.advance(30_000)
    assert former is not None
    assert former.is_over
    assert cluster.is_healthy(), cluster.ailment()


def a_leader_that_does_not_look_at_its_clock(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Leadership, "may_act", lambda self, now_ms: self._role is Role.LEADING)


def a_standby_that_waits_half_a_lease(patch: pytest.MonkeyPatch) -> None:
    saw = Leadership.saw

    def too_early(self: Leadership, row: LeaderRow, now_ms: int) -> LeaderRow | None:
        self._lease_ms, lease_ms = self._lease_ms // 2, self._lease_ms
        try:
            return saw(self, row, now_ms)
        finally:
            self._lease_ms = lease_ms

    patch.setattr(Leadership, "saw", too_early)


def a_late_answer_that_revives_a_lapsed_lease(patch: pytest.MonkeyPatch) -> None:
    def revived(self: Leadership, asked_ms: int, now_ms: int, *, is_ours: bool) -> None:
        self._role = Role.LEADING if is_ours else Role.OVER
        self._until_ms = now_ms + self._lease_ms

    patch.setattr(Leadership, "renewed", revived)


@pytest.mark.parametrize(
    ("bug", "seeds"),
    [
        (a_leader_that_does_not_look_at_its_clock, range(20)),
        (a_standby_that_waits_half_a_lease, range(40)),
        (a_late_answer_that_revives_a_lapsed_lease, range(90, 140)),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_the_simulator_finds(
    bug: Callable[[pytest.MonkeyPatch], None], seeds: range, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``seeds``: some of those in which it is found are among them."""
    bug(monkeypatch)
    for seed in seeds:
        try:
            run_history(seed, shape=SHAPE)
        except AssertionError as error:
            if re.search(TWO_ACT, str(error).partition("\n")[0]):
                print(f"found in seed {seed}")
                return
    pytest.fail(f"not found in seeds {seeds}")
