"""Transcripts of the ShardManager's moves: by operators, off drained nodes, and until the map is even.

Of shards that are handed over as they are; those that a node can follow first are ``test_warm_moves.py``'s.
"""

from __future__ import annotations

import pytest
from managed_shards import config, feed, joined, kinds, owners, settle
from managed_shards import running as running_with

from filoray.cluster.config.dataset import KAFKA_STREAM_FACTORY
from filoray.cluster.control.shard_manager import ShardManager
from filoray.cluster.control.shard_messages import (
    DatasetDeleted,
    DatasetSetUp,
    ManagerEvent,
    MemberGone,
    MemberLost,
    NodeDrained,
    NodeUndrained,
    PersistDrained,
    PersistShardMap,
    PublishShardMap,
    ShardsDeleted,
    ShardsMoved,
    ShardsReleased,
    ShardsStarted,
    SpreadDue,
    StartShards,
    StopShards,
)
from filoray.cluster.control.shard_table import RestoredState
from filoray.cluster.errors import BadData, DatasetUnknown, FilorayError

# Of the four shards, node-0 has 0 and 3, node-1 has 1 and node-2 has 2.


KAFKA = config(source_factory=KAFKA_STREAM_FACTORY)


def running(node_count: int = 3) -> ShardManager:
    """Of shards that no node can follow, as they are fed from elsewhere."""
    return running_with(node_count, KAFKA)


def test_a_shard_that_moves_is_taken_durably_and_given_on_when_its_owner_has_closed_it() -> None:
    manager = running()
    persist, stop, publish = feed(manager, ShardsMoved("metrics", "node-2", (0,)))
    assert isinstance(persist, PersistShardMap)
    assert persist.shard_map[0].node is None, "it is remembered as nobody's before its owner hears of it"
    assert stop == StopShards("node-0", 1, "metrics", ((0, 1),))
    assert isinstance(publish, PublishShardMap)
    assert kinds(manager) == ["Unassigned", "Active", "Active", "Active"]
    commands = feed(manager, ShardsReleased("node-0", 1, "metrics", ((0, 1),)))
    assert commands[1] == StartShards("node-2", 1, KAFKA, ((0, 2),))
    settle(manager)
    assert owners(manager) == ["node-2", "node-1", "node-2", "node-0"]


def test_a_shard_whose_new_owner_is_lost_on_the_way_goes_to_another() -> None:
    manager = running()
    feed(manager, ShardsMoved("metrics", "node-2", (0,)), MemberLost("node-2", 1, "gone"), MemberGone("node-2", 1))
    feed(manager, ShardsReleased("node-0", 1, "metrics", ((0, 1),)))
    assert owners(manager)[0] == "node-1"


def test_a_shard_whose_old_owner_is_lost_on_the_way_goes_where_it_was_bound_for() -> None:
    manager = running()
    feed(manager, ShardsMoved("metrics", "node-1", (0,)), MemberLost("node-0", 1, "gone"))
    assert owners(manager)[0] is None
    feed(manager, MemberGone("node-0", 1))
    assert owners(manager)[0] == "node-1"


def test_a_move_to_where_the_shard_is_does_nothing() -> None:
    assert feed(running(), ShardsMoved("metrics", "node-0", (0, 3))) == []


@pytest.mark.parametrize(
    ("event", "kind", "problem"),
    [
        (ShardsMoved("other", "node-1", (0,)), DatasetUnknown, "not registered"),
        (ShardsMoved("metrics", "node-9", (0,)), BadData, "there is no node node-9"),
        (ShardsMoved("metrics", "node-1", (7,)), BadData, "no shard 7"),
        (ShardsMoved("metrics", "node-0", (1,)), BadData, "node-0 has room for 0 more shards"),
        (ShardsMoved("metrics", "node-1", (0, 2)), BadData, "node-1 has room for 1 more shards"),
        (NodeDrained("node-9"), BadData, "there is no node node-9"),
    ],
)
def test_what_an_operator_may_not_do_changes_nothing(
    event: ManagerEvent, kind: type[FilorayError], problem: str
) -> None:
    manager = running()
    before = manager.shard_map("metrics")
    with pytest.raises(kind, match=problem):
        manager.handle(event, 0)
    assert manager.shard_map("metrics") == before
    assert not manager.drained


