"""The simulator's model of the coordinator's store remembers what the MetaStore does."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from filoray.cluster.config.dataset import LOG_STREAM_FACTORY, DatasetConfig
from filoray.cluster.config.server_config import default_server_config
from filoray.cluster.control.copy_set import ONE_COPY, CopySet
from filoray.cluster.control.shard_map import ShardEntry, ShardMap
from filoray.cluster.control.shard_status import OWNED, ShardStatus, StatusKind
from filoray.cluster.simulation.simulated_store import ModelStore
from filoray.cluster.store.coordinator_store import CoordinatorStore, remember
from filoray.cluster.store.meta_store import MetaStore

NODES = ("node-0", "node-1", "node-2")
SHARDS = 2

Write = Callable[[CoordinatorStore], object]


def config(dice: random.Random) -> DatasetConfig:
    store = default_server_config().store
    name = dice.choice(("alpha", "beta"))
    return DatasetConfig(name, "prom-counter", SHARDS, 1, LOG_STREAM_FACTORY, 1, {}, store, dice.randrange(3))


def entry(dice: random.Random, shard: int) -> ShardEntry:
    kind = dice.choice(tuple(StatusKind))
    status = ShardStatus(
        kind,
        progress_pct=dice.randrange(100) if kind is StatusKind.RECOVERY else 0,
        reason="it is full" if kind is StatusKind.ERROR else "",
    )
    node, followers = dice.choice(NODES) if kind in OWNED else None, tuple(dice.sample(NODES, dice.randrange(2)))
    copies = dice.choice((ONE_COPY, CopySet(dice.randrange(1, 9), followers, (NODES[0],))))
    return ShardEntry(shard, status, node, dice.randrange(1, 9), copies)


def write(dice: random.Random) -> Write:
    dataset, node, number = config(dice), dice.choice(NODES), dice.randrange(1, 9)
    shard_map = ShardMap(dataset.name, number, tuple(entry(dice, shard) for shard in range(SHARDS)))
    is_deleting, pid = dice.random() < 0.3, dice.choice((None, 7))
    return dice.choice(
        (
            lambda store: store.put_dataset(dataset, is_deleting=is_deleting),
            lambda store: store.forget_dataset(dataset.name),
            lambda store: store.put_shard_map(shard_map),
            lambda store: store.put_incarnation(node, number),
            lambda store: store.put_process(node, pid, None if pid is None else 1.5),
            lambda store: store.put_drained(node, is_drained=is_deleting),
            lambda store: store.put_node_count(number),
            lambda store: store.put_machine(node, f"10.0.0.{number}"),
            lambda store: store.put_restart(((node, number), (NODES[0], 1))[: number % 3]),
            lambda store: store.put_opened({(dataset.name, 0): dataset.generation}),
        )
    )


@pytest.mark.parametrize("seed", range(20))
def test_what_is_written_is_remembered_by_both_alike(seed: int) -> None:
    dice = random.Random(seed)
    real, model = MetaStore("sqlite://"), ModelStore()
    try:
        for _ in range(30):
            one = write(dice)
            one(real)
            one(model)
        memories = [replace(remember(store), gateway_keys=model.gateway_keys()) for store in (real, model)]
        assert memories[0] == memories[1]
    finally:
        real.close()
