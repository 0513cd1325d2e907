"""Nodes on machines that are lost and come back: in the end all are even again, each gateway beside its node."""

from __future__ import annotations

import random

import pytest

from filoray.cluster.control.machine_keeper import MachineKeeper
from filoray.cluster.control.machine_placement import Machine
from filoray.cluster.simulation.cluster import SimulatedCluster
from filoray.cluster.simulation.faults import FaultRates

LEASE_MS = 3000
HEALING_MS = 90_000


def cluster(seed: int, nodes: int = 4, machines: int = 3) -> SimulatedCluster:
    made = SimulatedCluster(seed, nodes, FaultRates(lease_ms=LEASE_MS), machine_count=machines)
    made.advance(15_000)
    made.set_up_dataset("d", 8, 2)
    made.advance(10_000)
    assert made.is_healthy(), made.ailment()
    return made


def lived_through(seed: int) -> SimulatedCluster:
    """Machines, nodes and coordinators come and go; one machine is always there. Then all are, for a while."""
    made, dice = cluster(seed), random.Random(seed)
    lost: set[int] = set()
    for _ in range(12):
        index = dice.randrange(3)
        if index in lost:
            made.join_machine(index)
            lost.discard(index)
        elif len(lost) < 2:
            made.lose_machine(index)
            lost.add(index)
        if dice.random() < 0.3:
            made.kill_coordinator()
        if dice.random() < 0.3:
            made.kill_node(dice.randrange(4))
        made.advance(dice.randrange(100, 20_000))
    for index in lost:
        made.join_machine(index)
    made.advance(HEALING_MS)
    return made


@pytest.mark.parametrize("seed", range(20))
def test_after_any_losses_nodes_are_even_again(seed: int) -> None:
    made = lived_through(seed)
    assert made.is_healthy(), made.ailment()


def test_a_machine_that_is_there_again_gets_its_nodes_back_and_then_nothing_moves() -> None:
    made = cluster(1)
    made.lose_machine(1)
    made.advance(HEALING_MS)
    assert made.is_healthy(), made.ailment()
    made.join_machine(1)
    made.advance(HEALING_MS)
    assert made.is_healthy(), made.ailment()
    quiet = len(made.trace)
    made.advance(HEALING_MS)
    moves = [line for line in made.trace[quiet:] if "node lost" in str(line)]
    assert moves == []


def test_the_checks_notice_nodes_that_stay_where_they_fled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MachineKeeper, "_even_out", lambda self: None)
    assert any(not lived_through(seed).is_healthy() for seed in range(20))


def test_the_checks_notice_gateways_that_do_not_follow_their_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MachineKeeper, "_place_gateway", lambda self, index: None)
    made = cluster(1)
    made.lose_machine(1)
    made.advance(HEALING_MS)
    made._machines.gateways = {"gateway-1": Machine("ray-2").id}
    assert "gateways" in made.ailment()


def test_nodes_that_come_and_go_are_even_too() -> None:
    made = cluster(1, nodes=5, machines=2)
    for count in (3, 5, 2):
        made.scale(count)
        made.advance(HEALING_MS)
        assert_even(made, count)
        made.lose_machine(1)
        made.advance(HEALING_MS)
        made.join_machine(1)
        made.advance(HEALING_MS)
        assert_even(made, count)


def assert_even(made: SimulatedCluster, count: int) -> None:
    assert made.coordinator is not None
    members = made.coordinator.core.membership.members()
    assert len(members) == count
    assert made._machines.uneven({node: one.ray_node_id for node, one in members.items()}) == ""
