"""From whatever map, moves come to an end, at a map that is even, with drained nodes empty, without a move too many."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from filoray.cluster.control.spreading import DatasetSpread, Move, next_move

NODES = [f"node-{index}" for index in range(6)]
OWNERS = st.lists(st.sampled_from(NODES), max_size=24)


def spread(dataset: str, owners: list[str], capacity: int) -> DatasetSpread:
    movable = {node: [shard for shard, owner in enumerate(owners) if owner == node] for node in NODES}
    return DatasetSpread(dataset, capacity, Counter(owners), movable)


def play(maps: dict[str, list[str]], capacity: int, drained: set[str], *, evens_out: bool = True) -> list[Move]:
    """The moves until none is called for; ``maps`` is then as they leave it."""
    moves: list[Move] = []
    while len(moves) < 1000:
        spreads = [spread(name, owners, capacity) for name, owners in maps.items()]
        move = next_move(spreads, NODES, drained, evens_out=evens_out)
        if move is None:
            return moves
        assert maps[move.dataset][move.shard] != move.node
        maps[move.dataset][move.shard] = move.node
        moves.append(move)
    raise AssertionError("it goes on for ever")


@given(st.lists(OWNERS, min_size=1, max_size=3), st.sets(st.sampled_from(NODES), max_size=5))
@settings(max_examples=200, deadline=None)
def test_moves_end_in_an_even_map(owners: list[list[str]], drained: set[str]) -> None:
    maps = {f"dataset-{index}": list(one) for index, one in enumerate(owners)}
    open_nodes = [node for node in NODES if node not in drained]
    needed = {name: _moves_needed(one, open_nodes) for name, one in maps.items()}
    moves = play(maps, 24, drained)
    totals = Counter(node for one in maps.values() for node in one)
    for one in maps.values():
        counts = [one.count(node) for node in open_nodes]
        assert not any(one.count(node) for node in drained)
        assert max(counts) - min(counts) <= 1
    assert not any(
        one.count(full) > one.count(empty) and totals[full] - totals[empty] >= 2
        for one in maps.values()
        for full in open_nodes
        for empty in open_nodes
    ), "a dataset's odd shard would be better off elsewhere"
    if len(maps) == 1:
        assert len(moves) == sum(needed.values()), "more shards moved than had to"


def _moves_needed(owners: list[str], nodes: list[str]) -> int:
    """Those above what a node has in an even map: the fullest keep what is left over."""
    floor, left_over = divmod(len(owners), len(nodes))
    counts = sorted((owners.count(node) for node in nodes), reverse=True)
    kept = sum(min(count, floor + (index < left_over)) for index, count in enumerate(counts))
    return len(owners) - kept


@given(OWNERS, st.sets(st.sampled_from(NODES), max_size=5), st.integers(1, 8))
@settings(max_examples=200, deadline=None)
def test_no_node_gets_more_than_it_may_have_and_what_has_no_room_stays(
    owners: list[str], drained: set[str], capacity: int
) -> None:
    open_nodes = [node for node in NODES if node not in drained]
    before = {node: owners.count(node) for node in NODES}
    after = list(owners)
    moves = play({"dataset": after}, capacity, drained, evens_out=False)
    assert all(before[owners[move.shard]] and owners[move.shard] in drained for move in moves), (
        "only drained ones leave"
    )
    for node in open_nodes:
        assert after.count(node) <= max(before[node], capacity)
    if any(after.count(node) for node in drained):
        assert all(after.count(node) >= capacity for node in open_nodes)
