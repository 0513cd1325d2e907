"""Transcripts of the ShardManager with data sets that have copies: these events went in, this is what followed."""

from __future__ import annotations

import dataclasses

import pytest
from managed_shards import config, feed, joined, report

from filoray.cluster.control.copy_set import CopySet, InSyncProposed
from filoray.cluster.control.shard_manager import ShardManager
from filoray.cluster.control.shard_map import ShardEntry
from filoray.cluster.control.shard_messages import (
    DatasetDeleted,
    DatasetSetUp,
    DeleteShards,
    DropCopies,
    FollowShards,
    ManagerCommand,
    MemberGone,
    MemberJoined,
    MemberLost,
    MembersJoined,
    NodeDrained,
    NodeUndrained,
    PersistShardMap,
    ShardReported,
    ShardsDeleted,
    ShardsMoved,
    ShardsReleased,
    ShardsStarted,
    ShardsStopped,
    SpreadDue,
    StartShards,
    StopShards,
    TellCopies,
)
from filoray.cluster.control.shard_status import IngestionError, IngestionStarted, ShardStatus, StatusKind
from filoray.cluster.control.shard_table import RestoredState
from filoray.cluster.errors import BadData
from filoray.cluster.node_protocol import HeldShard, ShardReport, StoredCopies

COPIED = dataclasses.replace(config(num_shards=1, min_num_nodes=1), num_replicas=2)


def entry(manager: ShardManager, shard: int = 0) -> ShardEntry:
    return manager.shard_map("metrics")[shard]


def propose(
    manager: ShardManager, *in_sync: str, version: int | None = None, epoch: int | None = None
) -> ShardReported:
    it = entry(manager)
    assert it.node is not None
    proposal = InSyncProposed(it.copies.version if version is None else version, in_sync, "for a reason")
    incarnation = manager.members[it.node]
    return ShardReported(
        it.node, incarnation, ShardReport("metrics", 0, it.epoch if epoch is None else epoch, proposal)
    )


def kinds_of(commands: list[ManagerCommand], *kinds: type) -> list[ManagerCommand]:
    return [command for command in commands if isinstance(command, kinds)]


def copied(*nodes: str, replicas: int = 2, in_sync: tuple[str, ...] = ("node-0", "node-1")) -> ShardManager:
    """One shard, led by node-0, whose followers ``in_sync`` has."""
    manager = ShardManager()
    dataset = dataclasses.replace(COPIED, num_replicas=replicas)
    feed(manager, joined(*(nodes or ("node-0", "node-1"))), DatasetSetUp(dataset))
    feed(manager, report("node-0", 0, IngestionStarted()), propose(manager, *in_sync))
    assert entry(manager).copies.in_sync == in_sync
    return manager


def test_a_shard_gets_a_leader_and_followers_on_other_nodes() -> None:
    manager = ShardManager()
    commands = feed(manager, joined("node-0", "node-1", "node-2"), DatasetSetUp(COPIED))
    assert entry(manager).copies == CopySet(2, ("node-1",), ("node-0",))
    assert kinds_of(commands, FollowShards) == [FollowShards("node-1", 1, COPIED, ((0, 1, 2),))]
    assert kinds_of(commands, TellCopies)[-1] == TellCopies("node-0", 1, "metrics", ((0, 1, entry(manager).copies),))
    started, told = (
        commands.index(kinds_of(commands, StartShards)[0]),
        commands.index(kinds_of(commands, TellCopies)[0]),
    )
    assert started < told, "it can be told of copies once it is to lead"


def test_a_set_that_the_leader_proposes_is_durable_before_it_is_told() -> None:
    manager = ShardManager()
    feed(manager, joined("node-0", "node-1"), DatasetSetUp(COPIED), report("node-0", 0, IngestionStarted()))
    commands = feed(manager, propose(manager, "node-0", "node-1"))
    assert [type(command).__name__ for command in commands] == ["PersistShardMap", "TellCopies", "PublishShardMap"]
    (persist,) = kinds_of(commands, PersistShardMap)
    assert isinstance(persist, PersistShardMap)
    assert persist.shard_map[0].copies == CopySet(3, ("node-1",), ("node-0", "node-1"))
    assert "in sync: node-0, node-1 (for a reason)" in [line.text for line in manager.story("metrics", 0)]


