"""Transcripts of the ShardManager: these events went in, these commands came out."""

from __future__ import annotations

import dataclasses

import pytest
from managed_shards import config, feed, joined, kinds, owners, report, running

from filoray.cluster.control.shard_manager import ShardManager
from filoray.cluster.control.shard_messages import (
    DatasetDeleted,
    DatasetSetUp,
    DeleteShards,
    ForgetDataset,
    ManagerEvent,
    MemberGone,
    MemberJoined,
    MemberLost,
    MembersJoined,
    PersistDataset,
    PersistShardMap,
    PublishShardMap,
    ShardReported,
    ShardsDeleted,
    ShardsReleased,
    ShardsStarted,
    ShardsStopped,
    StartShards,
    StopShards,
)
from filoray.cluster.control.shard_status import (
    IngestionError,
    IngestionStarted,
    InvalidTransition,
    RecoveryInProgress,
    RecoveryStarted,
    ShardStatus,
    StatusKind,
)
from filoray.cluster.control.shard_table import RestoredState
from filoray.cluster.errors import BadData, DatasetExists, DatasetUnknown, FilorayError, Unavailable
from filoray.cluster.node_protocol import HeldShard, ShardReport

ACTIVE = ShardStatus(StatusKind.ACTIVE)


def test_epochs_are_persisted_before_any_node_hears_of_them() -> None:
    manager = ShardManager()
    commands = feed(manager, joined("node-0", "node-1", "node-2"), DatasetSetUp(config()))
    shard_map = manager.shard_map("metrics")
    assert commands == [
        PersistDataset(config()),
        PersistShardMap(shard_map),
        StartShards("node-0", 1, config(), ((0, 1), (3, 1))),
        StartShards("node-1", 1, config(), ((1, 1),)),
        StartShards("node-2", 1, config(), ((2, 1),)),
        PublishShardMap("metrics", shard_map),
    ]


def test_a_shard_comes_active_by_the_reports_of_its_owner() -> None:
    manager = ShardManager()
    feed(manager, joined("node-0"), DatasetSetUp(config(num_shards=1, min_num_nodes=1)))
    seen = []
    for event in (RecoveryStarted(), RecoveryInProgress(40), IngestionStarted()):
        (publish,) = feed(manager, report("node-0", 0, event))
        assert isinstance(publish, PublishShardMap)
        seen.append(str(manager.shard_map("metrics")[0].status))
    assert seen == ["ShardStatusRecovery(0)", "ShardStatusRecovery(40)", "ShardStatusActive"]


def test_reports_of_others_are_dropped() -> None:
    manager = running()
    for stray in (
        report("node-1", 0, IngestionError("x")),
        report("node-0", 0, IngestionError("x"), epoch=2),
        report("node-0", 0, IngestionError("x"), incarnation=2),
        ShardReported("node-0", 1, ShardReport("other", 0, 1, IngestionStarted())),
        report("node-0", 9, IngestionError("x")),
    ):
        assert feed(manager, stray) == []
    assert kinds(manager) == ["Active"] * 4


def test_a_shard_whose_store_is_ahead_is_ordered_again_above_it() -> None:
    """The coordinator's store was lost, or brought back from an old copy."""
    manager = running()
    ahead = IngestionError("shard-1.db belongs to the owner with epoch 7", stored_epoch=7)
    commands = feed(manager, report("node-1", 1, ahead))
    persisted, order = commands[:2]
    assert isinstance(persisted, PersistShardMap)
    assert persisted.shard_map[1].epoch == 8
    assert order == StartShards("node-1", 1, config(), ((1, 8),))
    assert feed(manager, report("node-1", 1, ahead)) == [], "it was said of the former epoch"
    feed(manager, report("node-1", 1, RecoveryStarted(), epoch=8), report("node-1", 1, IngestionStarted(), epoch=8))
    assert kinds(manager) == ["Active"] * 4

    again = dataclasses.replace(ahead, stored_epoch=9)
    (published,) = feed(manager, report("node-1", 1, again, epoch=8))
    assert isinstance(published, PublishShardMap), "two who outbid each other would never end"
    assert kinds(manager)[1] == "Error"
    assert "another cluster seems to use the same store" in manager.shard_map("metrics")[1].status.reason


def test_a_report_that_breaks_the_life_cycle_changes_nothing() -> None:
    manager = running()
    before = manager.shard_map("metrics")
    with pytest.raises(InvalidTransition):
        manager.handle(report("node-0", 0, RecoveryStarted()), 0)
    assert manager.shard_map("metrics") == before


