"""Random histories of a simulated cluster: a phase of faults, then healing, then everything must become well.

Which faults come, and how often, is drawn from the seed (``faults.py``). Safety is checked at every step
(``checkers.py``), liveness in the end. The dice of faults are not those of the world: a fault that is left out changes
no other.
"""

from __future__ import annotations

import contextlib
import gc
import random
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from filoray.cluster.actor_names import node_name, slot_index
from filoray.cluster.control.shard_map import ShardEntry
from filoray.cluster.control.shard_status import StatusKind
from filoray.cluster.simulation.candidates import RESTART_MS
from filoray.cluster.simulation.checkers import NOTHING_UNFORESEEN, RuleBroken, ShardKey
from filoray.cluster.simulation.cluster import Replicas, SimulatedCluster
from filoray.cluster.simulation.faults import NODE_LEASE_MS, FaultRates, draw_rates
from filoray.cluster.simulation.shard_watch import HistoryRecord
from filoray.cluster.store.coordinator_store import CoordinatorStore

_SCALE = "scale the cluster"
_LOOK_MS = 500
_PEACE_MS = 5000
_SWITCH_MS = 60
"""Of which the former owner takes a third to close the shard; nobody recovers anything."""
_SWITCH_MESSAGES = 6
"""To and from the former owner and the next one, and what the one had still to tell the other."""
_FEW_SHARDS = 4
_MOVE_MS = 60_000
_MOVES_MS = 10_000
"""For a shard more of each data set: where one moves after the other until all is even, many take longer."""


@dataclass(frozen=True, slots=True)
class HistoryShape:
    """``has_standby``: two coordinators, of which one may lead; nodes then are on machines that may be cut off.

    ``node_count`` None: drawn. ``faults_max``: after as many the phase of faults is over before its time.

    ``duration_ms``: of the phase of faults; None: as long as ``faults_max`` take. ``calendar_jump_ms_max``: how far
    calendars are set wrong, ahead or behind. ``chosen_faults``: numbers (from 1) of those that happen; None: all.
    ``num_replicas``: copies of each shard, as far as there are nodes for them; None: drawn. Where more are asked for,
    nodes are on machines with disks of their own in half of all histories, with a standby in a quarter; else all are
    on one, without leases, or, with a standby, keep in memory what is in a database.
    ``without``: names of troubles (``faults.TROUBLES``) that do not come, whatever is drawn.
    """

    duration_ms: int | None = 60_000
    recovery_ms: int = 240_000
    node_count: int | None = None
    num_shards: int = 4
    faults_max: int | None = None
    calendar_jump_ms_max: int = 10 * 3_600_000
    chosen_faults: frozenset[int] | None = None
    without: frozenset[str] = frozenset()
    has_standby: bool = False
    num_replicas: int | None = None

    def __post_init__(self) -> None:
        assert self.duration_ms is not None or self.faults_max is not None, "faults for ever"


@dataclass(frozen=True, slots=True)
class FaultMark:
    """A fault that happened. ``number``: its place among all that were drawn, from 1; ``where``: to what."""

    at_ms: int
    number: int
    kind: str
    where: str

    def __str__(self) -> str:
        return f"fault {self.number}: {self.kind}{f' {self.where}' if self.where else ''}"


class HistoryFailed(AssertionError):
    """``rule``: the one that was broken; ``shard``: where, if it is about one. ``faults``: those up to then."""

    def __init__(self, seed: int, error: Exception, cluster: SimulatedCluster, faults: list[FaultMark]) -> None:
        self.problem = str(error) if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}"
        super().__init__(f"seed {seed}: {self.problem}\n" + "\n".join(cluster.trace[-60:]))
        self.seed = seed
        self.rule = error.rule if isinstance(error, RuleBroken) else NOTHING_UNFORESEEN
        self.shard: ShardKey | None = error.shard if isinstance(error, RuleBroken) else None
        self.cluster = cluster
        self.faults = faults


