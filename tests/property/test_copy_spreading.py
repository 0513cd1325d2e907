"""From whatever copies, leaders become even where they can be, copies too, and changes come to an end."""

from __future__ import annotations

from collections import Counter

from hypothesis import example, given, settings
from hypothesis import strategies as st

from filoray.cluster.control.copy_spreading import (
    Copies,
    Switchable,
    machine_count,
    missing_copies,
    next_copy_move,
    next_switch,
    surplus_copy,
)

NODES = [f"node-{index}" for index in range(5)]
SHARD = st.lists(st.sampled_from(NODES), min_size=1, max_size=3, unique=True)
SHARDS = st.lists(SHARD, max_size=16)
DRAINED = st.sets(st.sampled_from(NODES), max_size=3)
MACHINES = st.one_of(
    st.just({}),
    st.fixed_dictionaries({node: st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.0.3"]) for node in NODES}),
)


def leads(shards: list[list[str]]) -> Counter[str]:
    return Counter(nodes[0] for nodes in shards)


def switchable(shards: list[list[str]]) -> list[Switchable]:
    return [Switchable(shard, nodes[0], tuple(nodes[1:])) for shard, nodes in enumerate(shards) if nodes[1:]]


def reachable(shards: list[list[str]], source: str, open_nodes: list[str]) -> set[str]:
    """Nodes to which a shard's leading can be passed on, from node to node."""
    found, waiting = {source}, [source]
    while waiting:
        node = waiting.pop()
        for nodes in shards:
            for other in nodes[1:] if nodes[0] == node else ():
                if other in open_nodes and other not in found:
                    found.add(other)
                    waiting.append(other)
    return found


@given(SHARDS, DRAINED)
@settings(max_examples=300, deadline=None)
def test_leaders_end_as_even_as_their_copies_allow(shards: list[list[str]], drained: set[str]) -> None:
    open_nodes = [node for node in NODES if node not in drained]
    for _ in range(300):
        move = next_switch("d", switchable(shards), leads(shards), open_nodes, evens_out=True)
        if move is None:
            break
        nodes = shards[move.shard]
        assert move.node in nodes[1:], "it leads only what it has"
        nodes.remove(move.node)
        nodes.insert(0, move.node)
    else:
        raise AssertionError("it goes on for ever")
    for nodes in shards:
        assert nodes[0] in open_nodes or not set(nodes).intersection(open_nodes)
    counts = leads(shards)
    for source in open_nodes:
        for target in reachable(shards, source, open_nodes):
            assert counts[source] - counts[target] < 2, f"{source} leads more than {target}, which could lead some"


def copy_loads(shards: list[list[str]]) -> Counter[str]:
    return Counter(node for nodes in shards for node in nodes)


@given(SHARDS, DRAINED, st.integers(1, 3), MACHINES)
@example(
    [["node-0"], ["node-0"]],
    {"node-0"},
    2,
    {"node-0": "a", "node-1": "a", "node-2": "b", "node-3": "b", "node-4": "b"},
)
@settings(max_examples=300, deadline=None)
def test_copies_end_complete_even_and_without_a_copy_too_many_on_as_many_machines_as_can_be(
    shards: list[list[str]], drained: set[str], count: int, machines: dict[str, str]
) -> None:
    """Whoever gets a copy is in sync at once; capacity is no matter here."""
    open_nodes = [node for node in NODES if node not in drained]
    count = min(count, len(open_nodes))
    for _ in range(1000):
        every = [Copies(shard, tuple(nodes)) for shard, nodes in enumerate(shards)]
        loads = copy_loads(shards)
        for one in every:
            in_sync = shards[one.shard]
            if node := surplus_copy(one, count, in_sync, loads, open_nodes, machines):
                assert node != in_sync[0], "a leader goes nowhere"
                shards[one.shard].remove(node)
                break
        else:
            added = missing_copies(every, count, loads, open_nodes, open_nodes, None, machines)
            if not added:
                move = next_copy_move(every, loads, open_nodes, open_nodes, machines)
                added = {} if move is None else {move[0]: [move[1]]}
            if not added:
                break
            for shard, nodes in added.items():
                assert not set(nodes).intersection(shards[shard])
                assert len(set(nodes)) == len(nodes)
                shards[shard] += nodes
    else:
        raise AssertionError("it goes on for ever")
    for nodes in shards:
        kept = [node for node in nodes if node in open_nodes]
        assert len(kept) == count or (kept and nodes[0] in drained and len(kept) in (count, count + 1)), nodes
        assert machine_count(kept, machines) >= min(len(kept), machine_count(open_nodes, machines)), nodes
    assert_even(shards, open_nodes, machines)


@given(SHARDS, DRAINED, st.integers(1, 3), MACHINES)
@example([["node-2", "node-3", "node-4"]], {"node-3"}, 3, {f"node-{index}": "ab"[index % 2] for index in range(5)})
@settings(max_examples=300, deadline=None)
def test_copies_come_to_rest_while_nodes_keep_theirs_that_are_to_lead_nothing(
    shards: list[list[str]], drained: set[str], count: int, machines: dict[str, str]
) -> None:
    """As when they are replaced one after the other."""
    open_nodes = [node for node in NODES if node not in drained]
    for _ in range(1000):
        every = [Copies(shard, tuple(nodes)) for shard, nodes in enumerate(shards)]
        loads = copy_loads(shards)
        for one in every:
            if node := surplus_copy(one, count, one.nodes, loads, NODES, machines):
                shards[one.shard].remove(node)
                break
        else:
            added = missing_copies(every, count, loads, NODES, NODES, None, machines)
            if not added:
                move = next_copy_move(every, loads, open_nodes, NODES, machines)
                if move is None:
                    return
                added = {move[0]: [move[1]]}
            for shard, nodes in added.items():
                shards[shard] += nodes
    raise AssertionError("it goes on for ever")


def assert_even(shards: list[list[str]], open_nodes: list[str], machines: dict[str, str]) -> None:
    """No follower could go to a node that has two copies fewer, and leave its shard on as many machines."""
    loads = copy_loads(shards)
    for nodes in shards:
        staying = [node for node in nodes if node in open_nodes]
        for source in nodes[1:]:
            others = [node for node in staying if node != source]
            for target in open_nodes:
                is_better = source in open_nodes and loads[source] - loads[target] >= 2 and target not in nodes
                could_go = machine_count([*others, target], machines) >= machine_count(staying, machines)
                assert not (is_better and could_go), f"{source} has {loads[source]}, and {target} {loads[target]}"


@given(SHARDS, MACHINES, st.integers(2, 3))
@settings(max_examples=300, deadline=None)
def test_the_nodes_of_no_machine_have_all_copies_of_a_shard(
    shards: list[list[str]], machines: dict[str, str], count: int
) -> None:
    """Those that are made anew when a machine is lost with all of its nodes."""
    every = [Copies(shard, (nodes[0],)) for shard, nodes in enumerate(shards)]
    added = missing_copies(every, count, leads(shards), NODES, NODES, None, machines)
    for one in every:
        nodes = (*one.nodes, *added[one.shard])
        assert len(set(nodes)) == count
        assert machine_count(nodes, machines) == min(count, machine_count(NODES, machines))


def test_a_copy_goes_only_where_enough_others_are_in_sync() -> None:
    nodes = ("node-0", "node-1", "node-2")
    loads = Counter({"node-0": 3, "node-1": 3, "node-2": 1})
    cases = [
        (2, {"node-0"}, set(nodes), None),
        (2, {"node-0", "node-2"}, set(nodes), "node-1"),
        (2, {"node-0", "node-1"}, set(nodes), None),  # the third joins so that node-1 can go
        (2, set(nodes), {"node-0", "node-2"}, "node-1"),
        (3, set(nodes), set(nodes), None),
        (1, {"node-0"}, set(nodes), "node-1"),
    ]
    for count, in_sync, open_nodes, expected in cases:
        found = surplus_copy(Copies(0, nodes), count, in_sync, loads, open_nodes)
        assert found == expected, (count, in_sync, open_nodes)


@given(SHARDS, DRAINED, st.integers(1, 3), st.integers(0, 10), MACHINES)
@settings(max_examples=300, deadline=None)
def test_copies_that_are_missing_go_where_fewest_are(
    shards: list[list[str]], drained: set[str], count: int, count_max: int, machines: dict[str, str]
) -> None:
    open_nodes = [node for node in NODES if node not in drained]
    loads = copy_loads(shards)
    every = [Copies(shard, tuple(nodes)) for shard, nodes in enumerate(shards)]
    added = missing_copies(every, count, loads, open_nodes, open_nodes, count_max, machines)
    assert sum(map(len, added.values())) <= count_max
    for shard, nodes in added.items():
        for node in nodes:
            used = {machines.get(other, "") for other in shards[shard] if other in open_nodes}
            free = [other for other in open_nodes if other not in shards[shard]]
            free = [other for other in free if machines.get(other, "") not in used] or free
            assert node in free, "another is on a machine that has no copy"
            assert loads[node] == min(loads[other] for other in free), "another had fewer"
            loads[node] += 1
            shards[shard].append(node)
    if sum(map(len, added.values())) < count_max:
        for nodes in shards:
            room = [node for node in open_nodes if node not in nodes]
            assert not room or sum(node in open_nodes for node in nodes) >= count