@pytest.mark.parametrize(
    ("in_sync", "version", "epoch", "is_answered"),
    [
        (("node-0",), 2, 1, True),  # made for a set that is no more
        (("node-0", "node-9"), None, 1, True),  # names who has no copy
        (("node-1",), None, 1, True),  # leaves its leader out
        (("node-0",), None, 0, False),  # of a former leader
    ],
)
def test_a_proposal_that_does_not_fit_changes_nothing_and_is_answered_with_what_is(
    in_sync: tuple[str, ...], version: int | None, epoch: int, is_answered: bool
) -> None:
    manager = copied()
    before = entry(manager)
    commands = feed(manager, propose(manager, *in_sync, version=version, epoch=epoch))
    assert entry(manager) == before
    assert commands == ([TellCopies("node-0", 1, "metrics", ((0, 1, before.copies),))] if is_answered else [])


def test_only_one_that_is_in_sync_takes_over() -> None:
    manager = copied("node-0", "node-1", "node-2", replicas=3, in_sync=("node-0", "node-2"))
    commands = feed(manager, MemberLost("node-0", 1, "killed"), MemberGone("node-0", 1))
    (start,) = kinds_of(commands, StartShards)
    assert isinstance(start, StartShards)
    assert (start.node, start.shards) == ("node-2", ((0, 2),))
    # Whoever was in sync may lead until the new leader says otherwise, and the leader that was lost has a copy, too.
    assert entry(manager).copies.in_sync == ("node-0", "node-2")
    assert entry(manager).copies.followers == ("node-0", "node-1")
    assert [command.node for command in kinds_of(commands, FollowShards)] == ["node-1"]  # type: ignore[union-attr]


def test_a_shard_whose_copies_in_sync_are_all_away_waits_for_one_of_them() -> None:
    manager = copied("node-0", "node-1", in_sync=("node-0",))
    commands = feed(manager, MemberLost("node-0", 1, "killed"), MemberGone("node-0", 1))
    assert not kinds_of(commands, StartShards)
    assert entry(manager).status.kind is StatusKind.DOWN
    assert manager.shards_without_room("metrics") == (), "it waits for a node, not for room"
    with pytest.raises(BadData, match="node-1 has no copy of shard 0 of dataset metrics that is in sync; node-0 has"):
        feed(manager, ShardsStarted("metrics", "node-1", (0,)))
    commands = feed(manager, MembersJoined((MemberJoined("node-0", 2),)))
    assert [command.node for command in kinds_of(commands, StartShards)] == ["node-0"]  # type: ignore[union-attr]


def test_a_leader_that_is_back_follows_and_the_present_one_is_told_where() -> None:
    manager = copied()
    feed(
        manager, MemberLost("node-0", 1, "killed"), MemberGone("node-0", 1), report("node-1", 0, IngestionStarted(), 2)
    )
    commands = feed(manager, MembersJoined((MemberJoined("node-0", 2),)))
    copies = entry(manager).copies
    assert kinds_of(commands, FollowShards) == [FollowShards("node-0", 2, COPIED, ((0, 2, copies.version),))]
    assert kinds_of(commands, TellCopies) == [TellCopies("node-1", 1, "metrics", ((0, 2, copies),))]


def test_one_that_cannot_open_its_copy_is_followed_by_another_that_is_in_sync() -> None:
    manager = copied()
    feed(manager, MemberLost("node-1", 1, "killed"), MemberGone("node-1", 1))
    feed(manager, MemberLost("node-0", 1, "killed"), MemberGone("node-0", 1))
    feed(manager, MembersJoined((MemberJoined("node-0", 2), MemberJoined("node-1", 2))))
    assert entry(manager).node == "node-0"
    commands = feed(manager, report("node-0", 0, IngestionError("its disk was lost"), 2, 2))
    assert kinds_of(commands, StopShards) == [StopShards("node-0", 2, "metrics", ((0, 2),))]
    feed(manager, ShardsReleased("node-0", 2, "metrics", ((0, 2),)))
    assert (entry(manager).node, entry(manager).epoch) == ("node-1", 3)
    # If it cannot, either, it stays there and tries: nobody else is left.
    assert not kinds_of(feed(manager, report("node-1", 0, IngestionError("damaged"), 3, 2)), StopShards)


