"""Of several copies of a shard, the newest: that of the highest (epoch, next offset).

Where a stream feeds the shard nothing is logged, and the newest is the one that has to read least of it again.

It has all that was acknowledged before it was looked for, if the copy of any node in sync was among those that were
read: that one has all of it, and whatever is newer follows it. Which nodes are in sync the coordinator's store says.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from filoray.cluster.config.dataset_file import dataset_directories
from filoray.cluster.control.assignment import node_order
from filoray.command.tsdb.dataset_configs import InSync, read_in_sync
from filoray.command.tsdb.shard_files import ShardFile
from filoray.command.tsdb.stored_shard import StoredShard
from filoray.nodes.memstore.store.store_errors import DamagedStore

Place = tuple[int, int]
"""(epoch, next offset of the log, or of the stream)."""


@dataclass(frozen=True, slots=True)
class ChosenCopy:
    """``doubts``: why it may lack something that was acknowledged; empty for the only copy of a shard."""

    file: ShardFile
    doubts: tuple[str, ...] = ()


def newest_copies(data_dir: Path, files: Sequence[ShardFile]) -> list[ChosenCopy]:
    """One of each shard of ``files``, in their order. A shard of which none can be read keeps one, as it is.

    That shards are missing of which all copies are on other machines is a doubt of the data set's first.
    """
    in_sync: InSync = read_in_sync(data_dir) if any(file.node for file in files) else {}
    chosen = []
    for key, group in groupby(sorted(files), lambda file: (file.dataset, file.shard)):
        copies = list(group)
        if len(copies) == 1 and not copies[0].node:
            chosen.append(ChosenCopy(copies[0]))
        else:
            chosen.append(_newest(copies, in_sync.get(key)))
    there_are = _shards_there_are(data_dir, {file.dataset for file in files if file.node}, in_sync)
    for name, shards in there_are.items():
        missing = sorted(shards - {file.shard for file in files if file.dataset == name})
        if missing:
            at = next(index for index, one in enumerate(chosen) if one.file.dataset == name)
            chosen[at] = ChosenCopy(chosen[at].file, (*chosen[at].doubts, _elsewhere(name, missing)))
    return chosen


def _shards_there_are(data_dir: Path, datasets: Collection[str], in_sync: InSync) -> dict[str, set[int]]:
    """Of data sets with several copies of each shard, the shards that there must be; by the coordinator's store or,

    where that is elsewhere, by what nodes wrote beside their copies.
    """
    known: dict[str, set[int]] = {}
    for name, shard in in_sync:
        known.setdefault(name, set()).add(shard)
    for directory in dataset_directories(data_dir):
        if directory.node and directory.dataset not in known and (config := directory.described()) is not None:
            known[directory.dataset] = set(range(config.num_shards))
    return {name: known[name] for name in sorted(datasets) if name in known}


def _elsewhere(dataset: str, shards: Sequence[int]) -> str:
    return (
        f"dataset {dataset} shard {_ranges(shards)}: no copy is here; where nodes have machines of their own, put the "
        "copies of all of them in one directory first"
    )


def _newest(copies: Sequence[ShardFile], in_sync: Sequence[str] | None) -> ChosenCopy:
    places, problems = read_places(copies)
    file = max(places, key=lambda one: places[one]) if places else copies[0]
    if in_sync is None:
        return ChosenCopy(file, tuple(problems.values()))
    if {one.node for one in places} & set(in_sync):
        return ChosenCopy(file)
    return ChosenCopy(file, (no_copy_in_sync(file, in_sync), *problems.values()))


def no_copy_in_sync(file: ShardFile, in_sync: Sequence[str]) -> str:
    """The doubt of a shard of which no copy in sync is there."""
    return (
        f"dataset {file.dataset} shard {file.shard}: in sync was {' or '.join(in_sync)}, of which no copy can be read"
    )


def read_places(copies: Sequence[ShardFile]) -> tuple[dict[ShardFile, Place], dict[ShardFile, str]]:
    """How far each copy of a shard is, and what is wrong with those that cannot be read."""
    places: dict[ShardFile, Place] = {}
    problems: dict[ShardFile, str] = {}
    for file in copies:
        try:
            with StoredShard(file) as stored:
                state = stored.state
            places[file] = state.epoch, state.next_offset or min(state.offsets) + 1
        except (DamagedStore, sqlite3.Error) as error:
            problems[file] = f"{file.node}'s copy of shard {file.shard} of {file.dataset} cannot be read: {error}"
    return places, problems


def by_node(chosen: Sequence[ChosenCopy]) -> list[str]:
    """For people: ``d: node-0's copies of shards 0-2, 5``, of those that have several."""
    shards: dict[tuple[str, tuple[int, str]], list[int]] = {}
    for one in chosen:
        if one.file.node:
            shards.setdefault((one.file.dataset, node_order(one.file.node)), []).append(one.file.shard)
    return [
        f"{name}: {node}'s copies of shards {_ranges(owned)}" for (name, (_, node)), owned in sorted(shards.items())
    ]


def _ranges(shards: Sequence[int]) -> str:
    """Of ascending numbers: ``0-2, 5``."""
    ranges: list[tuple[int, int]] = []
    for shard in shards:
        if ranges and shard == ranges[-1][1] + 1:
            ranges[-1] = ranges[-1][0], shard
        else:
            ranges.append((shard, shard))
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)