def test_a_lost_nodes_shards_are_down_until_it_is_gone_and_then_move() -> None:
    manager = running()
    lost = feed(manager, MemberLost("node-0", 1, "heartbeats missed"))
    assert kinds(manager) == ["Down", "Active", "Active", "Down"]
    assert [type(command) for command in lost] == [PersistShardMap, PublishShardMap]
    feed(manager, joined("node-3"))
    assert owners(manager)[0] is None, "not before the process is gone"

    gone = feed(manager, MemberGone("node-0", 1))
    assert owners(manager) == ["node-3", "node-1", "node-2", "node-1"]
    assert StartShards("node-3", 1, config(), ((0, 2),)) in gone
    story = [line.text for line in manager.story("metrics", 0)]
    assert any("ShardDown; node-0 lost: heartbeats missed" in line for line in story)
    assert any("node-3, epoch 2; node-0 is gone" in line for line in story)


def test_without_room_shards_stay_down_until_a_node_joins() -> None:
    manager = running(node_count=2)
    feed(manager, MemberLost("node-0", 1, "killed"), MemberGone("node-0", 1))
    assert kinds(manager) == ["Down", "Active", "Down", "Active"]
    feed(manager, joined("node-0", incarnation=2))
    assert owners(manager) == ["node-0", "node-1", "node-0", "node-1"]


def test_healthy_shards_never_move() -> None:
    manager = running(node_count=2)
    before = manager.shard_map("metrics")
    feed(manager, joined("node-2", "node-3"))
    assert owners(manager) == [entry.node for entry in before.shards]


def test_what_a_returning_coordinator_finds_decides() -> None:
    old = running()
    entries = old.shard_map("metrics")
    restored = RestoredState(((config(), entries),), (), {}, {"node-0": 1, "node-1": 1, "node-2": 1})
    manager = ShardManager(2, restored)
    assert manager.shard_map("metrics").version > entries.version
    held = (HeldShard("metrics", 0, 1, ACTIVE), HeldShard("ghost", 5, 1, ACTIVE))
    commands = feed(manager, MembersJoined((MemberJoined("node-0", 1, held),)))
    assert StartShards("node-0", 1, config(), ((3, 1),)) in commands, "it never heard of shard 3"
    assert StopShards("node-0", 1, "ghost", ((5, 1),)) in commands
    assert kinds(manager) == ["Active", "Active", "Active", "Assigned"]

    feed(manager, MemberLost("node-2", 1, "not there"), MemberGone("node-2", 1))
    assert owners(manager)[2] is None, "nobody is chosen while node-1 was not heard of"
    feed(manager, MembersJoined((MemberJoined("node-1", 1, (HeldShard("metrics", 1, 1, ACTIVE),)),)))
    assert owners(manager) == ["node-0", "node-1", "node-1", "node-0"]


def test_what_a_node_has_told_since_the_restart_counts_more_than_what_it_said_it_holds() -> None:
    """Its announcement may have been on its way for longer: what it says of a shard that changed since is over."""
    members = {f"node-{index}": 1 for index in range(3)}
    manager = ShardManager(2, RestoredState(((config(), running().shard_map("metrics")),), (), {}, members))
    failed = ShardStatus(StatusKind.ERROR, 0, "its source refuses")
    feed(manager, *(report("node-0", 0, event) for event in (IngestionError("its source refuses"), IngestionStarted())))
    held = tuple(HeldShard("metrics", shard, 1, failed) for shard in (0, 3))
    feed(manager, MembersJoined((MemberJoined("node-0", 1, held),)))
    assert [kinds(manager)[shard] for shard in (0, 3)] == ["Active", "Error"]


def test_an_operator_stops_and_starts_shards() -> None:
    manager = running()
    stopped = feed(manager, ShardsStopped("metrics", (1, 2)))
    assert [type(command) for command in stopped] == [PersistShardMap, StopShards, StopShards, PublishShardMap]
    feed(manager, joined("node-3"))
    assert kinds(manager) == ["Active", "Stopped", "Stopped", "Active"], "stopped shards wait for the operator"
    for order in stopped[1:3]:
        assert isinstance(order, StopShards)
        with pytest.raises(Unavailable, match=f"cannot move before {order.node}, which had it, has closed it"):
            manager.handle(ShardsStarted("metrics", "node-3", (1, 2)), 0)
        feed(manager, ShardsReleased(order.node, 1, "metrics", order.shards))
        feed(manager, ShardsReleased(order.node, 1, "metrics", order.shards))
    assert [line.text for line in manager.story("metrics", 1)][-1] == "node-1 has closed it: another node may have it"
    feed(manager, ShardsStarted("metrics", "node-3", (1, 2)))
    assert owners(manager) == ["node-0", "node-3", "node-3", "node-0"]