def test_where_no_copy_could_be_opened_each_is_tried_again_in_its_turn_until_one_can() -> None:
    """Else a shard stays with the one that was asked last, also when another's disk is well again."""
    manager = copied()
    leaders = []
    for _ in range(40):
        leader, epoch = entry(manager).node, entry(manager).epoch
        assert leader is not None
        leaders.append(leader)
        if leader == "node-1" and leaders.count("node-1") == 7:
            feed(manager, report(leader, 0, IngestionStarted(), epoch))
            break
        commands = feed(manager, report(leader, 0, IngestionError("its disk does not answer"), epoch))
        for stopped in kinds_of(commands, StopShards):
            assert isinstance(stopped, StopShards)
            feed(manager, ShardsReleased(stopped.node, 1, "metrics", stopped.shards))
    assert "".join(leader[-1] for leader in leaders) == "00" + "1" * 6 + "0" * 6 + "1", "and each a while longer"
    assert entry(manager).status.kind is StatusKind.ACTIVE
    feed(manager, MemberLost("node-1", 1, "killed"), MemberGone("node-1", 1))
    assert entry(manager).node == "node-0", "it may lead as any other"


def test_one_that_could_not_be_asked_to_lead_is_asked_again_and_counts_as_no_failure() -> None:
    """Else a shard whose only whole copy could not be reached for a moment stays with one that lost its disk."""
    manager = copied()
    feed(manager, MemberLost("node-0", 1, "killed"), MemberGone("node-0", 1))
    assert entry(manager).node == "node-1"
    feed(manager, MembersJoined((MemberJoined("node-0", 2),)))
    unheard = report("node-1", 0, IngestionError("node-1 did not take it: cut off", is_unheard=True), 2)
    assert not kinds_of([*feed(manager, unheard), *feed(manager, SpreadDue(1))], StopShards)
    commands = feed(manager, report("node-1", 0, IngestionError("it is damaged"), 2))
    assert kinds_of(commands, StopShards) == [StopShards("node-1", 1, "metrics", ((0, 2),))]


def test_a_leader_whose_source_fails_goes_on_leading_as_another_would_do_no_better() -> None:
    manager = copied()
    for reason in ("no broker", "no topic"):
        failing = report("node-0", 0, IngestionError(reason, is_open=True))
        assert not kinds_of(feed(manager, failing), StopShards, StartShards)
    commands = feed(manager, MembersJoined((MemberJoined("node-2", 1),)))
    assert not kinds_of(commands, StopShards, StartShards)
    assert (entry(manager).node, entry(manager).status.reason) == ("node-0", "no topic")
    feed(manager, MemberLost("node-0", 1, "killed"), MemberGone("node-0", 1))
    assert entry(manager).node == "node-1", "a lost one is followed all the same"


def test_an_operator_moves_a_shard_by_a_copy_that_joins_and_then_leads() -> None:
    manager = copied("node-0", "node-1", "node-2")
    commands = feed(manager, ShardsMoved("metrics", "node-2", (0,)))
    assert not kinds_of(commands, StopShards), "the leader goes on until the other is in sync"
    assert [command.node for command in kinds_of(commands, FollowShards)] == ["node-2"]  # type: ignore[union-attr]
    commands = feed(manager, propose(manager, "node-0", "node-1", "node-2"))
    assert kinds_of(commands, StopShards) == [StopShards("node-0", 1, "metrics", ((0, 1),))]
    feed(manager, ShardsReleased("node-0", 1, "metrics", ((0, 1),)), report("node-2", 0, IngestionStarted(), 2))
    assert entry(manager).node == "node-2"
    feed(manager, propose(manager, "node-0", "node-1", "node-2"))
    dropped = kinds_of(feed(manager, SpreadDue(1)), DropCopies)
    assert len(dropped) == 1, "three copies are one too many"
    assert len(entry(manager).copies.followers) == 1


