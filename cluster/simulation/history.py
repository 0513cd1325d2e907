"""Random histories of a simulated cluster: a phase of faults, then healing, then everything must become well.

Which faults come, and how often, is drawn from the seed (``faults.py``). Safety is checked at every step
(``checkers.py``), liveness in the end.

    python -m filoray.cluster.simulation.history [NODES SHARDS FAULTS SEEDS]

says how many histories it plays in a second on one core.
"""

from __future__ import annotations

import contextlib
import gc
import random
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from filoray.cluster.actor_names import slot_index
from filoray.cluster.control.shard_status import StatusKind
from filoray.cluster.simulation.cluster import RESTART_MS, SimulatedCluster
from filoray.cluster.simulation.faults import draw_rates
from filoray.cluster.store.coordinator_store import CoordinatorStore

_LOOK_MS = 500
_PEACE_MS = 5000


@dataclass(frozen=True, slots=True)
class HistoryShape:
    """``node_count`` None: drawn. ``faults_max``: after as many the phase of faults is over before its time.

    ``calendar_jump_ms_max``: how far calendars are set wrong, ahead or behind.
    """

    duration_ms: int = 60_000
    recovery_ms: int = 120_000
    node_count: int | None = None
    num_shards: int = 4
    faults_max: int | None = None
    calendar_jump_ms_max: int = 10 * 3_600_000


