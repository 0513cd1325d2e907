"""Simulated clusters that become even again, are drained and restarted node by node, whoever dies meanwhile."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from filoray.cluster.control.coordinator_core import CoordinatorCore
from filoray.cluster.control.copy_index import nodes_of
from filoray.cluster.simulation.cluster import Replicas, SimulatedCluster

SHARDS = 8


@pytest.fixture
def cluster() -> SimulatedCluster:
    """Three nodes with eight shards, evenly spread."""
    cluster = SimulatedCluster(7, 3)
    cluster.advance(6000)
    cluster.set_up_dataset("alpha", SHARDS, 2)
    until(cluster, lambda: cluster.is_healthy() and bool(cluster.statuses()), 60_000)
    assert counts(cluster) == [3, 3, 2]
    return cluster


def until(cluster: SimulatedCluster, condition: Callable[[], bool], timeout_ms: int) -> None:
    deadline_ms = cluster.now_ms + timeout_ms
    while not condition():
        assert cluster.now_ms < deadline_ms, f"not within {timeout_ms} ms: {cluster.ailment()}\n{cluster.trace[-20:]}"
        cluster.advance(50)


def counts(cluster: SimulatedCluster) -> list[int]:
    """Shards by node."""
    nodes = [node for node, _ in cluster.owners().values()]
    return [nodes.count(f"node-{index}") for index in range(cluster.node_count)]


def moves(before: dict[tuple[str, int], tuple[str | None, int]], after: SimulatedCluster) -> int:
    return sum(after.owners()[key][1] - epoch for key, (_, epoch) in before.items())


def test_a_node_that_returns_gets_its_part_of_the_shards_again(cluster: SimulatedCluster) -> None:
    before = cluster.owners()
    cluster.kill_node(0)
    until(cluster, lambda: counts(cluster)[0] == 0 and sum(counts(cluster)) == SHARDS, 5000)
    until(cluster, cluster.is_healthy, 30_000)
    assert sorted(counts(cluster)) == [2, 3, 3]
    assert moves(before, cluster) == 3 + counts(cluster)[0], "none moves that need not"


def test_a_drained_node_is_empty_and_stays_so_when_another_dies(cluster: SimulatedCluster) -> None:
    cluster.drain_node(1)
    until(cluster, lambda: counts(cluster) == [4, 0, 4] and cluster.is_healthy(), 10_000)
    cluster.kill_node(0)
    until(cluster, lambda: cluster.is_healthy() and counts(cluster) == [4, 0, 4], 30_000)
    cluster.undrain_node(1)
    until(cluster, lambda: sorted(counts(cluster)) == [2, 3, 3] and cluster.is_healthy(), 30_000)


def test_what_an_operator_moves_stays_until_nodes_come_or_go(cluster: SimulatedCluster) -> None:
    shard = next(shard for (_, shard), (node, _) in cluster.owners().items() if node == "node-2")
    cluster.move_shard("alpha", shard, 0)
    until(cluster, lambda: counts(cluster) == [4, 3, 1] and cluster.is_healthy(), 5000)
    cluster.advance(30_000)
    assert counts(cluster) == [4, 3, 1]
    cluster.kill_node(1)
    until(cluster, lambda: cluster.is_healthy() and sorted(counts(cluster)) == [2, 3, 3], 30_000)


def test_a_node_that_cannot_be_emptied_is_not_drained(cluster: SimulatedCluster) -> None:
    cluster.drain_node(0)
    cluster.advance(5000)
    cluster.drain_node(1)
    cluster.advance(5000)
    assert "node-1 cannot be drained: 4 shards of dataset alpha would have to go" in "".join(cluster.trace)
    assert counts(cluster) == [0, 4, 4]


@pytest.mark.parametrize("dies", ["nobody", "the coordinator, often", "a node that was refilled"])
def test_a_rolling_restart_replaces_every_process(cluster: SimulatedCluster, dies: str) -> None:
    assert cluster.coordinator is not None
    before = {node: slot.incarnation for node, slot in cluster.coordinator.core.membership.slots.items()}
    cluster.restart_rolling()
    if dies == "the coordinator, often":
        for _ in range(8):
            cluster.advance(1700)
            cluster.kill_coordinator()
            cluster.advance(1700)
    elif dies == "a node that was refilled":
        until(cluster, lambda: counts(cluster)[1] == 0, 60_000)
        cluster.kill_node(0)

    def is_over() -> bool:
        return cluster.coordinator is not None and not cluster.coordinator.core.restart.left and cluster.is_healthy()

    until(cluster, is_over, 120_000)
    slots = cluster.coordinator.core.membership.slots
    assert all(slots[node].incarnation > incarnation for node, incarnation in before.items())
    assert sorted(counts(cluster)) == [2, 3, 3]
    assert not cluster.coordinator.core.manager.drained


def test_a_coordinator_that_begins_while_a_node_is_replaced_leaves_its_copies_where_they_are() -> None:
    cluster = with_copies()
    before, replaced = holders(cluster), set[str]()
    cluster.restart_rolling()
    cluster.advance(1000)
    while not cluster.is_healthy() or core_of(cluster).restart.left:
        core = core_of(cluster)
        node, incarnation = core.restart.left[0] if core.restart.left else ("", 0)
        if node in core.manager.drained - replaced and core.membership.slots[node].incarnation > incarnation:
            replaced.add(node)
            cluster.kill_coordinator()
        assert all(len(nodes) <= 2 for nodes in holders(cluster)), "as one is there that will be back"
        cluster.advance(50)
    assert len(replaced) == 4
    assert holders(cluster) == before


@pytest.mark.parametrize("dies", ["nobody", "the coordinator"])
def test_a_node_that_is_to_go_while_it_is_its_turn_in_a_rolling_restart_hands_on_its_copies(dies: str) -> None:
    cluster = with_copies()
    cluster.restart_rolling()
    until(cluster, lambda: "node-3" in core_of(cluster).manager.drained, 120_000)
    cluster.scale(3)
    if dies == "the coordinator":
        until(cluster, lambda: bool(core_of(cluster).scaling.surplus), 5000)
        cluster.kill_coordinator()
    while 3 in cluster.members():
        others = [nodes - {"node-3"} for nodes in holders(cluster)]
        cluster.advance(50)
    assert all(len(nodes) == 2 for nodes in others)
    until(cluster, lambda: not core_of(cluster).restart.left, 5000)


def test_nodes_are_removed_and_added_while_the_cluster_runs(cluster: SimulatedCluster) -> None:
    cluster.scale(2)
    until(cluster, lambda: cluster.members() == {0, 1} and counts(cluster) == [4, 4, 0], 30_000)
    cluster.kill_coordinator()
    cluster.advance(5000)
    assert cluster.members() == {0, 1}, "how many there are to be is not forgotten"
    cluster.scale(3)
    until(cluster, lambda: cluster.is_healthy() and sorted(counts(cluster)) == [2, 3, 3], 30_000)


def test_a_cluster_does_not_become_smaller_than_its_shards_allow(cluster: SimulatedCluster) -> None:
    cluster.scale(1)
    cluster.advance(20_000)
    assert "cannot be drained" in "".join(cluster.trace)
    assert cluster.is_healthy()
    assert counts(cluster) == [3, 3, 2]


@pytest.mark.parametrize("meanwhile", ["it is still being emptied", "its process is just ending"])
def test_a_node_that_was_to_go_and_is_wanted_again_has_shards_again(cluster: SimulatedCluster, meanwhile: str) -> None:
    cluster.scale(2)
    if meanwhile == "its process is just ending":
        until(cluster, lambda: cluster.members() == {0, 1}, 30_000)
    else:
        until(cluster, lambda: "node-2" in drained(cluster), 5000)
    cluster.scale(3)
    until(cluster, lambda: cluster.is_healthy() and sorted(counts(cluster)) == [2, 3, 3], 30_000)
    assert not drained(cluster)


def test_a_rolling_restart_leaves_out_a_node_that_somebody_drained() -> None:
    cluster = SimulatedCluster(7, 3)
    cluster.advance(6000)
    cluster.set_up_dataset("alpha", SHARDS, 1)
    until(cluster, lambda: cluster.is_healthy() and sorted(counts(cluster)) == [2, 3, 3], 30_000)
    cluster.drain_node(1)
    until(cluster, lambda: counts(cluster) == [4, 0, 4] and cluster.is_healthy(), 10_000)
    cluster.restart_rolling()
    until(cluster, lambda: incarnations(cluster) == [2, 1, 2], 60_000)
    until(cluster, lambda: counts(cluster) == [4, 0, 4] and cluster.is_healthy(), 30_000)
    assert drained(cluster) == {"node-1"}


def incarnations(cluster: SimulatedCluster) -> list[int]:
    assert cluster.coordinator is not None
    return [slot.incarnation for slot in cluster.coordinator.core.membership.slots.values()]


def drained(cluster: SimulatedCluster) -> frozenset[str]:
    assert cluster.coordinator is not None
    return cluster.coordinator.core.manager.drained


def with_copies() -> SimulatedCluster:
    """Four nodes and eight shards with two copies each, all in sync."""
    cluster = SimulatedCluster(7, 4)
    cluster.advance(6000)
    cluster.set_up_dataset("alpha", SHARDS, 2, Replicas(2))
    cluster.advance(30_000)
    assert cluster.is_healthy()
    assert all(len(nodes) == 2 for nodes in holders(cluster))
    return cluster


def holders(cluster: SimulatedCluster) -> list[set[str]]:
    """Of each shard the nodes that have it, or are to have it."""
    _, shard_map = core_of(cluster).manager.datasets["alpha"]
    return [set(nodes_of(entry)) for entry in shard_map.shards]


def core_of(cluster: SimulatedCluster) -> CoordinatorCore:
    """Of the present coordinator, or of the next one."""
    until(cluster, lambda: cluster.coordinator is not None, 10_000)
    assert cluster.coordinator is not None
    return cluster.coordinator.core