def test_a_stopped_shard_is_free_when_its_owner_says_so_of_that_epoch_or_is_gone() -> None:
    manager = running()
    feed(manager, ShardsStopped("metrics", (1,)))
    for word in (
        ShardsReleased("node-1", 1, "metrics", ((1, 0),)),
        ShardsReleased("node-1", 2, "metrics", ((1, 1),)),
        ShardsReleased("node-0", 1, "metrics", ((1, 1),)),
    ):
        feed(manager, word)
        assert manager.unreleased_by("metrics", (1,)) == ("node-1",), "that says nothing of the process that had it"
    feed(manager, MemberLost("node-1", 1, "killed"))
    assert manager.unreleased_by("metrics", (1,)) == ("node-1",), "its process may still run"
    feed(manager, MemberGone("node-1", 1))
    assert manager.unreleased_by("metrics", (1,)) == ()


def test_a_shard_that_a_node_should_not_have_any_more_waits_until_it_let_go() -> None:
    """Its stop was ordered by a coordinator that died before the node heard of it."""
    old = running()
    feed(old, ShardsStopped("metrics", (1,)))
    restored = RestoredState(
        ((config(), old.shard_map("metrics")),), (), {}, {f"node-{index}": 1 for index in range(3)}
    )
    manager = ShardManager(2, restored)
    held = [
        (HeldShard("metrics", 0, 1, ACTIVE), HeldShard("metrics", 3, 1, ACTIVE)),
        (HeldShard("metrics", 2, 1, ACTIVE),),
    ]
    feed(manager, MembersJoined((MemberJoined("node-0", 1, held[0]), MemberJoined("node-2", 1, held[1]))))
    with pytest.raises(Unavailable, match="it is not known yet whether node-1 holds a shard"):
        manager.handle(ShardsStarted("metrics", "node-2", (1,)), 0)
    for node in ("node-0", "node-2"):  # each may have had it, and have still to hear of that: see below
        feed(manager, ShardsReleased(node, 1, "metrics", ((1, 1),)))
    commands = feed(manager, MembersJoined((MemberJoined("node-1", 1, (HeldShard("metrics", 1, 1, ACTIVE),)),)))
    assert StopShards("node-1", 1, "metrics", ((1, 1),)) in commands
    with pytest.raises(Unavailable, match="before node-1, which had it"):
        manager.handle(ShardsStarted("metrics", "node-1", (1,)), 0)
    feed(manager, ShardsReleased("node-1", 1, "metrics", ((1, 1),)))
    feed(manager, ShardsStarted("metrics", "node-1", (1,)))
    assert owners(manager)[1] == "node-1"


def test_a_shard_without_owner_waits_until_no_returning_node_can_have_a_late_order_for_it() -> None:
    """The last coordinator gave it to a node, heard nothing, lost its connection and died; the order came late."""
    old = running(node_count=2)
    feed(old, MemberLost("node-1", 1, "heartbeats missed"))
    assert kinds(old) == ["Active", "Down", "Active", "Down"]
    restored = RestoredState(((config(), old.shard_map("metrics")),), (), {}, {"node-0": 1, "node-1": 1})
    manager = ShardManager(2, restored)
    held = (HeldShard("metrics", 0, 1, ACTIVE), HeldShard("metrics", 2, 1, ACTIVE))
    commands = feed(manager, MembersJoined((MemberJoined("node-0", 1, held), MemberJoined("node-1", 1, ()))))
    late = ((1, 1), (3, 1))
    assert [command for command in commands if isinstance(command, StopShards)] == [
        StopShards("node-0", 1, "metrics", late), StopShards("node-1", 1, "metrics", late)
    ]  # fmt: skip
    assert not any(isinstance(command, StartShards) for command in commands)
    assert manager.unreleased_by("metrics", (1, 3)) == ("node-0", "node-1")
    feed(manager, ShardsReleased("node-0", 1, "metrics", late))
    assert kinds(manager) == ["Active", "Down", "Active", "Down"]
    feed(manager, ShardsReleased("node-1", 1, "metrics", late))
    assert kinds(manager) == ["Active", "Assigned", "Active", "Assigned"]


