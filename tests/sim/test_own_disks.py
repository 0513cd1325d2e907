"""Machines with disks of their own, each with nodes that are there for good: one may be lost with all that it has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from filoray.cluster.control import copy_placement
from filoray.cluster.control.copy_spreading import machine_count
from filoray.cluster.control.machine_keeper import MachineKeeper
from filoray.cluster.control.shard_manager import ShardManager
from filoray.cluster.control.shard_status import StatusKind
from filoray.cluster.simulation.cluster import Replicas, SimulatedCluster
from filoray.cluster.simulation.faults import FaultRates
from filoray.cluster.simulation.history import HistoryFailed, HistoryShape, run_history

LEASE_MS = 3000
HEALING_MS = 60_000
NODES, MACHINES = 6, 3


def cluster(replicas: int = 2) -> SimulatedCluster:
    made = SimulatedCluster(1, NODES, FaultRates(lease_ms=LEASE_MS, has_own_disks=True), machine_count=MACHINES)
    made.advance(15_000)
    made.set_up_dataset("d", 16, 2, Replicas(replicas))
    made.advance(HEALING_MS)
    assert made.is_healthy(), made.ailment()
    return made


def holders(made: SimulatedCluster) -> list[tuple[str, ...]]:
    """Of each shard the nodes that have it in sync."""
    assert made.coordinator is not None
    _, shard_map = made.coordinator.core.manager.datasets["d"]
    return [entry.copies.in_sync for entry in shard_map.shards]


@pytest.mark.parametrize("replicas", [2, 3])
def test_a_machine_that_is_lost_with_its_disks_is_done_without_and_filled_again(replicas: int) -> None:
    """Checkers look at each read meanwhile: it has all that was acknowledged."""
    made = cluster(replicas)
    homes = dict(made.homes)
    assert sorted(homes.values()).count(homes["node-1"]) == NODES // MACHINES
    assert all(machine_count(nodes, homes) == replicas for nodes in holders(made))

    assert made.lose_machine_with_disks(1) == ""
    made.advance(HEALING_MS)
    assert set(made.statuses()["d"]) == {StatusKind.ACTIVE}
    lost = {node for node, home in homes.items() if home == homes["node-1"]}
    for nodes in holders(made):
        assert not lost & set(nodes)
        assert len(nodes) == replicas, "copies are made anew, on a machine that has one where there is no other"
        assert machine_count(nodes, homes) == min(replicas, MACHINES - 1)

    made.join_machine(1)
    made.advance(HEALING_MS)
    assert made.is_healthy(), made.ailment()
    assert made.homes == homes, "nobody was anywhere else"
    assert all(machine_count(nodes, homes) == replicas for nodes in holders(made))
    counts = [sum(node in nodes for nodes in holders(made)) for node in homes]
    assert max(counts) - min(counts) <= 1


def test_a_machine_that_is_away_for_a_while_comes_back_with_what_it_had() -> None:
    made = cluster()
    made.lose_machine(2)
    made.advance(HEALING_MS)
    assert set(made.statuses()["d"]) == {StatusKind.ACTIVE}
    made.delete_dataset("d")
    made.advance(HEALING_MS)
    made.join_machine(2)
    made.set_up_dataset("d", 16, 2, Replicas(2))
    made.advance(HEALING_MS)
    assert made.is_healthy(), made.ailment()


def test_a_node_whose_copies_alone_are_in_sync_is_not_scaled_away_while_it_is_not_there() -> None:
    made = cluster()
    made.lose_machine(1)
    while ("node-5",) not in holders(made):  # nobody has taken the other's place yet
        made.advance(50)
    made.lose_machine(2)
    made.advance(LEASE_MS)
    made.join_machine(1)
    made.advance(HEALING_MS)
    assert made.coordinator is not None
    assert ("node-5",) in holders(made)
    assert "node-5" not in made.coordinator.core.membership.members()
    made.scale(5)
    made.advance(5000)
    assert "node-5 is not there, so it cannot be emptied before it goes" in "".join(made.trace)
    assert "node-5" in made.coordinator.core.membership.slots
    made.join_machine(2)
    made.advance(HEALING_MS)
    assert made.is_healthy(), made.ailment()


def scale_away_with_its_machine(made: SimulatedCluster) -> None:
    """The last node, once others have taken its place."""
    made.lose_machine(2)
    made.advance(HEALING_MS)
    made.scale(5)
    made.advance(HEALING_MS)


def test_a_node_that_others_have_taken_the_place_of_can_go_though_its_machine_never_comes_back() -> None:
    made = cluster()
    scale_away_with_its_machine(made)
    assert made.coordinator is not None
    assert "node-5" not in made.coordinator.core.membership.slots
    assert set(made.statuses()["d"]) == {StatusKind.ACTIVE}


@pytest.mark.parametrize("dies", [False, True], ids=["", "the coordinator is another one meanwhile"])
def test_a_node_that_is_wanted_again_goes_to_a_machine_that_is_there(dies: bool) -> None:
    """Not to that of the former of its name, of which nothing is left."""
    made = cluster()
    lost = made.homes["node-5"]
    scale_away_with_its_machine(made)
    if dies:
        made.kill_coordinator()
        made.advance(HEALING_MS)
    made.scale(6)
    made.advance(HEALING_MS)
    assert made.homes["node-5"] != lost
    assert made.coordinator is not None
    assert "node-5" in made.coordinator.core.membership.members()
    made.join_machine(2)
    made.advance(HEALING_MS)
    assert made.homes["node-5"] != lost, "there it stays"
    assert made.is_healthy(), made.ailment()


def test_a_node_that_was_emptied_and_ended_has_no_home_any_more() -> None:
    made = cluster()
    made.scale(5)
    made.advance(HEALING_MS)
    made.lose_machine(2)
    made.advance(HEALING_MS)
    made.scale(6)
    made.advance(HEALING_MS)
    assert made.coordinator is not None
    assert "node-5" in made.coordinator.core.membership.members()


def machine_histories(check: Callable[[HistoryFailed], bool], seeds: int = 60) -> None:
    """Some of them fail so."""
    for seed in range(seeds):
        try:
            run_history(seed, shape=HistoryShape(num_replicas=2))
        except HistoryFailed as error:
            if error.cluster.has_own_disks and check(error):
                return
    pytest.fail(f"none of {seeds} histories has failed so")


def test_histories_lose_machines_with_their_disks() -> None:
    lost = 0
    for seed in range(20):
        made = run_history(seed, shape=HistoryShape(num_replicas=2))
        lost += made.checkers.machine_may_go.count + sum("with its machine" in line for line in made.trace)
    assert lost > 10


def test_the_checks_notice_copies_that_are_all_on_one_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("missing_copies", "next_copy_move", "surplus_copy"):
        blind = getattr(copy_placement, name)

        def without_machines(*arguments: Any, blind: Callable[..., object] = blind) -> object:
            return blind(*arguments[:-1])

        monkeypatch.setattr(copy_placement, name, without_machines)
    machine_histories(lambda error: "copies are on 1 machines" in error.problem or "no other copy" in error.problem)


def test_the_checks_notice_copies_of_deleted_data_sets_that_stay_where_a_node_was_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ShardManager, "_delete_left_copies", lambda manager: [])
    machine_histories(lambda error: "files are left" in error.problem)


def test_the_checks_notice_nodes_that_are_made_anew_on_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """One whose files are elsewhere opens none, or what was old when it returns."""
    monkeypatch.setattr(MachineKeeper, "_hold_who_is_away", lambda keeper: None)
    monkeypatch.setattr(
        MachineKeeper,
        "_seats_at_home",
        lambda keeper, homes: {
            int(node.rpartition("-")[2]): next(iter(keeper._machines.values())) for node in keeper._membership.slots
        },
    )
    machine_histories(lambda error: True)