def run_history(
    seed: int, duration_ms: int = 60_000, shape: HistoryShape | None = None, store: CoordinatorStore | None = None
) -> SimulatedCluster:
    """Raises AssertionError with the seed and the trace of what was done."""
    with _uncollected():
        return _run(seed, shape or HistoryShape(duration_ms), store)


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """A third of a history's time would go into looking for cycles, of which it makes few and soon ends."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _run(seed: int, shape: HistoryShape, store: CoordinatorStore | None) -> SimulatedCluster:
    dice = random.Random(f"faults {seed}")
    node_count = shape.node_count or dice.randint(1, 5)
    cluster = SimulatedCluster(seed, node_count, draw_rates(dice), store)
    try:
        _live_through_faults(cluster, dice, shape)
        _heal(cluster)
        _demand_health(cluster, shape)
    except AssertionError as error:
        raise AssertionError(f"seed {seed}: {error}\n" + "\n".join(cluster.trace[-60:])) from error
    return cluster


def _live_through_faults(cluster: SimulatedCluster, dice: random.Random, shape: HistoryShape) -> None:
    fault_every_ms = cluster.world.rates.fault_every_ms
    faults = 0
    cluster.advance(dice.randrange(5000))
    cluster.set_up_dataset("alpha", shape.num_shards, dice.randint(1, cluster.node_count))
    while cluster.now_ms < shape.duration_ms and faults != shape.faults_max:
        _fault(cluster, dice, shape)
        faults += 1
        cluster.advance(1 + dice.randrange(fault_every_ms))


def _heal(cluster: SimulatedCluster) -> None:
    cluster.world.rates = cluster.world.rates.calm()
    cluster.empty_store()
    cluster.resume_coordinator()
    cluster.advance(2 * RESTART_MS)
    for index in range(cluster.node_count):
        cluster.resume_node(index)
        cluster.mend_node(index)
        cluster.resume_gateway(index)


def _demand_health(cluster: SimulatedCluster, shape: HistoryShape) -> None:
    """Also of a cluster that is told to delete a dataset, and loses a node, when all is well."""
    for last in (False, True):
        deadline_ms = cluster.now_ms + shape.recovery_ms
        is_well = False
        while cluster.now_ms < deadline_ms and not is_well:
            _heal_operators_work(cluster, shape)
            cluster.advance(_LOOK_MS)
            is_well = cluster.is_healthy() and bool(cluster.statuses())
        assert cluster.statuses(), "no dataset could be set up"
        ailment = cluster.ailment()
        assert not ailment, f"not healthy after {shape.recovery_ms} ms of peace: {ailment}; {cluster.statuses()}"
        if not last:
            cluster.delete_dataset("beta")
            cluster.kill_node(0)
            cluster.advance(_PEACE_MS)
    unevenness = cluster.unevenness()
    assert not unevenness, unevenness
    before = cluster.owners()
    cluster.advance(_PEACE_MS)
    assert cluster.owners() == before, f"healthy shards move though nothing happens: {before} to {cluster.owners()}"


def _fault(cluster: SimulatedCluster, dice: random.Random, shape: HistoryShape) -> None:
    num_shards = shape.num_shards
    index = dice.randrange(cluster.node_count)
    dataset = dice.choice(("alpha", "beta"))
    shard = dice.randrange(num_shards)
    min_num_nodes = dice.randint(1, cluster.node_count)
    calendar_ahead_ms = int((2 * dice.random() - 1) * shape.calendar_jump_ms_max)
    actions: list[tuple[int, Callable[[], None]]] = [
        (4, lambda: cluster.kill_node(index)),
        (3, lambda: cluster.hang_node(index)),
        (6, lambda: cluster.resume_node(index)),
        (3, cluster.kill_coordinator),
        (2, cluster.hang_coordinator),
        (6, cluster.resume_coordinator),
        (10, lambda: cluster.set_up_dataset(dataset, num_shards, min_num_nodes)),
        (2, lambda: cluster.stop_shard(dataset, shard)),
        (2, lambda: cluster.start_shard(dataset, shard, index)),
        (5, lambda: _move(cluster, dataset, shard, index)),
        (5, lambda: cluster.move_shard(dataset, shard, index)),
        (3, lambda: cluster.drain_node(index)),
        (4, lambda: cluster.undrain_node(index)),
        (1, cluster.restart_rolling),
        (1, lambda: cluster.scale(index + 1)),
        (5, lambda: _move(cluster, dataset, shard, _owner(cluster, dataset, shard, index))),
        (5, lambda: cluster.mend_node(index)),
        (6, lambda: cluster.cut_node(index)) if cluster.world.rates.lease_ms else (3, lambda: cluster.hang_node(index)),
        (2, lambda: cluster.hang_gateway(index)),
        (3, lambda: cluster.cut_gateway(index)),
        (4, lambda: cluster.resume_gateway(index)),
        (1, lambda: cluster.kill_gateway(index)),
        (1, lambda: cluster.fill_store(5000)),
        (3, lambda: cluster.delete_dataset(dataset)),
        (1, lambda: cluster.set_calendar(calendar_ahead_ms)),
    ]
    dice.choices([action for _, action in actions], [weight for weight, _ in actions])[0]()


def _move(cluster: SimulatedCluster, dataset: str, shard: int, node_index: int) -> None:
    """An operator who does not wait."""
    cluster.stop_shard(dataset, shard)
    cluster.start_shard(dataset, shard, node_index)


def _owner(cluster: SimulatedCluster, dataset: str, shard: int, otherwise: int) -> int:
    """The index of the node that has the shard, as far as a gateway knows."""
    known = cluster.gateway.view.datasets.get(dataset)
    node = known.shard_map[shard].node if known is not None else None
    return otherwise if node is None else slot_index(node)


def _heal_operators_work(cluster: SimulatedCluster, shape: HistoryShape) -> None:
    """Stopped shards stay stopped until somebody starts them, and datasets deleted until somebody sets them up."""
    if cluster.coordinator is None:
        return
    core = cluster.coordinator.core
    manager = core.manager
    cluster.scale(cluster.node_count)
    if not core.restart.left:
        for drained in manager.drained:
            cluster.undrain_node(slot_index(drained))
    if not manager.datasets:
        cluster.set_up_dataset("alpha", shape.num_shards, 1)
    for name, (config, shard_map) in list(manager.datasets.items()):
        for entry in shard_map.with_status(StatusKind.STOPPED):
            owned = manager.shard_map(name).owned_by
            node = next((node for node in manager.members if len(owned(node)) < config.shards_per_node_max), None)
            if node is not None:
                cluster.start_shard(name, entry.shard, slot_index(node))


def _measure(node_count: int = 5, num_shards: int = 32, faults_max: int = 200, seeds: int = 20) -> None:
    shape = HistoryShape(600_000, 60_000, node_count, num_shards, faults_max)
    begun_s = time.process_time()
    for seed in range(seeds):
        run_history(seed, shape=shape)
    elapsed_s = time.process_time() - begun_s
    print(f"{seeds / elapsed_s:.1f} histories/s: {node_count} nodes x {num_shards} shards x {faults_max} faults")


if __name__ == "__main__":
    _measure(*map(int, sys.argv[1:]))