def test_a_node_that_is_drained_before_a_shard_was_moved_there_is_not_to_lead_it_when_it_is_back() -> None:
    manager = copied("node-0", "node-1", "node-2")
    feed(manager, ShardsMoved("metrics", "node-2", (0,)), NodeDrained("node-2"), SpreadDue(2))
    assert not entry(manager).is_on("node-2")
    feed(manager, NodeUndrained("node-2"), SpreadDue(2), NodeDrained("node-1"), SpreadDue(2))
    assert entry(manager).is_on("node-2"), "it is to have a copy in place of node-1's"
    commands = feed(manager, propose(manager, "node-0", "node-1", "node-2"), SpreadDue(2))
    assert [one.node for one in kinds_of(commands, DropCopies)] == ["node-1"]  # type: ignore[union-attr]
    assert not kinds_of(commands, StopShards)


def test_a_drained_node_hands_its_leading_on_and_its_copy_to_another() -> None:
    manager = copied("node-0", "node-1", "node-2")
    feed(manager, NodeDrained("node-0"))
    feed(manager, SpreadDue(2, evens_out=False), ShardsReleased("node-0", 1, "metrics", ((0, 1),)))
    assert entry(manager).node == "node-1"
    feed(manager, report("node-1", 0, IngestionStarted(), 2), propose(manager, "node-1", "node-0"))
    assert manager.may_hold("node-0"), "node-2 is not in sync yet"
    assert "node-2" in entry(manager).copies.followers
    feed(manager, propose(manager, "node-1", "node-0", "node-2"))
    (drop,) = kinds_of(feed(manager, SpreadDue(2, evens_out=False)), DropCopies)
    assert isinstance(drop, DropCopies)
    assert drop.node == "node-0"
    assert entry(manager).copies.in_sync == ("node-1", "node-2")
    assert not manager.may_hold("node-0")


def test_a_node_that_is_to_be_back_soon_keeps_its_copies() -> None:
    manager = copied("node-0", "node-1", "node-2")
    feed(manager, NodeDrained("node-1", keeps_copies=True), SpreadDue(2, evens_out=False))
    assert entry(manager).copies.followers == ("node-1",)
    assert not manager.may_hold("node-1")


def test_a_node_that_handed_its_leading_on_is_needed_until_others_are_in_sync_with_the_new_leader() -> None:
    manager = copied("node-0", "node-1", "node-2", replicas=3, in_sync=("node-0", "node-1", "node-2"))
    feed(manager, NodeDrained("node-0", keeps_copies=True))
    assert not manager.needs_copies_of("node-0"), "as all others are in sync"
    feed(manager, SpreadDue(2, evens_out=False), ShardsReleased("node-0", 1, "metrics", ((0, 1),)))
    assert entry(manager).node == "node-1"
    assert manager.needs_copies_of("node-0"), "node-1 opens it"
    feed(manager, report("node-1", 0, IngestionStarted(), 2))
    assert manager.needs_copies_of("node-0"), "those that were in sync with node-0 do not follow node-1 yet"
    feed(manager, propose(manager, "node-1"))
    assert manager.needs_copies_of("node-0"), "node-2 is not in sync"
    feed(manager, propose(manager, "node-1", "node-2"))
    assert not manager.needs_copies_of("node-0")


