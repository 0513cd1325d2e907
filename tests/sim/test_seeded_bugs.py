"""Sixteen faults, each planted in the code for one test: the simulator must find every one of them.

    .venv/bin/python tests/sim/test_seeded_bugs.py [SEEDS]     says in how many of so many seeds each is found, and how

A patch replaces a method of the product where the product has it, else of the simulated node or gateway, which stand
for what they have in common with the real ones.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from filoray.cluster.cluster_view import ClusterView
from filoray.cluster.control import coordinator_dispatcher
from filoray.cluster.control.coordinator_core import Remembered
from filoray.cluster.control.coordinator_dispatcher import CoordinatorDispatcher
from filoray.cluster.control.copy_placement import CopyPlacement
from filoray.cluster.control.copy_set import CopySet
from filoray.cluster.control.leader_copies import LeaderCopies
from filoray.cluster.control.membership import ProcessGone
from filoray.cluster.control.node_effects import OpenShard
from filoray.cluster.control.node_keeper import NodeKeeper
from filoray.cluster.control.patience import Patience
from filoray.cluster.control.shard_manager import ShardManager
from filoray.cluster.control.shard_map import ShardEntry
from filoray.cluster.control.shard_messages import DeleteShards, ManagerCommand, PersistShardMap, StartShards
from filoray.cluster.control.shard_placement import ShardPlacement
from filoray.cluster.control.shard_table import KnownDataset
from filoray.cluster.simulation import simulated_coordinator, simulated_gateway
from filoray.cluster.simulation.checkers import ShardKey
from filoray.cluster.simulation.history import HistoryShape, run_history
from filoray.cluster.simulation.node_copies import NodeCopies
from filoray.cluster.simulation.shard_file import ServedShard, ShardFile
from filoray.cluster.simulation.simulated_follower import SimulatedFollower
from filoray.cluster.simulation.simulated_leader import SimulatedLeader, Snapshot
from filoray.cluster.simulation.simulated_node import SimulatedNode
from filoray.cluster.simulation.simulated_store import FaultyStore, ModelStore
from filoray.cluster.simulation.world import Action

Patch = Callable[[pytest.MonkeyPatch], None]


def a_node_that_checks_no_epoch(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SimulatedNode, "holds", lambda node, served, epoch: True)


def acknowledged_before_the_commit(patch: pytest.MonkeyPatch) -> None:
    take_write = SimulatedNode.take_write

    def too_early(node: SimulatedNode, key: ShardKey, epoch: int, refuse: Action) -> None:
        served = node.serving.get(key)
        if served is not None and served.epoch == epoch and node.may_answer():
            node.acknowledge(key, served, served.samples + 1)
        take_write(node, key, epoch, refuse)

    patch.setattr(SimulatedNode, "take_write", too_early)


def views_that_are_taken_as_they_come(patch: pytest.MonkeyPatch) -> None:
    def last(held: ClusterView, offered: ClusterView) -> ClusterView:
        return held if offered.version == held.version else offered

    patch.setattr(simulated_gateway, "newest_view", last)


def a_shard_that_is_given_out_twice(patch: pytest.MonkeyPatch) -> None:
    hand_over = ShardPlacement.hand_over

    def twice(placement: ShardPlacement, *args: object) -> list[ManagerCommand]:
        commands = hand_over(placement, *args)  # type: ignore[arg-type]
        order = next((command for command in commands if isinstance(command, StartShards)), None)
        members = placement._table.members
        others = [node for node in members if order is not None and node != order.node]
        if order is not None and others:
            commands.append(StartShards(others[0], members[others[0]], order.config, order.shards))
        return commands

    patch.setattr(ShardPlacement, "hand_over", twice)


def a_checkpoint_ahead_of_its_flush(patch: pytest.MonkeyPatch) -> None:
    def in_two_steps(node: SimulatedNode, stored: ShardFile) -> None:
        samples = stored.committed - stored.checkpoint
        stored.checkpoint = stored.committed

        def write_chunks() -> None:
            stored.flushed += samples

        node.later(500, write_chunks)

    patch.setattr(SimulatedNode, "flush", in_two_steps)


def a_reopened_shard_that_forgets_its_epoch(patch: pytest.MonkeyPatch) -> None:
    open_shard = SimulatedNode.open_shard

    def forgetful(node: SimulatedNode, order: OpenShard) -> None:
        is_again = any(one.order.key == order.key for one in node._openings.values())
        open_shard(node, dataclasses.replace(order, epoch=1) if is_again else order)

    patch.setattr(SimulatedNode, "open_shard", forgetful)


def a_coordinator_that_trusts_its_memory_over_the_store(patch: pytest.MonkeyPatch) -> None:
    remember = coordinator_dispatcher.remember
    memories: dict[int, tuple[ModelStore, ModelStore]] = {}
    """By each store's number, which is its own for as long as it is there: the store itself, and what it was."""

    def as_it_was(store: FaultyStore) -> Remembered:
        remembered, inner = remember(store), store._inner
        assert isinstance(inner, ModelStore)
        _, memory = memories.get(id(inner), (inner, None))
        copy = ModelStore()
        memories[id(inner)] = inner, copy
        for name, value in vars(inner).items():
            setattr(copy, name, dict(value) if isinstance(value, dict) else value)
        if memory is None:
            return remembered
        return dataclasses.replace(remembered, shards=memory.restored_state(dict(remembered.incarnations)))

    patch.setattr(coordinator_dispatcher, "remember", as_it_was)


