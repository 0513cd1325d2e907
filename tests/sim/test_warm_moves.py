"""Simulated shards that move while they are served: to a node that follows them first, whoever dies meanwhile."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from filoray.cluster.simulation.cluster import Replicas, SimulatedCluster
from filoray.cluster.simulation.faults import FaultRates
from filoray.cluster.simulation.node_copies import NodeCopies

SHARDS = 8
SWITCH_MS_MAX = 100
DATABASE = FaultRates(lease_ms=8000)


def cluster_of(seed: int, copies: int = 1, rates: FaultRates | None = None) -> SimulatedCluster:
    """Three nodes with eight shards, evenly spread, that are written to and read."""
    cluster = SimulatedCluster(seed, 3, rates)
    cluster.advance(6000)
    cluster.set_up_dataset("alpha", SHARDS, 2, Replicas(copies))
    until(cluster, lambda: cluster.is_healthy() and bool(cluster.statuses()))
    cluster.advance(2000)
    return cluster


def until(cluster: SimulatedCluster, condition: Callable[[], bool], timeout_ms: int = 120_000) -> None:
    deadline_ms = cluster.now_ms + timeout_ms
    while not condition():
        assert cluster.now_ms < deadline_ms, f"not within {timeout_ms} ms: {cluster.ailment()}\n{cluster.trace[-20:]}"
        cluster.advance(50)


def gaps_ms(cluster: SimulatedCluster) -> list[int]:
    """For how long nobody served a shard, each time."""
    return sorted(cluster.watch.gap_lengths_ms().elements())


def owners(cluster: SimulatedCluster) -> list[str | None]:
    return [node for node, _ in cluster.owners().values()]


def move(cluster: SimulatedCluster) -> None:
    before = owners(cluster)
    target = next(index for index in (0, 1, 2) if f"node-{index}" != before[0])
    cluster.move_shard("alpha", 0, target)
    until(cluster, lambda: owners(cluster)[0] == f"node-{target}" and cluster.is_healthy())


def drain(cluster: SimulatedCluster) -> None:
    cluster.drain_node(1)
    until(cluster, lambda: "node-1" not in owners(cluster) and cluster.is_healthy())


def restart(cluster: SimulatedCluster) -> None:
    cluster.restart_rolling()
    cluster.advance(1000)
    until(cluster, cluster.is_healthy)
    assert cluster.coordinator is not None
    assert all(slot.incarnation == 2 for slot in cluster.coordinator.core.membership.slots.values())


def scale(cluster: SimulatedCluster) -> None:
    cluster.scale(2)
    until(cluster, lambda: len(cluster.members()) == 2)
    cluster.scale(3)
    until(cluster, lambda: cluster.is_healthy() and len(set(owners(cluster))) == 3)


MOVES = (move, drain, restart, scale)
STORES = {"in files": (1, None), "in a database": (1, DATABASE), "in a database, followed": (2, DATABASE)}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("moves", MOVES, ids=lambda moves: moves.__name__)
def test_nobody_waits_for_a_shard_that_moves(moves: Callable[[SimulatedCluster], None], store: str, seed: int) -> None:
    cluster = cluster_of(seed, *STORES[store])
    warm, taken = cluster.checkers.warm.count, cluster.watch.moves
    moves(cluster)
    assert cluster.watch.moves > taken
    assert cluster.checkers.warm.count - warm == cluster.watch.moves - taken, "nothing was recovered"
    assert max(gaps_ms(cluster)) <= SWITCH_MS_MAX


def test_a_killed_owners_shards_are_taken_over_from_memory() -> None:
    cluster = cluster_of(7, 2, DATABASE)
    lost = owners(cluster).count("node-0")
    promoted = cluster.checkers.warm.count
    cluster.kill_node(0)
    until(cluster, lambda: "node-0" not in owners(cluster))
    cluster.advance(1000)
    assert lost
    assert cluster.checkers.warm.count - promoted == lost, "none was recovered"
    until(cluster, cluster.is_healthy)
    assert len(set(owners(cluster))) == 3


def test_a_node_that_cannot_follow_gets_the_shard_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its move takes longer, and the others are not kept from going on."""
    cluster = cluster_of(7)
    begin = NodeCopies.begin

    def refuse(copies: NodeCopies, origin, reply) -> None:  # type: ignore[no-untyped-def]
        if copies.process[0] == "node-2":
            reply("it has no memory left")
        else:
            begin(copies, origin, reply)

    monkeypatch.setattr(NodeCopies, "begin", refuse)
    drain(cluster)
    taken = len(gaps_ms(cluster))
    assert 0 < cluster.checkers.warm.count < taken
    assert sum("has not caught up within" in text for text in story(cluster)) == taken - cluster.checkers.warm.count


def story(cluster: SimulatedCluster) -> list[str]:
    """Of all shards."""
    assert cluster.coordinator is not None
    core = cluster.coordinator.core
    return [line.text for shard in range(SHARDS) for line in core.story("alpha", shard)]


WHO_DIES = ("node 0, which has it", "node 2, which is to have it", "the coordinator")


@pytest.mark.parametrize("who", WHO_DIES)
@pytest.mark.parametrize("after_ms", range(0, 240, 40))
def test_a_move_ends_whoever_dies_meanwhile(who: str, after_ms: int) -> None:
    cluster = cluster_of(3)
    shard = owners(cluster).index("node-0")
    cluster.move_shard("alpha", shard, 2)
    cluster.advance(after_ms)
    if who == "the coordinator":
        cluster.kill_coordinator()
        until(cluster, lambda: cluster.coordinator is not None and owners(cluster)[shard] == "node-2")
    else:
        cluster.kill_node(int(who[5]))
    until(cluster, cluster.is_healthy)
    assert max(gaps_ms(cluster)) < 5000
