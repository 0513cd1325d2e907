"""Transcripts of moves of shards whose store all nodes share: the node that is to have one follows it first."""

from __future__ import annotations

from dataclasses import replace

import pytest
from managed_shards import config, feed, joined, kinds, owners, report, running, settle

from filoray.cluster.config.dataset import DatasetConfig
from filoray.cluster.control.copy_set import CopySet, InSyncProposed
from filoray.cluster.control.shard_manager import ShardManager
from filoray.cluster.control.shard_messages import (
    DatasetDeleted,
    DeleteShards,
    DropCopies,
    FollowShards,
    ManagerCommand,
    ManagerEvent,
    MemberGone,
    MemberJoined,
    MemberLost,
    MembersJoined,
    NodeDrained,
    PersistShardMap,
    PublishShardMap,
    ShardReported,
    ShardsMoved,
    ShardsReleased,
    ShardsStopped,
    SpreadDue,
    StartShards,
    StopShards,
    TellCopies,
)
from filoray.cluster.control.shard_status import IngestionError, ShardStatus, StatusKind
from filoray.cluster.control.shard_table import RestoredState
from filoray.cluster.node_protocol import HeldShard, ShardReport

# Of the four shards, node-0 has 0 and 3, node-1 has 1 and node-2 has 2.
MOVE = ShardsMoved("metrics", "node-2", (0,))
JOINING = CopySet(1, ("node-2",), ("node-0",))
IN_SYNC = CopySet(2, ("node-2",), ("node-0", "node-2"))
FOLLOW = FollowShards("node-2", 1, config(), ((0, 1, 1),))


def caught_up(base_version: int = 1, follower: str = "node-2") -> ShardReported:
    """The leader of shard 0 says so."""
    proposal = InSyncProposed(base_version, ("node-0", follower), f"{follower} has caught up")
    return ShardReported("node-0", 1, ShardReport("metrics", 0, 1, proposal))


RELEASED = ShardsReleased("node-0", 1, "metrics", ((0, 1),))


def without_maps(commands: list[ManagerCommand]) -> list[ManagerCommand]:
    return [one for one in commands if not isinstance(one, (PersistShardMap, PublishShardMap))]


def due(now_ms: int, *, evens_out: bool = False) -> SpreadDue:
    return SpreadDue(1, evens_out=evens_out, now_ms=now_ms, warm_up_ms=5000)


def moving() -> ShardManager:
    """Shard 0 is to go from node-0 to node-2, which follows it."""
    manager = running()
    feed(manager, MOVE)
    return manager


def test_a_shard_that_moves_is_served_until_its_next_owner_is_in_sync() -> None:
    manager = running()
    persist, tell, publish, follow = feed(manager, MOVE)
    assert isinstance(persist, PersistShardMap)
    assert persist.shard_map[0].copies == JOINING, "it is remembered before anybody hears of it"
    assert isinstance(publish, PublishShardMap)
    assert (tell, follow) == (TellCopies("node-0", 1, "metrics", ((0, 1, JOINING),)), FOLLOW)
    assert kinds(manager) == ["Active"] * 4
    assert owners(manager)[0] == "node-0"

    commands = without_maps(feed(manager, caught_up()))
    assert commands == [
        TellCopies("node-0", 1, "metrics", ((0, 1, IN_SYNC),)),
        StopShards("node-0", 1, "metrics", ((0, 1),)),
    ]
    assert without_maps(feed(manager, RELEASED)) == [StartShards("node-2", 1, config(), ((0, 2),))]
    settle(manager)
    assert owners(manager) == ["node-2", "node-1", "node-2", "node-0"]
    assert manager.shard_map("metrics")[0].copies == CopySet(3), "the former owner keeps nothing"
    assert feed(manager, due(0)) == []


def test_a_move_that_takes_too_long_is_a_handing_over() -> None:
    manager = moving()
    assert feed(manager, due(1000), due(5999)) == []
    assert without_maps(feed(manager, due(6000))) == [StopShards("node-0", 1, "metrics", ((0, 1),))]
    assert without_maps(feed(manager, RELEASED)) == [StartShards("node-2", 1, config(), ((0, 2),))]
    assert "has not caught up within 5000 ms" in " ".join(line.text for line in manager.story("metrics", 0))