def test_no_copy_goes_before_a_new_leader_has_said_who_follows_it() -> None:
    manager = copied("node-0", "node-1", "node-2", replicas=2, in_sync=("node-0", "node-1"))
    feed(manager, ShardsMoved("metrics", "node-2", (0,)))
    feed(manager, propose(manager, "node-0", "node-1", "node-2"))
    feed(manager, ShardsReleased("node-0", 1, "metrics", ((0, 1),)), report("node-2", 0, IngestionStarted(), 2))
    assert entry(manager).node == "node-2"
    assert not kinds_of(feed(manager, SpreadDue(1)), DropCopies), "none of three may follow it"
    feed(manager, propose(manager, "node-2"))
    feed(manager, propose(manager, "node-2", "node-1"))
    assert kinds_of(feed(manager, SpreadDue(1)), DropCopies)


def test_nodes_that_come_later_get_the_copies_that_are_missing() -> None:
    manager = ShardManager()
    feed(manager, joined("node-0"), DatasetSetUp(COPIED), report("node-0", 0, IngestionStarted()))
    assert entry(manager).copies == CopySet(1, (), ("node-0",))
    commands = feed(manager, joined("node-1"))
    assert entry(manager).copies.followers == ("node-1",)
    assert kinds_of(commands, FollowShards, TellCopies)


def test_a_node_that_is_away_for_a_moment_keeps_its_copies_and_nobody_gets_others() -> None:
    manager = copied("node-0", "node-1", "node-2")
    commands = feed(manager, MemberLost("node-1", 1, "killed"), MemberGone("node-1", 1), SpreadDue(2, evens_out=False))
    assert entry(manager).copies == CopySet(3, ("node-1",), ("node-0", "node-1"))
    assert not kinds_of(commands, FollowShards, DropCopies)
    # When nobody has come or gone for a while, another gets a copy; whoever is back by then is one too many.
    feed(manager, SpreadDue(2))
    assert entry(manager).copies.followers == ("node-1", "node-2")


def test_every_copy_of_a_deleted_data_set_is_deleted_where_it_is() -> None:
    manager = copied("node-0", "node-1", "node-2")
    commands = feed(manager, DatasetDeleted("metrics"))
    deletions = kinds_of(commands, DeleteShards)
    assert sorted(command.node for command in deletions) == ["node-0", "node-1"]  # type: ignore[union-attr]


def test_what_a_node_has_of_a_data_set_that_was_deleted_without_it_goes_when_it_is_back() -> None:
    """Where each has a machine of its own nobody else can delete it."""
    manager = copied("node-0", "node-1", "node-2")
    feed(manager, MemberLost("node-1", 1, "its machine is lost"), MemberGone("node-1", 1), DatasetDeleted("metrics"))
    feed(manager, *(ShardsDeleted(node, 1, "metrics") for node in ("node-0", "node-2")))
    assert not manager.is_deleting("metrics")
    feed(manager, DatasetSetUp(COPIED))
    found = (StoredCopies("metrics", 0, (0,)), StoredCopies("metrics", 1, (0,)))
    commands = feed(manager, MembersJoined((MemberJoined("node-1", 2, (), "10.0.0.2", found),)))
    assert kinds_of(commands, DeleteShards) == [DeleteShards("node-1", 2, "metrics", (0,), 0)]
    assert not kinds_of(feed(manager, joined("node-3")), DeleteShards), "it is told once"


@pytest.mark.parametrize("machines", ["012", "000"])
def test_whoever_has_its_disk_for_itself_is_told_of_a_deletion_as_it_may_have_what_it_was_to_drop(
    machines: str,
) -> None:
    """Also where all machines are away but one."""
    manager = ShardManager(keeps_nodes_at_home=True)
    members = [MemberJoined(f"node-{index}", 1, (), f"10.0.0.{host}") for index, host in enumerate(machines)]
    feed(manager, MembersJoined(tuple(members)), DatasetSetUp(COPIED), report("node-0", 0, IngestionStarted()))
    assert not entry(manager).is_on("node-2")
    deletions = kinds_of(feed(manager, DatasetDeleted("metrics")), DeleteShards)
    assert sorted(one.node for one in deletions) == ["node-0", "node-1", "node-2"]  # type: ignore[union-attr]


