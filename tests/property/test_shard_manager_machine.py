"""Any order of events: the ShardManager keeps its invariants, and owners and epochs behave."""

from __future__ import annotations

import random
from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from filoray.cluster.config.dataset import LOG_STREAM_FACTORY, DatasetConfig
from filoray.cluster.config.server_config import default_server_config
from filoray.cluster.control.copy_set import InSyncProposed
from filoray.cluster.control.shard_manager import ShardManager
from filoray.cluster.control.shard_map import ShardMap
from filoray.cluster.control.shard_messages import (
    DatasetDeleted,
    DatasetSetUp,
    DeleteShards,
    ManagerEvent,
    MemberGone,
    MemberJoined,
    MemberLost,
    MembersJoined,
    NodeDrained,
    NodeUndrained,
    PersistShardMap,
    PublishShardMap,
    ShardReported,
    ShardsDeleted,
    ShardsMoved,
    ShardsReleased,
    ShardsStarted,
    ShardsStopped,
    SpreadDue,
    StartShards,
    StopShards,
)
from filoray.cluster.control.shard_status import (
    IngestionError,
    IngestionStarted,
    InvalidTransition,
    RecoveryInProgress,
    RecoveryStarted,
    StatusKind,
)
from filoray.cluster.errors import FilorayError
from filoray.cluster.node_protocol import ShardReport

NODES = st.sampled_from([f"node-{index}" for index in range(4)])
DATASETS = st.sampled_from(["alpha", "beta"])
REPORTS = st.sampled_from([RecoveryStarted(), RecoveryInProgress(50), IngestionStarted(), IngestionError("x")])


class ShardManagerMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.manager = ShardManager()
        self.incarnations: dict[str, int] = {}
        self.leaving: list[tuple[str, int]] = []
        self.stopping: list[ShardsReleased] = []
        self.deleting: dict[tuple[str, int], list[ShardsDeleted]] = {}
        self.holders: dict[tuple[str, int], tuple[str, int]] = {}
        self.persisted: dict[tuple[str, int], int] = {}
        self.given: dict[tuple[str, int], int] = {}
        self.in_sync: dict[tuple[str, int], frozenset[str]] = {}
        """The last durable set of each shard that has copies."""
        self.published: dict[str, ShardMap] = {}
        self.now_ms = 0

    def feed(self, event: ManagerEvent) -> None:
        try:
            commands = self.manager.handle(event, 0)
        except (FilorayError, InvalidTransition):
            return
        for command in commands:
            match command:
                case PersistShardMap(shard_map):
                    self.note_in_sync(shard_map)
                    self.persisted |= {(shard_map.dataset, entry.shard): entry.epoch for entry in shard_map.shards}
                case StartShards(node, incarnation, config, shards):
                    for shard, epoch in shards:
                        key = (config.name, shard)
                        assert self.persisted[key] >= epoch, "a node heard of an epoch that is not durable"
                        assert epoch > self.given.get(key, 0), "an epoch was given out twice"
                        if config.has_copies:
                            assert node in self.in_sync[key], f"{key} is to be led by {node}, not in sync"
                        assert key not in self.holders, f"{key} is still held by {self.holders[key]}"
                        self.given[key] = epoch
                        self.holders[key] = (node, incarnation)
                case StopShards(node, incarnation, dataset, stopped):
                    self.stopping.append(ShardsReleased(node, incarnation, dataset, stopped))
                case DeleteShards(node, incarnation, dataset, numbers, generation):
                    key = (dataset, generation)
                    self.deleting.setdefault(key, []).append(ShardsDeleted(node, incarnation, dataset, generation))
                    # A process that is to be killed may go on with a generation that nobody asks for.
                    for shard in numbers:
                        if self.holders.get((dataset, shard)) == (node, incarnation):
                            del self.holders[dataset, shard]
                case PublishShardMap(_, shard_map) if shard_map is not None:
                    last = self.published.get(shard_map.dataset, shard_map)
                    assert shard_map.version > last.version or shard_map == last, "a version went back"
                    self.published[shard_map.dataset] = shard_map
        if commands:
            self.manager.check_invariants()

    def note_in_sync(self, shard_map: ShardMap) -> None:
        """A set may lose members by words of the leader, or by a copy that goes while another is in sync."""
        for entry in shard_map.shards:
            if not entry.copies.in_sync or self.shares_store(shard_map.dataset):
                continue
            key = (shard_map.dataset, entry.shard)
            before, self.in_sync[key] = self.in_sync.get(key, frozenset()), frozenset(entry.copies.in_sync)
            if before:
                assert before & self.in_sync[key], f"{key}: nobody of {before} is in sync any more"

    def shares_store(self, dataset: str) -> bool:
        """Then any node may lead."""
        return self.manager.datasets[dataset][0].shares_store

    @rule(nodes=st.sets(NODES, min_size=1))
    def join(self, nodes: set[str]) -> None:
        absent = sorted(nodes - self.manager.members.keys() - {node for node, _ in self.leaving})
        for node in absent:
            self.incarnations[node] = self.incarnations.get(node, 0) + 1
        if absent:
            self.feed(MembersJoined(tuple(MemberJoined(node, self.incarnations[node]) for node in absent)))

    @rule(node=NODES)
    def lose(self, node: str) -> None:
        if node in self.manager.members:
            self.feed(MemberLost(node, self.incarnations[node], "lost"))
            self.leaving.append((node, self.incarnations[node]))

    @precondition(lambda self: self.leaving)
    @rule()
    def gone(self) -> None:
        process = self.leaving.pop(0)
        self.holders = {key: holder for key, holder in self.holders.items() if holder != process}
        self.feed(MemberGone(*process))

    @rule(
        dataset=DATASETS,
        power=st.integers(0, 3),
        min_num_nodes=st.integers(1, 4),
        replicas=st.integers(1, 3),
        is_in_database=st.booleans(),
    )
    def set_up(self, dataset: str, power: int, min_num_nodes: int, replicas: int, *, is_in_database: bool) -> None:
        store = default_server_config().store
        config = DatasetConfig(dataset, "g", 1 << power, min_num_nodes, LOG_STREAM_FACTORY, 0, {}, store)
        if dataset not in self.manager.datasets:
            self.in_sync = {key: nodes for key, nodes in self.in_sync.items() if key[0] != dataset}
        self.feed(DatasetSetUp(replace(config, num_replicas=replicas, is_in_database=is_in_database)))

    @rule(dataset=DATASETS)
    def delete(self, dataset: str) -> None:
        self.feed(DatasetDeleted(dataset))

    @precondition(lambda self: self.deleting)
    @rule(dice=st.randoms(use_true_random=False))
    def deleted(self, dice: random.Random) -> None:
        """Words on a deletion come in any order, twice and late."""
        self.feed(dice.choice(self.deleting[dice.choice(sorted(self.deleting))]))

    @precondition(lambda self: self.stopping)
    @rule(dice=st.randoms(use_true_random=False))
    def released(self, dice: random.Random) -> None:
        word = self.stopping.pop(dice.randrange(len(self.stopping)))
        for shard, _ in word.shards:
            key = (word.dataset, shard)
            if self.holders.get(key) == (word.node, word.incarnation):
                del self.holders[key]
        self.feed(word)

    @rule(dataset=DATASETS, shard=st.integers(0, 8), node=NODES)
    def start(self, dataset: str, shard: int, node: str) -> None:
        self.feed(ShardsStarted(dataset, node, (shard,)))

    @rule(dataset=DATASETS, shard=st.integers(0, 8))
    def stop(self, dataset: str, shard: int) -> None:
        self.feed(ShardsStopped(dataset, (shard,)))

    @rule(dataset=DATASETS, shard=st.integers(0, 8), node=NODES)
    def move(self, dataset: str, shard: int, node: str) -> None:
        self.feed(ShardsMoved(dataset, node, (shard,)))

    @rule(node=NODES)
    def drain(self, node: str) -> None:
        self.feed(NodeDrained(node))

    @rule(node=NODES)
    def undrain(self, node: str) -> None:
        self.feed(NodeUndrained(node))

    @rule(moves_max=st.integers(1, 3), evens_out=st.booleans(), passed_ms=st.sampled_from([0, 1000, 6000]))
    def spread(self, moves_max: int, passed_ms: int, *, evens_out: bool) -> None:
        self.now_ms += passed_ms
        before, following = len(self.stopping), self.followed_count()
        self.feed(SpreadDue(moves_max, evens_out=evens_out, now_ms=self.now_ms, warm_up_ms=5000))
        assert len(self.stopping) - before <= max(moves_max, following), "more moves begin than may be under way"
        assert self.followed_count() <= max(moves_max, following), "more moves begin than may be under way"

    def followed_count(self) -> int:
        """Shards that are followed, or are to be, as they move."""
        return sum(
            bool(entry.copies.followers)
            for config, shard_map in self.manager.datasets.values()
            for entry in shard_map.shards
            if not config.is_replicated
        )

    @rule()
    def who_follows_shards_for_moves_is_done_with_it_when_all_is_even(self) -> None:
        if self.manager.is_even:
            assert not self.followed_count()

    @rule(dataset=DATASETS, shard=st.integers(0, 8), node=NODES, epoch=st.integers(1, 6), event=REPORTS)
    def report(self, dataset: str, shard: int, node: str, epoch: int, event: RecoveryStarted) -> None:
        self.feed(ShardReported(node, self.incarnations.get(node, 0), ShardReport(dataset, shard, epoch, event)))

    @rule(dataset=DATASETS, shard=st.integers(0, 8), late=st.integers(0, 1), nodes=st.sets(NODES))
    def propose(self, dataset: str, shard: int, late: int, nodes: set[str]) -> None:
        """By whoever leads; whoever it names has all that was acknowledged."""
        known = self.manager.datasets.get(dataset)
        if known is None or shard >= len(known[1]) or known[1][shard].node is None:
            return
        entry = known[1][shard]
        node = entry.node or ""
        named = (node, *sorted(nodes.intersection(entry.copies.followers)))
        proposal = InSyncProposed(entry.copies.version - late, named)
        self.feed(ShardReported(node, self.incarnations[node], ShardReport(dataset, shard, entry.epoch, proposal)))
        if not late:
            assert set(self.manager.shard_map(dataset)[shard].copies.in_sync) == set(named) or not known[0].has_copies

    @rule()
    def after_a_member_event_no_shard_waits_while_there_is_room(self) -> None:
        """Room that an operator made by a stop is for the operator; the next word about members fills it."""
        self.feed(MemberGone("node-0", -1))
        if self.leaving or self.stopping:
            return
        for config, shard_map in self.manager.datasets.values():
            open_nodes = self.manager.members.keys() - self.manager.drained
            room = sum(config.shards_per_node_max - len(shard_map.owned_by(node)) for node in open_nodes)
            for entry in shard_map.with_status(StatusKind.UNASSIGNED, StatusKind.DOWN):
                if (in_sync := entry.copies.in_sync) and config.has_copies:
                    assert not self.manager.members.keys() & set(in_sync), f"{entry} could be led"
                else:
                    assert not room, f"there is room for {entry}"


TestShardManagerMachine = ShardManagerMachine.TestCase
TestShardManagerMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