NODE_2_DIES = (MemberLost("node-2", 1, "killed"), MemberGone("node-2", 1))
GIVEN_UP: dict[str, tuple[ManagerEvent, ...]] = {
    "the node that it goes to dies": NODE_2_DIES,
    "and comes back as another process": (*NODE_2_DIES, joined("node-2", incarnation=2)),
    "the node that it goes to is drained": (NodeDrained("node-2"),),
    "the node that it goes to becomes full": (
        ShardsMoved("metrics", "node-2", (1,)),
        ShardReported("node-1", 1, ShardReport("metrics", 1, 1, InSyncProposed(1, ("node-1", "node-2")))),
        ShardsReleased("node-1", 1, "metrics", ((1, 1),)),
    ),
}


@pytest.mark.parametrize("name", GIVEN_UP)
def test_a_move_that_can_come_to_nothing_is_given_up(name: str) -> None:
    manager = moving()
    commands = feed(manager, *GIVEN_UP[name], due(0))
    entry = manager.shard_map("metrics")[0]
    assert (entry.node, entry.copies.followers, entry.copies.in_sync) == ("node-0", (), ())
    told = [one.copies for one in commands if isinstance(one, TellCopies) and one.node == "node-0"]
    assert told[-1] == ((0, 1, entry.copies),), "its leader sends nothing more"
    drops = [one for one in commands if isinstance(one, DropCopies)]
    if "dies" not in name:
        assert [(one.node, one.shards) for one in drops] == [("node-2", ((0, 1, entry.copies.version),))]
    feed(manager, caught_up(entry.copies.version))
    assert manager.shard_map("metrics")[0] == entry, "what its leader says late changes nothing"


def test_an_owner_that_dies_while_another_follows_is_followed_by_that() -> None:
    manager = moving()
    proposed = without_maps(feed(manager, MemberLost("node-0", 1, "killed")))
    assert proposed == []
    commands = feed(manager, MemberGone("node-0", 1))
    assert StartShards("node-2", 1, config(), ((0, 2),)) in commands
    assert not [one for one in commands if isinstance(one, DropCopies)]
    assert manager.shard_map("metrics")[0].copies == CopySet(2)


def test_who_follows_and_does_not_get_the_shard_drops_it() -> None:
    manager = moving()
    feed(manager, NodeDrained("node-2"), MemberLost("node-0", 1, "killed"))
    commands = feed(manager, MemberGone("node-0", 1))
    assert owners(manager)[0] == "node-1"
    assert DropCopies("node-2", 1, "metrics", ((0, 2, 2),), 0) in commands


def test_a_shard_that_an_operator_stops_moves_no_more() -> None:
    manager = moving()
    commands = without_maps(feed(manager, ShardsStopped("metrics", (0,))))
    assert commands == [
        TellCopies("node-0", 1, "metrics", ((0, 1, CopySet(2)),)),
        DropCopies("node-2", 1, "metrics", ((0, 1, 2),), 0),
        StopShards("node-0", 1, "metrics", ((0, 1),)),
    ]
    assert feed(manager, due(9000)) == []


def test_an_operator_may_change_where_it_goes() -> None:
    manager = moving()
    commands = without_maps(feed(manager, ShardsMoved("metrics", "node-1", (0,))))
    assert DropCopies("node-2", 1, "metrics", ((0, 1, 2),), 0) in commands
    assert commands[-1] == FollowShards("node-1", 1, config(), ((0, 1, 3),))
    assert feed(manager, ShardsMoved("metrics", "node-1", (0,))) == [], "it does so already"
    commands = without_maps(feed(manager, ShardsMoved("metrics", "node-0", (0,))))
    assert commands[-1] == DropCopies("node-1", 1, "metrics", ((0, 1, 4),), 0), "it stays where it is"


def test_a_shard_that_is_not_well_is_handed_over_as_it_is() -> None:
    manager = running()
    feed(manager, report("node-0", 0, IngestionError("its file is gone")))
    assert without_maps(feed(manager, MOVE)) == [StopShards("node-0", 1, "metrics", ((0, 1),))]


