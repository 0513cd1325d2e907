from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from filoray.cluster.control.assignment import NodeLoad, assign_shards, node_order

_LOADS = st.dictionaries(
    st.integers(0, 30).map(lambda index: f"node-{index}"),
    st.integers(0, 6).flatmap(lambda own: st.integers(own, own + 9).map(lambda total: NodeLoad(own, total))),
    max_size=8,
)


def test_shards_spread_evenly_over_all_nodes_and_then_by_name() -> None:
    empty = {f"node-{index}": NodeLoad(0, 0) for index in range(3)}
    assert assign_shards(range(4), empty, capacity=2) == {0: "node-0", 1: "node-1", 2: "node-2", 3: "node-0"}


def test_a_node_that_is_busy_with_other_datasets_comes_last() -> None:
    loads = {"node-0": NodeLoad(0, 5), "node-1": NodeLoad(0, 1)}
    assert assign_shards([0], loads, capacity=4) == {0: "node-1"}


def test_shards_beyond_all_room_stay_without_an_owner() -> None:
    assert assign_shards([3, 1, 2], {"node-0": NodeLoad(1, 1)}, capacity=2) == {1: "node-0"}
    assert assign_shards([1], {}, capacity=2) == {}


def test_node_2_sorts_before_node_10() -> None:
    assert sorted(["node-10", "node-2"], key=node_order) == ["node-2", "node-10"]


@given(st.sets(st.integers(0, 63), max_size=40), _LOADS, st.integers(1, 12))
def test_assignment_is_bounded_complete_and_even(shards: set[int], loads: dict[str, NodeLoad], capacity: int) -> None:
    chosen = assign_shards(shards, loads, capacity)
    counts = {node: load.of_dataset + list(chosen.values()).count(node) for node, load in loads.items()}
    room = sum(max(0, capacity - load.of_dataset) for load in loads.values())
    assert len(chosen) == min(len(shards), room)
    for node in set(chosen.values()):
        assert counts[node] <= capacity
        assert counts[node] - 1 <= min(counts.values()), "another node had fewer"
