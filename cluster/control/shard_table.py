"""The datasets that there are, with shard maps and stories, and the nodes that may have shards: what the ShardManager
and its parts share.

Versions of shard maps grow over restarts too: they start at ``generation << 32``, and a generation is used once.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from filoray.cluster.config.dataset import DatasetConfig
from filoray.cluster.control.assignment import node_order
from filoray.cluster.control.copy_index import CopyIndex
from filoray.cluster.control.fences import Fences, ShardKey
from filoray.cluster.control.shard_epochs import ShardEpochs
from filoray.cluster.control.shard_map import ShardEntry, ShardMap
from filoray.cluster.control.shard_messages import ManagerCommand, PublishShardMap, StoryLine
from filoray.cluster.control.shard_status import OWNED, ShardEvent, next_status
from filoray.cluster.errors import BadData, DatasetUnknown
from filoray.cluster.node_protocol import StoredCopies

STORY_LINES_MAX = 100
"""Per shard; enough to see the last dozen moves."""

_GENERATION_SHIFT = 32


@dataclass(slots=True)
class KnownDataset:
    """``copies``: the index of ``shard_map``'s entries of a data set with copies; ``change`` changes both."""

    config: DatasetConfig
    shard_map: ShardMap
    stories: dict[int, deque[StoryLine]] = field(default_factory=dict)
    copies: CopyIndex = field(init=False)

    def __post_init__(self) -> None:
        self.copies = CopyIndex(self.shard_map.shards if self.config.is_replicated else ())

    @property
    def name(self) -> str:
        return self.config.name


@dataclass(frozen=True, slots=True)
class RestoredState:
    """What the MetaStore remembers. ``members``: nodes (with incarnation) that lived when last heard of.

    ``drained``: nodes that are to have no shards. ``generations``: the last one of each dataset's name, those included
    that are no more. ``machines``: addresses of those that nodes are on for good. ``cluster_id``: as long as the store
    is not lost; "" if it never had one.
    """

    shard_maps: tuple[tuple[DatasetConfig, ShardMap], ...] = ()
    deleting: tuple[DatasetConfig, ...] = ()
    epochs: Mapping[ShardKey, int] = field(default_factory=dict)
    members: Mapping[str, int] = field(default_factory=dict)
    drained: frozenset[str] = frozenset()
    generations: Mapping[str, int] = field(default_factory=dict)
    machines: Mapping[str, str] = field(default_factory=dict)
    cluster_id: str = ""

    @property
    def nodes_with_copies(self) -> frozenset[str]:
        """Those that have, or are to have, copies of shards of any data set."""
        copies = [entry.copies for _, shard_map in self.shard_maps for entry in shard_map.shards]
        return frozenset(node for one in copies for node in (*one.followers, *one.in_sync))


def is_ours(stored: StoredCopies, present: DatasetConfig | None, last_generation: int, cluster_id: str) -> bool:
    """Whether copies that were found are of a data set that this cluster has or had.

    ``present``: the data set of that name and generation, if there is one, or it is being deleted. One of that name
    that was set up after the store was lost has the generation of the lost one, but not its ``cluster_id``.
    """
    if present is not None:
        return stored.cluster_id == present.cluster_id
    return stored.generation <= last_generation and stored.cluster_id in (cluster_id, "")