def test_a_data_set_that_is_deleted_meanwhile_is_deleted_where_it_is_followed() -> None:
    manager = moving()
    deletions = {
        one.node: one.shards for one in feed(manager, DatasetDeleted("metrics")) if isinstance(one, DeleteShards)
    }
    assert deletions == {"node-0": (0, 3), "node-1": (1,), "node-2": (0, 2)}
    assert feed(manager, due(9000)) == []


def test_a_drained_node_is_left_by_one_shard_after_the_other_and_none_waits() -> None:
    manager = running()
    feed(manager, NodeDrained("node-0"))
    for shard, node in ((0, "node-1"), (3, "node-2")):
        commands = without_maps(feed(manager, due(0), due(100)))
        follows = [one for one in commands if isinstance(one, FollowShards)]
        assert [(one.node, one.shards) for one in follows] == [(node, ((shard, 1, 1),))], "one at a time"
        assert not manager.has_nowhere_to_go("node-0")
        proposal = InSyncProposed(1, ("node-0", node))
        commands = feed(manager, ShardReported("node-0", 1, ShardReport("metrics", shard, 1, proposal)))
        assert StopShards("node-0", 1, "metrics", ((shard, 1),)) in commands
        feed(manager, ShardsReleased("node-0", 1, "metrics", ((shard, 1),)))
        settle(manager)
    assert owners(manager) == ["node-1", "node-1", "node-2", "node-2"]
    assert not manager.may_hold("node-0")


def test_two_moves_at_once_go_to_where_the_map_becomes_even() -> None:
    manager = running(2)
    feed(manager, joined("node-2", "node-3"))
    commands = feed(manager, SpreadDue(3))
    follows = {one.node: one.shards for one in commands if isinstance(one, FollowShards)}
    assert follows == {"node-2": ((0, 1, 1),), "node-3": ((1, 1, 1),)}, "what moves counts where it goes"
    assert not manager.is_even


def test_a_coordinator_that_comes_back_goes_on_with_the_move() -> None:
    before = moving()
    manager = restored(before)
    assert feed(manager, due(0)) == []
    held = {name: held_of(before, name) for name in ("node-0", "node-1")}
    follower = HeldShard("metrics", 0, 1, ShardStatus(StatusKind.ASSIGNED), is_follower=True)
    members = [MemberJoined(name, 1, shards) for name, shards in held.items()]
    commands = feed(
        manager, MembersJoined((*members, MemberJoined("node-2", 1, (*held_of(before, "node-2"), follower))))
    )
    assert FOLLOW in commands
    assert TellCopies("node-0", 1, "metrics", ((0, 1, JOINING),)) in commands
    feed(manager, due(0), caught_up(), RELEASED)
    assert owners(manager)[0] == "node-2"


def test_what_a_node_follows_for_a_move_that_is_over_it_drops() -> None:
    before = moving()
    feed(before, NodeDrained("node-2"), due(0))
    manager = restored(before)
    follower = HeldShard("metrics", 0, 1, ShardStatus(StatusKind.ASSIGNED), is_follower=True)
    commands = feed(manager, MembersJoined((MemberJoined("node-2", 1, (*held_of(before, "node-2"), follower)),)))
    assert DropCopies("node-2", 1, "metrics", ((0, 1, 2),), 0) in commands


def restored(before: ShardManager) -> ShardManager:
    """By the next coordinator, which has heard of nobody yet."""
    state = RestoredState(
        tuple(before.datasets.values()),
        members=dict(before.members),
        drained=before.drained,
        generations={"metrics": 0},
    )
    return ShardManager(2, state)


def held_of(manager: ShardManager, node: str) -> tuple[HeldShard, ...]:
    owned = manager.shard_map("metrics").owned_by(node)
    return tuple(HeldShard("metrics", entry.shard, entry.epoch, entry.status) for entry in owned)


# ---- shards that others follow at all times

WARM = replace(config(num_shards=2), num_replicas=2, is_in_database=True)