def test_copies_go_to_other_machines_and_join_there_before_one_of_two_on_the_same_goes() -> None:
    def at(node: str, machine: str) -> MembersJoined:
        return MembersJoined((MemberJoined(node, 1, (), machine),))

    manager = ShardManager()
    feed(manager, at("node-0", "a"), at("node-1", "a"), DatasetSetUp(COPIED), report("node-0", 0, IngestionStarted()))
    assert entry(manager).copies.followers == ("node-1",), "there is no other machine"
    feed(manager, propose(manager, "node-0", "node-1"), at("node-2", "b"), SpreadDue(2))
    assert entry(manager).copies.followers == ("node-1", "node-2")
    commands = feed(manager, propose(manager, "node-0", "node-1", "node-2"), SpreadDue(2))
    assert [command.node for command in kinds_of(commands, DropCopies)] == ["node-1"]  # type: ignore[union-attr]
    assert entry(manager).copies.followers == ("node-2",)
    # And so where a machine is lost: its copy is made anew on the one that has none.
    feed(manager, at("node-3", "c"), MemberLost("node-2", 1, "x"), MemberGone("node-2", 1), SpreadDue(2))
    assert entry(manager).copies.followers == ("node-2", "node-3")


def test_a_copy_of_a_deleted_data_set_is_closed_before_its_files_go_also_if_the_coordinator_was_away() -> None:
    manager = ShardManager(2, RestoredState(deleting=(COPIED,), epochs={("metrics", 0): 3}))
    follows = HeldShard("metrics", 0, 3, ShardStatus(StatusKind.ASSIGNED), is_follower=True)
    commands = feed(manager, MembersJoined((MemberJoined("node-0", 1, ()), MemberJoined("node-1", 1, (follows,)))))
    assert commands == [StopShards("node-1", 1, "metrics", ((0, 3),))]
    commands = feed(manager, ShardsReleased("node-1", 1, "metrics", ((0, 3),)))
    assert commands == [DeleteShards("node-0", 1, "metrics", (0,), 0)]


def test_copies_and_who_is_in_sync_outlive_the_coordinator() -> None:
    manager = copied()
    known = ((COPIED, manager.shard_map("metrics")),)
    members = {"node-0": 1, "node-1": 1}
    restored = ShardManager(2, RestoredState(known, epochs={("metrics", 0): 1}, members=members))
    held = HeldShard("metrics", 0, 1, entry(manager).status)
    follower = HeldShard("metrics", 0, 1, entry(manager).status, is_follower=True)
    back = MembersJoined((MemberJoined("node-0", 1, (held,)), MemberJoined("node-1", 1, (follower,))))
    commands = feed(restored, back)
    assert entry(restored).copies == entry(manager).copies
    assert kinds_of(commands, TellCopies)
    assert not kinds_of(commands, StartShards, StopShards, DropCopies)


def test_a_copy_that_nobody_knows_of_is_dropped_once_the_shard_is_well_without_it() -> None:
    manager = copied("node-0", "node-1", in_sync=("node-0",))
    stray = HeldShard("metrics", 0, 1, entry(manager).status, is_follower=True)
    feed(manager, report("node-0", 0, IngestionError("its disk is full")))
    commands = feed(manager, MembersJoined((MemberJoined("node-2", 1, (stray,)),)), SpreadDue(1, evens_out=False))
    assert not kinds_of(commands, DropCopies), "it may be all that is left"
    commands = feed(manager, report("node-0", 0, IngestionStarted()), SpreadDue(1, evens_out=False))
    version = entry(manager).copies.version
    assert kinds_of(commands, DropCopies) == [DropCopies("node-2", 1, "metrics", ((0, 1, version),), 0)]
    assert not kinds_of(feed(manager, SpreadDue(1, evens_out=False)), DropCopies), "once"


def test_a_stopped_shard_starts_where_a_copy_is_in_sync() -> None:
    manager = copied()
    feed(manager, ShardsStopped("metrics", (0,)), ShardsReleased("node-0", 1, "metrics", ((0, 1),)))
    feed(manager, ShardsStarted("metrics", "node-1", (0,)))
    assert (entry(manager).node, entry(manager).copies.followers) == ("node-1", ("node-0",))