def a_killed_incarnation_that_is_not_waited_for(patch: pytest.MonkeyPatch) -> None:
    kill = NodeKeeper._kill

    def impatient(keeper: NodeKeeper, node: str, incarnation: int) -> None:
        kill(keeper, node, incarnation)
        keeper._tell(ProcessGone(node, incarnation))

    patch.setattr(NodeKeeper, "_kill", impatient)


def a_retry_without_backoff(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        simulated_coordinator,
        "CoordinatorDispatcher",
        functools.partial(CoordinatorDispatcher, patience=Patience(retry_ms=0)),
    )


def a_deletion_that_forgets_a_node(patch: pytest.MonkeyPatch) -> None:
    delete = ShardManager._delete

    def forgetful(manager: ShardManager, name: str) -> list[ManagerCommand]:
        commands = delete(manager, name)
        by_node = manager._deletions._by_name[name].by_node
        if len(by_node) > 1 and None not in by_node:
            forgotten = next(reversed(by_node))
            del by_node[forgotten]
            commands = [one for one in commands if not (isinstance(one, DeleteShards) and one.node == forgotten)]
        return commands

    patch.setattr(ShardManager, "_delete", forgetful)


# ---- of copies


def released_before_the_follower_has_it(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(LeaderCopies, "awaited", lambda copies: frozenset())


def a_takeover_by_one_that_is_not_in_sync(patch: pytest.MonkeyPatch) -> None:
    """By any that has a copy, or is to get one, and is taken for one in sync then."""
    candidates, chosen = CopyPlacement.candidates, CopyPlacement.chosen

    def any_copy(placement: CopyPlacement, dataset: KnownDataset, entry: ShardEntry) -> list[str] | None:
        members = placement._table.members
        found = [node for node in entry.copies.followers if node in members]
        return found or candidates(placement, dataset, entry)

    def as_if_in_sync(placement: CopyPlacement, dataset: KnownDataset, entry: ShardEntry, leader: str) -> CopySet:
        copies = chosen(placement, dataset, entry, leader)
        return dataclasses.replace(copies, in_sync=tuple(dict.fromkeys((*copies.in_sync, leader))))

    patch.setattr(CopyPlacement, "candidates", any_copy)
    patch.setattr(CopyPlacement, "chosen", as_if_in_sync)


def a_leader_that_goes_on_after_its_epoch(patch: pytest.MonkeyPatch) -> None:
    """It takes writes when the shard was taken from it, and who leads next still takes its entries."""
    promote, close, close_shard, routed = (
        NodeCopies.promote,
        NodeCopies.close,
        SimulatedNode.close_shard,
        SimulatedNode._routed,
    )
    closed: dict[tuple[SimulatedNode, ShardKey], ServedShard] = {}

    def close_half(node: SimulatedNode, opening: int) -> None:
        before = dict(node.serving)
        close_shard(node, opening)
        closed.update({(node, key): served for key, served in before.items() if key not in node.serving})

    def routed_to_closed(node: SimulatedNode, key: ShardKey, epoch: int) -> ServedShard | None:
        former = closed.get((node, key))
        return former if former is not None and former.epoch == epoch else routed(node, key, epoch)

    def and_follow_on(copies: NodeCopies, key: ShardKey, opening: int, epoch: int) -> bool:
        follower = copies._followers.get(key)
        is_promoted = promote(copies, key, opening, epoch)
        if follower is not None:
            copies._followers[key] = follower
        return is_promoted

    def and_lead_on(copies: NodeCopies, key: ShardKey, opening: int) -> None:
        leader = copies._leaders.get(key)
        close(copies, key, opening)
        if leader is not None:
            copies._leaders[key] = leader

    patch.setattr(SimulatedNode, "close_shard", close_half)
    patch.setattr(SimulatedNode, "_routed", routed_to_closed)
    patch.setattr(NodeCopies, "commit_fails", lambda copies, key, served: False)
    patch.setattr(NodeCopies, "promote", and_follow_on)
    patch.setattr(NodeCopies, "close", and_lead_on)
    patch.setattr(NodeCopies, "stop_following", lambda copies, key, opening: None)
    patch.setattr(NodeCopies, "is_serving", lambda copies, key, served: True)
    patch.setattr(SimulatedFollower, "_is_own_epoch", lambda follower: True)


def a_snapshot_without_its_tail(patch: pytest.MonkeyPatch) -> None:
    snapshot = SimulatedLeader.snapshot

    def too_short(leader: SimulatedLeader, stored: ShardFile) -> Snapshot:
        taken = snapshot(leader, stored)
        if taken.file.committed > taken.file.checkpoint:
            taken.file.ids.popitem()
            taken.file.committed -= 1
        return taken

    patch.setattr(SimulatedLeader, "snapshot", too_short)


def a_set_in_sync_that_is_not_durable(patch: pytest.MonkeyPatch) -> None:
    change = CopyPlacement._change

    def in_memory(placement: CopyPlacement, *args: object) -> list[ManagerCommand]:
        commands = change(placement, *args)  # type: ignore[arg-type]
        return [command for command in commands if not isinstance(command, PersistShardMap)]

    patch.setattr(CopyPlacement, "_change", in_memory)


def a_follower_that_leads_without_looking_into_the_store(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(NodeCopies, "is_as_stored", lambda copies, memory, stored: True)


SEEDS = 60
BUGS: dict[Patch, int] = {
    a_node_that_checks_no_epoch: 3,
    acknowledged_before_the_commit: 3,
    views_that_are_taken_as_they_come: 15,
    a_shard_that_is_given_out_twice: 8,
    a_checkpoint_ahead_of_its_flush: 6,
    a_reopened_shard_that_forgets_its_epoch: 8,
    a_coordinator_that_trusts_its_memory_over_the_store: 15,
    a_killed_incarnation_that_is_not_waited_for: 10,
    a_retry_without_backoff: 5,
    a_deletion_that_forgets_a_node: 10,
}
"""In how many of the first ``SEEDS`` histories each is found at least."""
COPY_BUGS: dict[Patch, int] = {
    released_before_the_follower_has_it: 10,
    a_takeover_by_one_that_is_not_in_sync: 6,
    a_leader_that_goes_on_after_its_epoch: 3,
    a_snapshot_without_its_tail: 10,
    a_set_in_sync_that_is_not_durable: 10,
}
"""The same of histories with two copies of each shard."""
WARM_BUGS: dict[Patch, int] = {a_follower_that_leads_without_looking_into_the_store: 2}
"""The same where those are what nodes have in memory of a store that all share."""
SHAPES: dict[Patch, HistoryShape] = (
    dict.fromkeys(BUGS, HistoryShape(num_replicas=1))
    | dict.fromkeys(COPY_BUGS, HistoryShape(num_replicas=2))
    | dict.fromkeys(WARM_BUGS, HistoryShape(num_replicas=2, has_standby=True))
)
FOUND_MIN = BUGS | COPY_BUGS | WARM_BUGS


def findings(seeds: int, shape: HistoryShape) -> Iterator[tuple[int, str]]:
    """(seed, how) of the histories in which something is found."""
    for seed in range(seeds):
        try:
            run_history(seed, shape=shape)
        except AssertionError as error:
            yield seed, str(error).partition("\n")[0]


@pytest.mark.parametrize("bug", SHAPES, ids=lambda bug: bug.__name__)
def test_the_simulator_finds(bug: Patch, monkeypatch: pytest.MonkeyPatch) -> None:
    bug(monkeypatch)
    found = list(findings(SEEDS, SHAPES[bug]))
    print(f"{bug.__name__} is found in {len(found)} of {SEEDS} seeds, first in {found[0] if found else None}")
    assert len(found) >= FOUND_MIN[bug]


if __name__ == "__main__":
    for planted, shape in SHAPES.items():
        with pytest.MonkeyPatch.context() as patch:
            planted(patch)
            count = int(sys.argv[1]) if len(sys.argv) > 1 else SEEDS
            seen = list(findings(count, shape))
        kinds = Counter(re.sub(r"seed \d+: |\d+", "", how)[:60] for _, how in seen)
        first = seen[0][0] if seen else "-"
        print(f"{len(seen):4} of {count}  first {first:>3}  {planted.__name__}: {kinds.most_common(2)}")