def test_a_shard_of_a_dataset_made_anew_waits_for_the_end_of_a_returning_node_that_may_have_the_old_one() -> None:
    """It was deleted, and set up again, while nobody knew of that node."""
    restored = RestoredState((), (), {("metrics", 0): 4}, {"node-0": 1, "node-1": 1}, {"metrics": 0})
    manager = ShardManager(2, restored)
    feed(manager, MembersJoined((MemberJoined("node-0", 1),)), DatasetSetUp(config()))
    feed(manager, MemberLost("node-1", 1, "no answer"), joined("node-2"))
    assert kinds(manager) == ["Unassigned", "Assigned", "Assigned", "Assigned"]
    assert manager.unreleased_by("metrics", (0,)) == ("node-1",)
    feed(manager, MemberGone("node-1", 1))
    assert kinds(manager)[0] == "Assigned"


@pytest.mark.parametrize("returns", [True, False])
def test_a_deletion_is_not_over_before_every_node_that_may_have_a_shard_of_it(returns: bool) -> None:
    """The last coordinator ordered a node to start a shard and died; the order may come after all it says of itself."""
    restored = RestoredState((), (config(),), {("metrics", 0): 4}, {"node-0": 1, "node-1": 1}, {"metrics": 0})
    manager = ShardManager(2, restored)
    late = ((0, 4),)
    commands = feed(manager, MembersJoined((MemberJoined("node-0", 1),)))
    assert commands == [StopShards("node-0", 1, "metrics", late)], "node-1 has not been heard of"
    assert feed(manager, ShardsReleased("node-0", 1, "metrics", late)) == []
    if returns:
        commands = feed(manager, MembersJoined((MemberJoined("node-1", 1),)))
        assert commands == [StopShards("node-1", 1, "metrics", late)]
        commands = feed(manager, ShardsReleased("node-1", 1, "metrics", late))
    else:
        assert feed(manager, MemberLost("node-1", 1, "no answer"), joined("node-2")) == [], "its process may still run"
        commands = feed(manager, MemberGone("node-1", 1))
    assert commands == [DeleteShards("node-0", 1, "metrics", (0, 1, 2, 3), 0)]
    with pytest.raises(Unavailable, match="still being deleted"):
        manager.handle(DatasetSetUp(config()), 0)
    assert feed(manager, ShardsDeleted("node-0", 1, "metrics", 0)) == [ForgetDataset("metrics")]
    feed(manager, DatasetSetUp(config()), joined("node-3"))
    assert kinds(manager) == ["Assigned"] * 4


def test_files_of_a_lost_nodes_shards_stay_until_its_process_is_gone() -> None:
    manager = running()
    feed(manager, DatasetDeleted("metrics"), MemberLost("node-1", 1, "heartbeats missed"))
    for node in ("node-0", "node-2"):
        assert feed(manager, ShardsDeleted(node, 1, "metrics", 0)) == []
    assert feed(manager, joined("node-3")) == []
    with pytest.raises(Unavailable, match="still being deleted"):  # it may go on answering for the old one
        manager.handle(DatasetSetUp(config()), 0)
    assert feed(manager, MemberGone("node-1", 1)) == [DeleteShards("node-0", 1, "metrics", (1,), 0)]
    feed(manager, ShardsDeleted("node-0", 1, "metrics", 0), DatasetSetUp(config()))
    assert None not in owners(manager)