def test_a_drained_node_is_emptied_a_few_shards_at_once_and_gets_none() -> None:
    manager = running()
    assert feed(manager, NodeDrained("node-0")) == [PersistDrained("node-0", is_drained=True)]
    orders = [one for one in feed(manager, SpreadDue(1, evens_out=False)) if isinstance(one, StopShards)]
    assert orders == [StopShards("node-0", 1, "metrics", ((0, 1),))]
    assert feed(manager, SpreadDue(1, evens_out=False)) == [], "one is on its way"
    feed(manager, ShardsReleased("node-0", 1, "metrics", ((0, 1),)))
    assert feed(manager, SpreadDue(1, evens_out=False)) == [], "it has not arrived"
    settle(manager)
    feed(manager, SpreadDue(1, evens_out=False), ShardsReleased("node-0", 1, "metrics", ((3, 1),)))
    assert owners(manager) == ["node-1", "node-1", "node-2", "node-2"]
    assert not manager.may_hold("node-0")
    with pytest.raises(BadData, match="node-0 is drained; undrain it first"):
        manager.handle(ShardsMoved("metrics", "node-0", (0,)), 0)
    with pytest.raises(BadData, match="node-1 cannot be drained: 2 shards of dataset metrics would have to go"):
        manager.handle(NodeDrained("node-1"), 0)


def test_the_last_node_is_not_drained() -> None:
    manager = ShardManager()
    feed(manager, joined("node-0"))
    with pytest.raises(BadData, match="without node-0 no node is left that may have shards"):
        manager.handle(NodeDrained("node-0"), 0)


def test_a_drained_node_is_remembered_and_gets_nothing_until_it_is_undrained() -> None:
    manager = ShardManager(2, RestoredState(drained=frozenset({"node-0"})))
    feed(manager, joined("node-0", "node-1"), DatasetSetUp(config(min_num_nodes=2)))
    assert owners(manager) == ["node-1", "node-1", None, None], "others wait for room"
    commands = feed(manager, NodeUndrained("node-0"))
    assert commands[0] == PersistDrained("node-0", is_drained=False)
    assert owners(manager) == ["node-1", "node-1", "node-0", "node-0"]


def test_a_node_that_joins_gets_healthy_shards_only_when_all_have_settled() -> None:
    manager = running(2)
    feed(manager, joined("node-2"))
    assert not manager.is_even
    assert feed(manager, SpreadDue(1, evens_out=False)) == [], "not before the wait is over, or never"
    commands = feed(manager, SpreadDue(1))
    assert StopShards("node-0", 1, "metrics", ((0, 1),)) in commands
    feed(manager, ShardsReleased("node-0", 1, "metrics", ((0, 1),)))
    assert owners(manager) == ["node-2", "node-1", "node-0", "node-1"]
    assert not manager.is_even
    settle(manager)
    assert feed(manager, SpreadDue(1)) == []
    assert manager.is_even


def test_what_an_operator_moved_stays_where_it_is_until_a_node_comes_or_goes() -> None:
    manager = running()
    feed(manager, SpreadDue(1))
    assert manager.is_even
    feed(manager, ShardsMoved("metrics", "node-1", (2,)), ShardsReleased("node-2", 1, "metrics", ((2, 1),)))
    settle(manager)
    assert feed(manager, SpreadDue(1)) == []
    assert owners(manager) == ["node-0", "node-1", "node-1", "node-0"]
    feed(manager, MemberLost("node-2", 1, "gone"), MemberGone("node-2", 1), joined("node-2", incarnation=2))
    assert any(isinstance(command, StopShards) for command in feed(manager, SpreadDue(1)))


def test_what_an_operator_moved_stays_though_the_map_is_still_becoming_even() -> None:
    manager = running(2)
    feed(manager, joined("node-2"), ShardsMoved("metrics", "node-2", (1,)))
    feed(manager, ShardsReleased("node-1", 1, "metrics", ((1, 1),)))
    settle(manager)
    feed(manager, ShardsMoved("metrics", "node-2", (3,)), ShardsReleased("node-1", 1, "metrics", ((3, 1),)))
    settle(manager)
    assert owners(manager) == ["node-0", "node-2", "node-0", "node-2"]
    feed(manager, SpreadDue(1), ShardsReleased("node-0", 1, "metrics", ((0, 1),)))
    assert owners(manager) == ["node-1", "node-2", "node-0", "node-2"], "others move instead"


def test_an_operator_cannot_start_what_is_on_its_way() -> None:
    manager = running()
    feed(manager, ShardsMoved("metrics", "node-1", (0,)))
    with pytest.raises(FilorayError, match="cannot move before node-0, which had it, has closed it"):
        manager.handle(ShardsStarted("metrics", "node-2", (0,)), 0)


def test_a_dataset_of_a_deleted_ones_name_knows_nothing_of_where_its_shards_were_bound_for() -> None:
    manager = running()
    feed(manager, ShardsMoved("metrics", "node-2", (0,)), DatasetDeleted("metrics"))
    feed(manager, ShardsReleased("node-0", 1, "metrics", ((0, 1),)))
    feed(manager, *(ShardsDeleted(f"node-{index}", 1, "metrics") for index in (0, 1, 2, 0)))
    assert not manager.is_deleting("metrics")
    feed(manager, DatasetSetUp(config()))
    assert owners(manager) == ["node-0", "node-1", "node-2", "node-0"]