def warm(dataset: DatasetConfig = WARM) -> ShardManager:
    """Shard 0 is led by node-0 and followed by node-2, shard 1 led by node-1 and followed by node-0, all in sync.

    Where there is one shard, it is led by node-0 and followed by node-1.
    """
    manager = running(3, dataset)
    for entry in manager.shard_map("metrics").shards:
        proposal = InSyncProposed(entry.copies.version, (entry.node or "", *entry.copies.followers))
        feed(manager, ShardReported(entry.node or "", 1, ShardReport("metrics", entry.shard, 1, proposal)))
    followers = [entry.copies.followers for entry in manager.shard_map("metrics").shards]
    assert followers == ([("node-2",), ("node-0",)] if dataset.num_shards == 2 else [("node-1",)])
    return manager


def test_shards_in_a_database_are_followed_from_the_beginning() -> None:
    manager = warm()
    assert [entry.copies.in_sync for entry in manager.shard_map("metrics").shards] == [
        ("node-0", "node-2"),
        ("node-1", "node-0"),
    ]


def test_a_lost_owners_shard_goes_to_who_has_it_in_memory() -> None:
    manager = warm()
    commands = feed(manager, MemberLost("node-0", 1, "killed"), MemberGone("node-0", 1))
    assert StartShards("node-2", 1, WARM, ((0, 2),)) in commands
    assert manager.shard_map("metrics")[0].copies.in_sync == ("node-0", "node-2"), "as its leader knows better"


def test_where_nobody_has_it_in_memory_any_node_may_lead() -> None:
    manager = warm()
    lost = [event for node in ("node-0", "node-2") for event in (MemberLost(node, 1, "killed"), MemberGone(node, 1))]
    feed(manager, *lost)
    assert owners(manager) == ["node-1", "node-1"]
    settle(manager)
    assert kinds(manager) == ["Active", "Active"]


def test_a_drained_leader_is_followed_by_who_is_in_sync_and_its_copies_go() -> None:
    manager = warm()
    feed(manager, NodeDrained("node-0"))
    commands = feed(manager, due(0))
    assert StopShards("node-0", 1, "metrics", ((0, 1),)) in commands
    commands = feed(manager, RELEASED)
    assert StartShards("node-2", 1, WARM, ((0, 2),)) in commands


def test_a_drained_leader_without_any_in_sync_does_not_stay() -> None:
    manager = running(3, WARM)
    feed(manager, NodeDrained("node-0"), due(0))
    assert not manager.has_nowhere_to_go("node-0")
    commands = feed(manager, due(1), due(6000))
    assert StopShards("node-0", 1, "metrics", ((0, 1),)) in commands
    assert StartShards("node-1", 1, WARM, ((0, 2),)) in feed(manager, RELEASED), "which has begun to follow it"


@pytest.mark.parametrize("drained", ["node-0", "node-1"])
def test_nobody_waits_for_one_that_never_gets_a_shard_into_its_memory(drained: str) -> None:
    """node-2, which is to have the shard too when node-0 or node-1 is to be left by it."""
    manager = warm(replace(WARM, num_shards=1))
    feed(manager, NodeDrained(drained), *(due(second * 1000, evens_out=True) for second in range(5)))
    for entry in manager.shard_map("metrics").shards:
        if entry.node is None:
            feed(manager, RELEASED)
    settle(manager)
    feed(manager, *(due(second * 1000, evens_out=True) for second in range(5, 20)))
    entry = manager.shard_map("metrics")[0]
    assert {entry.node, *entry.copies.followers} == {"node-0", "node-1", "node-2"} - {drained}
    assert not manager.may_hold(drained)
    assert not manager.needs_copies_of(drained)


def test_a_move_to_a_node_that_has_it_in_memory_is_one_switch() -> None:
    manager = warm()
    assert without_maps(feed(manager, MOVE)) == [StopShards("node-0", 1, "metrics", ((0, 1),))]
    commands = without_maps(feed(manager, RELEASED))
    assert commands[0] == StartShards("node-2", 1, WARM, ((0, 2),))
    assert FollowShards("node-0", 1, WARM, ((0, 2, 3),)) in commands, "they have changed places"