@pytest.mark.parametrize(
    ("event", "kind", "problem"),
    [
        (ShardsStopped("other", (0,)), DatasetUnknown, "Dataset other is not registered"),
        (ShardsStopped("metrics", (4,)), BadData, "no shard 4; it has 0 to 3"),
        (ShardsStopped("metrics", (-1,)), BadData, "no shard -1"),
        (ShardsStarted("metrics", "node-1", (0,)), BadData, "is assigned to node-0 already"),
        (ShardsStarted("metrics", "node-9", (0,)), BadData, "no node node-9; the members are node-0, node-1, node-2"),
        (ShardsStarted("other", "node-1", (0,)), DatasetUnknown, "not registered"),
        (ShardsStarted("metrics", "node-1", (7,)), BadData, "no shard 7"),
        (DatasetSetUp(config()), DatasetExists, "already been setup"),
        (DatasetDeleted("other"), DatasetUnknown, "not registered"),
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


def test_a_shard_that_is_not_assigned_cannot_be_stopped_and_a_full_node_takes_no_more() -> None:
    manager = running()
    feed(manager, ShardsStopped("metrics", (1,)))
    with pytest.raises(BadData, match="shard 1 of dataset metrics is not assigned"):
        manager.handle(ShardsStopped("metrics", (1,)), 0)
    with pytest.raises(BadData, match="node-0 has room for 0 more shards"):
        manager.handle(ShardsStarted("metrics", "node-0", (1,)), 0)


def test_a_deleted_dataset_is_forgotten_when_all_files_are_gone() -> None:
    manager = running()
    feed(manager, ShardsStopped("metrics", (1,)))
    commands = feed(manager, DatasetDeleted("metrics"))
    assert commands[:2] == [PersistDataset(config(), is_deleting=True), PublishShardMap("metrics", None)]
    assert commands[2:] == [DeleteShards("node-0", 1, "metrics", (0, 3)), DeleteShards("node-2", 1, "metrics", (2,))]
    assert manager.undeleted_shards("metrics")[None] == (1,), "node-1 may still answer for it"
    released = feed(manager, ShardsReleased("node-1", 1, "metrics", ((1, 1),)))
    assert released == [DeleteShards("node-1", 1, "metrics", (1,))]
    with pytest.raises(Unavailable, match="still being deleted"):
        manager.handle(DatasetSetUp(config()), 0)
    for node in ("node-0", "node-1"):
        assert feed(manager, ShardsDeleted(node, 1, "metrics")) == []
    moved = feed(manager, MemberLost("node-2", 1, "killed"), MemberGone("node-2", 1))
    assert moved == [DeleteShards("node-0", 1, "metrics", (2,))]
    assert feed(manager, ShardsDeleted("node-0", 1, "metrics")) == [ForgetDataset("metrics")]

    feed(manager, DatasetSetUp(dataclasses.replace(config(), num_shards=8)))
    assert manager.datasets["metrics"][0].generation == 1
    assert [entry.epoch for entry in manager.shard_map("metrics").shards][:4] == [2, 2, 2, 2], "an epoch is used once"


def test_a_node_that_is_deleting_is_told_the_rest_when_it_is_done() -> None:
    """One word of it would else stand for both orders, and files be forgotten that are still there."""
    manager = running()
    feed(manager, DatasetDeleted("metrics"))
    waits = feed(manager, MemberLost("node-2", 1, "killed"), MemberGone("node-2", 1))
    assert not any(isinstance(command, DeleteShards) for command in waits), "both others have an order"
    assert feed(manager, ShardsDeleted("node-0", 1, "metrics")) == [DeleteShards("node-0", 1, "metrics", (2,))]
    assert feed(manager, ShardsDeleted("node-1", 1, "metrics")) == []
    assert manager.undeleted_shards("metrics") == {"node-0": (2,)}
    assert feed(manager, ShardsDeleted("node-0", 1, "metrics")) == [ForgetDataset("metrics")]


def test_late_words_on_a_deletion_say_nothing_of_the_next_dataset_of_that_name() -> None:
    manager = running()
    done = [ShardsDeleted(f"node-{index}", 1, "metrics") for index in range(3)]
    feed(manager, DatasetDeleted("metrics"), *done)
    feed(manager, DatasetSetUp(config()))
    commands = feed(manager, DatasetDeleted("metrics"))
    orders = [command for command in commands if isinstance(command, DeleteShards)]
    assert {order.generation for order in orders} == {1}
    feed(manager, *done)
    assert set(manager.undeleted_shards("metrics")) == {order.node for order in orders}
    feed(manager, *(dataclasses.replace(one, generation=1) for one in done))
    assert not manager.is_deleting("metrics")


def test_generations_outlive_their_dataset_and_the_coordinator() -> None:
    manager = ShardManager(2, RestoredState(generations={"metrics": 4}))
    feed(manager, joined("node-0", "node-1"))
    (persisted, *_) = feed(manager, DatasetSetUp(config()))
    assert persisted == PersistDataset(dataclasses.replace(config(), generation=5))


def test_shards_without_room_are_told_until_a_node_has_some() -> None:
    manager = ShardManager()
    feed(manager, joined("node-0"), DatasetSetUp(config()))
    assert manager.shards_without_room("metrics") == (2, 3)
    feed(manager, joined("node-1"))
    assert manager.shards_without_room("metrics") == ()
    feed(manager, MemberLost("node-1", 1, "killed"))
    assert manager.shards_without_room("metrics") == (), "they wait for their lost owner's end"
    feed(manager, MemberGone("node-1", 1))
    assert manager.shards_without_room("metrics") == (2, 3)
