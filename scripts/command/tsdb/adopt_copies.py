"""Which copy of each shard is to lead, found from the copies themselves: for a coordinator's store that was lost.

    plan = plan_adoption(data_dir, store, nodes=("node-0", "node-1"))
    if not plan.doubts: adopt(data_dir, store, plan)

Of all copies of a shard, that of the highest (epoch, next offset) has all that was acknowledged: whoever led last was
in sync when it began, and its epoch is in its own file. But that says nothing while one copy is not there, for that one
may have been the last leader's. So the operator has to name all nodes that the cluster had; or the coordinator's store
is there after all, and says who was in sync: then the newest has all of it if one of those is there. What speaks
against the copy that was found best is a doubt. With doubts nothing is written, unless the operator accepts the loss.

Only the copy that is to lead is read to the end, and one with a damage is passed over. The others join it anew.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from filoray.cluster.config.dataset import DatasetConfig
from filoray.cluster.config.dataset_file import DATASET_FILE, DatasetDirectory, dataset_directories
from filoray.cluster.control.assignment import node_order
from filoray.cluster.control.shard_table import RestoredState
from filoray.cluster.errors import BadData, NotFound
from filoray.cluster.store.leading_copies import LeadingCopy, put_leading_copies
from filoray.cluster.store.meta_store import MetaStore
from filoray.cluster.store.store_claim import recover_datasets, unknown_directories
from filoray.command.tsdb.database_copy import check_not_in_use
from filoray.command.tsdb.dataset_configs import InSync, in_sync_of
from filoray.command.tsdb.shard_copies import Place, no_copy_in_sync, read_places
from filoray.command.tsdb.shard_files import ShardFile, find_shard_files
from filoray.command.tsdb.verify import verify_shard_file

OnBytes = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class FoundCopies:
    """Of one shard. ``places``: of the copies that can be read. ``leader``: the newest sound one, None if none is."""

    shard: int
    places: dict[ShardFile, Place]
    leader: ShardFile | None
    doubts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AdoptedDataset:
    config: DatasetConfig
    nodes: tuple[str, ...]
    shards: tuple[FoundCopies, ...]


@dataclass(frozen=True, slots=True)
class Adoption:
    datasets: tuple[AdoptedDataset, ...]

    @property
    def doubts(self) -> tuple[str, ...]:
        """Each once."""
        found = [doubt for dataset in self.datasets for shard in dataset.shards for doubt in shard.doubts]
        return tuple(dict.fromkeys(found))


@dataclass(frozen=True, slots=True)
class _Knowledge:
    """``epochs``, ``unled``: of shards by the store, the latter never had a leader.

    ``named``: all nodes that the cluster had, as the operator says. ``present``: those that have a directory.
    """

    in_sync: InSync
    epochs: Mapping[tuple[str, int], int]
    unled: frozenset[tuple[str, int]]
    named: frozenset[str] | None
    present: frozenset[str]


def plan_adoption(
    data_dir: Path, store: MetaStore, nodes: Sequence[str] | None, on_bytes: OnBytes = lambda count: None
) -> Adoption:
    """Look at every copy; nothing is changed. The cluster must be stopped, and ``store`` be held.

    Raises NotFound without copies, Unavailable for a file that is in use, BadData for copies that nobody named and
    directories that do not say what they belong to.
    """
    state = store.restored_state({})
    known = {config.name: config for config, _ in state.shard_maps}
    directories = [one for one in dataset_directories(data_dir) if one.node and _is_there_still(one, known, state)]
    if not directories:
        raise NotFound(f"{data_dir} holds no copies of shards (copies/NODE/DATASET/shard-N.db)")
    present = frozenset(directory.node for directory in directories)
    named = None if nodes is None else frozenset(nodes)
    if named is not None and (unnamed := present - named):
        raise BadData(f"{', '.join(sorted(unnamed, key=node_order))} has copies too: --nodes is to name all nodes")
    unled = frozenset(
        (config.name, entry.shard)
        for config, shard_map in state.shard_maps
        for entry in shard_map.shards
        if not entry.epoch and not entry.copies.in_sync
    )
    knowledge = _Knowledge(in_sync_of(store), state.epochs, unled, named, present)
    return Adoption(
        tuple(
            _look_at(data_dir, tuple(group), known.get(name), knowledge, on_bytes)
            for name, group in groupby(directories, lambda directory: directory.dataset)
        )
    )


def _is_there_still(directory: DatasetDirectory, known: Mapping[str, DatasetConfig], state: RestoredState) -> bool:
    """Not one that was deleted while its node was away."""
    config = known.get(directory.dataset)
    if config is not None and config.generation == directory.generation:
        return config.has_copies
    return directory.generation > state.generations.get(directory.dataset, -1)


def adopt(data_dir: Path, store: MetaStore, plan: Adoption) -> None:
    """Have the store say so; and know the data sets with one copy of their shards that it has lost as well."""
    others = [directory for directory in unknown_directories(store, data_dir) if not directory.node]
    generations = {config.name: config.generation for config, _ in store.restored_state({}).shard_maps}
    for dataset in plan.datasets:
        config = dataset.config
        if generations.get(config.name) != config.generation:
            store.put_dataset(config, is_deleting=False)
        leading = {}
        for shard in dataset.shards:
            if shard.leader is not None:
                epoch = max(epoch for epoch, _ in shard.places.values())
                followers = tuple(file.node for file in shard.places if file is not shard.leader)
                leading[shard.shard] = LeadingCopy(shard.leader.node, epoch, followers)
        put_leading_copies(store, config, leading)
    recover_datasets(store, others)
    if store.is_new:
        store.next_generation()  # last: until then it is one that knows nothing


def _look_at(
    data_dir: Path,
    directories: Sequence[DatasetDirectory],
    known: DatasetConfig | None,
    knowledge: _Knowledge,
    on_bytes: OnBytes,
) -> AdoptedDataset:
    config = _config_of(directories, known)
    by_shard: dict[int, list[ShardFile]] = {}
    for file in find_shard_files(data_dir, config.name):
        if file.node:
            _check_at_rest(file)
            by_shard.setdefault(file.shard, []).append(file)
    shards = [_find(config, shard, by_shard.get(shard, []), knowledge, on_bytes) for shard in range(config.num_shards)]
    return AdoptedDataset(config, tuple(sorted((one.node for one in directories), key=node_order)), tuple(shards))


def _config_of(directories: Sequence[DatasetDirectory], known: DatasetConfig | None) -> DatasetConfig:
    """What the store says, or all of the directories alike."""
    name, generation = directories[0].dataset, directories[0].generation
    described = [(directory.path, config) for directory in directories if (config := directory.described()) is not None]
    if known is not None and known.generation == generation:
        _check_whose(known, described)
        return known
    if not described:
        raise BadData(f"dataset {name}: no directory of its copies has a {DATASET_FILE} that says how it was set up")
    first_path, config = described[0]
    for path, other in described:
        if other != config:
            raise BadData(f"{first_path / DATASET_FILE} and {path / DATASET_FILE} differ: remove the one that is wrong")
    return config


def _check_whose(known: DatasetConfig, described: Sequence[tuple[Path, DatasetConfig]]) -> None:
    """Raises BadData if copies are of another data set of the same name: one was set up after a store was lost."""
    for path, config in described:
        if config.cluster_id != known.cluster_id:
            raise BadData(
                f"{path} is not of the dataset {known.name} that the store knows, but of one that another cluster, or "
                "this one before its store was lost, had under that name. To have the newest of these copies taken, "
                "put those of the other dataset aside, and the store too: what is adopted goes into an empty one"
            )


def _check_at_rest(file: ShardFile) -> None:
    """Raises Unavailable if a node has it open. What is no database, no node has open."""
    try:
        check_not_in_use(file.path)
    except sqlite3.DatabaseError:
        pass


def _find(
    config: DatasetConfig, shard: int, copies: Sequence[ShardFile], knowledge: _Knowledge, on_bytes: OnBytes
) -> FoundCopies:
    places, problems = read_places(copies)
    damaged: dict[ShardFile, str] = dict(problems)
    leader = None
    for file in sorted(places, key=lambda one: places[one], reverse=True):
        found = verify_shard_file(file, on_bytes).problems
        if not found:
            leader = file
            break
        damaged[file] = f"{file.node}'s copy of shard {shard} of {config.name} is damaged: {found[0]}"
    sound = {file: place for file, place in places.items() if file not in damaged}
    doubts = tuple(_doubts(config, shard, leader, places, damaged, knowledge))
    return FoundCopies(shard, sound, leader, doubts)


def _doubts(
    config: DatasetConfig,
    shard: int,
    leader: ShardFile | None,
    places: dict[ShardFile, Place],
    damaged: dict[ShardFile, str],
    knowledge: _Knowledge,
) -> Iterator[str]:
    what = f"dataset {config.name} shard {shard}"
    key = config.name, shard
    if leader is None:
        if key in knowledge.unled and not damaged:
            return
        yield from damaged.values()
        yield f"{what}: there is no copy that can be read; it would begin anew, empty"
        return
    in_sync = knowledge.in_sync.get(key)
    epoch = max(place[0] for place in places.values())
    is_older = in_sync is not None and knowledge.epochs.get(key, 0) < epoch
    if in_sync is not None and not is_older:
        # All that was acknowledged is in each copy in sync, so in any that is as far as one of those.
        least = min((places[file] for file in places if file.node in in_sync), default=None)
        if least is None:
            yield no_copy_in_sync(leader, in_sync)
        elif places[leader] < least:
            yield from (text for file, text in damaged.items() if file in places)
        return
    if is_older:
        stored = knowledge.epochs.get(key, 0)
        yield f"{what}: the coordinator's store is older than the copies: epoch {stored}, theirs is {epoch}"
    yield from (text for file, text in damaged.items() if file not in places or places[file] > places[leader])
    yield from _doubts_of_completeness(config, what, len(places) + len(damaged.keys() - places.keys()), knowledge)


def _doubts_of_completeness(config: DatasetConfig, what: str, count: int, knowledge: _Knowledge) -> Iterator[str]:
    if knowledge.named is None:
        yield "nothing says who was in sync: name all nodes that the cluster had (--nodes node-0,node-1,…)"
        return
    if missing := knowledge.named - knowledge.present:
        yield f"the copies of {', '.join(sorted(missing, key=node_order))} are not there: put them into copies/NODE"
    wanted = min(config.num_replicas, len(knowledge.named))
    if count < wanted:
        yield f"{what}: only {count} of {wanted} copies {'is' if count == 1 else 'are'} there"