class ShardTable:
    """``members``: node to incarnation. ``unconfirmed``: those of them that have not spoken since the last restart."""

    def __init__(self, generation: int, restored: RestoredState) -> None:
        self._version = generation << _GENERATION_SHIFT
        self.members: dict[str, int] = dict(restored.members)
        self.unconfirmed: set[str] = set(restored.members)
        self.drained: set[str] = set(restored.drained)
        self.machines: dict[str, str] = dict(restored.machines)
        """Of nodes, those that are away among them: the address of the machine where they are, or were last."""
        self.datasets: dict[str, KnownDataset] = {}
        self.fences = Fences()
        self.now_ms = 0
        self.cause = ""
        epochs, owned = dict(restored.epochs), set()
        for config, shard_map in restored.shard_maps:
            self.datasets[config.name] = KnownDataset(config, replace(shard_map, version=self.next_version()))
            for entry in shard_map.shards:
                key = (config.name, entry.shard)
                epochs[key] = max(epochs.get(key, 0), entry.epoch)
                assert entry.node is None or entry.node in self.members, f"owner is no restored member: {entry}"
                if entry.node is not None:
                    owned.add(key)
        self.epochs = ShardEpochs(epochs, frozenset(owned))

    # ---- what can be asked

    def known(self, name: str) -> KnownDataset:
        """Raises DatasetUnknown."""
        dataset = self.datasets.get(name)
        if dataset is None:
            raise DatasetUnknown(name)
        return dataset

    def load_of(self, node: str) -> int:
        """Shards that the node owns, of all datasets."""
        return sum(dataset.shard_map.load_of(node) for dataset in self.datasets.values())

    @property
    def copied_datasets(self) -> list[KnownDataset]:
        """Those whose shards are followed at all times."""
        return [dataset for dataset in self.datasets.values() if dataset.config.is_replicated]

    @property
    def open_nodes(self) -> set[str]:
        """The members that may have shards."""
        return self.members.keys() - self.drained

    def unreleased_by(self, dataset: str, shards: Iterable[int]) -> tuple[str, ...]:
        """Former owners that may still hold one of those shards."""
        return tuple(sorted(self.fences.nodes((dataset, shard) for shard in shards), key=node_order))

    def check_invariants(self) -> None:
        """Raises AssertionError if a rule of the ShardManager does not hold."""
        for name, dataset in self.datasets.items():
            most = dataset.config.owned_per_node_max
            for node, load in Counter(entry.node for entry in dataset.shard_map.shards).items():
                assert node is None or load <= most, f"{node} holds more than {most} of {name}"
            indexed = dataset.shard_map.shards if dataset.config.is_replicated else ()
            assert dataset.copies == CopyIndex(indexed), f"the copies of {name} are not where its index has them"
            for entry in dataset.shard_map.shards:
                assert entry.node is None or entry.node in self.members, f"{name}: {entry} is owned by no member"
                assert self.epochs[name, entry.shard] == entry.epoch, f"{name}: {entry} has a forgotten epoch"
                assert (name, entry.shard) not in self.fences or entry.node is None, f"{name}: {entry} handed on early"
                if entry.node is not None:
                    _check_copies(dataset, entry, entry.node)

    # ---- what operators say

    @staticmethod
    def check_shards(dataset: KnownDataset, shards: Iterable[int]) -> None:
        """Raises BadData."""
        count = dataset.config.num_shards
        for shard in shards:
            if not 0 <= shard < count:
                raise BadData(f"dataset {dataset.name} has no shard {shard}; it has 0 to {count - 1}")

    def check_member(self, node: str) -> None:
        """Raises BadData."""
        if node not in self.members:
            members = ", ".join(sorted(self.members, key=node_order))
            raise BadData(f"there is no node {node}; the members are {members}")

    # ---- changes

    def next_version(self) -> int:
        self._version += 1
        return self._version

    def fence_owner(self, dataset: KnownDataset, entry: ShardEntry) -> None:
        """Its owner, if it has one, may hold the shard until it says that it does not, or is gone."""
        if entry.node is not None:
            self.fences.put((dataset.name, entry.shard), entry.epoch, (entry.node, self.members[entry.node]))

    def moved(self, dataset: KnownDataset, entry: ShardEntry, event: ShardEvent, why: str) -> ShardEntry:
        """The entry after ``event``; an owner stays as long as the status has one. Raises InvalidTransition."""
        status = next_status(entry.status, event)
        if status.kind is not entry.status.kind:
            reason = f" ({status.reason})" if status.reason else ""
            self.tell(dataset, entry.shard, f"{entry.status} -> {status}{reason}: {type(event).__name__}; {why}")
        node = entry.node if status.kind in OWNED else None
        return ShardEntry(entry.shard, status, node, entry.epoch, entry.copies)

    def change(self, dataset: KnownDataset, entries: Iterable[ShardEntry]) -> None:
        former, entries = dataset.shard_map, tuple(entries)
        dataset.shard_map = former.with_entries(entries, self.next_version())
        if dataset.config.is_replicated:
            for entry in entries:
                dataset.copies.exchange(former[entry.shard], entry)

    @staticmethod
    def publish(dataset: KnownDataset) -> list[ManagerCommand]:
        return [PublishShardMap(dataset.name, dataset.shard_map)]

    def tell(self, dataset: KnownDataset, shard: int, text: str) -> None:
        line = StoryLine(self.now_ms, text, self.cause)
        dataset.stories.setdefault(shard, deque(maxlen=STORY_LINES_MAX)).append(line)


def _check_copies(dataset: KnownDataset, entry: ShardEntry, leader: str) -> None:
    copies = entry.copies
    if dataset.config.shares_store and not copies.followers:
        assert not copies.in_sync, f"{dataset.name}: {entry} has nobody who could be in sync"
        return
    assert leader in copies.in_sync, f"{dataset.name}: {entry} is led by a node that is not in sync"
    assert leader not in copies.followers, f"{dataset.name}: {entry} follows itself"
    assert {leader, *copies.followers}.issuperset(copies.in_sync), f"{dataset.name}: {entry} has a strange node in sync"