@dataclass(frozen=True, slots=True)
class History:
    """One that has ended well. ``faults``: what happened, in order."""

    cluster: SimulatedCluster
    faults: list[FaultMark]


def run_history(
    seed: int, duration_ms: int = 60_000, shape: HistoryShape | None = None, store: CoordinatorStore | None = None
) -> SimulatedCluster:
    """Raises HistoryFailed with the seed and the trace of what was done."""
    return play_history(seed, shape or HistoryShape(duration_ms), store).cluster


def play_history(
    seed: int, shape: HistoryShape, store: CoordinatorStore | None = None, record: HistoryRecord | None = None
) -> History:
    """As ``run_history``, with what went wrong. ``record``: filled."""
    with uncollected():
        return _play(seed, shape, store, record)


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """A third of a history's time would go into looking for cycles, of which it makes few and soon ends."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _play(seed: int, shape: HistoryShape, store: CoordinatorStore | None, record: HistoryRecord | None) -> History:
    dice = random.Random(f"faults {seed}")
    node_count = shape.node_count or dice.randint(1, 5)
    rates = _without(draw_rates(dice), shape.without)
    if shape.has_standby:
        rates = replace(rates, lease_ms=rates.lease_ms or NODE_LEASE_MS)
    machine_count = 0
    if shape.num_replicas is not None and shape.num_replicas > 1:
        machine_count = _draw_machine_count(seed, node_count, 0.25 if shape.has_standby else 0.5)
        if machine_count or not shape.has_standby:
            rates = replace(rates, lease_ms=NODE_LEASE_MS if machine_count else 0, has_own_disks=machine_count > 0)
    copies = _draw_copies(seed, shape, node_count, rates)
    cluster = SimulatedCluster(
        seed,
        node_count,
        rates,
        store,
        record,
        machine_count=machine_count,
        has_standby=shape.has_standby,
    )
    faults: list[FaultMark] = []
    try:
        _live_through_faults(cluster, dice, shape, copies, faults)
        _heal(cluster)
        _demand_health(cluster, shape, copies, has_scaled=any(mark.kind == _SCALE for mark in faults))
    except Exception as error:
        raise HistoryFailed(seed, error, cluster, faults) from error
    return History(cluster, faults)


DatasetCopies = Mapping[str, Replicas]
"""By data set."""


def _draw_machine_count(seed: int, node_count: int, chance: float) -> int:
    """Of machines with disks of their own; 0: there are none."""
    dice = random.Random(f"machines {seed}")
    count = dice.randint(1, min(3, node_count))
    return count if dice.random() < chance else 0


def _draw_copies(seed: int, shape: HistoryShape, node_count: int, rates: FaultRates) -> DatasetCopies:
    """By dice of their own, so that histories without copies are as they were before there were any.

    Nothing waits for those of shards that are in a database.
    """
    dice = random.Random(f"copies {seed}")
    copies = {}
    for dataset in ("alpha", "beta"):
        count = dice.choice((1, 1, 2, 2, 3)) if shape.num_replicas is None else shape.num_replicas
        count = min(count, max(2, node_count))
        in_sync_min = dice.randint(1, min(count, 2, node_count))
        is_in_database = rates.lease_ms > 0 and not rates.has_own_disks
        copies[dataset] = Replicas(count, 1 if is_in_database else in_sync_min)
    return copies


def _without(rates: FaultRates, troubles: frozenset[str]) -> FaultRates:
    none: dict[str, Any] = dict.fromkeys(troubles, 0)  # whatever the type of a rate, it is false
    return replace(rates, **none)


def _live_through_faults(
    cluster: SimulatedCluster,
    dice: random.Random,
    shape: HistoryShape,
    copies: DatasetCopies,
    faults: list[FaultMark],
) -> None:
    fault_every_ms = cluster.world.rates.fault_every_ms
    cluster.advance(dice.randrange(5000))
    cluster.set_up_dataset("alpha", shape.num_shards, dice.randint(1, cluster.node_count), copies["alpha"])
    number = 0
    while (shape.duration_ms is None or cluster.now_ms < shape.duration_ms) and number != shape.faults_max:
        number += 1
        fault = _draw_fault(cluster, dice, shape, copies)
        if shape.chosen_faults is None or number in shape.chosen_faults:
            mark = FaultMark(cluster.now_ms, number, fault.kind, fault.where)
            faults.append(mark)
            cluster.world.note("%s", mark)
            fault.happen()
        cluster.advance(1 + dice.randrange(fault_every_ms))


def _heal(cluster: SimulatedCluster) -> None:
    cluster.world.rates = cluster.world.rates.calm()
    cluster.empty_store()
    cluster.resume_coordinator()
    cluster.mend_coordinators()
    cluster.advance(2 * RESTART_MS)
    cluster.join_missing_machines()
    for index in range(cluster.node_count):
        cluster.resume_node(index)
        cluster.mend_node(index)
        cluster.resume_gateway(index)


def _demand_health(cluster: SimulatedCluster, shape: HistoryShape, copies: DatasetCopies, *, has_scaled: bool) -> None:
    """Also of a cluster that is told to delete a dataset, and loses a node, when all is well.

    ``has_scaled``: nodes may have come while a machine was away, and be all on another for good.
    """
    healed = cluster.checkers.healed
    patience_ms = shape.recovery_ms + _MOVES_MS * max(0, shape.num_shards - _FEW_SHARDS)
    for last in (False, True):
        deadline_ms = cluster.now_ms + patience_ms
        is_well = False
        while cluster.now_ms < deadline_ms and not is_well:
            _heal_operators_work(cluster, shape, copies)
            cluster.advance(_LOOK_MS)
            is_well = cluster.is_healthy() and bool(cluster.statuses()) and not cluster.to_be_drained
        healed.looked("" if cluster.statuses() else "no dataset could be set up")
        ailment = cluster.ailment()
        healed.looked(ailment and f"not healthy after {patience_ms} ms of peace: {ailment}")
        if not last:
            cluster.delete_dataset("beta")
            homes = {cluster.homes.get(node_name(index)) for index in cluster.members()}
            if cluster.machine_count > 1 and (len(homes) > 1 or not has_scaled):
                problem = cluster.lose_machine_with_disks(0)
                cluster.checkers.machine_may_go.looked(problem)
            else:
                cluster.kill_node(0)
            cluster.advance(_PEACE_MS)
            cluster.join_missing_machines()
    _demand_moves_without_a_gap(cluster)
    even = cluster.checkers.even
    even.looked(cluster.unevenness())
    before = cluster.owners()
    cluster.advance(_PEACE_MS)
    after = cluster.owners()
    even.looked("" if after == before else f"healthy shards move though nothing happens: {before} to {after}")


def _demand_moves_without_a_gap(cluster: SimulatedCluster) -> None:
    """Of a shard that goes to another node that has room for it, and back: nobody waits but for the switch."""
    assert cluster.coordinator is not None, "all is well"
    for name, (config, shard_map) in cluster.coordinator.core.manager.datasets.items():
        entry = shard_map.shards[0]
        nodes = sorted(cluster.coordinator.core.manager.members, key=shard_map.load_of)
        node = next((one for one in nodes if one != entry.node), None)
        if node is None or entry.node is None or shard_map.load_of(node) >= config.shards_per_node_max:
            continue
        for target in (node, entry.node):
            _demand_move_without_a_gap(cluster, (name, entry.shard), target)


def _demand_move_without_a_gap(cluster: SimulatedCluster, key: ShardKey, node: str) -> None:
    cluster.watch.last_gap_ms.pop(key, None)
    deadline_ms = cluster.now_ms + _MOVE_MS
    cluster.move_shard(*key, slot_index(node))
    while (cluster.owners()[key][0] != node or not cluster.is_healthy()) and cluster.now_ms < deadline_ms:
        cluster.advance(_LOOK_MS)
    owner, ailment = cluster.owners()[key][0], cluster.ailment()
    cluster.checkers.healed.looked("" if owner == node else f"{key} does not come to {node}: it is on {owner}")
    cluster.checkers.healed.looked(ailment and f"not healthy after a move: {ailment}")
    switch_ms_max = _SWITCH_MS + _SWITCH_MESSAGES * cluster.world.rates.latency_ms
    cluster.checkers.gaps.moved(key, cluster.watch.last_gap_ms.get(key, 0), switch_ms_max)


@dataclass(frozen=True, slots=True)
class _Fault:
    """``weight``: how often it is drawn, compared with others."""

    weight: int
    kind: str
    where: str
    happen: Callable[[], object]


def _draw_fault(cluster: SimulatedCluster, dice: random.Random, shape: HistoryShape, copies: DatasetCopies) -> _Fault:
    num_shards = shape.num_shards
    index = dice.randrange(cluster.node_count)
    dataset = dice.choice(("alpha", "beta"))
    number = dice.randrange(num_shards)
    min_num_nodes = dice.randint(1, cluster.node_count)
    calendar_ahead_ms = int((2 * dice.random() - 1) * shape.calendar_jump_ms_max)
    node, shard, on_node = str(index), f"{dataset}/{number}", f"{dataset}/{number} on {index}"
    faults = [
        _Fault(4, "kill node", node, lambda: cluster.kill_node(index)),
        _Fault(3, "hang node", node, lambda: cluster.hang_node(index)),
        _Fault(6, "resume node", node, lambda: cluster.resume_node(index)),
        _Fault(3, "kill coordinator", "", cluster.kill_coordinator),
        _Fault(2, "hang coordinator", "", cluster.hang_coordinator),
        _Fault(6, "resume coordinator", "", cluster.resume_coordinator),
        _Fault(
            10,
            "set up dataset",
            dataset,
            lambda: cluster.set_up_dataset(dataset, num_shards, min_num_nodes, copies[dataset]),
        ),
        _Fault(2, "stop shard", shard, lambda: cluster.stop_shard(dataset, number)),
        _Fault(2, "start shard", on_node, lambda: cluster.start_shard(dataset, number, index)),
        _Fault(5, "move shard", on_node, lambda: _move(cluster, dataset, number, index)),
        _Fault(5, "hand shard over", on_node, lambda: cluster.move_shard(dataset, number, index)),
        _Fault(3, "drain node", node, lambda: cluster.drain_node(index)),
        _Fault(4, "undrain node", node, lambda: cluster.undrain_node(index)),
        _Fault(1, "restart all in turn", "", cluster.restart_rolling),
        _Fault(1, _SCALE, f"to {index + 1}", lambda: cluster.scale(index + 1)),
        _Fault(
            5, "reopen shard", shard, lambda: _move(cluster, dataset, number, _owner(cluster, dataset, number, index))
        ),
        _Fault(5, "mend node", node, lambda: cluster.mend_node(index)),
        _Fault(6, "cut node", node, lambda: cluster.cut_node(index))
        if cluster.world.rates.lease_ms
        else _Fault(3, "hang node", node, lambda: cluster.hang_node(index)),
        _Fault(2, "hang gateway", node, lambda: cluster.hang_gateway(index)),
        _Fault(3, "cut gateway", node, lambda: cluster.cut_gateway(index)),
        _Fault(4, "resume gateway", node, lambda: cluster.resume_gateway(index)),
        _Fault(1, "kill gateway", node, lambda: cluster.kill_gateway(index)),
        _Fault(1, "fill the coordinator's store", "", lambda: cluster.fill_store(5000)),
        _Fault(3, "delete dataset", dataset, lambda: cluster.delete_dataset(dataset)),
        _Fault(1, "set the calendar", "", lambda: cluster.set_calendar(calendar_ahead_ms)),
    ]
    if any(one.count > 1 for one in copies.values()):
        faults += [
            _Fault(5, "lose disk", node, lambda: cluster.lose_disk(index)),
            _Fault(4, "kill leader", shard, lambda: cluster.kill_node(_owner(cluster, dataset, number, index))),
            _Fault(3, "kill follower", shard, lambda: cluster.kill_node(_follower(cluster, dataset, number, index))),
            _Fault(3, "cut node from others", node, lambda: cluster.set_node_apart(index)),
        ]
    if cluster.has_own_disks:
        machine = index % cluster.machine_count
        where = str(machine)
        faults += [
            _Fault(4, "lose machine with its disks", where, lambda: cluster.lose_machine_with_disks(machine)),
            _Fault(8, "machines join", "", cluster.join_missing_machines),
            _Fault(4, "cut machine", where, lambda: cluster.cut_machine(machine)),
        ]
    if shape.has_standby:
        from_store, from_nodes = dice.choice(((True, True), (True, False), (False, True)))
        faults += [
            _Fault(
                6, "cut coordinator", "", lambda: cluster.cut_coordinator(from_store=from_store, from_nodes=from_nodes)
            ),
            _Fault(4, "mend coordinators", "", cluster.mend_coordinators),
        ]
    return dice.choices(faults, [fault.weight for fault in faults])[0]


def _move(cluster: SimulatedCluster, dataset: str, shard: int, node_index: int) -> None:
    """An operator who does not wait."""
    cluster.stop_shard(dataset, shard)
    cluster.start_shard(dataset, shard, node_index)


def _owner(cluster: SimulatedCluster, dataset: str, shard: int, otherwise: int) -> int:
    """The index of the node that has the shard, as far as a gateway knows."""
    known = cluster.gateway.view.datasets.get(dataset)
    node = known.shard_map[shard].node if known is not None else None
    return otherwise if node is None else slot_index(node)


def _follower(cluster: SimulatedCluster, dataset: str, shard: int, otherwise: int) -> int:
    """The index of a node that has a copy which does not lead, as far as a gateway knows."""
    known = cluster.gateway.view.datasets.get(dataset)
    followers = known.shard_map[shard].copies.followers if known is not None else ()
    return slot_index(followers[0]) if followers else otherwise


def _heal_operators_work(cluster: SimulatedCluster, shape: HistoryShape, copies: DatasetCopies) -> None:
    """Stopped shards stay stopped until somebody starts them, and datasets deleted until somebody sets them up."""
    if cluster.coordinator is None:
        return
    core = cluster.coordinator.core
    manager = core.manager
    cluster.scale(cluster.node_count)
    if not core.restart.left:
        for drained in sorted(manager.drained | cluster.to_be_drained):
            cluster.undrain_node(slot_index(drained))
    if not manager.datasets:
        cluster.set_up_dataset("alpha", shape.num_shards, 1, copies["alpha"])
    for name, (config, shard_map) in list(manager.datasets.items()):
        for entry in shard_map.with_status(StatusKind.STOPPED):
            owned = manager.shard_map(name).owned_by
            room = [node for node in manager.members if len(owned(node)) < config.shards_per_node_max]
            node = next((node for node in room if not entry.copies.in_sync or node in entry.copies.in_sync), None)
            if node is not None:
                cluster.start_shard(name, entry.shard, slot_index(node))
            else:
                _make_room(cluster, name, [other for full in entry.copies.in_sync for other in owned(full)], room)


def _make_room(cluster: SimulatedCluster, dataset: str, entries: Iterable[ShardEntry], room: Collection[str]) -> None:
    """Others are to lead those shards: what is on a node by hand stays there, and takes the place of one that cannot
    go elsewhere. ``room``: nodes that may have more.
    """
    for entry in entries:
        for node in entry.copies.in_sync:
            if node in room:
                cluster.move_shard(dataset, entry.shard, slot_index(node))
