"""A large cluster loses many nodes: half of them at once, the others one after another.

Nothing else goes wrong, messages take next to no time, and what is checked after every event elsewhere is checked now
and then (``Attention``): it is about whether the cores can do with a thousand nodes and tens of thousands of shards.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from filoray.cluster.control.shard_status import StatusKind
from filoray.cluster.simulation.checkers import NOTHING_UNFORESEEN, RuleBroken
from filoray.cluster.simulation.cluster import Attention, Replicas, SimulatedCluster
from filoray.cluster.simulation.faults import FaultRates
from filoray.cluster.simulation.history import FaultMark, uncollected
from filoray.cluster.simulation.tally import Failure, HistoryResult, result_of

_DATASET = "alpha"
_MIN_NUM_NODES_MAX = 256
"""The most that a data set may ask for."""
_LOSS_EVERY_MS = 100
_LOOK_MS = 50
_LOOK_AT_COPIES_MS = 1000
_PATIENCE_MS = 120_000
_LEASE_MS = 8000
_RATES = FaultRates(latency_ms=2, heartbeat_ms=1000)
_ATTENTION = Attention(lines_max=10_000, audit_every_ms=1000, look_every_ms=100)


@dataclass(frozen=True, slots=True)
class Phase:
    """One that is over. ``lasted_ms``: in the cluster's time."""

    what: str
    lasted_ms: int


@dataclass(frozen=True, slots=True)
class LossSize:
    """``lost_count``: at most as many nodes as the others have room for.

    ``is_in_database``: all nodes reach the shards' store, and copies are what nodes have in memory.
    """

    node_count: int
    num_shards: int
    lost_count: int
    num_replicas: int = 1
    is_in_database: bool = False

    def __post_init__(self) -> None:
        assert 0 < self.lost_count < self.node_count, "somebody must be left"


class GreatLoss:
    def __init__(self, seed: int, size: LossSize) -> None:
        self._seed = seed
        self._size = size
        rates = replace(_RATES, lease_ms=_LEASE_MS) if size.is_in_database else _RATES
        self._cluster = SimulatedCluster(seed, size.node_count, rates, attention=_ATTENTION)
        self._faults: list[FaultMark] = []
        self._failure: Failure | None = None

    def play(self) -> Iterator[Phase]:
        """To its end, or to what fails in it."""
        cluster, node_count = self._cluster, self._cluster.node_count
        at_once = self._size.lost_count - self._size.lost_count // 2
        phases = (
            (f"{node_count:,} nodes come up", self._come_up),
            (f"{self._size.num_shards:,} shards are set up, all Active", self._set_up),
            (f"{at_once} nodes are killed at once, all Active again", lambda: self._lose(range(at_once))),
            (
                f"{self._size.lost_count - at_once} nodes are killed one after another, all Active again",
                lambda: self._lose(range(at_once, self._size.lost_count)),
            ),
        )
        with uncollected():
            for what, run in phases:
                begun_ms = cluster.now_ms
                try:
                    run()
                except Exception as error:
                    rule = error.rule if isinstance(error, RuleBroken) else NOTHING_UNFORESEEN
                    self._failure = Failure(rule, f"{what}: {error or type(error).__name__}")
                    return
                yield Phase(what, cluster.now_ms - begun_ms)

    def result(self) -> HistoryResult:
        """What came out so far."""
        if self._cluster.coordinator is not None:
            self._cluster.advance(_ATTENTION.look_every_ms)
            self._cluster.watch.look(self._cluster.coordinator.core.manager.datasets)
        return result_of(self._seed, self._cluster, self._faults, self._failure)

    def _come_up(self) -> None:
        cluster = self._cluster
        while len(cluster.members()) < cluster.node_count and cluster.now_ms < _PATIENCE_MS:
            cluster.advance(_LOOK_MS)

    def _set_up(self) -> None:
        """A node may have as many shards as it needs to when the others are lost."""
        left = self._cluster.node_count - self._size.lost_count
        copies = Replicas(self._size.num_replicas)
        self._cluster.set_up_dataset(_DATASET, self._size.num_shards, min(left, _MIN_NUM_NODES_MAX), copies)
        self._until_all_active()

    def _lose(self, indices: range) -> None:
        for place, index in enumerate(indices):
            if place and indices.start:
                self._cluster.advance(_LOSS_EVERY_MS)
            self._faults.append(FaultMark(self._cluster.now_ms, len(self._faults) + 1, "kill node", str(index)))
            self._cluster.kill_node(index)
        self._cluster.advance(_LOSS_EVERY_MS)
        self._until_all_active()

    def _until_all_active(self) -> None:
        """As the coordinator says; and what it says must be so."""
        cluster, deadline_ms = self._cluster, self._cluster.now_ms + _PATIENCE_MS
        while self._active_count() < self._size.num_shards and cluster.now_ms < deadline_ms:
            cluster.advance(_LOOK_MS)
        while self._size.num_replicas > 1 and self._ailment() and cluster.now_ms < deadline_ms:  # copies are made anew
            cluster.advance(_LOOK_AT_COPIES_MS)
        cluster.checkers.healed.looked(self._ailment())

    def _ailment(self) -> str:
        active = self._active_count()
        if active < self._size.num_shards:
            return f"{active} of {self._size.num_shards} shards are Active after {_PATIENCE_MS} ms"
        return self._cluster.service_ailment()

    def _active_count(self) -> int:
        coordinator = self._cluster.coordinator
        known = coordinator.core.manager.datasets.get(_DATASET) if coordinator is not None else None
        return known[1].count(StatusKind.ACTIVE) if known is not None else 0
